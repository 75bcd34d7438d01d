//! What another machine's host tells of its tasks, its queues and itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Deserialize;

use super::nouns::{self, id};
use super::{HandlersPage, PAGE, Remote, asking, local};
use crate::bus::Bus;
use crate::group::GroupKind;
use crate::job::UnitResult;
use crate::journal::CompletedStep;
use crate::lease::Lease;
use crate::limits::CHILD_IDS_MAX;
use crate::schedule::Schedule;
use crate::store::{
    BrokenRow, Counter, Crowd, EarlierChild, Exchange, Filter, HISTORY_CALLS_MAX, HandlerRow,
    HandlersStanding, History, JournalPage, JournalPosition, LogLine, LogPosition, Node,
    QueueDepth, QueueStanding, RandomSecret, RandomSecretInfo, Rank, Recent, SecretInfo,
    SecretState, Store, StoreError, StoredSecret,
};
use crate::task::edge::{Link, Links};
use crate::task::producer::Clocks;
use crate::task::state::Attempt;
use crate::task::{Edge, IdGenerator, Outcome, PendingReason, PhaseWait, Status, Task, TaskId};
use crate::types::component_of;
use crate::wire::history::HistoryJson;
use crate::wire::{self, CounterJson, LogJson, QueueJson, ScheduleJson, TaskJson};

#[async_trait::async_trait]
impl Store for Remote {
    fn clocks(&self, _producer: TaskId) -> Result<Option<Clocks>, StoreError> {
        Err(local("a look at the clocks of a producer"))
    }

    fn unit_results(
        &self,
        job: TaskId,
        after_line: u64,
        failed: bool,
        limit: u64,
    ) -> Result<Vec<UnitResult>, StoreError> {
        self.results(job, after_line, failed, limit)
    }

    fn members_running(&self, group: TaskId) -> Result<u64, StoreError> {
        self.units_running(group)
    }

    fn tasks(&self, ids: &[TaskId]) -> Result<Vec<Option<Task>>, StoreError> {
        let found = |&id: &TaskId| match self.found(id)? {
            Some(task) => Ok(Some(nouns::task(&task)?)),
            None => Ok(None),
        };
        ids.iter().map(found).collect()
    }

    fn tasks_within(
        &self,
        ids: &[TaskId],
        _bytes_max: u64,
    ) -> Result<Vec<Option<(Task, u64)>>, StoreError> {
        // The other host bounds what it answers.
        let tasks = self.tasks(ids)?.into_iter();
        Ok(tasks.map(|task| task.map(|task| (task, 0))).collect())
    }

    fn statuses(&self, ids: &[TaskId]) -> Result<Vec<Option<Status>>, StoreError> {
        let status = |task: Option<Task>| task.map(|task| task.status);
        Ok(self.tasks(ids)?.into_iter().map(status).collect())
    }

    fn outcomes(&self, ids: &[TaskId], bytes_max: u64) -> Result<Vec<Option<Outcome>>, StoreError> {
        let (mut page, mut bytes) = (Vec::new(), 0);
        for id in ids {
            if bytes >= bytes_max && !page.is_empty() {
                break;
            }
            let found = self.tasks(&[*id])?.pop().flatten();
            let outcome = found.map(|task| task.outcome());
            bytes += outcome.as_ref().map_or(0, Outcome::payload_bytes);
            page.push(outcome);
        }
        Ok(page)
    }

    fn ids_between(
        &self,
        low: TaskId,
        high: TaskId,
        limit: u64,
    ) -> Result<Vec<TaskId>, StoreError> {
        // What both have in common is what all between begin with.
        let (low, high) = (low.to_string(), high.to_string());
        let same = low.chars().zip(high.chars()).take_while(|(a, b)| a == b);
        let prefix: String = same.map(|(character, _)| character).collect();
        let tasks = self.pages("/v1/tasks", &[("id", prefix)], limit)?;
        tasks.iter().map(|task| id(&task.id)).collect()
    }

    fn tally(&self, filter: &Filter) -> Result<Vec<(Status, u64)>, StoreError> {
        #[derive(Deserialize)]
        struct Answer {
            counts: BTreeMap<String, u64>,
        }
        let query = [
            ("handler", filter.handler.clone()),
            ("queue", filter.queue.clone()),
            ("key", filter.key.clone()),
            ("parent", filter.parent.map(|parent| parent.to_string())),
        ];
        let mut query: Vec<(&str, String)> = (query.into_iter())
            .filter_map(|(name, value)| Some((name, value?)))
            .collect();
        query.extend(besides(filter));
        let answer: Answer = self.asking.get("/v1/tasks/counts", &query)?;
        let counted = |status: Status| {
            let wanted = filter.statuses.is_empty() || filter.statuses.contains(status);
            let count = answer.counts.get(status.as_str()).copied().unwrap_or(0);
            (wanted && count > 0).then_some((status, count))
        };
        Ok(Status::ALL.into_iter().filter_map(counted).collect())
    }

