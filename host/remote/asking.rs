//! Requests, and what becomes of them: an answer, or the problem that the host tells.

use std::io::{BufRead, BufReader};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use ureq::http::Response;
use ureq::{Agent, Body};

use crate::bus::Bus;
use crate::store::StoreError;

/// How long a host may take to answer what it need not wait for.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(60);

/// How long the way to it may take.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);

/// Largest answer, in bytes: a page of a thousand tasks with large payloads.
const ANSWER_BYTES_MAX: u64 = 1 << 30;

/// The rest before a feed that broke off is followed again.
const REST: Duration = Duration::from_secs(1);

/// Where a host answers: `http://NAME:PORT`, nothing behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url(String);

impl FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Url, String> {
        let text = text.trim_end_matches('/');
        match text.strip_prefix("http://") {
            Some(host) if !host.is_empty() && !host.contains(['/', '?', '#', '@', ' ']) => {
                Ok(Url(text.to_owned()))
            }
            _ if text.starts_with("https://") => Err(
                "only http:// is spoken here: a tunnel, such as ssh -L, takes it over a network"
                    .to_owned(),
            ),
            _ => Err("write http://NAME:PORT".to_owned()),
        }
    }
}

impl std::fmt::Display for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// What asks one host.
#[derive(Clone)]
pub struct Asking {
    url: Url,
    token: Option<String>,
    agent: Agent,
}

/// What a host tells of a request that it did not do.
#[derive(Deserialize)]
struct Told {
    detail: String,
    hint: Option<String>,
    #[serde(default)]
    problems: Vec<Place>,
}

#[derive(Deserialize)]
struct Place {
    line: usize,
    column: usize,
    problem: String,
    hint: Option<String>,
}

type Answer = Result<Response<Body>, ureq::Error>;

impl Asking {
    /// Nothing is asked yet.
    pub fn new(url: Url, token: Option<String>) -> Asking {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT_TIME_MAX))
            .timeout_recv_response(Some(ANSWER_TIME_MAX))
            .max_redirects(0)
            .user_agent(concat!("fishway/", env!("CARGO_PKG_VERSION")))
            .build();
        Asking {
            url,
            token: token.map(|token| format!("Bearer {}", token.trim())),
            agent: config.into(),
        }
    }

    /// The answer to a GET.
    pub fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, String)],
    ) -> Result<T, StoreError> {
        let mut request = self.agent.get(format!("{}{path}", self.url));
        for (name, value) in query {
            request = request.query(*name, value);
        }
        if let Some(token) = &self.token {
            request = request.header("authorization", token);
        }
        self.read(request.call())
    }

    /// The answer to a DELETE.
    pub fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, StoreError> {
        let mut request = self.agent.delete(format!("{}{path}", self.url));
        if let Some(token) = &self.token {
            request = request.header("authorization", token);
        }
        self.read(request.call())
    }

    /// The answer to a POST.
    pub fn post<T: DeserializeOwned>(&self, path: &str, body: String) -> Result<T, StoreError> {
        self.send(self.agent.post(format!("{}{path}", self.url)), body)
    }

    /// The answer to a PATCH.
    pub fn patch<T: DeserializeOwned>(&self, path: &str, body: String) -> Result<T, StoreError> {
        self.send(self.agent.patch(format!("{}{path}", self.url)), body)
    }

    fn send<T: DeserializeOwned>(
        &self,
        mut request: ureq::RequestBuilder<ureq::typestate::WithBody>,
        body: String,
    ) -> Result<T, StoreError> {
        if let Some(token) = &self.token {
            request = request.header("authorization", token);
        }
        let request = request.header("content-type", "application/json");
        self.read(request.send(body))
    }

    fn read<T: DeserializeOwned>(&self, answer: Answer) -> Result<T, StoreError> {
        let mut answer = answer.map_err(|error| self.unreachable(&error))?;
        let body = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX);
        let text = body
            .read_to_string()
            .map_err(|error| self.unreachable(&error))?;
        match answer.status().is_success() {
            true => serde_json::from_str(&text).map_err(|error| nonsense(&error)),
            false => Err(self.refused(answer.status().as_u16(), &text)),
        }
    }

    fn refused(&self, status: u16, text: &str) -> StoreError {
        let Ok(told) = serde_json::from_str::<Told>(text) else {
            return StoreError::Remote {
                what: format!("{} answers {status}, and not as a fishway does", self.url),
                hint: Some("see that the address is that of fishway serve --http".to_owned()),
                missing: false,
            };
        };
        let mut what = told.detail;
        for one in &told.problems {
            let hint = one.hint.as_ref();
            let hint = hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
            what.push_str(&format!(
                "\n  {}:{}: {}{hint}",
                one.line, one.column, one.problem
            ));
        }
        StoreError::Remote {
            what,
            hint: told.hint,
            missing: status == 404,
        }
    }

    fn unreachable(&self, error: &ureq::Error) -> StoreError {
        StoreError::Remote {
            what: format!("{} cannot be asked: {error}", self.url),
            hint: Some("fishway status, on its machine, shows where a host answers".to_owned()),
            missing: false,
        }
    }

    /// Tell the bus whenever the host's feed says that something has moved.
    pub fn follow(&self, bus: Arc<Bus>) -> Result<(), StoreError> {
        let open = |asking: &Asking| {
            let mut request = asking.agent.get(format!("{}/v1/events", asking.url));
            if let Some(token) = &asking.token {
                request = request.header("authorization", token);
            }
            let answer = request.call();
            let mut answer = answer.map_err(|error| asking.unreachable(&error))?;
            if !answer.status().is_success() {
                let text = answer.body_mut().read_to_string().unwrap_or_default();
                return Err(asking.refused(answer.status().as_u16(), &text));
            }
            Ok(BufReader::new(answer.into_body().into_reader()))
        };
        let mut feed = Some(open(self)?);
        let asking = self.clone();
        // For as long as the command runs.
        std::thread::spawn(move || {
            loop {
                for line in feed.take().into_iter().flat_map(BufRead::lines) {
                    match line {
                        Ok(line) if line.starts_with("event: ") => bus.changed_outside(),
                        Ok(_) => {}
                        Err(_) => break,
                    }
                }
                // It broke off: whatever happened meanwhile, and that it cannot be asked, is seen.
                std::thread::sleep(REST);
                feed = open(&asking).ok();
                bus.changed_outside();
            }
        });
        Ok(())
    }
}

/// What stands in a path, so that it is one part of it.
pub fn encoded(part: &str) -> String {
    let mut text = String::new();
    for byte in part.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b':' => {
                text.push(char::from(byte));
            }
            other => text.push_str(&format!("%{other:02X}")),
        }
    }
    text
}

/// An answer that is not what it should be.
pub fn nonsense(error: &serde_json::Error) -> StoreError {
    StoreError::Remote {
        what: format!("the host's answer cannot be read: {error}"),
        hint: Some("use a fishway of the host's version".to_owned()),
        missing: false,
    }
}

/// A word that is none of those that there should be.
pub fn unread(word: &str) -> StoreError {
    StoreError::Remote {
        what: format!("the host's answer cannot be read: \"{word}\""),
        hint: Some("use a fishway of the host's version".to_owned()),
        missing: false,
    }
}
