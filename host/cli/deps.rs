use super::view::style;
use super::workflow::name;
use super::{Done, Global, print_json, print_line};
use crate::task::edge::{Link, On};
use crate::wire;

/// Show what a task depends on, and what depends on it
#[derive(clap::Args)]
pub struct Args {
    /// Id, a unique beginning of one, the name of a job or workflow, or WORKFLOW:KEY
    id: String,
    /// At most so many of each
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: u64,
}

pub fn run(global: &Global, args: &Args) -> anyhow::Result<Done> {
    let client = global.existing_client(false)?;
    let task = client.task(client.resolve(&args.id)?)?;
    let found = client.dependencies(task.id, args.limit)?;
    if global.json {
        print_json(&wire::DependenciesJson::of(&task, &found))?;
        return Ok(Done::OK);
    }
    let sides = [
        ("depends on", &found.depends_on, found.depends_on_count),
        (
            "depended on by",
            &found.depended_on_by,
            found.depended_on_by_count,
        ),
    ];
    for (title, links, count) in sides {
        if links.is_empty() {
            print_line(&format!("{title} nothing"))?;
            continue;
        }
        print_line(title)?;
        for line in lines(links) {
            print_line(&line)?;
        }
        if count > links.len() {
            global.say(format!(
                "the first {} of {count}; --limit shows more",
                links.len()
            ));
        }
    }
    Ok(Done::OK)
}

fn lines(links: &[Link]) -> Vec<String> {
    let names: Vec<String> = links.iter().map(name).collect();
    let width = names
        .iter()
        .map(|name| name.chars().count())
        .max()
        .unwrap_or_default();
    let line = |(link, name): (&Link, &String)| {
        let id = link.task;
        let status = match link.status {
            Some(status) => {
                let colour = style(status);
                format!("{colour}{status:9}{colour:#}")
            }
            None => "(deleted)".to_owned(),
        };
        let mut line = format!("  {name:width$}  {id}  {status}");
        match link.on {
            On::Success => {}
            On::Failure => line.push_str("  on failure"),
            On::Any => line.push_str("  on any end"),
        }
        if link.optional {
            line.push_str("  optional");
        }
        if let Some(called) = &link.called {
            line.push_str(&format!("  as {called}"));
        }
        line.trim_end().to_owned()
    };
    links.iter().zip(&names).map(line).collect()
}
