//! Workflows as the store takes them, for tests that write no document.

use std::sync::Arc;

use fishway::group::OnFailure;
use fishway::task::Options;
use fishway::workflow::{After, NewWorkflow, Step, Work, Workflow};

/// A step that starts when those of these places have completed.
pub fn step(key: &str, work: Work, input: &str, after: &[usize]) -> Step {
    let after = after.iter().map(|step| After {
        step: *step,
        key: None,
        on: Default::default(),
        optional: false,
    });
    Step {
        key: key.into(),
        work,
        input: input.into(),
        options: Options::default(),
        after: after.collect(),
        sources_of: Vec::new(),
        optional: false,
        producer: None,
    }
}

/// A workflow of these steps, without a key, by nobody.
pub fn new_workflow(steps: Vec<Step>) -> NewWorkflow {
    NewWorkflow {
        workflow: Arc::new(Workflow {
            name: "w".into(),
            on_failure: OnFailure::Fail,
            input: "{}".into(),
            steps,
        }),
        spawner: None,
        retry_of: None,
        key: None,
        metadata: None,
    }
}