    fn recent(&self, _limit: u64) -> Result<Vec<Recent>, StoreError> {
        Err(local("a look at the newest tasks"))
    }

    fn crowd(&self, _task: &Task) -> Result<Crowd, StoreError> {
        Err(local("a look at what else runs"))
    }

    fn awaited_by(&self, _waiter: TaskId, _limit: u64) -> Result<Vec<TaskId>, StoreError> {
        Err(local("a look at what a task waits for"))
    }

    fn list(&self, filter: &Filter) -> Result<Vec<Task>, StoreError> {
        let mut query: Vec<(&str, String)> = Vec::new();
        let words: Vec<&str> = match filter.reason {
            Some(PendingReason::Blocked) => vec!["blocked"],
            Some(PendingReason::Scheduled) => vec!["scheduled"],
            Some(PendingReason::Ready) => vec!["ready"],
            Some(PendingReason::Held) => vec!["held"],
            None => (Status::ALL.iter())
                .filter(|status| filter.statuses.contains(**status))
                .map(|status| status.as_str())
                .collect(),
        };
        if !words.is_empty() {
            query.push(("status", words.join(",")));
        }
        query.extend(filter.after.map(|after| ("after", after.to_string())));
        let tasks = match (filter.group, &filter.group_name) {
            (None, _) => {
                query.extend(filter.handler.clone().map(|name| ("handler", name)));
                query.extend(filter.queue.clone().map(|name| ("queue", name)));
                query.extend(filter.key.clone().map(|key| ("key", key)));
                query.extend(filter.parent.map(|parent| ("parent", parent.to_string())));
                query.extend(besides(filter));
                self.pages("/v1/tasks", &query, filter.limit)?
            }
            (Some(GroupKind::Workflow), name) => {
                query.extend(name.clone().map(|name| ("name", name)));
                self.pages("/v1/workflows", &query, filter.limit)?
            }
            (Some(kind), name) => {
                let all = filter.statuses.is_empty();
                query.retain(|(name, _)| *name != "status");
                query.push(("all", all.to_string()));
                query.push(("kind", kind.as_str().to_owned()));
                query.extend(name.clone().map(|name| ("name", name)));
                self.pages("/v1/pools", &query, filter.limit)?
            }
        };
        tasks.iter().map(nouns::task).collect()
    }

    fn first_child_ids(&self, parent: TaskId, limit: u64) -> Result<Vec<TaskId>, StoreError> {
        // A task is shown with this many; of more there are pages.
        if limit <= CHILD_IDS_MAX {
            let ids = self.shown(parent)?.child_task_ids.unwrap_or_default();
            let ids = ids.iter().take(limit as usize);
            return ids.map(|text| id(text)).collect();
        }
        let query = [("parent", parent.to_string()), ("brief", "true".to_owned())];
        let tasks = self.pages("/v1/tasks", &query, limit)?;
        tasks.iter().map(|task| id(&task.id)).collect()
    }

    fn node(&self, task: TaskId) -> Result<Option<Node>, StoreError> {
        let Some(shown) = self.found(task)? else {
            return Ok(None);
        };
        let task = nouns::task(&shown)?;
        Ok(Some(Node {
            has_children: !self.nodes(task.id, Rank::START, 1, false)?.is_empty(),
            was_retried: !self.nodes(task.id, Rank::START, 1, true)?.is_empty(),
            is_retry: task.retry_of.is_some(),
            // Requested anyway: an empty page is cheap.
            has_history: task.group.is_none(),
            task,
        }))
    }

    fn child_nodes(
        &self,
        parent: TaskId,
        after: Rank,
        limit: u64,
    ) -> Result<Vec<Node>, StoreError> {
        self.nodes(parent, after, limit, false)
    }

    fn retry_nodes(&self, task: TaskId, after: Rank, limit: u64) -> Result<Vec<Node>, StoreError> {
        self.nodes(task, after, limit, true)
    }

