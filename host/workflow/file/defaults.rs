//! Defaults of a workflow for all of its jobs, and the metadata of the workflow and its jobs.

use std::collections::HashMap;
use std::sync::Arc;

use super::super::document::{Field, Shape};
use super::super::problem::Fields;
use super::Reader;
use crate::task::members::Members;
use crate::task::{Json, check_metadata, check_name};

/// Defaults of jobs.
pub(super) struct Defaults {
    /// Their input.
    pub input: Json,
    /// Their handler.
    pub handler: Option<Arc<str>>,
    /// The handlers of queues, by their names.
    pub queues: HashMap<Arc<str>, Arc<str>>,
}

impl Defaults {
    /// The handler of the jobs of a queue: the queue's handler, else that of the workflow.
    pub fn handler_of(&self, queue: Option<&str>) -> Option<Arc<str>> {
        let of_queue = queue.and_then(|queue| self.queues.get(queue));
        of_queue.or(self.handler.as_ref()).cloned()
    }
}

impl Reader<'_, '_> {
    /// The handlers of jobs by their queue.
    pub(super) fn queues(&mut self, field: &Field<'_>) -> HashMap<Arc<str>, Arc<str>> {
        let wanted =
            "an object that has queues by their names: {\"etl\": {\"handler\": \"etl-worker\"}}";
        let queues = match field.node.shape() {
            Shape::Table(queues) => queues,
            other => {
                self.problems.wrong_kind(field, &other, wanted);
                return HashMap::new();
            }
        };
        let mut found = HashMap::new();
        for queue in queues {
            if let Err(why) = check_name("queue's name", &queue.name) {
                self.problems.add(queue.at, why);
            }
            let whose = format!("queue \"{}\"", queue.name);
            let Some(mut fields) = Fields::of(queue.node, whose.clone(), self.problems) else {
                continue;
            };
            match self.name(&mut fields, &["handler"], "handler's name") {
                Some(handler) => drop(found.insert(queue.name.into(), handler)),
                None => {
                    let hint = "limits of a queue hold for all workflows: fishway queue set NAME";
                    let hint = || Some(hint.to_owned());
                    let what = format!("{whose} has no handler");
                    self.problems.advise(queue.at, what, hint);
                }
            }
            fields.end(self.problems);
        }
        found
    }

    /// The stored metadata, with the description as one of its fields.
    pub(super) fn metadata(&mut self, fields: &mut Fields<'_>) -> Option<Json> {
        let description = self.text(fields, &["description"]);
        let field = fields.take(&["metadata"], self.problems);
        let own = match &field {
            Some(field) => field.node.json(),
            None => Ok("{}".to_owned()),
        };
        let at = (field.as_ref().map(|field| field.node.at()))
            .or(description.as_ref().map(|(at, _)| *at))?;
        let text = own.and_then(|text| {
            check_metadata(&text)?;
            let Some((_, description)) = &description else {
                return Ok(text);
            };
            let members = Members::of(&text).unwrap_or(Members(Vec::new()));
            if members.has("description") {
                return Err(
                    "the metadata has a description, and so has what it is kept with".to_owned(),
                );
            }
            let description = serde_json::Value::from(&**description).to_string();
            let text = members.with(&[("description", description)]);
            check_metadata(&text)?;
            Ok(text)
        });
        match text {
            Ok(text) => Some(text.into()),
            Err(why) => {
                self.problems.add(at, why);
                None
            }
        }
    }
}
