//! Waits for tasks that others spawned, and adds up what they counted: `{"child_task_ids": [...]}` becomes
//! `{"total": 3, "failed_count": 1, "failed_task_ids": [...]}`. It holds no slot while it waits.

use kit::{Failure, Status, tasks};
use serde::{Deserialize, Serialize};

kit::handler!(fan_in);

#[derive(Deserialize)]
struct Input {
    child_task_ids: Vec<String>,
}

#[derive(Deserialize)]
struct Processed {
    count: u64,
}

#[derive(Serialize, Default)]
struct Aggregated {
    total: u64,
    failed_count: usize,
    failed_task_ids: Vec<String>,
}

fn fan_in(input: Input) -> Result<Aggregated, Failure> {
    let mut aggregated = Aggregated::default();
    for child in tasks::wait_all(&input.child_task_ids, None)? {
        match (child.status, child.output) {
            (Status::Completed, Some(output)) => {
                aggregated.total += serde_json::from_str::<Processed>(&output)?.count;
            }
            // Failed, cancelled, expired or skipped: there is no count.
            _ => aggregated.failed_task_ids.push(child.id),
        }
    }
    aggregated.failed_count = aggregated.failed_task_ids.len();
    Ok(aggregated)
}
