//! Connecting to the servers of an address: the order in which they are tried, and the time that each has.
//! [`refusal`] says why a server was not used, [`watch`] whether one that does not answer a statement is silent.
//!
//! Every server, and every address of its name, has its turn and its own time. The last one that accepted a
//! connection comes first, and one that fell silent comes last.

mod refusal;
mod watch;

use std::net::IpAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use rand::seq::SliceRandom;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::{Client, Config, Connection, NoTls, SimpleQueryMessage, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

pub use self::refusal::reason;
use self::refusal::{Heard, Refusal, refused};
use self::watch::Probe;
pub use self::watch::Watch;
use super::address::{Address, Server, Target, Tls};
use crate::store::StoreError;

/// Addresses of one name that are tried: more than any cluster has servers.
const ADDRESSES_MAX: usize = 8;

/// Between two attempts at a first connection that a server has refused for now.
const FIRST_REST: Duration = Duration::from_millis(250);

/// A server, by its place in the URL and the address of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endpoint {
    server: usize,
    ip: Option<IpAddr>,
}

/// What connections have learnt about the servers of an address.
#[derive(Default)]
pub struct Known {
    servers: Mutex<Learnt>,
    /// How often a server fell silent: connections that are older than the last time are of no use.
    silences: AtomicU64,
    probe: tokio::sync::Mutex<Option<Probe>>,
}

#[derive(Default)]
struct Learnt {
    /// The one that let us in last.
    last: Option<Endpoint>,
    /// The one that fell silent, until it lets us in again.
    silent: Option<Endpoint>,
}

impl Known {
    fn servers(&self) -> MutexGuard<'_, Learnt> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often a server fell silent so far.
    pub fn silences(&self) -> u64 {
        self.silences.load(Ordering::Acquire)
    }

    fn let_us_in(&self, endpoint: Endpoint) {
        let mut servers = self.servers();
        servers.last = Some(endpoint);
        if servers.silent == Some(endpoint) {
            servers.silent = None;
        }
    }

    fn fell_silent(&self, endpoint: Endpoint) {
        self.servers().silent = Some(endpoint);
        self.silences.fetch_add(1, Ordering::AcqRel);
    }
}

/// A connection, and what it was made with.
pub struct Connected {
    /// Asks.
    pub client: Client,
    /// Is to be driven for as long as the client is used.
    pub line: Line,
    /// Checks the server while a statement is not answered.
    pub watch: Watch,
}

impl Address {
    /// Connect to the first server that is good enough.
    pub async fn connect(&self) -> Result<Connected, StoreError> {
        self.connect_any().await.map_err(|(error, _)| error)
    }

    /// The same, but try for so long again what a server has refused for now: it has no connection left,
    /// is about to start, or to become the primary. Where no server answers, that is said at once.
    pub async fn connect_within(&self, patience: Duration) -> Result<Connected, StoreError> {
        let since = Instant::now();
        let mut said = false;
        loop {
            let (error, answered) = match self.connect_any().await {
                Ok(connected) => return Ok(connected),
                Err(refused) => refused,
            };
            let passing = matches!(error, StoreError::Server { passing: true, .. });
            if !passing || !answered || since.elapsed() >= patience {
                return Err(error);
            }
            if !std::mem::replace(&mut said, true) {
                tracing::info!(why = %error, "the database accepts no connections at present; still trying");
            }
            tokio::time::sleep(FIRST_REST).await;
        }
    }

    /// On failure also whether any server has answered.
    async fn connect_any(&self) -> Result<Connected, (StoreError, bool)> {
        let mut refusals = Vec::new();
        for server in self.in_turn() {
            let endpoints = match self.endpoints(server).await {
                Ok(endpoints) => endpoints,
                Err(refusal) => {
                    refusals.push((self.servers[server].to_string(), refusal));
                    continue;
                }
            };
            let several = endpoints.len() > 1;
            for endpoint in endpoints {
                match self.connect_to(endpoint).await {
                    Ok(connected) => {
                        self.known.let_us_in(endpoint);
                        return Ok(connected);
                    }
                    Err(refusal) => {
                        let name = self.servers[server].to_string();
                        let name = match endpoint.ip.filter(|_| several) {
                            Some(ip) => format!("{name} ({ip})"),
                            None => name,
                        };
                        refusals.push((name, refusal));
                    }
                }
            }
        }
        let answered = (refusals.iter()).any(|(_, refusal)| refusal.heard == Heard::Server);
        Err((self.all_refused(refusals), answered))
    }

