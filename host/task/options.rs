//! What may be asked for of a task that is to be, and its bounds.

use std::fmt::Write;
use std::sync::Arc;

use super::{Json, TaskId, check_name, check_new_name};
use crate::limits;
use crate::types::is_function;

/// What somebody asks for who submits or spawns a task.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Options {
    /// Same key from the same parent names the same task.
    pub key: Option<Arc<str>>,
    /// The queue; [`DEFAULT_QUEUE`](super::DEFAULT_QUEUE) when absent.
    pub queue: Option<Arc<str>>,
    /// Higher runs first; 0 when absent.
    pub priority: Option<i32>,
    /// Time to rest before it may start, in milliseconds.
    pub delay_ms: Option<u64>,
    /// Running time that one attempt may take, in milliseconds.
    pub timeout_ms: Option<u64>,
    /// The time at which it may start, in milliseconds since the Unix epoch. Not together with `delay_ms`.
    pub schedule_at_ms: Option<u64>,
    /// Time in which it must start, in milliseconds.
    pub expires_ms: Option<u64>,
    /// Time in which it must end, waiting included, in milliseconds.
    pub deadline_ms: Option<u64>,
    /// Attempts in all.
    pub attempts_max: Option<u32>,
    /// Handler that goes on with the output.
    pub on_complete: Option<Arc<str>>,
    /// The ended task that it takes the place of.
    pub retry_of: Option<TaskId>,
    /// Whether it is cancelled when its parent fails.
    pub ends_with_parent: bool,
    /// Start only when these have completed; at most [`limits::AFTER_MAX`].
    pub after: Vec<TaskId>,
    /// A JSON object that is kept with the task and shown.
    pub metadata: Option<Json>,
}

