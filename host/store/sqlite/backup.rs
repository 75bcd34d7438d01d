//! A copy of the whole database, made while others read and write.
//!
//! The copy is one moment of the database: it is read in one transaction, which keeps nobody from
//! writing, because the log keeps what was there. It is made under another name and gets its own
//! when it is whole, was looked through and is on disk. Tasks that do not match their checksums are copied as they
//! are, because the others are worth a copy; but such a copy takes no earlier one's place.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};

use super::checks::damages;
use super::{FILE_NAME, SqliteStore, connect, explain, unwritable};
use crate::disk;
use crate::store::StoreError;
use crate::task::TaskId;

/// Pages between two words about how far it is: some milliseconds.
const PAGES_PER_STEP: i32 = 4_096;

/// How long to rest where another one has the copy.
const REST: Duration = Duration::from_millis(5);

/// What was copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copied {
    /// The size of the copy.
    pub bytes: u64,
    /// Tasks that are in it.
    pub tasks: u64,
    /// How many of them do not match their checksums, and the first of those.
    pub damaged: (u64, Vec<TaskId>),
}

/// Why there is no copy.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// There is something of that name.
    #[error("{} is there already", .0.display())]
    Exists(PathBuf),
    /// It is the database, or a part of it.
    #[error("{} is what is to be copied", .0.display())]
    Itself(PathBuf),
    /// Another one writes it.
    #[error("another backup writes {}", .0.display())]
    Busy(PathBuf),
    /// The copy is not what it should be.
    #[error("the copy is damaged: {0}")]
    Damaged(String),
    /// Some tasks are damaged in the database, and may be whole in the file that the copy was to replace.
    #[error(
        "{} was not replaced: {} in the database, and may be undamaged in that file",
        path.display(),
        damaged_tasks(tasks)
    )]
    KeptEarlier {
        /// The file.
        path: PathBuf,
        /// How many tasks, and the first of them.
        tasks: (u64, Vec<TaskId>),
    },
    /// The database cannot be read, or the copy not written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl BackupError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            BackupError::Exists(_) => {
                Some("choose another name, or replace it with --force".to_owned())
            }
            BackupError::Itself(_) => {
                Some("choose a name outside of the data directory".to_owned())
            }
            BackupError::Busy(_) => Some("wait for that one, or choose another name".to_owned()),
            BackupError::Damaged(_) => Some(
                "the database may be damaged, too: fishway doctor looks at the disk".to_owned(),
            ),
            BackupError::KeptEarlier { .. } => Some(
                "choose another name, and the copy is made; or delete those tasks first".to_owned(),
            ),
            BackupError::Store(error) => error.hint(),
        }
    }
}

impl SqliteStore {
    /// Copy the database to a file, and say now and then how many of how many pages are there.
    /// With `replace`, one that is there is replaced, when the new one is whole. Blocks.
    pub fn backup(
        &self,
        to: &Path,
        replace: bool,
        tell: &mut dyn FnMut(u64, u64),
    ) -> Result<Copied, BackupError> {
        if is_of(&self.path, to) {
            return Err(BackupError::Itself(to.to_owned()));
        }
        if !replace && to.exists() {
            return Err(BackupError::Exists(to.to_owned()));
        }
        let mut partial = to.as_os_str().to_owned();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        let failed = |error: std::io::Error| unwritable(&partial, &error);
        let file = disk::private()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&partial)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => return Err(BackupError::Busy(partial)),
            Err(std::fs::TryLockError::Error(error)) => return Err(failed(error).into()),
        }
        // One that was not finished is of no use.
        file.set_len(0).map_err(failed)?;
        let copied = copy(&self.path, &partial, tell).and_then(|(tasks, damaged)| {
            if damaged.0 > 0 && to.exists() {
                return Err(BackupError::KeptEarlier {
                    path: to.to_owned(),
                    tasks: damaged,
                });
            }
            file.sync_all().map_err(failed)?;
            let bytes = file.metadata().map_err(failed)?.len();
            std::fs::rename(&partial, to).map_err(|error| unwritable(to, &error))?;
            disk::sync_names(to).map_err(|error| unwritable(to, &error))?;
            Ok(Copied {
                bytes,
                tasks,
                damaged,
            })
        });
        if copied.is_err() {
            let _ = std::fs::remove_file(&partial);
        }
        copied
    }
}

/// Whether a file is the database or one of those beside it that belong to it.
fn is_of(database: &Path, file: &Path) -> bool {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with(FILE_NAME) && directory(file) == directory(database)
}

fn directory(of: &Path) -> Option<PathBuf> {
    let directory = of.parent().filter(|parent| !parent.as_os_str().is_empty());
    directory.unwrap_or(Path::new(".")).canonicalize().ok()
}

/// How many tasks are damaged, and which, as the beginning of a sentence.
pub fn damaged_tasks((count, named): &(u64, Vec<TaskId>)) -> String {
    let names: Vec<String> = named.iter().map(TaskId::to_string).collect();
    match (count, count - names.len() as u64) {
        (1, _) => format!("task {} is damaged", names.join(", ")),
        (_, 0) => format!("tasks {} are damaged", names.join(", ")),
        (_, more) => format!("tasks {} and {more} more are damaged", names.join(", ")),
    }
}

/// The number of tasks, and those of them that are damaged.
type Found = (u64, (u64, Vec<TaskId>));

/// Make the copy and look it through.
fn copy(from: &Path, to: &Path, tell: &mut dyn FnMut(u64, u64)) -> Result<Found, BackupError> {
    let ours = |error| explain(from, error);
    let theirs = |error| explain(to, error);
    let source = connect(from)?;
    // Else each commit of another process would make the copy begin again.
    source.execute_batch("begin").map_err(ours)?;
    source
        .query_row("select count(*) from sqlite_schema", [], |_| Ok(()))
        .map_err(ours)?;
    let mut target = Connection::open(to).map_err(theirs)?;
    {
        let backup = Backup::new(&source, &mut target).map_err(theirs)?;
        loop {
            let step = backup.step(PAGES_PER_STEP).map_err(theirs)?;
            let progress = backup.progress();
            let all = progress.pagecount.max(0) as u64;
            tell(all - (progress.remaining.max(0) as u64).min(all), all);
            match step {
                StepResult::Done => break,
                StepResult::More => {}
                _ => std::thread::sleep(REST),
            }
        }
    }
    source.execute_batch("rollback").map_err(ours)?;
    finish(&target, to)
}

/// Make one file of the copy, and let nobody take the host of the original for its own.
fn finish(target: &Connection, path: &Path) -> Result<Found, BackupError> {
    const LEASE: &str = "\
        update lease
        set ended_at_ms = coalesce(ended_at_ms, heartbeat_at_ms)";
    let failed = |error| explain(path, error);
    target
        .query_row("pragma journal_mode = delete", [], |_| Ok(()))
        .map_err(failed)?;
    target.execute(LEASE, []).map_err(failed)?;
    let found: String = target
        .query_row("pragma quick_check(1)", [], |row| row.get(0))
        .map_err(failed)?;
    if found != "ok" {
        return Err(BackupError::Damaged(found));
    }
    let tasks: i64 = target
        .query_row("select count(*) from tasks", [], |row| row.get(0))
        .map_err(failed)?;
    let damages = damages(target).map_err(failed)?;
    Ok((tasks.max(0) as u64, damages.tasks()))
}
