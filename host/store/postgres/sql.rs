//! Statements and their values, spoken to a server by threads that wait for the answers.
//!
//! Statements name their values (`:name`) as those of the other engine do; here the names become
//! numbers, once for each statement. Nothing here knows a table.

use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use bytes::BytesMut;
use futures_util::future::join_all;
use tokio::runtime::{Handle, Runtime};

use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Row, Statement};

use super::explain;
use super::pool::Reader;
use super::servers::Watch;
use crate::store::StoreError;
use crate::store::text::storable;
use crate::task::TaskId;

/// Something that is bound to a statement. What type it has is what the statement expects there.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Nothing.
    Null,
    /// A number, whatever its width there.
    Int(i64),
    /// A number with a fraction.
    Real(f64),
    /// Yes or no.
    Bool(bool),
    /// Text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// An array.
    List(Vec<Value>),
}

impl ToSql for Value {
    fn to_sql(
        &self,
        of: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match self {
            Value::Null => Ok(IsNull::Yes),
            Value::Int(value) => match *of {
                Type::INT4 => i32::try_from(*value)?.to_sql(of, out),
                Type::INT2 => i16::try_from(*value)?.to_sql(of, out),
                Type::BOOL => (*value != 0).to_sql(of, out),
                _ => value.to_sql(of, out),
            },
            Value::Real(value) => value.to_sql(of, out),
            Value::Bool(value) => value.to_sql(of, out),
            Value::Text(value) => value.to_sql(of, out),
            Value::Bytes(value) => value.to_sql(of, out),
            Value::List(values) => values.to_sql(of, out),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        // Text that was not checked is made storable earlier, for both engines.
        debug_assert!(!text.contains('\0'), "a text with NUL: {text:?}");
        Value::Text(storable(text).into_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Value {
        text.as_str().into()
    }
}

impl From<&String> for Value {
    fn from(text: &String) -> Value {
        text.as_str().into()
    }
}

impl From<&Arc<str>> for Value {
    fn from(text: &Arc<str>) -> Value {
        (&**text).into()
    }
}

impl From<TaskId> for Value {
    fn from(id: TaskId) -> Value {
        Value::Int(id.to_i64())
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Value {
        Value::Bool(value)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Value {
        Value::Real(value)
    }
}

impl From<u64> for Value {
    /// A hash may have its highest bit set; it comes back as it went.
    fn from(value: u64) -> Value {
        Value::Int(value as i64)
    }
}

impl From<usize> for Value {
    fn from(value: usize) -> Value {
        Value::Int(i64::try_from(value).unwrap_or(i64::MAX))
    }
}

macro_rules! small_numbers {
    ($($of:ty),*) => {
        $(impl From<$of> for Value {
            fn from(value: $of) -> Value {
                Value::Int(value.into())
            }
        })*
    };
}

small_numbers!(i64, i32, u32, u8);

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Value {
        value.map_or(Value::Null, Into::into)
    }
}

impl From<&[TaskId]> for Value {
    fn from(ids: &[TaskId]) -> Value {
        Value::List(ids.iter().map(|&id| id.into()).collect())
    }
}

/// Values by their names.
macro_rules! named {
    () => { &[] };
    ($($name:literal : $value:expr),+ $(,)?) => {
        &[$(($name, $crate::store::postgres::sql::Value::from($value))),+]
    };
}

pub(super) use named;

/// A statement with numbers in the place of names.
#[derive(Debug)]
struct Numbered {
    text: String,
    names: Vec<String>,
}

fn numbered(sql: &str) -> Numbered {
    let mut text = String::with_capacity(sql.len());
    let mut names: Vec<String> = Vec::new();
    let mut rest = sql;
    while let Some(colon) = rest.find(':') {
        text.push_str(&rest[..colon]);
        let after = &rest[colon + 1..];
        let end = after
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .unwrap_or(after.len());
        if let Some(cast) = after.strip_prefix(':') {
            text.push_str("::");
            rest = cast;
            continue;
        }
        let name = &after[..end];
        let place = names.iter().position(|known| known == name);
        let place = place.unwrap_or_else(|| {
            names.push(name.to_owned());
            names.len() - 1
        });
        text.push_str(&format!("${}", place + 1));
        rest = &after[end..];
    }
    text.push_str(rest);
    Numbered { text, names }
}

/// How long an answer may take: longer than any lock is waited for.
pub const ANSWER: Duration = Duration::from_secs(45);

/// Who waits for an answer.
enum Runner {
    /// A thread that has a runtime to itself.
    Own(Arc<Runtime>),
    /// Any thread, also one of a runtime: the work is done elsewhere, and may take so long.
    Other(Handle, Duration),
}

impl Runner {
    fn run<T: Send + 'static>(
        &self,
        watch: &Watch,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let answered = match self {
            Runner::Own(runtime) => runtime.block_on(watch.answer(ANSWER, work)),
            Runner::Other(handle, answer) => {
                let (watch, answer) = (watch.clone(), *answer);
                wait_for(handle, async move { watch.answer(answer, work).await })?
            }
        };
        answered.ok_or_else(silent)
    }
}

/// A server that was asked and says nothing.
pub fn silent() -> StoreError {
    StoreError::Server {
        what: "the database does not answer".to_owned(),
        hint: Some("see that the server runs and can be reached from here".to_owned()),
        passing: true,
    }
}

/// Do something on a runtime and wait for it, from any thread.
pub fn wait_for<T: Send + 'static>(
    handle: &Handle,
    work: impl Future<Output = T> + Send + 'static,
) -> Result<T, StoreError> {
    let (done, answer) = mpsc::sync_channel(1);
    handle.spawn(async move {
        let _ = done.send(work.await);
    });
    answer.recv().map_err(|_| StoreError::Closed)
}

/// A connection that one thread at a time speaks through.
pub struct Link {
    client: Client,
    runner: Runner,
    watch: Watch,
    numbered: Arc<Mutex<HashMap<String, Arc<Numbered>>>>,
    /// Whether an answer did not come.
    lost: AtomicBool,
}

#[derive(Clone)]
enum Client {
    Own(
        Arc<tokio_postgres::Client>,
        Arc<Mutex<HashMap<String, Statement>>>,
    ),
    Pooled(Arc<Reader>),
}

impl Client {
    fn get(&self) -> &tokio_postgres::Client {
        match self {
            Client::Own(client, _) => client,
            Client::Pooled(client) => client,
        }
    }

    async fn prepare(&self, text: &str) -> Result<Statement, tokio_postgres::Error> {
        match self {
            Client::Own(client, known) => {
                let find = |text| lock(known).get(text).cloned();
                if let Some(statement) = find(text) {
                    return Ok(statement);
                }
                let statement = client.prepare(text).await?;
                lock(known).insert(text.to_owned(), statement.clone());
                Ok(statement)
            }
            Client::Pooled(client) => client.prepare_cached(text).await,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Names that were numbered, for all connections.
#[derive(Clone, Default)]
pub struct Names(Arc<Mutex<HashMap<String, Arc<Numbered>>>>);

/// One of several statements that go to the server together.
pub enum Step {
    /// Text without values, and without an answer.
    Plain(&'static str),
    /// A statement.
    Query(String, Vec<(&'static str, Value)>),
}

impl Step {
    /// A statement and its values.
    pub fn query(sql: &str, values: &[(&'static str, Value)]) -> Step {
        Step::Query(sql.to_owned(), values.to_vec())
    }
}

impl Link {
    /// A connection that a thread has with a runtime to itself.
    pub fn own(
        runtime: Arc<Runtime>,
        client: tokio_postgres::Client,
        watch: Watch,
        names: &Names,
    ) -> Link {
        Link {
            client: Client::Own(Arc::new(client), Arc::default()),
            runner: Runner::Own(runtime),
            watch,
            numbered: names.0.clone(),
            lost: AtomicBool::new(false),
        }
    }

    /// A connection of a pool, for a while, whose answers may take so long.
    pub fn pooled(handle: Handle, client: Reader, names: &Names, answer: Duration) -> Link {
        Link {
            watch: client.watch.clone(),
            client: Client::Pooled(Arc::new(client)),
            runner: Runner::Other(handle, answer),
            numbered: names.0.clone(),
            lost: AtomicBool::new(false),
        }
    }

    fn ask<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let answer = self.runner.run(&self.watch, work);
        if answer.is_err() {
            self.lost.store(true, Ordering::Relaxed);
        }
        answer
    }

    fn numbered(&self, sql: &str) -> Arc<Numbered> {
        if let Some(known) = lock(&self.numbered).get(sql) {
            return known.clone();
        }
        let numbered = Arc::new(numbered(sql));
        lock(&self.numbered).insert(sql.to_owned(), numbered.clone());
        numbered
    }

    /// The rows of a statement.
    pub fn rows(&self, sql: &str, values: &[(&str, Value)]) -> Result<Vec<Row>, StoreError> {
        let numbered = self.numbered(sql);
        let values = ordered(&numbered, values);
        let client = self.client.clone();
        let found = self.ask(async move {
            let statement = client.prepare(&numbered.text).await?;
            client.get().query(&statement, &bound(&values)).await
        })?;
        found.map_err(|error| explain(&error))
    }

    /// The rows of several statements, which are sent together: one way there and back.
    pub fn together(&self, steps: Vec<Step>) -> Result<Vec<Vec<Row>>, StoreError> {
        type Sent = (Option<Arc<Numbered>>, Vec<Value>, &'static str);
        let steps: Vec<Sent> = steps
            .into_iter()
            .map(|step| match step {
                Step::Plain(sql) => (None, Vec::new(), sql),
                Step::Query(sql, values) => {
                    let numbered = self.numbered(&sql);
                    let values = ordered(&numbered, &values);
                    (Some(numbered), values, "")
                }
            })
            .collect();
        let client = self.client.clone();
        let found = self.ask(async move {
            let mut statements = Vec::with_capacity(steps.len());
            for (numbered, ..) in &steps {
                statements.push(match numbered {
                    Some(numbered) => Some(client.prepare(&numbered.text).await?),
                    None => None,
                });
            }
            let client = client.get();
            let sent = steps.iter().zip(&statements);
            let sent = sent.map(async |((_, values, plain), statement)| match statement {
                Some(statement) => client.query(statement, &bound(values)).await,
                None => client.batch_execute(plain).await.map(|()| Vec::new()),
            });
            // The first that went wrong is the one that tells why.
            join_all(sent)
                .await
                .into_iter()
                .collect::<Result<Vec<_>, _>>()
        })?;
        found.map_err(|error| explain(&error))
    }

    /// How many rows a statement changed.
    pub fn change(&self, sql: &str, values: &[(&str, Value)]) -> Result<usize, StoreError> {
        let numbered = self.numbered(sql);
        let values = ordered(&numbered, values);
        let client = self.client.clone();
        let changed = self.ask(async move {
            let statement = client.prepare(&numbered.text).await?;
            client.get().execute(&statement, &bound(&values)).await
        })?;
        changed
            .map(|count| count as usize)
            .map_err(|error| explain(&error))
    }

    /// Statements without values.
    pub fn plain(&self, sql: &str) -> Result<(), StoreError> {
        let (client, sql) = (self.client.clone(), sql.to_owned());
        let done = self.ask(async move { client.get().batch_execute(&sql).await })?;
        done.map_err(|error| explain(&error))
    }

    /// What each row of a statement says.
    pub fn many<T>(
        &self,
        sql: &str,
        values: &[(&str, Value)],
        read: impl FnMut(&Row) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        self.rows(sql, values)?.iter().map(read).collect()
    }

    /// The same by a reader, where the statement is to use its indexes whatever the server knows, or does not
    /// know yet, of the tables. One way there and back.
    pub fn seek<T>(
        &self,
        sql: &str,
        values: &[(&'static str, Value)],
        read: impl FnMut(&Row) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        const SETTINGS: &str = "\
            begin read only;
            set local enable_seqscan = off;
            set local enable_hashjoin = off;
            set local enable_mergejoin = off";
        let steps = vec![
            Step::Plain(SETTINGS),
            Step::query(sql, values),
            Step::Plain("commit"),
        ];
        let found = self.together(steps)?;
        found[1].iter().map(read).collect()
    }

    /// What the first row of a statement says.
    pub fn one<T>(
        &self,
        sql: &str,
        values: &[(&str, Value)],
        read: impl FnOnce(&Row) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        self.rows(sql, values)?.first().map(read).transpose()
    }

    /// It is of no more use.
    pub fn lose(&self) {
        self.lost.store(true, Ordering::Relaxed);
    }

    /// Nothing more is asked. One that did not answer does not go back to its pool.
    pub fn let_go(self) {
        if self.is_closed()
            && let Client::Pooled(client) = self.client
            && let Some(client) = Arc::into_inner(client)
        {
            drop(Reader::take(client));
        }
    }

    /// Whether the server has hung up.
    pub fn is_closed(&self) -> bool {
        self.lost.load(Ordering::Relaxed) || self.client.get().is_closed()
    }
}

fn bound(values: &[Value]) -> Vec<&(dyn ToSql + Sync)> {
    values
        .iter()
        .map(|value| value as &(dyn ToSql + Sync))
        .collect()
}

fn ordered(numbered: &Numbered, values: &[(&str, Value)]) -> Vec<Value> {
    let find = |name: &String| {
        let found = values.iter().find(|(known, _)| known == name);
        found.map_or(Value::Null, |(_, value)| value.clone())
    };
    numbered.names.iter().map(find).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_numbers_and_casts_stay() {
        let check = |sql: &str, text: &str, names: &[&str]| {
            let found = numbered(sql);
            assert_eq!(
                (found.text.as_str(), found.names.as_slice()),
                (text, names.map_names().as_slice())
            );
        };
        check("select 1", "select 1", &[]);
        check(
            "a = :a and b = :b_c or :a",
            "a = $1 and b = $2 or $1",
            &["a", "b_c"],
        );
        check("unnest(:ids::bigint[])", "unnest($1::bigint[])", &["ids"]);
    }

    trait Names {
        fn map_names(&self) -> Vec<String>;
    }

    impl Names for [&str] {
        fn map_names(&self) -> Vec<String> {
            self.iter().map(|&name| name.to_owned()).collect()
        }
    }
}
