//! What a guest sees of the world: nothing but what its manifest grants.
//!
//! Clocks show the time of the last durable event and randomness comes from [`super::draws`]: the same run started
//! again sees the same world.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use wasmtime_wasi::sockets::SocketAddrUse;
use wasmtime_wasi::{FsPerms, HostMonotonicClock, HostWallClock, WasiCtx, WasiCtxBuilder};

use super::draws::{Draws, Generator, seed};
use super::log::{LogSink, LogStream};
use super::outbound;
use crate::limits::{DirectoryGrant, Grants, OutboundHost};
use crate::secrets::Placeholders;
use crate::store::{LogLevel, RandomSecret};
use crate::task::Task;

/// The time of the last durable event, in milliseconds since the Unix epoch.
pub type DurableClock = Arc<AtomicU64>;

/// When the clocks of a run start, in milliseconds since the Unix epoch.
pub fn started_ms(task: &Task) -> u64 {
    task.run_at_start_ms.unwrap_or(task.created_at_ms)
}

/// The context of one instance, with the directories that it is granted. An error is a sentence: one of
/// them is not there.
pub fn with_directories(
    mut builder: WasiCtxBuilder,
    directories: &[DirectoryGrant],
) -> Result<WasiCtx, String> {
    for directory in directories {
        let perms = if directory.writable {
            FsPerms::ReadWrite
        } else {
            FsPerms::ReadOnly
        };
        builder
            .preopened_dir(&directory.host, &directory.guest, perms)
            .map_err(|error| {
                format!(
                    "the granted directory {} cannot be opened: {error}",
                    directory.host.display()
                )
            })?;
    }
    Ok(builder.build())
}

/// The context of one instance, except for directories. If its grants name secrets, `placeholders` makes their
/// placeholders. Without a `secret`, as for a run that began before there were any, its random numbers are derived only
/// from the id of the task.
pub fn context(
    task: &Task,
    secret: Option<&RandomSecret>,
    grants: &Grants,
    placeholders: Option<&Placeholders>,
    clock: &DurableClock,
    draws: &Draws,
    log: &LogSink,
) -> WasiCtxBuilder {
    let mut builder = WasiCtxBuilder::new();
    builder
        .allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false)
        .stdout(LogStream::new(log.clone(), LogLevel::Info))
        .stderr(LogStream::new(log.clone(), LogLevel::Warn));
    for (name, value) in &grants.env {
        builder.env(name, value);
    }
    if let Some(placeholders) = placeholders {
        for (name, secret) in &grants.env_secrets {
            builder.env(name, placeholders.of_name(secret));
        }
    }
    if !grants.real_clock {
        let start_ms = started_ms(task);
        builder.wall_clock(Durable(clock.clone()));
        builder.monotonic_clock(Since {
            clock: clock.clone(),
            start_ms,
        });
    }
    if !grants.real_random {
        builder.secure_random(Generator::new(task, secret, "secure", draws));
        builder.insecure_random(Generator::new(task, secret, "insecure", draws));
        let seed = seed(task, secret, "seed");
        builder.insecure_random_seed(u128::from_le_bytes(
            seed[..16].try_into().expect("32 bytes"),
        ));
    }
    if !grants.allowed_outbound_hosts.is_empty() {
        let allowed: Arc<[OutboundHost]> = grants.allowed_outbound_hosts.clone().into();
        let log = log.clone();
        builder.allow_tcp(true).allow_ip_name_lookup(true);
        builder.socket_addr_check(move |address, purpose| {
            let (allowed, log) = (allowed.clone(), log.clone());
            Box::pin(async move {
                match purpose {
                    SocketAddrUse::TcpConnect => {
                        let may = outbound::may_connect(&allowed, address).await;
                        if !may {
                            log.line(LogLevel::Warn, &outbound::refusal(&allowed, address));
                        }
                        may
                    }
                    // Every connection begins with a bind to no address and no port in particular.
                    SocketAddrUse::TcpBind => address.ip().is_unspecified() && address.port() == 0,
                    _ => false,
                }
            }) as Pin<Box<dyn Future<Output = bool> + Send + Sync>>
        });
    }
    builder
}

struct Durable(DurableClock);

impl HostWallClock for Durable {
    fn resolution(&self) -> Duration {
        Duration::from_millis(1)
    }

    fn now(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed))
    }
}

struct Since {
    clock: DurableClock,
    start_ms: u64,
}

impl HostMonotonicClock for Since {
    fn resolution(&self) -> u64 {
        1_000_000
    }

    fn now(&self) -> u64 {
        let since_ms = self
            .clock
            .load(Ordering::Relaxed)
            .saturating_sub(self.start_ms);
        // Never zero: Go's runtime takes that for a clock that does not work, and ends.
        (since_ms + 1) * 1_000_000
    }
}
