//! What a run did, call by call, in a form for people.
//!
//! A record has everything that a replay needs: bodies, headers and values. None of that is shown here, only which call
//! it was, a short form of the answer, and its size.

use std::borrow::Cow;
use std::collections::HashMap;

use super::{Answer, Arrival, Call, Entry, Function, Visible, excerpt, failure_name};

/// Most arrivals in the line of one wait. Their exchanges have lines of their own.
const ARRIVALS_NAMED: usize = 3;

/// The answer of a request without an arrival in the part of the journal that was read.
const SENT: &str = "sent";

/// One call of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryCall {
    /// Its number within the run.
    pub number: u32,
    /// The name of the function that was called, such as `tasks.spawn`.
    pub function: Cow<'static, str>,
    /// Its arguments, for people, without any kept value.
    pub subject: String,
    /// A short form of the answer.
    pub answer: String,
    /// When it was answered, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// How long it took, if the journal shows it: a request until the end of its response, a step until it was
    /// complete. In milliseconds.
    pub took_ms: Option<u64>,
    /// Bytes of the returned document; for a request, bytes of the body of the response.
    pub bytes: Option<u64>,
    /// Details, if it is an HTTP request.
    pub request: Option<RequestHistory>,
}

/// The outcome of an HTTP request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RequestHistory {
    /// The status of the response, if there is one.
    pub status: Option<u16>,
    /// The case of `error-code` of `wasi:http` with which it failed.
    pub error: Option<String>,
    /// How often it was sent by the retries of its grant; 1 for once.
    pub tries: u32,
    /// Whether its response is complete.
    pub over: bool,
}

/// The current wait of a run. It has no record before it ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryWait {
    /// The number of the call.
    pub number: u32,
    /// The name of its function.
    pub function: String,
    /// What it waits for, for people.
    pub subject: String,
    /// Since when, in milliseconds since the Unix epoch.
    pub since_ms: u64,
}

/// Calls of a run, in order, and the state of those that continue beyond their own record.
#[derive(Default)]
pub struct HistoryCalls {
    calls: Vec<HistoryCall>,
    /// Positions of requests whose response is not complete, by the numbers of their calls.
    open: HashMap<u32, usize>,
    /// When incomplete steps began, by name: in milliseconds since the Unix epoch.
    steps: HashMap<String, u64>,
}

impl HistoryCalls {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.calls.len()
    }

    /// Whether a request among them is still open.
    pub fn has_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// One more call.
    pub fn push(&mut self, entry: &Entry) {
        self.note(entry);
        let subject = subject(&entry.call);
        let function = entry.call.function;
        let took_ms = match function {
            Function::StepBegin => {
                self.steps.insert(subject.clone(), entry.at_ms);
                None
            }
            Function::StepComplete => {
                let began_ms = self.steps.remove(&subject);
                began_ms.map(|began_ms| entry.at_ms.saturating_sub(began_ms))
            }
            _ => None,
        };
        let sent = function == Function::HttpRequest && entry.answer == Answer::Done;
        let request = sent.then(|| RequestHistory {
            tries: 1,
            ..RequestHistory::default()
        });
        if sent {
            self.open.insert(entry.number, self.calls.len());
        }
        self.calls.push(HistoryCall {
            number: entry.number,
            function: function.as_str().into(),
            subject,
            answer: match sent {
                true => SENT.to_owned(),
                false => answer(&entry.answer),
            },
            at_ms: entry.at_ms,
            took_ms,
            bytes: bytes(&entry.answer),
            request,
        });
    }

    /// Apply a later call to the requests among these.
    pub fn note(&mut self, entry: &Entry) {
        let Answer::Arrived { arrivals, .. } = &entry.answer else {
            return;
        };
        for Arrival { exchange, what } in arrivals {
            let Some(call) = self.open.get(exchange).map(|at| &mut self.calls[*at]) else {
                continue;
            };
            arrived(call, what, entry.at_ms);
            // A request that is to be sent again is the same call.
            if what.ends() && !matches!(what, Visible::Again { .. }) {
                self.open.remove(exchange);
            }
        }
    }

    /// The calls. `whole`: nothing was recorded after what was read.
    pub fn finish(mut self, whole: bool) -> Vec<HistoryCall> {
        for at in self.open.into_values().filter(|_| whole) {
            let call = &mut self.calls[at];
            if call.answer == SENT {
                "no response yet".clone_into(&mut call.answer);
            }
        }
        self.calls
    }
}

