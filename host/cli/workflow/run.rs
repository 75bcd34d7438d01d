//! Workflow files: checked, and run.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;

use crate::cli::given::{checked, text};
use crate::cli::wait::{report, tell_of_no_host};
use crate::cli::{Done, Global, Refused, duration_ms, print_json, print_line};
use crate::client::{Client, ClientError, Run};
use crate::limits::{WORKFLOW_BYTES_MAX, WORKFLOW_JOBS_MAX};
use crate::remote::Document;
use crate::task::{StatusSet, check_metadata};
use crate::wire::StartedJson;
use crate::workflow::{Definition, Format, Given, MANY, Problem, parse};

/// Problems that are printed of a file that is run.
const SHOWN: usize = 20;

/// Make a workflow of a file: all of its jobs or, when anything is wrong, none
///
/// Prints the id of the workflow, and the key and the id of each job. Works while no host runs.
#[derive(clap::Args)]
pub struct RunArgs {
    /// JSON or TOML file, or - for standard input
    file: String,
    /// Input in place of the file's own: JSON, or @FILE
    #[arg(value_name = "JSON|@FILE")]
    input: Option<String>,
    /// Running the same again under the same key gives the first workflow
    #[arg(long)]
    key: Option<String>,
    /// Return the first workflow of the key, even if its name, input or jobs are different
    #[arg(long, requires = "key")]
    reuse: bool,
    /// JSON object that is kept with the workflow and shown, in place of the file's own
    #[arg(long, value_name = "JSON")]
    metadata: Option<String>,
    /// Wait for the end
    #[arg(long)]
    wait: bool,
    /// Wait no longer than this
    #[arg(long, value_name = "DURATION", value_parser = duration_ms, requires = "wait")]
    timeout: Option<u64>,
    /// Jobs that a workflow may have, 10,000 at most
    #[arg(long, value_name = "N", default_value_t = WORKFLOW_JOBS_MAX, value_parser = jobs_max)]
    jobs_max: usize,
}

/// Say what is wrong with workflow files, and run nothing
///
/// Each problem has its line. Needs no host; handlers are looked for when there is a database.
#[derive(clap::Args)]
pub struct CheckArgs {
    /// JSON or TOML files, or - for standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<String>,
    /// Jobs that a workflow may have, 10,000 at most
    #[arg(long, value_name = "N", default_value_t = WORKFLOW_JOBS_MAX, value_parser = jobs_max)]
    jobs_max: usize,
}

fn jobs_max(text: &str) -> Result<usize, String> {
    let most = text.parse().map_err(|_| "expected a number".to_owned())?;
    match most {
        most if most > WORKFLOW_JOBS_MAX => {
            Err(format!("{most} is more than {WORKFLOW_JOBS_MAX}: {MANY}"))
        }
        most => Ok(most),
    }
}

pub async fn run(global: &Global, args: RunArgs) -> anyhow::Result<Done> {
    const EXAMPLE: &str = "fishway workflow run etl.json '{\"day\": 1}'";
    let input = match &args.input {
        Some(given) => Some(Arc::<str>::from(checked(&text(given)?, "", EXAMPLE)?)),
        None => None,
    };
    if let Some(metadata) = &args.metadata
        && let Err(why) = check_metadata(metadata)
    {
        let hint = r#"write --metadata '{"tenant": "ada"}'"#;
        return Err(Refused::usage(why, hint).into());
    }
    let text = read(&args.file)?;
    let name = name(&args.file);
    if let Some(remote) = global.remote(false)? {
        let document = Document {
            text,
            name,
            input: input.map(|input| input.to_string()),
            key: args.key.clone(),
            reuse: args.reuse,
            metadata: args.metadata.clone(),
            jobs_max: args.jobs_max,
        };
        let started = remote.run_document(&document)?;
        return after(global, &args, &global.client(args.wait)?, started).await;
    }
    let given = Given {
        name: &name,
        input,
        jobs_max: args.jobs_max,
    };
    let definition = parse(&text, Format::of(&args.file, &text), &given)
        .map_err(|problems| refused(&args.file, &problems))?;
    let client = global.client(args.wait)?;
    let run = Run {
        key: args.key.as_deref().map(Into::into),
        reuse: args.reuse,
        metadata: args.metadata.as_deref().map(Into::into),
    };
    let name = definition.workflow.name.clone();
    let started = match client.run_workflow(definition, run).await {
        Err(ClientError::Problems(problems)) => {
            return Err(refused(&args.file, &problems).into());
        }
        started => started?,
    };
    after(global, &args, &client, StartedJson::of(&started, &name)).await
}

/// What there is to say, or to wait for, once it is made.
async fn after(
    global: &Global,
    args: &RunArgs,
    client: &Client,
    started: StartedJson,
) -> anyhow::Result<Done> {
    let (id, name) = (&started.workflow_id, &started.name);
    if !started.created {
        global.say("that key was used before: this is the first workflow of that name");
    }
    if args.wait {
        global.say(format!("workflow {id} ({name})"));
        tell_of_no_host(global);
        let timeout = args.timeout.map(Duration::from_millis);
        let all = StatusSet::terminal();
        let ids = [client.resolve(id)?];
        return match client.wait(&ids, false, all, timeout).await? {
            Some(tasks) => report(global, &tasks),
            None => {
                global.say("it has not ended yet");
                Ok(Done::TIMED_OUT)
            }
        };
    }
    if global.json {
        print_json(&started)?;
        return Ok(Done::OK);
    }
    print_line(id)?;
    let jobs = &started.job_mappings.0;
    let width = jobs.iter().map(|(key, _)| key.chars().count()).max();
    let width = width.unwrap_or_default();
    for (key, id) in jobs {
        print_line(&format!("{key:width$}  {id}"))?;
    }
    Ok(Done::OK)
}

