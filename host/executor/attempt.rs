//! One attempt from its claim to its end.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use wasmtime::{Store as Instance, UpdateDeadline};

use super::control::Control;
use super::draws::Draws;
use super::ended::{self, Ended, Fate, Verdict};
use super::guest::{Guest, Next, Start, grace_of};
use super::invoke::{Returned, invoke};
use super::log::LogSink;
use super::pages;
use super::parking::Claim;
use super::{Agents, Live, wasi};
use crate::daemon;
use crate::journal::{Cursor, beginning};
use crate::limits::RetryPolicy;
use crate::loader::{Handler, LoaderError};
use crate::panics::caught;
use crate::store::{
    End, JOURNAL_PAGE_BYTES, JournalPosition, LogLevel, RandomSecret, Store, StoreError,
};
use crate::task::producer::Stage;
use crate::task::state::Loss;
use crate::task::{Failure, FailureKind, Json, Task, Token, check_payload};

/// Epochs between two looks of a running guest: each lets others have the thread.
const EPOCHS_PER_TURN: u64 = 1;

/// How long an attempt that gave way to others at most waits for their memory.
const GIVE_WAY: Duration = Duration::from_secs(1);

/// What a handler does that returns, in the words of a divergence.
const RETURN: &str = "the handler's return";

/// Run a claimed task until it ends, or waits for so long that its instance goes. It lives until its
/// end is on disk, which is not waited for.
pub async fn run(agents: Arc<Agents>, claim: Claim, live: Live) {
    let task = claim.task.clone();
    let control = live.control.clone();
    let handler = match handler(&agents, &task) {
        Ok(handler) => handler,
        Err(lived) => {
            drop(claim);
            return match lived {
                Lived::Nothing => {}
                Lived::Ended(end) => write(&agents, task.token(), end, live),
            };
        }
    };
    let limit_ms = handler.manifest.limits.running_time(task.timeout_ms).ms;
    let spent = Duration::from_millis(task.spent_ms);
    let grace = agents.settings.grace;
    control.start(Duration::from_millis(limit_ms), spent, grace);
    if task.cancel_requested {
        let left = grace_of(&task, grace, agents.clock.now_ms());
        control.stop(super::control::Interrupt::Asked, left);
    }
    if task.producer == Some(Stage::Hinted) {
        control.hint();
    }
    // A panic here would be a fault of ours; it must not leave the task running for ever.
    let life = instance(agents.clone(), claim, handler.clone(), control.clone());
    let lived = caught(life).await;
    let (token, fate) = lived.unwrap_or_else(|panic| {
        tracing::error!(task = %task.id, %panic, "the host panicked while it ran this task");
        let message = format!("the host failed while it ran this task: {panic}");
        // A wait may have renewed the claim.
        let token = Token {
            task: task.id,
            fence: control.claim().unwrap_or(task.fence),
        };
        let failure = Failure::new(FailureKind::Trap, message, true);
        (token, Lived::Ended(End::Failed(failure, 0)))
    });
    match fate {
        Lived::Nothing => {}
        Lived::Ended(End::Failed(failure, asked_ms)) => {
            let rest_ms = backoff_ms(&handler.manifest.retry, task.attempt).max(asked_ms);
            write(&agents, token, End::Failed(failure, rest_ms), live);
        }
        Lived::Ended(end) => write(&agents, token, end, live),
    }
}

/// How an instance's life ended.
enum Lived {
    /// Nothing is to be written.
    Nothing,
    /// This is.
    Ended(End),
}