impl Options {
    /// What is set, and nothing else, as text: what makes a spawn with these the same spawn. An
    /// option that a later version adds changes nothing for those who do not set it.
    pub fn fingerprint(&self) -> String {
        let mut text = String::new();
        let mut add = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                let _ = write!(text, "{name}={value:?};");
            }
        };
        let shown = |value: &Option<Arc<str>>| value.as_ref().map(ToString::to_string);
        add("key", shown(&self.key));
        add("queue", shown(&self.queue));
        add("priority", self.priority.map(|value| value.to_string()));
        add("delay", self.delay_ms.map(|value| value.to_string()));
        add("timeout", self.timeout_ms.map(|value| value.to_string()));
        add("expires", self.expires_ms.map(|value| value.to_string()));
        add(
            "schedule-at",
            self.schedule_at_ms.map(|value| value.to_string()),
        );
        add("deadline", self.deadline_ms.map(|value| value.to_string()));
        add("retry-of", self.retry_of.map(|value| value.to_string()));
        add(
            "on-parent-failure",
            self.ends_with_parent.then(|| "cancel".to_owned()),
        );
        add("attempts", self.attempts_max.map(|value| value.to_string()));
        add("on-complete", shown(&self.on_complete));
        for upstream in &self.after {
            add("after", Some(upstream.to_string()));
        }
        add("metadata", shown(&self.metadata));
        text
    }

    /// Rows that a task with these makes: its own, and one for each task that it starts after.
    pub fn rows(&self) -> usize {
        1 + self.after.len()
    }

    /// How many of these inputs, from the first, one transaction makes tasks of that have these options;
    /// at least one.
    pub fn first_part(&self, inputs: &[String]) -> usize {
        let most = (limits::TRANSACTION_ROWS / self.rows()).max(1);
        let mut bytes = 0;
        let fit = inputs.iter().take(most).take_while(|input| {
            bytes += input.len();
            bytes <= limits::TRANSACTION_BYTES
        });
        fit.count().max(1)
    }

    /// Whether one request may ask for so many tasks with these. The error is a sentence.
    pub fn check_many(&self, tasks: usize) -> Result<(), String> {
        let (each, most) = (self.rows(), limits::REQUEST_ROWS_MAX);
        if tasks.saturating_mul(each) <= most {
            return Ok(());
        }
        let after = match self.after.len() {
            0 => String::new(),
            many => format!(" that each start after {many} others"),
        };
        Err(format!(
            "{tasks} tasks{after} are more than one call may make: at most {} of them",
            most / each
        ))
    }

    /// What is wrong with them where a person or a program outside asks, as a sentence.
    pub fn check_new(&self) -> Result<(), String> {
        self.check()?;
        for (what, name) in [("key", &self.key), ("queue", &self.queue)] {
            if let Some(name) = name {
                check_new_name(what, name)?;
            }
        }
        Ok(())
    }

    /// What is wrong with them, as a sentence; nothing is `Ok`.
    pub fn check(&self) -> Result<(), String> {
        check_after(self.after.len())?;
        self.check_values()
    }

    /// The same without the number of tasks that it starts after. A handler that an older version let go
    /// beyond that runs through its journal again before it is asked.
    pub fn check_values(&self) -> Result<(), String> {
        let names = [
            ("key", &self.key),
            ("queue", &self.queue),
            ("on-complete", &self.on_complete),
        ];
        for (what, name) in names {
            if let Some(name) = name {
                check_name(what, name)?;
            }
        }
        if let Some(next) = self.on_complete.as_deref().filter(|next| is_function(next)) {
            return Err(format!(
                "on-complete is {next}: a function has no parameters for what a continuation is given; a job of a \
                 workflow that depends on this one takes its output"
            ));
        }
        let durations = [
            ("delay", self.delay_ms),
            ("timeout", self.timeout_ms),
            ("expires", self.expires_ms),
            ("deadline", self.deadline_ms),
        ];
        for (what, duration) in durations {
            if duration.is_some_and(|ms| ms > limits::DURATION_MS_MAX) {
                return Err(format!("{what} is longer than ten years"));
            }
        }
        if let Some(metadata) = &self.metadata {
            check_metadata(metadata)?;
        }
        if self.schedule_at_ms.is_some() && self.delay_ms.is_some() {
            return Err(
                "delay and schedule-at are both set: a task has one time to start".to_owned(),
            );
        }
        if self
            .schedule_at_ms
            .is_some_and(|at| at > limits::TIME_MS_MAX)
        {
            return Err("schedule-at is later than the year 9999".to_owned());
        }
        match self.attempts_max {
            Some(0) => Err("max-attempts is 0: a task needs at least one attempt".to_owned()),
            Some(many) if many > limits::ATTEMPTS_MAX => Err(format!(
                "max-attempts is {many}, more than {}",
                limits::ATTEMPTS_MAX
            )),
            _ if self.timeout_ms == Some(0) => {
                Err("timeout is 0: an attempt needs some running time".to_owned())
            }
            _ if self.deadline_ms == Some(0) => {
                Err("deadline is 0: a task needs some time".to_owned())
            }
            _ => Ok(()),
        }
    }
}

/// Whether a task may start after so many others. The error is a sentence. Who reads names asks this before
/// the first of them is looked up.
pub fn check_after(many: usize) -> Result<(), String> {
    if many <= limits::AFTER_MAX {
        return Ok(());
    }
    Err(format!(
        "after names {many} tasks, more than {}: let one task wait for them, and start after that one",
        limits::AFTER_MAX
    ))
}

