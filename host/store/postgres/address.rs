//! Where the server is and how it is spoken to: the URL, TLS, and what a server that says no means.

use std::time::Duration;

use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, Connection, NoTls, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::store::StoreError;

/// The oldest server that is understood: `pg_current_xact_id` and `pg_xact_status` of 64 bits.
const VERSION_MIN: i32 = 130_000;

/// How long a server may take until it has let us in.
const CONNECT: Duration = Duration::from_secs(5);

/// A server's address, without its password in any message.
#[derive(Clone)]
pub struct Address {
    config: Config,
    tls: Tls,
    /// The address as people may see it.
    pub place: String,
}

/// Whether the line is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tls {
    /// Never.
    Disable,
    /// Where the server can, and its certificate is one that this machine trusts.
    Prefer,
    /// Always, with a server whose certificate this machine trusts.
    Require,
}

impl Address {
    /// The address that a URL names, `postgres://user:password@host:port/database?sslmode=...`.
    pub fn parse(url: &str) -> Result<Address, StoreError> {
        let bad = |why: String| StoreError::Server {
            what: format!("the database URL is wrong: {why}"),
            hint: Some(
                "it is like postgres://user:password@host:5432/database?sslmode=require".to_owned(),
            ),
            passing: false,
        };
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        let mut tls = Tls::Prefer;
        let mut rest = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.strip_prefix("sslmode=") {
                None => rest.push(pair),
                Some("disable") => tls = Tls::Disable,
                Some("allow" | "prefer") => tls = Tls::Prefer,
                Some("require" | "verify-ca" | "verify-full") => tls = Tls::Require,
                Some(other) => return Err(bad(format!("there is no sslmode {other}"))),
            }
        }
        let plain = match rest.is_empty() {
            true => base.to_owned(),
            false => format!("{base}?{}", rest.join("&")),
        };
        // What the parser says may quote the URL, and with it the password.
        let mut config: Config = plain.parse().map_err(|error: tokio_postgres::Error| {
            let why = std::error::Error::source(&error).map(ToString::to_string);
            bad(why.unwrap_or_else(|| "it cannot be read".to_owned()))
        })?;
        if config.get_hosts().is_empty() {
            return Err(bad("it names no host".to_owned()));
        }
        config
            .application_name("fishway")
            .connect_timeout(CONNECT)
            .keepalives_idle(Duration::from_secs(10))
            .tcp_user_timeout(Duration::from_secs(15));
        let place = place(&config);
        Ok(Address { config, tls, place })
    }

    /// What the pool of readers connects with, and whether that is encrypted.
    pub async fn manager(&self) -> Result<deadpool_postgres::Manager, StoreError> {
        let how = deadpool_postgres::ManagerConfig {
            recycling_method: deadpool_postgres::RecyclingMethod::Fast,
        };
        // The first connection tells whether the server can.
        let encrypted = match self.tls {
            Tls::Disable => false,
            Tls::Require => true,
            Tls::Prefer => {
                let tried = self.encrypted(SslMode::Require).await;
                tried.is_ok()
            }
        };
        let mut config = self.config.clone();
        Ok(match encrypted {
            true => {
                config.ssl_mode(SslMode::Require);
                deadpool_postgres::Manager::from_config(config, connector()?, how)
            }
            false => {
                config.ssl_mode(SslMode::Disable);
                deadpool_postgres::Manager::from_config(config, NoTls, how)
            }
        })
    }

    async fn encrypted(&self, mode: SslMode) -> Result<(Client, Line), StoreError> {
        let mut config = self.config.clone();
        config.ssl_mode(mode);
        let connecting = config.connect(connector()?);
        let (client, line) = self.in_time(connecting).await?;
        Ok((client, Line::Encrypted(Box::new(line))))
    }

    async fn plain(&self) -> Result<(Client, Line), StoreError> {
        let mut config = self.config.clone();
        config.ssl_mode(SslMode::Disable);
        let (client, line) = self.in_time(config.connect(NoTls)).await?;
        Ok((client, Line::Plain(Box::new(line))))
    }

    async fn in_time<T>(
        &self,
        connecting: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, StoreError> {
        match tokio::time::timeout(CONNECT, connecting).await {
            Ok(connected) => connected.map_err(|error| self.refused(&error)),
            Err(_) => Err(StoreError::Server {
                what: format!("{} does not answer", self.place),
                hint: Some("see that the server runs and can be reached from here".to_owned()),
                passing: true,
            }),
        }
    }

    /// Connect; the line is to be driven for as long as the client is used.
    pub async fn connect(&self) -> Result<(Client, Line), StoreError> {
        match self.tls {
            Tls::Disable => self.plain().await,
            Tls::Require => self.encrypted(SslMode::Require).await,
            Tls::Prefer => match self.encrypted(SslMode::Prefer).await {
                // Its certificate may be its own; without `require` it need not be trusted.
                Err(StoreError::Server { passing: false, .. }) => self.plain().await,
                other => other,
            },
        }
    }

    /// Refuse a server that is too old.
    pub fn check_version(&self, number: i32) -> Result<(), StoreError> {
        if number >= VERSION_MIN {
            return Ok(());
        }
        Err(StoreError::Server {
            what: format!(
                "{} is PostgreSQL {}, which is too old",
                self.place,
                number / 10_000
            ),
            hint: Some("fishway needs PostgreSQL 13 or newer".to_owned()),
            passing: false,
        })
    }

    fn refused(&self, error: &tokio_postgres::Error) -> StoreError {
        let place = &self.place;
        let server = |what: String, hint: &str, passing| StoreError::Server {
            what,
            hint: Some(hint.to_owned()),
            passing,
        };
        let Some(said) = error.as_db_error() else {
            let why = reason(error);
            let io = std::error::Error::source(error)
                .is_some_and(|source| source.is::<std::io::Error>());
            let tls = error.to_string().contains("TLS");
            return match tls {
                true => server(
                    format!("no encrypted line to {place}: {why}"),
                    "the server's certificate is to be trusted by this machine and name the host; sslmode=disable does without",
                    false,
                ),
                false => server(
                    format!("{place} cannot be reached: {why}"),
                    "see that the server runs and can be reached from here",
                    io,
                ),
            };
        };
        let message = said.message();
        match *said.code() {
            SqlState::INVALID_PASSWORD | SqlState::INVALID_AUTHORIZATION_SPECIFICATION => server(
                format!("{place} does not let us in: {message}"),
                "see the user and the password in the URL, and pg_hba.conf of the server",
                false,
            ),
            SqlState::INVALID_CATALOG_NAME => server(
                format!("{place}: {message}"),
                "make it with createdb, or name another in the URL",
                false,
            ),
            _ => match super::explain(error) {
                StoreError::Server {
                    what,
                    hint,
                    passing,
                } => StoreError::Server {
                    what: format!("{place}: {what}"),
                    hint,
                    passing,
                },
                other => other,
            },
        }
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
    ) -> std::task::Poll<Option<Result<tokio_postgres::AsyncMessage, tokio_postgres::Error>>> {
        match self {
            Line::Plain(line) => line.poll_message(context),
            Line::Encrypted(line) => line.poll_message(context),
        }
    }

    /// Drive it to its end.
    pub async fn drive(mut self) {
        while let Some(Ok(_)) = std::future::poll_fn(|context| self.poll_message(context)).await {}
    }
}