/// The component that the claim names: a run goes on with the one that it started with. Another host may
/// have started it a moment ago, with a component that this one has not seen yet.
fn handler(agents: &Agents, task: &Task) -> Result<Arc<Handler>, Lived> {
    let failed = |why: String| {
        let message = format!("its component cannot be run: {why}");
        let failure = Failure::new(FailureKind::Component, message, false);
        Lived::Ended(End::Failed(failure, 0))
    };
    let text = task.digest.as_deref().unwrap_or_default();
    let digest = text
        .parse()
        .map_err(|_| failed(format!("{text:?} names none")))?;
    let find = || agents.loader.by_digest(&task.handler, &digest);
    let found = match find() {
        Err(LoaderError::Gone { .. }) => {
            let fetched = daemon::fetch(&*agents.store, &agents.loader);
            fetched.map_err(|error| unread(agents, task.token(), &error))?;
            find()
        }
        found => found,
    };
    let given_back = |loss, why: &str| {
        tracing::warn!(task = %task.id, %why, "the attempt cannot start and is given back");
        let restarts_max = agents.settings.restarts_max;
        Lived::Ended(End::Lost { loss, restarts_max })
    };
    found.map_err(|error| match error {
        // Whoever has it may yet share it, or mend the disk.
        LoaderError::Gone { .. } | LoaderError::Io { .. } => {
            let why = error.to_string();
            given_back(Loss::Unread { why: why.clone() }, &why)
        }
        LoaderError::NotNow(problem) => {
            let why = format!("{}: {}", task.handler, problem.what);
            given_back(Loss::Machine { why: why.clone() }, &why)
        }
        LoaderError::Unusable(_)
        | LoaderError::NoDirectory(_)
        | LoaderError::Unwatchable { .. } => failed(error.to_string()),
    })
}

/// The life of one instance. Answers with the claim that it had last, which a wait may have
/// renewed. The instance and its slot are gone when this returns.
async fn instance(
    agents: Arc<Agents>,
    claim: Claim,
    handler: Arc<Handler>,
    control: Arc<Control>,
) -> (Token, Lived) {
    let token = claim.task.token();
    let failed = |kind, message: String, retryable| {
        Lived::Ended(End::Failed(Failure::new(kind, message, retryable), 0))
    };
    let prepared = match agents.sandbox.prepared(&handler) {
        Ok(prepared) => prepared,
        Err(why) => return (token, failed(FailureKind::Component, why, false)),
    };
    let wait = control.waits_for_store();
    match pages::unfit(&*agents.store, &claim.task, &handler) {
        Ok(None) => {}
        Ok(Some(why)) => return (token, failed(FailureKind::Component, why, false)),
        Err(error) => return (token, unread(&agents, token, &error)),
    }
    let guest = match guest(&agents, claim, handler, control.clone()) {
        Ok(guest) => guest,
        Err(GuestError::Store(error)) => return (token, unread(&agents, token, &error)),
        Err(GuestError::Secret(number)) => {
            let message = format!(
                "the run cannot go on: secret {number} of the database, which its random numbers are made from, \
                 is missing (fishway randomness shows which there are)"
            );
            return (token, failed(FailureKind::Diverged, message, true));
        }
        Err(GuestError::Grant(why)) => return (token, failed(FailureKind::Component, why, true)),
    };
    drop(wait);
    let mut instance = Instance::new(agents.sandbox.engine(), guest);
    instance.limiter(|guest| &mut guest.limiter);
    instance.set_epoch_deadline(EPOCHS_PER_TURN);
    instance.epoch_deadline_callback(|context| {
        let guest = context.data();
        Ok(match guest.control.verdict() {
            Some(_) => UpdateDeadline::Interrupt,
            None => UpdateDeadline::Yield(EPOCHS_PER_TURN),
        })
    });
    let input = instance.data().input();
    let returned = {
        let call = invoke(&prepared, &mut instance, &input);
        tokio::select! {
            biased;
            returned = call => Ok(returned),
            why = control.interrupted() => Err(why),
        }
    };
    let verdict = control.verdict();
    let guest = instance.data_mut();
    let lived = match returned {
        Err(why) => from_fate(ended::interrupted(why, || guest.time_used_up())),
        Ok(Err(trap)) => {
            // An epoch's interrupt says nothing by itself.
            if let (None, Some(why)) = (&guest.verdict, verdict)
                && trap.downcast_ref::<Ended>().is_none()
                && trap.downcast_ref::<wasmtime::Trap>() == Some(&wasmtime::Trap::Interrupt)
            {
                guest.verdict = Some(Verdict::Interrupted(why));
            }
            guest.log.flush();
            from_fate(guest.fate(&trap))
        }
        Ok(Ok(Err(failure))) => returned_badly(guest, failure),
        Ok(Ok(Ok(Returned::Output(output)))) => returned_well(guest, output),
        Ok(Ok(Ok(Returned::Page(page)))) => {
            let end = undiverged(guest, RETURN).and_then(|()| pages::end(guest, page));
            Lived::Ended(end.unwrap_or_else(|failure| End::Failed(failure, 0)))
        }
    };
    if let Lived::Ended(_) = lived {
        // What it said last belongs to this claim, so it goes before the end is written.
        let _ = guest.flush().await;
    }
    let token = guest.token();
    if guest.gives_way {
        // Its memory is given back. Its slot stays taken, so that no other task comes for that, until others
        // have given back theirs.
        let slot = guest.slot.take();
        drop(instance);
        agents.parking.memory().freed(GIVE_WAY).await;
        drop(slot);
    }
    (token, lived)
}