    /// The servers in the order in which they are tried.
    fn in_turn(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.servers.len()).collect();
        let servers = self.known.servers();
        let [last, silent] = [servers.last, servers.silent].map(|one| one.map(|one| one.server));
        drop(servers);
        if self.spread {
            order.shuffle(&mut rand::rng());
        } else {
            order.sort_by_key(|server| Some(*server) != last);
        }
        order.sort_by_key(|server| Some(*server) == silent);
        order
    }

    /// The addresses of a server in the order in which they are tried.
    async fn endpoints(&self, server: usize) -> Result<Vec<Endpoint>, Refusal> {
        let Server { host, ip, port } = &self.servers[server];
        let name = match (host, ip) {
            (Host::Tcp(name), None) => name,
            _ => return Ok(vec![Endpoint { server, ip: *ip }]),
        };
        let unknown = |why: String| Refusal {
            reason: format!("cannot be reached: {why}"),
            hint: "see that the name is right, and that this machine can look it up".to_owned(),
            passing: true,
            heard: Heard::Nobody,
        };
        let looked_up = tokio::net::lookup_host((name.as_str(), *port));
        let found = tokio::time::timeout(self.connect_timeout, looked_up).await;
        let found =
            found.map_err(|_| unknown("its name cannot be looked up in time".to_owned()))?;
        let found = found.map_err(|error| unknown(error.to_string()))?;
        let mut endpoints: Vec<Endpoint> = Vec::new();
        for ip in found.map(|address| Some(address.ip())) {
            let endpoint = Endpoint { server, ip };
            if !endpoints.contains(&endpoint) {
                endpoints.push(endpoint);
            }
        }
        if self.spread {
            endpoints.shuffle(&mut rand::rng());
        }
        let servers = self.known.servers();
        let (last, silent) = (servers.last, servers.silent);
        endpoints.sort_by_key(|one| (Some(*one) == silent, Some(*one) != last && !self.spread));
        endpoints.truncate(ADDRESSES_MAX);
        match endpoints.is_empty() {
            true => Err(unknown("its name has no address".to_owned())),
            false => Ok(endpoints),
        }
    }

    /// Connect to one server, in the time that one has, and see that it is good enough.
    async fn connect_to(&self, endpoint: Endpoint) -> Result<Connected, Refusal> {
        // What comes before the connection belongs to it: a server may fall silent just then.
        let silences = self.known.silences();
        let connecting = async {
            let (client, mut line) = self.let_in(endpoint).await?;
            self.good_enough(&client, &mut line).await?;
            Ok((client, line))
        };
        let silent = || Refusal {
            reason: format!(
                "does not answer within {} s",
                self.connect_timeout.as_secs()
            ),
            hint: "see that the server runs and can be reached from here".to_owned(),
            passing: true,
            heard: Heard::Nobody,
        };
        let connected = tokio::time::timeout(self.connect_timeout, connecting).await;
        let (client, line) = connected.unwrap_or_else(|_| Err(silent()))?;
        let watch = Watch {
            address: self.clone(),
            endpoint,
            silences,
        };
        Ok(Connected {
            client,
            line,
            watch,
        })
    }

    async fn let_in(&self, endpoint: Endpoint) -> Result<(Client, Line), Refusal> {
        match self.tls {
            Tls::Disable => self.plain(endpoint).await,
            Tls::Require => self.encrypted(endpoint, SslMode::Require).await,
            Tls::Prefer => match self.encrypted(endpoint, SslMode::Prefer).await {
                // Its certificate may be its own; without `require` it need not be trusted.
                Err(Refusal { passing: false, .. }) => self.plain(endpoint).await,
                other => other,
            },
        }
    }

    async fn encrypted(&self, at: Endpoint, mode: SslMode) -> Result<(Client, Line), Refusal> {
        let mut config = self.config_of(at);
        config.ssl_mode(mode);
        let connected = config.connect(connector()?).await;
        let (client, line) = connected.map_err(|error| refused(&error))?;
        Ok((client, Line::Encrypted(Box::new(line))))
    }

    async fn plain(&self, at: Endpoint) -> Result<(Client, Line), Refusal> {
        let connected = self.config_of(at).connect(NoTls).await;
        let (client, line) = connected.map_err(|error| refused(&error))?;
        Ok((client, Line::Plain(Box::new(line))))
    }

    fn config_of(&self, endpoint: Endpoint) -> Config {
        let server = &self.servers[endpoint.server];
        let mut config = self.config.clone();
        match &server.host {
            Host::Tcp(name) => config.host(name),
            #[cfg(unix)]
            Host::Unix(path) => config.host_path(path),
        };
        if let Some(ip) = endpoint.ip {
            config.hostaddr(ip);
        }
        config.port(server.port);
        config
    }

    /// Refuse a server that is not what the URL asks for.
    async fn good_enough(&self, client: &Client, line: &mut Line) -> Result<(), Refusal> {
        const SQL: &str = "select pg_is_in_recovery(), current_setting('transaction_read_only')";
        if self.target == Target::Any {
            return Ok(());
        }
        let said = line
            .ask(client, SQL)
            .await
            .map_err(|error| refused(&error))?;
        let found = said.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => {
                Some((row.get(0) == Some("t"), row.get(1) == Some("on")))
            }
            _ => None,
        });
        let (standby, read_only) = found.unwrap_or_default();
        let reason = match (standby, read_only) {
            (true, _) => "is a standby",
            (false, true) if self.target == Target::ReadWrite => {
                "does not allow writes (default_transaction_read_only)"
            }
            _ => return Ok(()),
        };
        Err(Refusal {
            reason: reason.to_owned(),
            hint: "name the primary in the URL, or promote this one".to_owned(),
            passing: true,
            heard: Heard::Server,
        })
    }
}

