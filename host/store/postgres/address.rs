//! Where the servers are: the URL, what it asks for, and the address as people may see it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, LoadBalanceHosts, SslMode};

use super::servers::Known;
use crate::store::StoreError;

/// The oldest server that is understood: `pg_current_xact_id` and `pg_xact_status` of 64 bits.
const VERSION_MIN: i32 = 130_000;

/// How long one server may take until it has let us in, where the URL does not say. A busy one takes a
/// second; with twice this a failover to the next is still a matter of seconds.
const CONNECT: Duration = Duration::from_secs(5);

/// How long what was sent may stay without a word from the other machine. A packet that was lost is sent
/// again several times in that time.
const UNHEARD: Duration = Duration::from_secs(15);

/// How long a connection is idle until the system asks whether the other machine is still there, how
/// often it asks again, and how often at most.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_RETRIES: u32 = 3;

/// The servers of a database, without its password in any message.
#[derive(Clone)]
pub struct Address {
    /// What each connection is asked to be like; it names no server.
    pub(super) config: Config,
    pub(super) servers: Vec<Server>,
    pub(super) tls: Tls,
    pub(super) target: Target,
    /// How long one server may take until it has let us in.
    pub(super) connect_timeout: Duration,
    /// Whether each connection begins with another server.
    pub(super) spread: bool,
    /// What connections have learnt about the servers, for all that use this address.
    pub(super) known: Arc<Known>,
    /// The address as people may see it.
    pub place: String,
}

/// One of the servers that a URL names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Its name, which its certificate has to have, or the directory of its socket.
    pub host: Host,
    /// Its address, where the URL has it: then the name is not looked up.
    pub ip: Option<IpAddr>,
    /// Its port.
    pub port: u16,
}

/// Whether the line is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    /// Never.
    Disable,
    /// Where the server can, and its certificate is one that this machine trusts.
    Prefer,
    /// Always, with a server whose certificate this machine trusts.
    Require,
}

/// Which servers are good enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Any that lets us in.
    Any,
    /// One that is no standby.
    Primary,
    /// One that is no standby, and whose transactions may write unless they say otherwise.
    ReadWrite,
}

impl Address {
    /// The address that a URL names, `postgres://user:password@host:port/database?sslmode=...`.
    pub fn parse(url: &str) -> Result<Address, StoreError> {
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        let (mut tls, mut target) = (Tls::Prefer, None);
        let mut rest = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("sslmode", mode)) => tls = tls_of(mode)?,
                Some(("target_session_attrs", wanted)) => target = Some(target_of(wanted)?),
                _ => rest.push(pair),
            }
        }
        let plain = match rest.is_empty() {
            true => base.to_owned(),
            false => format!("{base}?{}", rest.join("&")),
        };
        // What the parser says may quote the URL, and with it the password.
        let parsed: Config = plain.parse().map_err(|error: tokio_postgres::Error| {
            let why = std::error::Error::source(&error).map(ToString::to_string);
            bad(why.unwrap_or_else(|| "it cannot be read".to_owned()))
        })?;
        let servers = servers(&parsed)?;
        let asked = |key: &str| {
            let key = format!("{key}=");
            rest.iter().any(|pair| pair.starts_with(&key))
        };
        Ok(Address {
            config: without_servers(&parsed, asked),
            tls,
            // Of several servers all but one are standbys, to which nothing can be written.
            target: target.unwrap_or(match servers.len() {
                1 => Target::Any,
                _ => Target::Primary,
            }),
            connect_timeout: parsed.get_connect_timeout().copied().unwrap_or(CONNECT),
            spread: parsed.get_load_balance_hosts() == LoadBalanceHosts::Random,
            known: Arc::default(),
            place: place(&servers, &parsed),
            servers,
        })
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
}

impl std::fmt::Display for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.host {
            Host::Tcp(name) => write!(f, "{name}:{}", self.port),
            #[cfg(unix)]
            Host::Unix(path) => write!(f, "{}:{}", path.display(), self.port),
        }
    }
}

fn bad(why: String) -> StoreError {
    StoreError::Server {
        what: format!("the database URL is wrong: {why}"),
        hint: Some(
            "it is like postgres://user:password@host:5432/database?sslmode=require".to_owned(),
        ),
        passing: false,
    }
}

fn tls_of(mode: &str) -> Result<Tls, StoreError> {
    match mode {
        "disable" => Ok(Tls::Disable),
        "allow" | "prefer" => Ok(Tls::Prefer),
        "require" | "verify-ca" | "verify-full" => Ok(Tls::Require),
        other => Err(bad(format!("there is no sslmode {other}"))),
    }
}

fn target_of(wanted: &str) -> Result<Target, StoreError> {
    match wanted {
        "any" => Ok(Target::Any),
        "primary" => Ok(Target::Primary),
        "read-write" => Ok(Target::ReadWrite),
        "read-only" | "standby" | "prefer-standby" => Err(bad(format!(
            "target_session_attrs={wanted} asks for a server that cannot be written; primary, read-write and any can be asked for"
        ))),
        other => Err(bad(format!("there is no target_session_attrs {other}"))),
    }
}

