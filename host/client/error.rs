//! Why a verb was refused, as sentences, and what to do about it.

use std::path::PathBuf;

use crate::store::StoreError;
use crate::task::TaskId;
use crate::types::{Mismatch, component_of};
use crate::workflow::Problem;

/// Why a verb was refused. Each is a sentence; [`ClientError::hint`] says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The store says no.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No handler of that name.
    #[error("there is no handler \"{name}\"")]
    UnknownHandler {
        /// The name.
        name: String,
        /// The handlers that there are.
        known: Vec<String>,
        /// Where they come from.
        directory: Option<PathBuf>,
    },
    /// A page generator runs no task by itself.
    #[error("handler \"{name}\" is a page generator, and runs no task by itself")]
    IsGenerator {
        /// The handler.
        name: String,
    },
    /// A generator step names a handler that tells no pages.
    #[error(
        "handler \"{name}\" is no page generator, so it cannot tell the items of a generator step"
    )]
    NoGenerator {
        /// The handler.
        name: String,
    },
    /// An input or an option is out of bounds.
    #[error("{what}{}", place(*.line))]
    Invalid {
        /// What is wrong.
        what: String,
        /// In which line of several inputs, from 1.
        line: Option<usize>,
    },
    /// A function does not take such an input.
    #[error("{function} does not take this input{}: {mismatch}", place(*.line))]
    TypeMismatch {
        /// The task type.
        function: String,
        /// What is wrong with the input.
        mismatch: Mismatch,
        /// In which line of several inputs, from 1.
        line: Option<usize>,
    },
    /// The key names a task that was given something else.
    #[error("key \"{key}\" already names {noun} {id}, which has another {part}")]
    KeyUsed {
        /// The key.
        key: String,
        /// What it names.
        noun: &'static str,
        /// Its id.
        id: TaskId,
        /// What differs.
        part: &'static str,
    },
    /// No task has that id, or an id that begins so, and no job or workflow has that name.
    #[error("no task has an id that begins with \"{0}\", and no job or workflow has that name")]
    UnknownTask(String),
    /// A task has no child with that key.
    #[error("task {of} has no child with the key \"{key}\"")]
    UnknownKey {
        /// The task.
        of: TaskId,
        /// The key.
        key: String,
        /// Some of the keys that there are.
        known: Vec<String>,
    },
    /// The task is something else.
    #[error("task {id} is no workflow: it is a {handler}")]
    NoWorkflow {
        /// Which task.
        id: TaskId,
        /// Its handler.
        handler: String,
    },
    /// A workflow's document is wrong in these places.
    #[error("{}", lines(.0))]
    Problems(Vec<Problem>),
    /// What was cancelled before a deletion has not stopped yet.
    #[error("task {id} is not deleted yet: task {live} below it was asked to stop, and still runs")]
    Stopping {
        /// Which was to be deleted.
        id: TaskId,
        /// One that runs.
        live: TaskId,
    },
    /// No pool has that id or name.
    #[error("there is no pool \"{0}\"")]
    UnknownPool(String),
    /// No job has that id or name.
    #[error("there is no job \"{0}\"")]
    UnknownJob(String),
    /// Several jobs or workflows have that name.
    #[error("several jobs or workflows are named \"{name}\": {}", .some.join(", "))]
    SeveralNamed {
        /// The name.
        name: String,
        /// Some of their ids, the newest first.
        some: Vec<String>,
    },
    /// Several tasks have ids that begin so.
    #[error("\"{prefix}\" begins the ids of several tasks: {}", .some.join(", "))]
    Ambiguous {
        /// What was given.
        prefix: String,
        /// Some of the ids.
        some: Vec<String>,
    },
}

fn lines(problems: &[Problem]) -> String {
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

fn place(line: Option<usize>) -> String {
    line.map(|line| format!(" (input {line})"))
        .unwrap_or_default()
}

impl ClientError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            ClientError::Store(error) => error.hint(),
            ClientError::UnknownHandler {
                name,
                known,
                directory,
            } => Some(unknown_handler(name, known, directory)),
            ClientError::IsGenerator { name } => Some(format!(
                "a generator step of a workflow runs it: generator = \"{name}\""
            )),
            ClientError::NoGenerator { .. } => Some(format!(
                "name a component that exports {}; fishway handler list shows which do",
                crate::loader::Export::Generator.newest()
            )),
            ClientError::Invalid { .. } => None,
            ClientError::TypeMismatch { function, .. } => Some(format!(
                "fishway handler describe {} shows what it takes",
                component_of(function)
            )),
            ClientError::KeyUsed { noun, .. } => Some(format!(
                "choose another key, or set reuse to get the earlier {noun} as it is"
            )),
            ClientError::UnknownTask(_) => {
                Some("fishway list shows the tasks that there are".to_owned())
            }
            ClientError::UnknownKey { of, key, known } => {
                let nearest = nearest(key, known);
                Some(match nearest {
                    Some(nearest) => format!("did you mean {of}:{nearest}?"),
                    None => format!("fishway list --parent {of} shows its children"),
                })
            }
            ClientError::NoWorkflow { id, .. } => {
                Some(format!("fishway get {id} shows what it is"))
            }
            ClientError::Problems(_) => None,
            ClientError::Stopping { id, live } => Some(format!(
                "fishway wait {live} waits for its end; fishway delete {id} goes on then"
            )),
            ClientError::UnknownPool(_) => {
                Some("fishway pool list --all shows the pools that there are".to_owned())
            }
            ClientError::UnknownJob(_) => {
                Some("fishway job list shows the jobs that there are".to_owned())
            }
            ClientError::Ambiguous { .. } => Some("give more of the id".to_owned()),
            ClientError::SeveralNamed { .. } => Some("give the id of one of them".to_owned()),
        }
    }
}

fn nearest<'k>(name: &str, known: &'k [String]) -> Option<&'k String> {
    let nearest = known.iter().max_by(|one, other| {
        strsim::jaro_winkler(name, one).total_cmp(&strsim::jaro_winkler(name, other))
    });
    nearest.filter(|nearest| strsim::jaro_winkler(name, nearest) > 0.8)
}

fn unknown_handler(name: &str, known: &[String], directory: &Option<PathBuf>) -> String {
    let component = component_of(name);
    let siblings: Vec<&str> = known
        .iter()
        .map(String::as_str)
        .filter(|known| component_of(known) == component)
        .collect();
    if !siblings.is_empty() {
        return format!("{component} has {}", siblings.join(", "));
    }
    match (nearest(name, known), directory) {
        (Some(nearest), _) => {
            format!("did you mean {nearest}?")
        }
        (_, Some(directory)) => format!("put {component}.wasm into {}", directory.display()),
        (_, None) => "fishway serve HANDLERS_DIR loads the handlers of a directory".to_owned(),
    }
}
