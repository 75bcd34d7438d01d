//! A handler: what it is, what it takes and gives, what it may use.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::Word;
use crate::limits::HttpGrant;
use crate::loader::{Exported, Handler};
use crate::store::{BrokenRow, HandlerRow};
use crate::types::{Function, component_of, input_schema, schema};

/// A handler that is loaded.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct HandlerJson {
    pub name: String,
    /// handler, or generator: that one tells items and runs no task by itself.
    #[schema(value_type = String)]
    pub kind: Word,
    /// What a task names that it shall run: its name, and those of its functions.
    pub task_types: Vec<String>,
    /// Of its component, by SHA-256.
    pub digest: String,
    pub size_bytes: u64,
    pub description: Option<String>,
    pub imports: Vec<String>,
    pub exports: Vec<String>,
    pub functions: Vec<FunctionJson>,
    /// Functions that are no task types, and why.
    pub left_out: Vec<String>,
    /// Interfaces of other handlers that it calls, and their functions.
    pub calls: BTreeMap<String, Vec<String>>,
    pub limits: LimitsJson,
    pub retry: RetryJson,
    pub grants: GrantsJson,
}

/// What is wrong with a file of the handlers directory.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct FileProblemJson {
    /// The name that the handler would have; empty where the directory itself is wrong.
    #[serde(default)]
    pub name: Option<String>,
    /// The file's name.
    pub file: String,
    /// A sentence.
    pub problem: String,
    /// What to do.
    pub hint: String,
}

/// A handler as the database has it, where its file is on another machine: as above, without what only the file says.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs)]
pub struct KnownHandlerJson {
    pub name: String,
    pub kind: Word,
    pub task_types: Vec<String>,
    pub digest: String,
    pub description: Option<String>,
    pub functions: Vec<KnownFunctionJson>,
}

/// A function of such a handler.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs)]
pub struct KnownFunctionJson {
    pub task_type: String,
    pub name: String,
    pub wit: String,
    pub types: Vec<String>,
    pub input_schema: Value,
    pub output_schema: Value,
}

/// The handler of these rows, which are all of one component; none of no rows.
pub fn known_handler(rows: &[HandlerRow]) -> Option<KnownHandlerJson> {
    let first = rows.first()?;
    let functions = rows.iter().filter_map(|row| {
        let function = row.function.as_ref()?;
        Some(KnownFunctionJson {
            task_type: row.name.clone(),
            name: function.name.clone(),
            wit: function.to_string(),
            types: function.declarations(),
            input_schema: input_schema(function),
            output_schema: given_schema(function),
        })
    });
    // A generator runs no task by itself.
    let task_types = rows.iter().filter(|row| !row.generator);
    Some(KnownHandlerJson {
        name: component_of(&first.name).to_owned(),
        kind: kind(first.generator),
        task_types: task_types.map(|row| row.name.clone()).collect(),
        digest: first.digest.clone(),
        description: first.description.clone(),
        functions: functions.collect(),
    })
}

fn kind(generator: bool) -> Word {
    if generator { "generator" } else { "handler" }.into()
}

/// What is wrong with a file, as the store has it.
pub fn file_problem(row: &BrokenRow) -> FileProblemJson {
    FileProblemJson {
        name: Some(row.name.clone()),
        file: row.file.clone(),
        problem: row.problem.clone(),
        hint: row.hint.clone(),
    }
}

/// A plain function that is a task type.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct FunctionJson {
    pub task_type: String,
    pub name: String,
    pub interface: Option<String>,
    /// As WIT writes it.
    pub wit: String,
    /// The types that it names, as WIT declares them.
    pub types: Vec<String>,
    /// JSON Schema.
    pub input_schema: Value,
    /// JSON Schema.
    pub output_schema: Value,
}

/// Bounds of a handler.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct LimitsJson {
    pub memory_bytes: u64,
    pub table_elements: u64,
    pub timeout_ms: u64,
    pub concurrency: Option<u32>,
    pub children: u64,
    pub depth: u32,
    pub calls: u64,
    pub log_bytes: u64,
}

/// How often a failing task is tried.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct RetryJson {
    pub attempts: u32,
    pub backoff_ms: u64,
    pub factor: f64,
    pub max_backoff_ms: u64,
    pub jitter: f64,
}

/// What a handler may touch outside its sandbox.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct GrantsJson {
    /// Names alone: a value may be a secret.
    pub env: Vec<String>,
    /// Variables that show the placeholder of a secret, and the name of that secret.
    #[serde(default)]
    pub env_secrets: BTreeMap<String, String>,
    pub directories: Vec<DirectoryJson>,
    /// `host:port`, or a host alone for all of its ports.
    pub allowed_outbound_hosts: Vec<String>,
    /// Grants for HTTP requests.
    #[serde(default)]
    pub http: Vec<HttpGrantJson>,
    /// real, or durable: the time of the last durable event.
    #[schema(value_type = String)]
    pub clock: Word,
    /// real, or durable: seeded by task and attempt.
    #[schema(value_type = String)]
    pub random: Word,
}

/// A directory of the host that a handler sees.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct DirectoryJson {
    pub host: String,
    pub guest: String,
    pub writable: bool,
}