fn servers(config: &Config) -> Result<Vec<Server>, StoreError> {
    let (hosts, ips, ports) = (
        config.get_hosts(),
        config.get_hostaddrs(),
        config.get_ports(),
    );
    if hosts.is_empty() {
        return Err(bad("it names no host".to_owned()));
    }
    let fits = |many: usize| many <= 1 || many == hosts.len();
    if !(ips.is_empty() || ips.len() == hosts.len()) || !fits(ports.len()) {
        return Err(bad(
            "it has another number of hosts than of ports or addresses".to_owned(),
        ));
    }
    let server = |(at, host): (usize, &Host)| Server {
        host: host.clone(),
        ip: ips.get(at).copied(),
        port: ports.get(at).or(ports.first()).copied().unwrap_or(5_432),
    };
    Ok(hosts.iter().enumerate().map(server).collect())
}

/// What a URL says besides its servers, with our own defaults for what was not `asked` for.
fn without_servers(parsed: &Config, asked: impl Fn(&str) -> bool) -> Config {
    let mut config = Config::new();
    if let Some(user) = parsed.get_user() {
        config.user(user);
    }
    if let Some(password) = parsed.get_password() {
        config.password(password);
    }
    if let Some(database) = parsed.get_dbname() {
        config.dbname(database);
    }
    if let Some(options) = parsed.get_options() {
        config.options(options);
    }
    let name = parsed.get_application_name().unwrap_or("fishway");
    let idle = match asked("keepalives_idle") {
        true => parsed.get_keepalives_idle(),
        false => KEEPALIVE_IDLE,
    };
    let interval = parsed.get_keepalives_interval();
    let retries = parsed.get_keepalives_retries();
    let unheard = parsed.get_tcp_user_timeout().copied();
    config
        .application_name(name)
        .ssl_mode(SslMode::Disable)
        .ssl_negotiation(parsed.get_ssl_negotiation())
        .channel_binding(parsed.get_channel_binding())
        .keepalives(parsed.get_keepalives())
        .keepalives_idle(idle)
        .keepalives_interval(interval.unwrap_or(KEEPALIVE_INTERVAL))
        .keepalives_retries(retries.unwrap_or(KEEPALIVE_RETRIES))
        .tcp_user_timeout(unheard.unwrap_or(UNHEARD));
    config
}

fn place(servers: &[Server], config: &Config) -> String {
    let names: Vec<String> = servers.iter().map(Server::to_string).collect();
    let database = config.get_dbname().or(config.get_user()).unwrap_or("");
    match names.as_slice() {
        [one] => format!("the PostgreSQL server at {one}, database {database}"),
        [all @ .., last] => format!(
            "the PostgreSQL servers at {} and {last}, database {database}",
            all.join(", ")
        ),
        [] => String::new(),
    }
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
        check(
            "postgres://me:secret@a,b:2,c/work?sslmode=prefer",
            "the PostgreSQL servers at a:5432, b:2 and c:5432, database work",
            Tls::Prefer,
        );
    }

    #[test]
    fn what_the_url_asks_for_counts() {
        let check = |query: &str, timeout_s: u64, target: Target, spread: bool| {
            let address = Address::parse(&format!("postgres://me@a,b/work?{query}")).unwrap();
            let found = (address.connect_timeout, address.target, address.spread);
            let expected = (Duration::from_secs(timeout_s), target, spread);
            assert_eq!(found, expected, "{query}");
        };
        check("", 5, Target::Primary, false);
        check("connect_timeout=2", 2, Target::Primary, false);
        check("connect_timeout=0", 5, Target::Primary, false);
        check("target_session_attrs=any", 5, Target::Any, false);
        check(
            "target_session_attrs=read-write&connect_timeout=30",
            30,
            Target::ReadWrite,
            false,
        );
        check(
            "load_balance_hosts=random&target_session_attrs=primary",
            5,
            Target::Primary,
            true,
        );
        let one = Address::parse("postgres://me@a").unwrap();
        assert_eq!(one.target, Target::Any, "there is no other");
        let config = |query: &str| {
            let address = Address::parse(&format!("postgres://me@a?{query}")).unwrap();
            let config = address.config;
            (
                config.get_keepalives_idle().as_secs(),
                config.get_tcp_user_timeout().unwrap().as_secs(),
                config.get_application_name().unwrap().to_owned(),
            )
        };
        assert_eq!(config(""), (10, 15, "fishway".to_owned()));
        assert_eq!(
            config("keepalives_idle=60&tcp_user_timeout=90&application_name=x"),
            (60, 90, "x".to_owned())
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
            "postgres://me:secret@db/work?target_session_attrs=standby",
            "postgres://me:secret@db/work?target_session_attrs=maybe",
            "postgres://me:secret@db/work?connect_timeout=soon",
            "postgres://me:secret@a,b/work?hostaddr=127.0.0.1",
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