/// What drives a connection, and tells what the server says without being asked.
pub enum Line {
    /// In the clear.
    Plain(Box<Connection<Socket, tokio_postgres::tls::NoTlsStream>>),
    /// Encrypted.
    Encrypted(
        Box<
            Connection<
                Socket,
                <MakeRustlsConnect as tokio_postgres::tls::MakeTlsConnect<Socket>>::Stream,
            >,
        >,
    ),
}

impl Line {
    /// The next thing that the server says without being asked; nothing when the line is closed.
    pub fn poll_message(
        &mut self,
        context: &mut std::task::Context<'_>,
    ) -> Poll<Option<Result<tokio_postgres::AsyncMessage, tokio_postgres::Error>>> {
        match self {
            Line::Plain(line) => line.poll_message(context),
            Line::Encrypted(line) => line.poll_message(context),
        }
    }

    /// Drive it to its end.
    pub async fn drive(mut self) {
        while let Some(Ok(_)) = std::future::poll_fn(|context| self.poll_message(context)).await {}
    }

    /// Ask something and drive the line until the answer is there.
    async fn ask(
        &mut self,
        client: &Client,
        sql: &str,
    ) -> Result<Vec<SimpleQueryMessage>, tokio_postgres::Error> {
        let mut asked = pin!(client.simple_query(sql));
        let mut open = true;
        std::future::poll_fn(|context| {
            if let Poll::Ready(answer) = asked.as_mut().poll(context) {
                return Poll::Ready(answer);
            }
            while open {
                match self.poll_message(context) {
                    Poll::Ready(Some(Ok(_))) => {}
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                    Poll::Ready(None) => open = false,
                    Poll::Pending => break,
                }
            }
            asked.as_mut().poll(context)
        })
        .await
    }
}

fn connector() -> Result<MakeRustlsConnect, Refusal> {
    let known = MakeRustlsConnect::with_native_certs().map(|(known, _)| known);
    known.map_err(|errors| Refusal {
        reason: format!(
            "cannot be spoken to: the certificates that this machine trusts cannot be read: {errors:?}"
        ),
        hint: "install ca-certificates, or use sslmode=disable".to_owned(),
        passing: false,
        heard: Heard::Nobody,
    })
}