pub fn check(global: &Global, args: &CheckArgs) -> anyhow::Result<Done> {
    let remote = global.remote(false)?;
    let there = remote.is_some() || global.has_data();
    let client = match there && remote.is_none() {
        true => Some(global.client(false)?),
        false => None,
    };
    let mut done = Done::OK;
    for file in &args.files {
        let text = read(file)?;
        let name = name(file);
        let given = Given {
            name: &name,
            input: None,
            jobs_max: args.jobs_max,
        };
        let found = parse(&text, Format::of(file, &text), &given);
        let found = match (found, &client, &remote) {
            (Ok(definition), Some(client), _) => client.check_workflow(&definition)?,
            (Ok(definition), _, Some(remote)) => {
                let problems = remote.check_document(&Document {
                    text,
                    name,
                    input: None,
                    key: None,
                    reuse: false,
                    metadata: None,
                    jobs_max: args.jobs_max,
                })?;
                match problems.is_empty() {
                    true => Ok(definition),
                    false => Err(problems),
                }
            }
            (found, ..) => found,
        };
        if found.is_err() {
            done = Done::FAILED;
        }
        tell(global, file, &found)?;
    }
    if !there {
        let data = global.data.display();
        global.say(format!(
            "no fishway data in {data}: handlers were not looked for"
        ));
    }
    Ok(done)
}

fn tell(
    global: &Global,
    file: &str,
    found: &Result<Definition, Vec<Problem>>,
) -> anyhow::Result<()> {
    let none = Vec::new();
    let problems = found.as_ref().err().unwrap_or(&none);
    let workflow = found.as_ref().ok().map(|definition| &definition.workflow);
    if global.json {
        let problem = |one: &Problem| {
            serde_json::json!({
                "line": one.line, "column": one.column, "problem": one.what, "hint": one.hint,
            })
        };
        return print_json(&serde_json::json!({
            "file": file,
            "valid": problems.is_empty(),
            "name": workflow.map(|workflow| &*workflow.name),
            "jobs": workflow.map(|workflow| workflow.steps.len()),
            "problems": problems.iter().map(problem).collect::<Vec<_>>(),
        }));
    }
    for problem in problems {
        print_line(&shown(file, problem))?;
    }
    if let Some(workflow) = workflow {
        let (name, jobs) = (&workflow.name, workflow.steps.len());
        let edges: usize = workflow.steps.iter().map(|step| step.after.len()).sum();
        print_line(&format!(
            "{file}: \"{name}\", {jobs} jobs, {edges} dependencies"
        ))?;
    }
    Ok(())
}

fn shown(file: &str, problem: &Problem) -> String {
    let hint = match &problem.hint {
        Some(hint) => format!(" ({hint})"),
        None => String::new(),
    };
    format!(
        "{file}:{}:{}: {}{hint}",
        problem.line, problem.column, problem.what
    )
}

/// What is said of a file that nothing was made of.
pub fn refused(file: &str, problems: &[Problem]) -> Refused {
    let mut what = match problems.len() {
        1 => format!("nothing was made: {file} has a problem"),
        many => format!("nothing was made: {file} has {many} problems"),
    };
    for problem in problems.iter().take(SHOWN) {
        what.push_str("\n  ");
        what.push_str(&shown(file, problem));
    }
    let hint = match problems.len() > SHOWN {
        true => format!("fishway workflow check {file} shows the others"),
        false => format!("mend that, and see with fishway workflow check {file}"),
    };
    Refused::new(what, hint)
}

/// The name of a workflow whose file says none.
fn name(file: &str) -> String {
    let stem = Path::new(file).file_stem();
    match stem.map(|stem| stem.to_string_lossy().into_owned()) {
        Some(stem) if file != "-" => stem,
        _ => "workflow".to_owned(),
    }
}

/// The text of a file, or of standard input; a bit more than it may have is enough to refuse it.
pub fn read(file: &str) -> anyhow::Result<String> {
    let most = WORKFLOW_BYTES_MAX as u64 + 1;
    let mut bytes = Vec::new();
    let read = match file {
        "-" => std::io::stdin().take(most).read_to_end(&mut bytes),
        path => std::fs::File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes)),
    };
    read.with_context(|| format!("{file} cannot be read"))?;
    if bytes.len() > WORKFLOW_BYTES_MAX {
        let what = format!("{file} has more than {WORKFLOW_BYTES_MAX} bytes");
        let hint = "split the workflow, or let a handler make the larger part of it";
        return Err(Refused::new(what, hint).into());
    }
    String::from_utf8(bytes).map_err(|error| {
        let line = error.as_bytes()[..error.utf8_error().valid_up_to()]
            .split(|byte| *byte == b'\n')
            .count();
        Refused::new(
            format!("{file} is not UTF-8: line {line}"),
            "save it as UTF-8",
        )
        .into()
    })
}