fn connector() -> Result<MakeRustlsConnect, StoreError> {
    let known = MakeRustlsConnect::with_native_certs().map(|(known, _)| known);
    known.map_err(|errors| StoreError::Server {
        what: format!("the certificates that this machine trusts cannot be read: {errors:?}"),
        hint: Some("install ca-certificates, or use sslmode=disable".to_owned()),
        passing: false,
    })
}

/// What an error is about, without what it is wrapped in.
pub fn reason(error: &tokio_postgres::Error) -> String {
    let mut why = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        why = error.to_string();
        source = error.source();
    }
    why
}

fn place(config: &Config) -> String {
    let host = match config.get_hosts().first() {
        Some(Host::Tcp(name)) => name.clone(),
        #[cfg(unix)]
        Some(Host::Unix(path)) => path.display().to_string(),
        None => String::new(),
    };
    let port = config.get_ports().first().copied().unwrap_or(5_432);
    let database = config.get_dbname().or(config.get_user()).unwrap_or("");
    format!("the PostgreSQL server at {host}:{port}, database {database}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_told_without_its_password() {
        let check = |url: &str, place: &str, tls: Tls| {
            let address = Address::parse(url).unwrap();
            assert_eq!((address.place.as_str(), address.tls), (place, tls));
        };
        check(
            "postgres://me:secret@db.example:6543/work?sslmode=verify-full",
            "the PostgreSQL server at db.example:6543, database work",
            Tls::Require,
        );
        check(
            "postgresql://me@%2Fvar%2Frun/work?sslmode=disable&application_name=x",
            "the PostgreSQL server at /var/run:5432, database work",
            Tls::Disable,
        );
        check(
            "postgres://me@db",
            "the PostgreSQL server at db:5432, database me",
            Tls::Prefer,
        );
    }

    #[test]
    fn a_server_that_is_too_old_is_refused_and_the_oldest_that_is_not_is_taken() {
        let address = Address::parse("postgres://me@db").unwrap();
        let old = address.check_version(120_022).unwrap_err().to_string();
        assert!(old.contains("is PostgreSQL 12, which is too old"), "{old}");
        for number in [130_000, 150_004, 990_000] {
            address.check_version(number).unwrap();
        }
    }

    #[test]
    fn a_wrong_url_is_told_without_its_password() {
        for url in [
            "postgres://me:secret@db:port/work",
            "postgres://me:secret@db/work?sslmode=maybe",
            "postgres://me:secret@db/work?colour=red",
            "postgres://",
        ] {
            let Err(error) = Address::parse(url) else {
                panic!("{url} is no address");
            };
            assert!(
                error.to_string().starts_with("the database URL is wrong"),
                "{error}"
            );
            assert!(
                !format!("{error} {error:?}").contains("secret"),
                "{error:?}"
            );
        }
    }
}