    fn counts(&self, parent: Option<TaskId>) -> Result<Vec<(Status, u64)>, StoreError> {
        let Some(parent) = parent else {
            return self.tally(&Filter::default());
        };
        let counts = self.shown(parent)?.children.unwrap_or_default();
        let counts = counts.iter().map(|(word, count)| {
            let status = Status::from_word(word).ok_or_else(|| asking::unread(word))?;
            Ok((status, *count))
        });
        counts.collect()
    }

    fn child_by_key(&self, parent: TaskId, key: &str) -> Result<Option<TaskId>, StoreError> {
        let path = format!("/v1/tasks/{}", asking::encoded(&format!("{parent}:{key}")));
        match self.asking.get::<TaskJson>(&path, &[]) {
            Ok(task) => Ok(Some(id(&task.id)?)),
            Err(StoreError::Remote { missing: true, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn links(&self, task: TaskId, which: Links, limit: u64) -> Result<Vec<Link>, StoreError> {
        let open = which == Links::OpenUpstream;
        let found = self.dependencies(task, if open { PAGE } else { limit })?;
        let links = match which {
            Links::Upstream | Links::OpenUpstream => &found.depends_on,
            Links::Downstream => &found.depended_on_by,
        };
        let links: Result<Vec<Link>, _> = links.iter().map(nouns::link).collect();
        let is_open = |link: &Link| link.status.is_some_and(|status| !status.is_terminal());
        let links = links?.into_iter().filter(|link| !open || is_open(link));
        Ok(links
            .take(usize::try_from(limit).unwrap_or(usize::MAX))
            .collect())
    }

    fn upstreams(&self, _task: TaskId) -> Result<Vec<Edge>, StoreError> {
        Err(local("a look at more than a thousand dependencies"))
    }

    fn downstreams(&self, _task: TaskId) -> Result<Vec<(TaskId, Edge)>, StoreError> {
        Err(local("a look at more than a thousand dependencies"))
    }

    fn signals_unread(&self, task: TaskId) -> Result<u64, StoreError> {
        Ok(self.shown(task)?.signals_unread.unwrap_or_default())
    }

    fn logs(
        &self,
        task: TaskId,
        after: LogPosition,
        limit: u64,
    ) -> Result<Vec<LogLine>, StoreError> {
        #[derive(Deserialize)]
        struct Lines {
            lines: Vec<LogJson>,
        }
        let query = [
            ("after", format!("{}.{}", after.run, after.line)),
            ("limit", limit.min(PAGE).to_string()),
        ];
        let found: Lines = self.asking.get(&format!("/v1/tasks/{task}/logs"), &query)?;
        found.lines.iter().map(nouns::log).collect()
    }

    fn history(
        &self,
        task: TaskId,
        run: Option<u32>,
        from: JournalPosition,
        limit: usize,
    ) -> Result<History, StoreError> {
        let mut query = vec![
            ("after", wire::history::place(from)),
            ("limit", limit.min(HISTORY_CALLS_MAX).to_string()),
        ];
        query.extend(run.map(|run| ("run", (run + 1).to_string())));
        let found: HistoryJson = self
            .asking
            .get(&format!("/v1/tasks/{task}/history"), &query)?;
        nouns::history(found)
    }

    fn attempts(&self, task: TaskId) -> Result<Vec<Attempt>, StoreError> {
        let shown = self.shown(task)?;
        shown.attempts.iter().map(nouns::attempt).collect()
    }

    fn handlers_standing(&self) -> Result<Option<HandlersStanding>, StoreError> {
        Ok(Some(self.view()?.standing.unwrap_or_default()))
    }

    fn handlers_named(&self, names: &[&str]) -> Result<Vec<HandlerRow>, StoreError> {
        let mut rows = Vec::new();
        for component in components(names) {
            let page = self.component(component)?;
            let all = page.handlers.iter().flat_map(nouns::handler_rows);
            rows.extend(all.filter(|row| names.contains(&&*row.name)));
        }
        Ok(rows)
    }

    fn handlers_after(&self, name: &str, limit: u64) -> Result<Vec<HandlerRow>, StoreError> {
        let mut rows = Vec::new();
        // The host has pages of components, and the functions of one come after its own name.
        let component = component_of(name);
        if !component.is_empty() {
            let page = self.component(component)?;
            rows.extend(page.handlers.iter().flat_map(nouns::handler_rows));
        }
        let mut after = component.to_owned();
        while (rows.len() as u64) < limit {
            let query = [
                ("after", after),
                ("limit", limit.clamp(1, PAGE).to_string()),
            ];
            let page: HandlersPage = self.asking.get("/v1/handlers", &query)?;
            rows.extend(page.handlers.iter().flat_map(nouns::handler_rows));
            match page.next {
                Some(next) => after = next,
                None => break,
            }
        }
        rows.retain(|row| *row.name > *name);
        rows.sort_by(|one, other| one.name.cmp(&other.name));
        rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(rows)
    }

    fn broken_named(&self, names: &[&str]) -> Result<Vec<BrokenRow>, StoreError> {
        let mut rows = Vec::new();
        for component in components(names) {
            let problems = self.component(component)?.problems;
            rows.extend(problems.iter().map(nouns::broken_row));
        }
        rows.retain(|row| names.contains(&&*row.name));
        Ok(rows)
    }

    fn broken_after(&self, name: Option<&str>, limit: u64) -> Result<Vec<BrokenRow>, StoreError> {
        let page: HandlersPage = self
            .asking
            .get("/v1/handlers", &[("limit", "1".to_owned())])?;
        let mut rows: Vec<BrokenRow> = page.problems.iter().map(nouns::broken_row).collect();
        rows.sort_by(|one, other| one.name.cmp(&other.name));
        rows.retain(|row| name.is_none_or(|name| *row.name > *name));
        rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(rows)
    }

    fn queues(&self) -> Result<Vec<QueueStanding>, StoreError> {
        Ok(self
            .some_queues("false")?
            .iter()
            .map(nouns::queue)
            .collect())
    }

    fn queue_known(&self, name: &str) -> Result<bool, StoreError> {
        let queues = self.some_queues("false")?;
        Ok(queues.iter().any(|queue| queue.name == name))
    }

    fn queues_paused(&self) -> Result<Vec<String>, StoreError> {
        let queues = self.some_queues("true")?;
        Ok(queues.into_iter().map(|queue| queue.name).collect())
    }

    fn queues_paused_of(&self, names: &[&str]) -> Result<Vec<String>, StoreError> {
        let mut paused = self.queues_paused()?;
        paused.retain(|name| names.contains(&&**name));
        Ok(paused)
    }

    fn schedules_after(
        &self,
        name: &str,
        limit: u64,
        bytes_max: u64,
    ) -> Result<Vec<Schedule>, StoreError> {
        // An older host tells all of them at once.
        #[derive(Deserialize)]
        struct SchedulesPage {
            schedules: Vec<ScheduleJson>,
            #[serde(default)]
            next: Option<String>,
        }
        let (mut schedules, mut bytes) = (Vec::new(), 0);
        let mut after = Some(name.to_owned()).filter(|name| !name.is_empty());
        while (schedules.len() as u64) < limit && bytes < bytes_max {
            let query: Vec<(&str, String)> =
                after.into_iter().map(|name| ("after", name)).collect();
            let page: SchedulesPage = self.asking.get("/v1/schedules", &query)?;
            for shown in &page.schedules {
                let schedule = nouns::schedule(shown)?;
                bytes += schedule.payload_bytes();
                schedules.push(schedule);
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        schedules.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(schedules)
    }

    fn schedule(&self, name: &str) -> Result<Option<Schedule>, StoreError> {
        let path = format!("/v1/schedules/{}", asking::encoded(name));
        match self.asking.get::<ScheduleJson>(&path, &[]) {
            Ok(shown) => nouns::schedule(&shown).map(Some),
            Err(StoreError::Remote { missing: true, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn lease(&self) -> Result<Option<Lease>, StoreError> {
        Ok(self.view()?.host.map(|host| host.lease))
    }

    fn depths(&self) -> Result<Vec<QueueDepth>, StoreError> {
        Ok(self.view()?.depths)
    }

    fn bus(&self) -> &Arc<Bus> {
        &self.bus
    }

    fn ids(&self) -> &IdGenerator {
        &self.ids
    }

    fn random_secret(&self, _number: u32) -> Result<Option<RandomSecret>, StoreError> {
        Err(local("a secret"))
    }

    fn random_secrets(&self) -> Result<Vec<RandomSecretInfo>, StoreError> {
        Err(local("a secret"))
    }

    fn secret(&self, _name: &str) -> Result<Option<StoredSecret>, StoreError> {
        Err(local("reading a secret"))
    }

    fn secrets(&self) -> Result<Vec<SecretInfo>, StoreError> {
        Err(local("listing secrets"))
    }

    fn secret_state(&self) -> Result<SecretState, StoreError> {
        Err(local("reading a secret"))
    }

    fn counters(&self) -> Result<Vec<Counter>, StoreError> {
        #[derive(Deserialize)]
        struct All {
            counters: Vec<CounterJson>,
        }
        let all: All = self.asking.get("/v1/counters", &[])?;
        let counter = |counter: CounterJson| Counter {
            name: counter.name,
            labels: counter.labels,
            value: counter.value,
        };
        Ok(all.counters.into_iter().map(counter).collect())
    }

    // What only a host reads, or what needs its files.

    fn journal_page(
        &self,
        _task: TaskId,
        _run: u32,
        _from: JournalPosition,
        _bytes_max: u64,
    ) -> Result<JournalPage, StoreError> {
        Err(local("running a task"))
    }

    fn journal_end(&self, _task: TaskId, _run: u32) -> Result<u32, StoreError> {
        Err(local("running a task"))
    }

    fn earlier_children(&self, _parent: TaskId) -> Result<Vec<EarlierChild>, StoreError> {
        Err(local("running a task"))
    }

    fn earlier_members(&self, _spawner: TaskId) -> Result<Vec<EarlierChild>, StoreError> {
        Err(local("running a task"))
    }

    fn pool_named(&self, _scope: TaskId, _name: &str) -> Result<Option<TaskId>, StoreError> {
        Err(local("running a task"))
    }

    fn is_source(&self, _task: TaskId, _pool: TaskId) -> Result<bool, StoreError> {
        Err(local("running a task"))
    }

    fn last_sequence(&self, _parent: TaskId) -> Result<u64, StoreError> {
        Err(local("running a task"))
    }

    fn phase_wait(&self, _task: TaskId) -> Result<Option<PhaseWait>, StoreError> {
        Err(local("running a task"))
    }

    fn checkpoint(&self, _task: TaskId, _name: &str) -> Result<Option<String>, StoreError> {
        Err(local("running a task"))
    }

    fn step(&self, _task: TaskId, _name: &str) -> Result<Option<CompletedStep>, StoreError> {
        Err(local("running a task"))
    }

    fn steps_complete(&self, _task: TaskId) -> Result<u64, StoreError> {
        Err(local("running a task"))
    }

    fn has_signal(&self, _task: TaskId, _name: &str) -> Result<bool, StoreError> {
        Err(local("running a task"))
    }

    fn has_arrivals(&self, _task: TaskId, _run: u32) -> Result<bool, StoreError> {
        Err(local("running a task"))
    }

    fn exchanges(&self, _task: TaskId, _run: u32) -> Result<Vec<Exchange>, StoreError> {
        Err(local("running a task"))
    }

    fn digests_needed(&self) -> Result<Vec<String>, StoreError> {
        Err(local("serving"))
    }
}

/// What else a filter of tasks asks for.
fn besides(filter: &Filter) -> Vec<(&'static str, String)> {
    let member = filter.metadata.as_ref();
    let all = [
        ("error", filter.error.clone()),
        ("since", filter.created_from_ms.map(wire::time)),
        ("before", filter.created_before_ms.map(wire::time)),
        (
            "metadata",
            member.map(|(name, value)| format!("{name}={value}")),
        ),
    ];
    let said = all.into_iter();
    said.filter_map(|(name, value)| Some((name, value?)))
        .collect()
}

/// The components of handlers, each once.
fn components<'n>(names: &[&'n str]) -> BTreeSet<&'n str> {
    names.iter().map(|name| component_of(name)).collect()
}

impl Remote {
    /// One component of the host, and what is wrong with its file.
    fn component(&self, name: &str) -> Result<HandlersPage, StoreError> {
        let query = [("name", name.to_owned())];
        let mut page: HandlersPage = self.asking.get("/v1/handlers", &query)?;
        // A host of an earlier version knows no query, and answers with all that it has.
        page.handlers.retain(|handler| handler.name == name);
        Ok(page)
    }

    /// All queues; or those that are paused, without a look at their tasks.
    fn some_queues(&self, paused: &str) -> Result<Vec<QueueJson>, StoreError> {
        // An older host tells all of them at once.
        #[derive(Deserialize)]
        struct QueuesPage {
            queues: Vec<QueueJson>,
            #[serde(default)]
            next: Option<String>,
        }
        let (mut queues, mut after) = (Vec::new(), None);
        loop {
            let mut query = vec![("paused", paused.to_owned())];
            query.extend(after.map(|name| ("after", name)));
            let page: QueuesPage = self.asking.get("/v1/queues", &query)?;
            queues.extend(page.queues);
            after = page.next;
            if after.is_none() {
                return Ok(queues);
            }
        }
    }
}
