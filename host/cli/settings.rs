//! Settings: flags that may also stand in `fishway.toml` or in an environment variable.
//!
//! A flag is a setting where it has a variable. The file is read first, and what is in it becomes
//! the defaults of the flags; so one parser reads a value wherever it stands, and says of each where
//! it is from.

use std::error::Error as _;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::builder::{Resettable, ValueParser};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command, CommandFactory, FromArgMatches};

use super::{Cli, Refused};
use crate::config::{self, ConfigError};

/// Where a value is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody has said anything.
    Default,
    /// A line of a file.
    File(PathBuf, usize),
    /// A variable.
    Environment(String),
    /// The command line.
    Flag,
}

/// A setting as it is for this command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Its name.
    pub key: String,
    /// Its value, as it was written; none where there is no such bound or rule.
    pub value: Option<String>,
    /// Where that is from.
    pub origin: Origin,
    /// The flag, where it has one: what has none stands without a name.
    flag: Option<String>,
}

/// All settings of a command line.
#[derive(Debug, Clone, Default)]
pub struct Settings(pub Vec<Setting>);

impl Settings {
    /// Where a setting is from.
    pub fn origin(&self, key: &str) -> Origin {
        let found = self.0.iter().find(|setting| setting.key == key);
        found.map_or(Origin::Default, |setting| setting.origin.clone())
    }

    /// What of the command line another `fishway` has to be given, to do as this one was told; but for
    /// the data directory.
    pub fn arguments(&self) -> Vec<OsString> {
        let told = self.0.iter().filter(|setting| {
            setting.origin == Origin::Flag && setting.value.is_some() && setting.key != "data"
        });
        let (named, unnamed): (Vec<_>, Vec<_>) = told.partition(|setting| setting.flag.is_some());
        let mut arguments: Vec<OsString> = Vec::new();
        for setting in named.iter().chain(&unnamed) {
            let value = setting.value.clone().unwrap_or_default();
            match &setting.flag {
                Some(flag) => arguments.push(format!("--{flag}={value}").into()),
                None => arguments.extend(["--".into(), value.into()]),
            }
        }
        arguments
    }
}

/// Why there is no command.
pub enum Trouble {
    /// The command line is wrong, or asks for help.
    Usage(Box<clap::Error>),
    /// A file or a variable is.
    Refused(Refused),
}

impl From<ConfigError> for Trouble {
    fn from(error: ConfigError) -> Trouble {
        let hint = error.hint();
        Trouble::Refused(Refused {
            what: error.to_string(),
            hint,
            code: 2,
        })
    }
}

/// Read the command line, with what the file and the environment say.
pub fn read(arguments: &[OsString]) -> Result<Cli, Trouble> {
    let mut command = Cli::command();
    let known = known(&command);
    let parsed = |command: Command| {
        let matches = without_empty_variables(command).try_get_matches_from(arguments);
        matches.map_err(|error| usage(error, &known))
    };
    let file = match file(&parsed(command.clone())?) {
        None => None,
        Some(path) => {
            let keys: Vec<&str> = known.iter().map(|(key, _)| key.as_str()).collect();
            Some(config::read(&path, &keys)?)
        }
    };
    if let Some(file) = &file {
        for entry in &file.entries {
            let Some((_, argument)) = known.iter().find(|(key, _)| *key == entry.key) else {
                continue;
            };
            let value = match is_path(argument) {
                // As a flag it would be relative to where the command is run.
                true => file.path.with_file_name(&entry.value).into_os_string(),
                false => OsString::from(&entry.value),
            };
            if let Err(why) = check(argument, &value) {
                let what = format!(
                    "{}:{}: {}: {why}",
                    file.path.display(),
                    entry.line,
                    entry.key
                );
                return Err(Trouble::Refused(wrong_value(what, &entry.key)));
            }
            let default = value.to_string_lossy().into_owned();
            command = with_default(command, argument.get_id().as_str(), &default);
        }
    }
    let matches = parsed(command)?;
    let mut cli = Cli::from_arg_matches(&matches).map_err(|error| usage(error, &known))?;
    let matches = innermost(&matches);
    let found = known.iter().map(|(key, argument)| {
        let at = (file.as_ref()).and_then(|file| {
            let entry = file.entries.iter().find(|entry| entry.key == *key)?;
            Some((file.path.clone(), entry.line))
        });
        setting(key, argument, matches, at)
    });
    cli.global.settings = Settings(found.collect());
    Ok(cli)
}

/// All settings: those of every command, and those of a host.
fn known(command: &Command) -> Vec<(String, Arg)> {
    let own = command.get_arguments();
    let serve = command.find_subcommand("serve");
    let hosts = serve.into_iter().flat_map(Command::get_arguments);
    own.chain(hosts)
        .filter(|argument| argument.get_env().is_some())
        .map(|argument| {
            let id = argument.get_id().as_str().replace('_', "-");
            let key = argument.get_long().map_or(id, str::to_owned);
            (key, argument.clone())
        })
        .filter(|(key, _)| key != CONFIG)
        .collect()
}

/// The setting that says where the others are, and cannot stand among them.
const CONFIG: &str = "config";