/// A request has an arrival.
fn arrived(call: &mut HistoryCall, what: &Visible, at_ms: u64) {
    let Some(request) = &mut call.request else {
        return;
    };
    let mut add = |bytes: usize| *call.bytes.get_or_insert(0) += bytes as u64;
    match what {
        Visible::Whole { status, body, .. } => {
            request.status = Some(*status);
            add(body.len());
        }
        Visible::Head { status, .. } => {
            request.status = Some(*status);
            add(0);
        }
        Visible::Chunk(chunk) => add(chunk.len()),
        Visible::Failed { code, .. } => request.error = Some(failure_name(code)),
        Visible::Again { tries, .. } => request.tries = tries + 1,
        Visible::End { .. } | Visible::Live => {}
    }
    request.over = what.ends() && !matches!(what, Visible::Again { .. });
    if request.over {
        call.took_ms = Some(at_ms.saturating_sub(call.at_ms));
    }
    let status = request.status.map(|status| status.to_string());
    call.answer = match (what, &request.error, status) {
        (Visible::Again { .. }, ..) => "to be sent again".to_owned(),
        (Visible::Live, ..) => "not recorded".to_owned(),
        (_, Some(error), Some(status)) => format!("{status}, then {error}"),
        (_, Some(error), None) => error.clone(),
        (_, None, status) => status.unwrap_or_default(),
    };
    if request.tries > 1 && request.over {
        call.answer += &format!(", sent {} times", request.tries);
    }
}

/// The part of the arguments that is shown. The subject of a call that keeps a value ends with the beginning of the
/// value, for the message of a divergence; that is cut off here. A name with a comma is cut there.
fn subject(call: &Call) -> String {
    let keeps_value = matches!(
        call.function,
        Function::StepComplete | Function::CheckpointSave | Function::SignalSend
    );
    let name = call.subject.split_once(", ").filter(|_| keeps_value);
    excerpt(name.map_or(call.subject.as_str(), |(name, _)| name))
}

/// A short form of an answer.
fn answer(answer: &Answer) -> String {
    match answer {
        Answer::Done => "done".to_owned(),
        Answer::Flag(true) => "yes".to_owned(),
        Answer::Flag(false) => "no".to_owned(),
        Answer::Tasks(ids) | Answer::Spawned { tasks: ids, .. } => match ids.as_slice() {
            [one] => format!("task {one}"),
            several => format!("{} tasks", several.len()),
        },
        Answer::Outcomes(snapshot) => outcomes(snapshot.others.len()),
        Answer::TimedOut(_) => "timed out".to_owned(),
        Answer::Document(None) => "nothing".to_owned(),
        Answer::Document(Some(_)) => "a value".to_owned(),
        Answer::Refused(refusal) => format!("refused: {}", excerpt(&refusal.to_string())),
        Answer::Arrived { arrivals, ready } => {
            let named = arrivals.iter().take(ARRIVALS_NAMED);
            let mut parts: Vec<String> = named.map(ToString::to_string).collect();
            let more = arrivals.len().saturating_sub(ARRIVALS_NAMED);
            if more > 0 {
                parts.push(format!("{more} more"));
            }
            match (parts.is_empty(), ready.is_empty()) {
                (false, _) => excerpt(&parts.join("; ")),
                (true, false) => "something else was ready".to_owned(),
                (true, true) => "nothing".to_owned(),
            }
        }
    }
}

fn outcomes(others: usize) -> String {
    match others {
        0 => "completed".to_owned(),
        1 => "1 did not complete".to_owned(),
        others => format!("{others} did not complete"),
    }
}

