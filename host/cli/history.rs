use super::terminal::{self, PieceKind, Pieces};
use super::view::{bytes, cut, duration};
use super::{Done, Global, now_ms};
use crate::journal::HistoryCall;
use crate::store::{History, JournalPosition};
use crate::wire;

/// Calls per read.
const PAGE: usize = 200;

/// Characters of arguments in a line.
const SUBJECT_MAX: usize = 60;

/// Show what a task did, call by call
///
/// Each call of a run has a line: its number, when it was answered, the function, its arguments, the answer, and, if
/// known, how long it took and how large the answer was. For an HTTP request the answer is the status of its response.
/// Headers, bodies and kept values are never shown. It works while the task runs or waits, and after the end of a run
/// for as long as `serve --keep-history` says; without that, only its spawns remain.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  fishway history 0SC3\n  fishway history 0SC3 --run 1 --json")]
pub struct Args {
    /// Id, a unique beginning of one, the name of a job or workflow, or WORKFLOW:KEY for a job
    id: String,
    /// The number of the run, from 1: each attempt is one [default: the last one]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(i32::MAX)))]
    run: Option<u32>,
    /// Most calls to show [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
}

pub async fn run(global: &Global, args: Args) -> anyhow::Result<Done> {
    let client = global.existing_client(false)?;
    let id = client.resolve(&args.id)?;
    // People count from 1.
    let run = args.run.map(|run| run - 1);
    let mut left = args.limit.unwrap_or(u64::MAX);
    let mut out = Pieces::new(match global.json {
        true => PieceKind::Json,
        false => PieceKind::Line,
    });
    let mut from = JournalPosition::default();
    let mut shown = 0;
    loop {
        let most = usize::try_from(left).unwrap_or(PAGE).min(PAGE);
        let page = client.history(id, run, from, most)?;
        let header = shown == 0 && terminal::is_terminal() && !global.quiet;
        shown += page.calls.len();
        left -= page.calls.len() as u64;
        let pieces = match global.json {
            true => (page.calls.iter())
                .map(|call| wire::text(&wire::history::call(call)) + "\n")
                .collect(),
            false => lines(&page, header && !page.calls.is_empty()),
        };
        for piece in pieces {
            if !out.write(&piece)? {
                return Ok(Done::OK);
            }
        }
        if !out.flush()? {
            return Ok(Done::OK);
        }
        match page.next {
            Some(next) if left > 0 => from = next,
            Some(_) => {
                global.say(format!("the first {shown}; --limit shows more"));
                return Ok(Done::OK);
            }
            None => {
                say_end(global, &page, shown);
                return Ok(Done::OK);
            }
        }
    }
}

/// The closing line after all calls.
fn say_end(global: &Global, page: &History, shown: usize) {
    if global.json {
        return;
    }
    if let Some(wait) = &page.wait {
        global.say(format!(
            "it waits in call {}, {}({}), for {}",
            wait.number,
            wait.function,
            cut(&wait.subject, SUBJECT_MAX),
            duration(now_ms().saturating_sub(wait.since_ms))
        ));
    } else if shown == 0 {
        global.say(format!(
            "no calls of run {} are recorded; the last run is {}. Calls of ended runs are kept with serve --keep-history",
            page.run + 1,
            page.last_run + 1
        ));
    }
}

fn lines(page: &History, header: bool) -> Vec<String> {
    let wide = |text: fn(&HistoryCall) -> usize| {
        let widths = page.calls.iter().map(text);
        widths.max().unwrap_or_default()
    };
    let function = wide(|call| call.function.chars().count()).max(8);
    let subject = wide(|call| cut(&call.subject, SUBJECT_MAX).chars().count()).max(9);
    let mut lines = Vec::new();
    if header {
        lines.push(format!(
            "{:>5}  {:12}  {:function$}  {:subject$}  {:>8}  {:>8}  ANSWER",
            "CALL", "TIME", "FUNCTION", "ARGUMENTS", "TOOK", "SIZE"
        ));
    }
    for call in &page.calls {
        let at = wire::time(call.at_ms);
        lines.push(format!(
            "{:>5}  {:12}  {:function$}  {:subject$}  {:>8}  {:>8}  {}",
            call.number,
            at.get(11..23).unwrap_or(&at),
            call.function,
            cut(&call.subject, SUBJECT_MAX),
            call.took_ms.map(duration).unwrap_or_default(),
            call.bytes.map(bytes).unwrap_or_default(),
            call.answer,
        ));
    }
    lines
}