/// The file that is named, or the one that is there.
fn file(matches: &ArgMatches) -> Option<PathBuf> {
    let named = innermost(matches).get_one::<PathBuf>(CONFIG).cloned();
    named.or_else(|| {
        let there = PathBuf::from(config::FILE_NAME);
        there.exists().then_some(there)
    })
}

fn innermost(mut matches: &ArgMatches) -> &ArgMatches {
    while let Some((_, inner)) = matches.subcommand() {
        matches = inner;
    }
    matches
}

fn is_path(argument: &Arg) -> bool {
    argument.get_value_parser().type_id() == ValueParser::path_buf().type_id()
}

/// The same command, where a flag that is not given has this value, in whatever command it is.
fn with_default(mut command: Command, id: &str, value: &str) -> Command {
    let has = |command: &Command| {
        (command.get_arguments())
            .any(|argument| argument.get_id() == id && argument.get_env().is_some())
    };
    if has(&command) {
        let value = value.to_owned();
        command = command.mut_arg(id, |argument| argument.default_value(value));
    }
    let inner: Vec<String> = (command.get_subcommands())
        .map(|inner| inner.get_name().to_owned())
        .collect();
    for name in inner {
        command = command.mut_subcommand(name, |inner| with_default(inner, id, value));
    }
    command
}

/// The same command, where a variable that is empty counts as one that is not set.
fn without_empty_variables(mut command: Command) -> Command {
    let empty = |argument: &&Arg| {
        let value = argument.get_env().and_then(std::env::var_os);
        value.is_some_and(|value| value.is_empty())
    };
    let ids: Vec<String> = (command.get_arguments())
        .filter(empty)
        .map(|argument| argument.get_id().to_string())
        .collect();
    for id in ids {
        command = command.mut_arg(id, |argument| argument.env(Resettable::Reset));
    }
    let inner: Vec<String> = (command.get_subcommands())
        .map(|inner| inner.get_name().to_owned())
        .collect();
    for name in inner {
        command = command.mut_subcommand(name, without_empty_variables);
    }
    command
}

/// Whether a value could stand behind a flag, and why not.
fn check(argument: &Arg, value: &std::ffi::OsStr) -> Result<(), String> {
    let alone = Command::new("fishway").arg(
        argument
            .clone()
            .env(Resettable::Reset)
            .global(false)
            .default_value(Resettable::Reset),
    );
    let line = match argument.get_long() {
        Some(long) => {
            let mut flag = OsString::from(format!("--{long}="));
            flag.push(value);
            vec!["fishway".into(), flag]
        }
        None => vec!["fishway".into(), "--".into(), value.to_owned()],
    };
    let Err(error) = alone.try_get_matches_from(line) else {
        return Ok(());
    };
    let value = value.to_string_lossy();
    Err(match (error.source(), error.get(ContextKind::ValidValue)) {
        (Some(why), _) => format!("\"{value}\" does not do: {why}"),
        (None, Some(ContextValue::Strings(words))) => {
            format!("\"{value}\" is none of {}", words.join(", "))
        }
        _ => format!("\"{value}\" does not do"),
    })
}

/// The error of a command line; where it comes from a variable, one that names it.
fn usage(error: clap::Error, known: &[(String, Arg)]) -> Trouble {
    if matches!(
        error.kind(),
        ErrorKind::ValueValidation | ErrorKind::InvalidValue
    ) {
        for (key, argument) in known {
            let Some(name) = argument.get_env() else {
                continue;
            };
            let value = std::env::var_os(name).filter(|value| !value.is_empty());
            let Some(value) = value else {
                continue;
            };
            if let Err(why) = check(argument, &value) {
                let what = format!("the variable {}: {why}", name.to_string_lossy());
                return Trouble::Refused(wrong_value(what, key));
            }
        }
    }
    Trouble::Usage(Box::new(error))
}

fn wrong_value(what: String, key: &str) -> Refused {
    let hint = format!("fishway serve --help says what {key} is; fishway config show, what is set");
    Refused::usage(what, hint)
}

fn setting(
    key: &str,
    argument: &Arg,
    matches: &ArgMatches,
    at: Option<(PathBuf, usize)>,
) -> Setting {
    let id = argument.get_id().as_str();
    // A command that does not have it is as if nobody had said anything on its line.
    let there = matches.try_contains_id(id).is_ok();
    let source = there.then(|| matches.value_source(id)).flatten();
    let value = match there {
        true => matches
            .get_raw(id)
            .and_then(|mut values| values.next().map(|value| value.to_owned())),
        false => None,
    };
    let origin = match source {
        Some(ValueSource::CommandLine) => Origin::Flag,
        Some(ValueSource::EnvVariable) => {
            let name = argument.get_env().unwrap_or_default();
            Origin::Environment(name.to_string_lossy().into_owned())
        }
        _ => at.map_or(Origin::Default, |(path, line)| Origin::File(path, line)),
    };
    Setting {
        key: key.to_owned(),
        value: value.map(|value| value.to_string_lossy().into_owned()),
        origin,
        flag: argument.get_long().map(str::to_owned),
    }
}

/// The path of the configuration that another `fishway` is to read, too.
pub fn config_flag(path: Option<&Path>) -> Option<OsString> {
    let mut flag = OsString::from(format!("--{CONFIG}="));
    flag.push(path?);
    Some(flag)
}