/// The size of a document in an answer.
fn bytes(answer: &Answer) -> Option<u64> {
    match answer {
        Answer::Document(Some(text)) => Some(text.len() as u64),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::RefusedCall;
    use super::*;

    fn entry(number: u32, function: Function, subject: &str, answer: Answer) -> Entry {
        Entry {
            number,
            call: Call {
                function,
                subject: subject.to_owned(),
                content: 0,
            },
            answer,
            at_ms: 1_000 + u64::from(number) * 10,
        }
    }

    fn sent(number: u32) -> Entry {
        let subject = "POST https://api.example.com/v1/charge";
        entry(number, Function::HttpRequest, subject, Answer::Done)
    }

    fn came(number: u32, exchange: u32, what: Visible) -> Entry {
        let arrivals = vec![Arrival { exchange, what }];
        let ready = Vec::new();
        let answer = Answer::Arrived { arrivals, ready };
        entry(
            number,
            Function::HttpWait,
            "POST api.example.com/v1/charge",
            answer,
        )
    }

    fn whole(status: u16) -> Visible {
        Visible::Whole {
            status,
            headers: vec![("set-cookie".to_owned(), "hidden".into())],
            body: "hidden!".into(),
            trailers: None,
        }
    }

    /// The calls, of which all but the last `ahead` are on the page.
    fn read(entries: &[Entry], ahead: usize) -> Vec<HistoryCall> {
        let mut calls = HistoryCalls::default();
        let (page, rest) = entries.split_at(entries.len() - ahead);
        page.iter().for_each(|entry| calls.push(entry));
        rest.iter().for_each(|entry| calls.note(entry));
        assert_eq!(calls.count(), page.len());
        calls.finish(true)
    }

    #[test]
    fn a_request_says_what_came_of_it_wherever_that_is_recorded() {
        let failed = Visible::Failed {
            code: "\"connection-refused\"".to_owned(),
            detail: "hidden".to_owned(),
        };
        let head = Visible::Head {
            status: 503,
            headers: Vec::new(),
        };
        let again = Visible::Again {
            tries: 1,
            at_ms: 5_000,
        };
        let end = Visible::End { trailers: None };
        let check = |came: &[Entry], answer: &str, took_ms, bytes| {
            let entries = [&[sent(1)], came].concat();
            for ahead in [0, came.len()] {
                let call = read(&entries, ahead).swap_remove(0);
                assert_eq!(
                    (&*call.answer, call.took_ms, call.bytes),
                    (answer, took_ms, bytes)
                );
            }
        };
        check(&[], "no response yet", None, None);
        check(&[came(2, 1, whole(200))], "200", Some(10), Some(7));
        check(&[came(2, 9, whole(200))], "no response yet", None, None);
        check(
            &[came(2, 1, failed.clone())],
            "connection-refused",
            Some(10),
            None,
        );
        check(&[came(2, 1, Visible::Live)], "not recorded", None, None);
        check(&[came(2, 1, again.clone())], "to be sent again", None, None);
        let twice = [came(2, 1, again), came(4, 1, whole(200))];
        check(&twice, "200, sent 2 times", Some(30), Some(7));
        let chunk = came(3, 1, Visible::Chunk("hidden".into()));
        check(
            &[came(2, 1, head.clone()), chunk.clone()],
            "503",
            None,
            Some(6),
        );
        let streamed = [came(2, 1, head.clone()), chunk, came(4, 1, end)];
        check(&streamed, "503", Some(30), Some(6));
        let broken = [came(2, 1, head), came(3, 1, failed)];
        check(&broken, "503, then connection-refused", Some(20), Some(0));
    }

    #[test]
    fn nothing_of_a_value_a_body_or_a_header_is_shown() {
        let value = || Answer::Document(Some("\"hidden\"".to_owned()));
        let entries = [
            entry(1, Function::CheckpointLoad, "mine", value()),
            entry(
                2,
                Function::CheckpointSave,
                "mine, \"hidden, hidden\"",
                Answer::Done,
            ),
            entry(3, Function::StepBegin, "charge", Answer::Flag(false)),
            sent(4),
            came(5, 4, whole(200)),
            entry(
                6,
                Function::StepComplete,
                "charge, {\"hidden\": 1}",
                Answer::Done,
            ),
            entry(
                7,
                Function::SignalSend,
                "go to 0SC, \"hidden\"",
                Answer::Done,
            ),
            entry(8, Function::SignalReceive, "go", value()),
        ];
        let calls = read(&entries, 0);
        assert!(!format!("{calls:?}").contains("hidden"), "{calls:?}");
        let subjects: Vec<&str> = calls.iter().map(|call| &*call.subject).collect();
        assert_eq!(subjects[..3], ["mine", "mine", "charge"]);
        assert_eq!((subjects[5], subjects[6]), ("charge", "go to 0SC"));
        assert_eq!((calls[0].bytes, calls[5].took_ms), (Some(8), Some(30)));
        assert_eq!(calls[4].answer, "call 4: 200, 7 bytes");
    }

    #[test]
    fn answers_are_told_in_a_few_words() {
        let ids: Vec<crate::task::TaskId> = vec!["0123456789ABC".parse().unwrap(); 2];
        let check = |of: Answer, expected: &str| assert_eq!(answer(&of), expected);
        check(Answer::Tasks(ids[..1].to_vec()), "task 0123456789ABC");
        check(Answer::Tasks(ids), "2 tasks");
        check(Answer::Document(None), "nothing");
        check(Answer::Outcomes(Default::default()), "completed");
        let refusal = RefusedCall::UnknownHandler("x".repeat(1_000));
        let told = answer(&Answer::Refused(refusal));
        assert!(told.starts_with("refused: there is no handler \"xx") && told.len() < 300);
    }
}
