use super::view::{cut, duration, style};
use super::{Done, Global, now_ms, print_json, print_line};
use crate::client::Detail;
use crate::group::GroupKind;
use crate::wire;

/// Show tasks: status, input, output, error, attempts, children
#[derive(clap::Args)]
pub struct Args {
    /// Ids, unique beginnings of ids, or WORKFLOW:KEY for a job
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
}

pub fn run(global: &Global, args: &Args) -> anyhow::Result<Done> {
    let client = global.existing_client(false)?;
    for (index, prefix) in args.ids.iter().enumerate() {
        let detail = client.detail(client.resolve(prefix)?)?;
        if global.json {
            print_json(&wire::detail(&detail, now_ms()))?;
            continue;
        }
        if index > 0 {
            print_line("")?;
        }
        for line in lines(&detail) {
            print_line(&line)?;
        }
    }
    Ok(Done::OK)
}

fn lines(detail: &Detail) -> Vec<String> {
    let task = &detail.task;
    let colour = style(task.status);
    let reason = match detail.holds.sentence(task) {
        Some(reason) => format!(" ({reason})"),
        None if task.cancel_requested && !task.status.is_terminal() => {
            " (asked to stop)".to_owned()
        }
        None => match task.awaited_signal() {
            Some(name) => format!(" (for signal {name})"),
            None if task.awaits_exchange() => " (for an HTTP response)".to_owned(),
            None => String::new(),
        },
    };
    let mut lines = vec![format!("id        {}", task.id)];
    if let Some(group) = &task.group
        && group.kind == GroupKind::Workflow
    {
        lines.extend(super::workflow::lines(task, group));
        lines.push(format!("jobs      fishway workflow get {}", task.id));
        return lines;
    }
    lines.push(format!("handler   {}", task.handler));
    lines.push(format!(
        "status    {colour}{}{colour:#}{reason}",
        task.status
    ));
    if let Some(group) = &task.group {
        lines.extend(super::pool::lines(task, group));
        lines.push(format!(
            "parent    {}",
            task.parent
                .map_or_else(|| "none".to_owned(), |id| id.to_string())
        ));
        lines.extend(
            task.failure
                .iter()
                .map(|failure| format!("error     {}", failure.message)),
        );
        return lines;
    }
    let mut line = |name: &str, value: String| lines.push(format!("{name:9} {value}"));
    if &*task.phase != crate::task::FIRST_PHASE {
        line("phase", task.phase.to_string());
    }
    if let Some(most) = task.attempts_max.filter(|_| task.group.is_none()) {
        line("attempt", format!("{} of {most}", task.attempt));
    }
    if let Some(duration_ms) = task.duration_ms(now_ms()) {
        line("duration", duration(duration_ms));
    }
    line("created", wire::time(task.created_at_ms));
    if let Some(at) = task.run_at_ms {
        line("starts", wire::time(at));
    }
    if let Some(at) = task.terms.deadline_at_ms {
        line("deadline", wire::time(at));
    }
    if let Some(parent) = task.parent {
        let deleted = if detail.parent_deleted {
            " (deleted)"
        } else {
            ""
        };
        line("parent", format!("{parent}{deleted}"));
    }
    if let Some(earlier) = task.retry_of {
        line("retry of", earlier.to_string());
    }
    if let Some(key) = &task.key {
        line("key", key.to_string());
    }
    if let Some(index) = task.index() {
        line("index", index.to_string());
    }
    if let Some(number) = task.line() {
        line("line", number.to_string());
    }
    if let Some(metadata) = &task.metadata {
        line("metadata", cut(metadata, 200));
    }
    if !detail.child_ids.is_empty() {
        let counts: Vec<String> = detail
            .child_counts
            .iter()
            .map(|(status, count)| format!("{count} {status}"))
            .collect();
        let children: u64 = detail.child_counts.iter().map(|(_, count)| count).sum();
        line("children", format!("{children} ({})", counts.join(", ")));
    }
    if detail.signals_unread > 0 {
        line("signals", format!("{} unread", detail.signals_unread));
    }
    if let Some(progress) = &task.progress {
        let total = progress
            .total
            .map(|total| format!(" of {total}"))
            .unwrap_or_default();
        let message = progress
            .message
            .as_deref()
            .map(|text| format!(", {text}"))
            .unwrap_or_default();
        line("progress", format!("{}{total}{message}", progress.done));
    }
    line("input", cut(&task.input, 200));
    if let Some(output) = &task.output {
        line("output", output.to_string());
    }
    if let Some(failure) = &task.failure {
        line("error", failure.message.clone());
    }
    for attempt in &detail.attempts {
        let took_ms = attempt.ended_at_ms.saturating_sub(attempt.started_at_ms);
        let why = cut(&attempt.failure.message, 120);
        line(
            "failed",
            format!(
                "attempt {} after {}: {why}",
                attempt.attempt,
                duration(took_ms)
            ),
        );
    }
    lines
}
