use super::serve::HostArgs;
use super::settings::{Origin, Setting};
use super::{Done, Global, print_json, print_line};
use crate::config::without_password;
use crate::wire::SettingJson;

/// Look at the settings
///
/// A flag counts most, then its environment variable (FISHWAY_KEEP_FAILED for --keep-failed), then
/// fishway.toml in the current directory, or the file of --config, then the default.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Show every setting, its value, and where that is from
    ///
    /// Takes the flags of fishway serve, to see what they would change. With --json, one object for
    /// each, with key, value and origin.
    Show(Box<HostArgs>),
}

pub fn run(global: &Global, args: Args) -> anyhow::Result<Done> {
    let Verb::Show(_) = args.verb;
    let settings = &global.settings.0;
    if global.json {
        for setting in settings {
            print_json(&SettingJson {
                key: &setting.key,
                value: shown(setting).as_deref(),
                origin: origin(setting),
            })?;
        }
        return Ok(Done::OK);
    }
    let value = |setting: &Setting| shown(setting).unwrap_or_else(|| "-".to_owned());
    let width = |of: fn(&Setting) -> usize| settings.iter().map(of).max().unwrap_or(0);
    let keys = width(|setting| setting.key.len());
    let values = width(|setting| shown(setting).map_or(1, |value| value.chars().count()));
    for setting in settings {
        print_line(&format!(
            "{:keys$}  {:values$}  {}",
            setting.key,
            value(setting),
            origin(setting)
        ))?;
    }
    Ok(Done::OK)
}

/// A value as it may be seen: an address without its password.
fn shown(setting: &Setting) -> Option<String> {
    let value = setting.value.as_deref()?;
    Some(match value.contains("://") {
        true => without_password(value),
        false => value.to_owned(),
    })
}

fn origin(setting: &Setting) -> String {
    match &setting.origin {
        Origin::Default => "default".to_owned(),
        Origin::File(path, line) => format!("{}:{line}", path.display()),
        Origin::Environment(name) => format!("environment {name}"),
        Origin::Flag => "flag".to_owned(),
    }
}
