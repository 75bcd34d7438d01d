//! The HTTP door, by requests over real sockets.

mod api;
mod bounds;
mod budget;
mod description;
mod events;
mod guard;
mod jobs;
mod keeping;
mod ready;
mod remote;
pub mod traces;
mod why;

use std::net::SocketAddr;

use fishway::http::guard::{Guard, Token};
use fishway::http::{Bounds, Http, Setup};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{PATIENCE, World};

/// A host with an open door.
pub struct Door {
    pub world: World,
    pub address: SocketAddr,
    pub http: Option<Http>,
    uploads: bool,
    bounds: Bounds,
}

pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("{}{}", self.head, self.body))
    }

    /// Done with this status.
    pub fn is(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        self.json()
    }

    /// Refused with this status, this type, and these words.
    pub fn refused(&self, status: u16, kind: &str, words: &str) {
        let problem = self.is(status);
        assert!(self.header("content-type") == Some("application/problem+json"));
        assert_eq!(problem["status"], status);
        assert_eq!(problem["type"], format!("urn:fishway:problem:{kind}"));
        let said = format!("{} {}", problem["detail"], problem["hint"]);
        assert!(said.contains(words), "{said}");
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().skip(1);
        let mut found = lines.filter_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        });
        found.next()
    }
}

impl Door {
    pub async fn open() -> Door {
        Door::guarded(Guard::new(Vec::new(), None, None), false).await
    }

    pub async fn with_token(token: &str) -> Door {
        let guard = Guard::new(Vec::new(), Some(Token::of(token)), None);
        Door::guarded(guard, false).await
    }

    pub async fn guarded(guard: Guard, uploads: bool) -> Door {
        let world = World::start().await;
        let mut door = Door {
            world,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            http: None,
            uploads,
            bounds: Bounds::default(),
        };
        door.reopen(guard).await;
        door
    }

    /// One that takes on less.
    pub async fn bounded(bounds: Bounds) -> Door {
        let mut door = Door::open().await;
        door.http.take().unwrap().close().await;
        door.bounds = bounds;
        door.reopen(Guard::new(Vec::new(), None, None)).await;
        door
    }

    /// Open it where it was, after it was closed.
    pub async fn again(&mut self) {
        let address = self.address;
        self.open_at(Guard::new(Vec::new(), None, None), address)
            .await;
    }

    pub async fn reopen(&mut self, guard: Guard) {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        self.open_at(guard, any).await;
    }

    async fn open_at(&mut self, guard: Guard, address: SocketAddr) {
        let data_dir = self.world.directory.path().join("data");
        let allow_upload = self.uploads;
        let host = self.world.host();
        let setup = Setup {
            client: host.client(),
            loader: host.loader().clone(),
            data_dir,
            number: host.number(),
            guard,
            allow_upload,
            bounds: self.bounds.clone(),
        };
        let http = Http::open(address, setup).await.unwrap();
        let url = http.url();
        self.address = url.strip_prefix("http://").unwrap().parse().unwrap();
        self.http = Some(http);
    }

    /// Send bytes as they are; all that comes back until the host closes.
    pub async fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        // A host that refuses may have closed before all is sent.
        let _ = stream.write_all(bytes).await;
        let mut all = Vec::new();
        let reading = stream.read_to_end(&mut all);
        let _ = tokio::time::timeout(PATIENCE, reading)
            .await
            .expect("the host does not close");
        String::from_utf8_lossy(&all).into_owned()
    }

    pub async fn ask(&self, line: &str, headers: &[&str], body: &[u8]) -> Answer {
        let mut text = format!("{line} HTTP/1.1\r\nConnection: close\r\n");
        if !headers
            .iter()
            .any(|one| one.to_lowercase().starts_with("host:"))
        {
            text.push_str(&format!("Host: {}\r\n", self.address));
        }
        for header in headers {
            text.push_str(&format!("{header}\r\n"));
        }
        if !body.is_empty() {
            text.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        let bytes = [text.as_bytes(), b"\r\n", body].concat();
        let all = self.raw(&bytes).await;
        let (head, body) = all.split_once("\r\n\r\n").unwrap_or((&all, ""));
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        let chunked = head.to_lowercase().contains("transfer-encoding: chunked");
        Answer {
            status: status.unwrap_or_else(|| panic!("{all:?}")),
            head: head.to_owned(),
            body: if chunked {
                dechunked(body)
            } else {
                body.to_owned()
            },
        }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.ask(&format!("GET {path}"), &[], b"").await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.send("POST", path, body).await
    }

    pub async fn send(&self, method: &str, path: &str, body: Value) -> Answer {
        let headers = ["Content-Type: application/json"];
        let body = body.to_string();
        self.ask(&format!("{method} {path}"), &headers, body.as_bytes())
            .await
    }
}

fn dechunked(mut body: &str) -> String {
    let mut text = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        text.push_str(&rest[..size]);
        body = &rest[size + 2..];
    }
    text
}
