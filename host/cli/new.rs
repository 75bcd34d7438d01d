use clap::builder::PossibleValuesParser;
use clap::builder::TypedValueParser;

use super::{Done, Global, print_json, print_line};
use crate::builder::{Language, project};

/// Begin a handler project in one of the languages
///
/// It has a handler that greets, the contract that it is built against, and what the tools of its
/// language want. `fishway build` makes a handler of it, `fishway dev` does that again on each change.
#[derive(clap::Args)]
pub struct Args {
    /// Name of the project, its directory and its handler: a-z, 0-9 and hyphens
    name: String,
    /// Language
    #[arg(long, short, value_name = "LANGUAGE", value_parser = language())]
    lang: Language,
}

fn language() -> impl TypedValueParser<Value = Language> {
    let names = Language::ALL.map(Language::name);
    PossibleValuesParser::new(names).map(|name| {
        let found = Language::ALL.into_iter().find(|one| one.name() == name);
        found.expect("the parser takes no other names")
    })
}

pub fn run(global: &Global, args: Args) -> anyhow::Result<Done> {
    let files = project::create(".".as_ref(), &args.name, args.lang)?;
    let name = &args.name;
    if global.json {
        print_json(
            &serde_json::json!({ "name": name, "language": args.lang.name(), "files": files }),
        )?;
    } else {
        for file in &files {
            print_line(&format!("{name}/{}", file.display()))?;
        }
    }
    global.say(format!(
        "a {} handler; next:\n  fishway dev {name}      # builds it, serves it, and again on each change\n  \
         fishway submit {name} '{{\"name\": \"Ada\"}}' --wait",
        args.lang.title()
    ));
    Ok(Done::OK)
}