/// HTTP requests that a handler may send.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct HttpGrantJson {
    /// `https://api.example.com`, or `https://*.example.com` for all subdomains.
    pub to: String,
    /// Empty: all.
    pub methods: Vec<String>,
    /// Prefixes; empty: all paths.
    pub paths: Vec<String>,
    /// Names of the headers that the host adds: a value may be a secret.
    pub headers: Vec<String>,
    /// Names of the secrets that the requests may contain.
    pub secrets: Vec<String>,
    pub timeout_ms: u64,
    pub max_request_bytes: u64,
    pub max_response_bytes: u64,
    /// Whether replays read recorded responses.
    pub record: bool,
    pub retry: HttpRetryJson,
    /// `null`: no limit.
    pub rate: Option<HttpRateJson>,
    /// `null`: no limit.
    pub concurrency: Option<u32>,
}

/// Whether and when a request is sent again.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct HttpRetryJson {
    pub attempts: u32,
    pub statuses: Vec<u16>,
    pub backoff_ms: u64,
    pub max_backoff_ms: u64,
}

/// Most requests per period.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct HttpRateJson {
    pub requests: u32,
    pub per_ms: u64,
}

fn http_grant(grant: &HttpGrant) -> HttpGrantJson {
    HttpGrantJson {
        to: grant.to.to_string(),
        methods: grant.methods.clone(),
        paths: grant.paths.clone(),
        headers: grant.headers.keys().cloned().collect(),
        secrets: grant.secrets.clone(),
        timeout_ms: grant.timeout_ms,
        max_request_bytes: grant.request_bytes_max,
        max_response_bytes: grant.response_bytes_max,
        record: grant.record,
        retry: HttpRetryJson {
            attempts: grant.retry.attempts,
            statuses: grant.retry.statuses.clone(),
            backoff_ms: grant.retry.backoff_ms,
            max_backoff_ms: grant.retry.backoff_max_ms,
        },
        rate: grant.rate.map(|rate| HttpRateJson {
            requests: rate.requests,
            per_ms: rate.per_ms,
        }),
        concurrency: grant.concurrency,
    }
}

/// A handler.
pub fn handler(handler: &Handler) -> HandlerJson {
    let (limits, retry, grants) = (
        &handler.manifest.limits,
        &handler.manifest.retry,
        &handler.manifest.grants,
    );
    let directories = grants.directories.iter().map(|one| DirectoryJson {
        host: one.host.display().to_string(),
        guest: one.guest.clone(),
        writable: one.writable,
    });
    let calls = handler.wanted.iter().map(|wanted| {
        let functions = wanted.functions.iter();
        let functions = functions.map(ToString::to_string).collect();
        (wanted.interface.clone(), functions)
    });
    let word = |real: bool| if real { "real" } else { "durable" };
    HandlerJson {
        name: handler.name.clone(),
        kind: kind(handler.generator),
        task_types: handler.task_types().map(|(name, _)| name).collect(),
        digest: handler.digest.to_string(),
        size_bytes: handler.size_bytes,
        description: handler.manifest.description.clone(),
        imports: handler.imports.clone(),
        exports: handler.exports.clone(),
        functions: (handler.functions.iter())
            .map(|exported| function(handler, exported))
            .collect(),
        left_out: handler.left_out.clone(),
        calls: calls.collect(),
        limits: LimitsJson {
            memory_bytes: limits.memory_bytes,
            table_elements: limits.table_elements,
            timeout_ms: limits.running_time(None).ms,
            concurrency: limits.concurrency,
            children: limits.children_max,
            depth: limits.depth_max,
            calls: limits.calls_max,
            log_bytes: limits.log_bytes,
        },
        retry: RetryJson {
            attempts: retry.attempts_max,
            backoff_ms: retry.backoff_ms,
            factor: retry.backoff_factor,
            max_backoff_ms: retry.backoff_max_ms,
            jitter: retry.jitter,
        },
        grants: GrantsJson {
            env: grants.env.keys().cloned().collect(),
            env_secrets: grants.env_secrets.clone(),
            directories: directories.collect(),
            allowed_outbound_hosts: grants
                .allowed_outbound_hosts
                .iter()
                .map(ToString::to_string)
                .collect(),
            http: grants.http.iter().map(http_grant).collect(),
            clock: word(grants.real_clock).into(),
            random: word(grants.real_random).into(),
        },
    }
}

/// A function with its WIT, and the JSON Schema of what it takes and gives.
fn function(handler: &Handler, exported: &Exported) -> FunctionJson {
    let function = &exported.function;
    FunctionJson {
        task_type: format!("{}/{}", handler.name, exported.name),
        name: function.name.clone(),
        interface: exported.interface.clone(),
        wit: function.to_string(),
        types: function.declarations(),
        input_schema: input_schema(function),
        output_schema: output_schema(exported),
    }
}

/// The JSON Schema of what a function gives.
pub fn output_schema(exported: &Exported) -> Value {
    given_schema(&exported.function)
}

fn given_schema(function: &Function) -> Value {
    let output = function.output();
    output.map_or_else(|| json!({ "type": "null" }), schema)
}