enum GuestError {
    Store(StoreError),
    Grant(String),
    /// The secret of this number is gone.
    Secret(u32),
}

/// What the run draws its random numbers from.
fn secret(agents: &Agents, task: &Task) -> Result<Option<RandomSecret>, GuestError> {
    match task.secret {
        0 => Ok(None),
        number => match agents.random_secrets.get(&*agents.store, number) {
            Ok(Some(secret)) => Ok(Some(secret)),
            Ok(None) => Err(GuestError::Secret(number)),
            Err(error) => Err(GuestError::Store(error)),
        },
    }
}

fn guest(
    agents: &Arc<Agents>,
    claim: Claim,
    handler: Arc<Handler>,
    control: Arc<Control>,
) -> Result<Guest, GuestError> {
    let Claim { task, slot } = claim;
    let clock = Arc::new(AtomicU64::new(wasi::started_ms(&task)));
    let log = LogSink::new(
        agents.store.clone(),
        agents.clock.clone(),
        task.token(),
        task.run,
        handler.manifest.limits.log_bytes,
    );
    let draws = Draws::default();
    let secret = secret(agents, &task)?;
    let grants = &handler.manifest.grants;
    let placeholders = match grants.env_secrets.is_empty() {
        true => None,
        false => Some(agents.secrets.placeholders().map_err(GuestError::Store)?),
    };
    let wasi = match &grants.directories[..] {
        [] => None,
        directories => {
            let context = wasi::context(
                &task,
                secret.as_ref(),
                grants,
                placeholders.as_ref(),
                &clock,
                &draws,
                &log,
            );
            Some(wasi::with_directories(context, directories).map_err(GuestError::Grant)?)
        }
    };
    // A run that was never interrupted and never waited has no journal yet.
    let begun =
        task.restarts > 0 || task.wait.is_some() || task.fence.number > u64::from(task.run) + 1;
    let (mut cursor, unread) = match begun {
        true => cursor(&*agents.store, &task).map_err(GuestError::Store)?,
        false => (Cursor::default(), JournalPosition::default()),
    };
    if let Some(wait) = &task.wait
        && let Some(number) = wait.call
    {
        cursor.resume(number, wait.made.as_deref().cloned());
    }
    let start = Start {
        agents: agents.clone(),
        task,
        handler,
        control,
        slot,
        clock,
        draws,
        log,
        secret,
        placeholders,
        wasi,
        cursor,
        unread,
    };
    Ok(Guest::new(start))
}

/// The beginning of the journal of a run, which is all of it for most, and where the rest begins.
fn cursor(store: &dyn Store, task: &Task) -> Result<(Cursor, JournalPosition), StoreError> {
    let (id, run) = (task.id, task.run);
    let begin = JournalPosition::default();
    let page = store.journal_page(id, run, begin, JOURNAL_PAGE_BYTES)?;
    Ok(match page.next {
        None => (Cursor::new(page.entries), begin),
        Some(next) => {
            let end = store.journal_end(id, run)?;
            (Cursor::begin(page.entries, next.number, end), next)
        }
    })
}