/// Whether `text` may be a task's metadata. Errors are sentences.
pub fn check_metadata(text: &str) -> Result<(), String> {
    if text.len() > limits::METADATA_BYTES_MAX {
        return Err(format!(
            "the metadata has {} bytes, more than {}",
            text.len(),
            limits::METADATA_BYTES_MAX
        ));
    }
    match serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(text) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("the metadata is not a JSON object: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_out_of_bounds_are_refused_with_a_sentence() {
        let check = |options: Options, expected: &str| {
            let found = options.check().err().unwrap_or_default();
            assert_eq!(found, expected);
        };
        check(Options::default(), "");
        check(
            Options {
                key: Some("".into()),
                ..Options::default()
            },
            "the key is empty",
        );
        check(
            Options {
                queue: Some("a\nb".into()),
                ..Options::default()
            },
            "the queue holds a control character",
        );
        check(
            Options {
                delay_ms: Some(u64::MAX),
                ..Options::default()
            },
            "delay is longer than ten years",
        );
        check(
            Options {
                attempts_max: Some(0),
                ..Options::default()
            },
            "max-attempts is 0: a task needs at least one attempt",
        );
        check(
            Options {
                metadata: Some("[1]".into()),
                ..Options::default()
            },
            "the metadata is not a JSON object: invalid type: sequence, expected a map at line 1 column 0",
        );
        check(
            Options {
                timeout_ms: Some(0),
                ..Options::default()
            },
            "timeout is 0: an attempt needs some running time",
        );
        let after = |many: i64| Options {
            after: (0..many).map(TaskId::from_i64).collect(),
            ..Options::default()
        };
        check(after(1_000), "");
        check(
            after(1_001),
            "after names 1001 tasks, more than 1000: let one task wait for them, and start after that one",
        );
        assert_eq!(after(1_001).check_values(), Ok(()));
    }

    #[test]
    fn what_one_call_makes_is_bounded_and_cut_in_transactions_by_rows() {
        let after = |many: i64| Options {
            after: (0..many).map(TaskId::from_i64).collect(),
            ..Options::default()
        };
        let inputs = vec!["{}".to_owned(); 20_000];
        let part = |many: i64| after(many).first_part(&inputs);
        assert_eq!(
            [part(0), part(1), part(999), part(1_000)],
            [10_000, 5_000, 10, 9]
        );
        assert_eq!(part(1_000_000), 1, "one that an older version let through");
        assert_eq!(after(0).first_part(&inputs[..3]), 3);
        let large = vec!["x".repeat(limits::PAYLOAD_BYTES_MAX); 5];
        assert_eq!(after(0).first_part(&large), 4);
        assert_eq!(after(0).check_many(1_000_000), Ok(()));
        assert_eq!(
            after(0).check_many(1_000_001),
            Err(
                "1000001 tasks are more than one call may make: at most 1000000 of them".to_owned()
            )
        );
        assert_eq!(after(999).check_many(1_000), Ok(()));
        assert_eq!(
            after(999).check_many(1_001),
            Err(
                "1001 tasks that each start after 999 others are more than one call may make: at most 1000 of them"
                    .to_owned()
            )
        );
    }

    #[test]
    fn a_name_that_turns_or_hides_text_is_taken_from_handlers_alone() {
        let options = Options {
            key: Some("a\u{202e}b".into()),
            ..Options::default()
        };
        assert_eq!(options.check(), Ok(()));
        let why = options.check_new().unwrap_err();
        assert_eq!(why, "the key holds U+202E, which reverses or hides text");
    }

    #[test]
    fn a_task_has_one_time_to_start_and_time_to_end() {
        let check = |options: Options, expected: &str| {
            assert_eq!(options.check().unwrap_err(), expected);
        };
        let options = Options {
            delay_ms: Some(1),
            schedule_at_ms: Some(1),
            ..Options::default()
        };
        check(
            options,
            "delay and schedule-at are both set: a task has one time to start",
        );
        let options = Options {
            schedule_at_ms: Some(limits::TIME_MS_MAX + 1),
            ..Options::default()
        };
        check(options, "schedule-at is later than the year 9999");
        let options = Options {
            deadline_ms: Some(0),
            ..Options::default()
        };
        check(options, "deadline is 0: a task needs some time");
        let options = Options {
            deadline_ms: Some(limits::DURATION_MS_MAX + 1),
            ..Options::default()
        };
        check(options, "deadline is longer than ten years");
    }

    #[test]
    fn every_option_makes_another_spawn_and_none_makes_none() {
        let text: Arc<str> = "x".into();
        // Without `..`: whoever adds an option is asked to add it here, and to the fingerprint.
        let all = Options {
            key: Some(text.clone()),
            queue: Some(text.clone()),
            priority: Some(1),
            delay_ms: Some(1),
            schedule_at_ms: Some(1),
            timeout_ms: Some(1),
            expires_ms: Some(1),
            deadline_ms: Some(1),
            attempts_max: Some(1),
            on_complete: Some(text.clone()),
            retry_of: Some(TaskId::from_i64(1)),
            ends_with_parent: true,
            after: vec![TaskId::from_i64(1)],
            metadata: Some("{}".into()),
        };
        assert_eq!(Options::default().fingerprint(), "");
        assert_eq!(all.fingerprint().matches(';').count(), 14);
        let mut other = all.clone();
        other.after.push(TaskId::from_i64(2));
        assert_ne!(other.fingerprint(), all.fingerprint());
    }
}