/// Whether it has made all calls that this run made before; `how` says what it did in their place.
fn undiverged(guest: &mut Guest, how: &str) -> Result<(), Failure> {
    guest
        .cursor
        .finish(how)
        .map_err(|divergence| Failure::new(FailureKind::Diverged, divergence.to_string(), true))
}

/// The handler returned a failure. One that a replay returns before all that the run did is no word of the
/// handler's about its work.
fn returned_badly(guest: &mut Guest, failure: Failure) -> Lived {
    // Failures of other kinds come from the host, before it calls the handler.
    let by_handler = matches!(failure.kind, FailureKind::Handler | FailureKind::Limit);
    let how = format!("the handler's failure \"{}\"", beginning(&failure.message));
    let failure = match undiverged(guest, &how) {
        Err(diverged) if by_handler => diverged,
        _ => failure,
    };
    if guest.handler.manifest.grants.directories.is_empty() && names_no_file(&failure.message) {
        let line = "a file or directory was not found, and its manifest grants no directory: grants.read = \
                    [\"DIR\"] lets it read one, which it sees as /DIR; grants.write lets it write, too";
        guest.log.line(LogLevel::Warn, line);
    }
    Lived::Ended(End::Failed(failure, guest.retry_after_ms))
}

/// The handler returned a result: check it, and do what it asked for.
fn returned_well(guest: &mut Guest, output: String) -> Lived {
    let failed = |failure| Lived::Ended(End::Failed(failure, 0));
    if let Err(failure) = undiverged(guest, RETURN) {
        return failed(failure);
    }
    if let Err(why) = check_payload(&output) {
        let message = format!("it returned a result that cannot be kept: {why}");
        return failed(Failure::new(FailureKind::Limit, message, false));
    }
    let output: Json = output.into();
    Lived::Ended(match guest.next.take() {
        None => End::Completed(output),
        Some((Next::Reschedule(delay_ms), _)) => End::Rescheduled(delay_ms),
        Some((
            Next::Phase {
                phase,
                after,
                timeout_ms,
            },
            _,
        )) => {
            let until_ms =
                timeout_ms.map(|timeout_ms| guest.durable_now_ms().saturating_add(timeout_ms));
            End::PhaseEnded {
                phase,
                input: output,
                after,
                until_ms,
            }
        }
    })
}

/// Whether a failure is that of a path that leads nowhere, in the words of some language.
fn names_no_file(message: &str) -> bool {
    // 44 is ENOENT of WASI, and no number that anybody knows.
    let words = ["os error 44", "errno 44", "no such file or directory"];
    let message = message.to_lowercase();
    words.iter().any(|word| message.contains(word))
}

fn from_fate(fate: Fate) -> Lived {
    match fate {
        Fate::Nothing => Lived::Nothing,
        Fate::Interrupted => Lived::Ended(End::Interrupted),
        Fate::GraceOver => Lived::Ended(End::GraceOver),
        Fate::GivenBack(end) => Lived::Ended(end),
        Fate::Failed(failure) => Lived::Ended(End::Failed(failure, 0)),
    }
}

/// What the attempt begins with cannot be read.
fn unread(agents: &Agents, token: Token, error: &StoreError) -> Lived {
    match End::given_back(error, agents.settings.restarts_max) {
        None => Lived::Nothing,
        Some(end) => {
            tracing::warn!(task = %token.task, %error, "the attempt cannot start and is given back");
            Lived::Ended(end)
        }
    }
}

fn backoff_ms(policy: &RetryPolicy, attempt: u32) -> u64 {
    policy.delay_ms(attempt, rand::random())
}

fn write(agents: &Agents, token: Token, end: End, live: Live) {
    let written = move |outcome| {
        match outcome {
            Ok(()) => {}
            // Another attempt has the task; what this one did is as if it had not been.
            Err(StoreError::Stale(id)) => {
                tracing::debug!(task = %id, "a stale attempt wrote nothing");
            }
            Err(error) => {
                tracing::error!(task = %token.task, %error, "the end of an attempt was not kept");
            }
        }
        drop(live);
    };
    agents.store.end(token, end, Box::new(written));
}
