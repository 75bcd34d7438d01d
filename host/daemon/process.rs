//! Processes, as the machine shows them: who we are, whether another one lives, and how to ask it
//! to end. Called by the lock, the lease and whoever stops a host; decides nothing, see
//! [`crate::lease`].

use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, setrlimit, test_kill_process};

use crate::lease::{Found, Identity, Life, Sighting};

/// This process.
pub fn own() -> Identity {
    let pid = std::process::id();
    let started_ticks = match found(pid) {
        Found::Process(started_ticks) => started_ticks,
        Found::None => None,
    };
    Identity {
        pid,
        started_ticks,
        boot: boot(),
        namespace: namespace(),
    }
}

/// May this process have as many files open as the machine lets it: what guests open counts here, too.
/// Where it may not say so, it goes on with what it has.
pub fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::debug!(%error, "the number of open files stays as it is");
    }
}

/// Whether the process lives.
pub fn life(of: &Identity) -> Life {
    of.life(&Sighting {
        boot: boot(),
        namespace: namespace(),
        found: found(of.pid),
    })
}

fn boot() -> Option<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(text.trim().to_owned())
}

fn namespace() -> Option<String> {
    let link = std::fs::read_link("/proc/self/ns/pid").ok()?;
    Some(link.to_string_lossy().into_owned())
}

/// Whether there is a process of that number: by `/proc`, or where that says nothing, by asking
/// whether it could be sent a signal. That it could not, for want of rights, says that it is there.
fn found(pid: u32) -> Found {
    match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => of_stat(&stat),
        Err(_) => {
            let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
            match pid.map(test_kill_process) {
                None | Some(Err(Errno::SRCH)) => Found::None,
                Some(_) => Found::Process(None),
            }
        }
    }
}

/// The third and the twenty-second field of `/proc/PID/stat`, see proc_pid_stat(5).
fn of_stat(stat: &str) -> Found {
    // The second is a name in brackets that may hold anything, brackets among it.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let mut fields = fields.split_whitespace();
    match fields.next() {
        // It has ended, and its parent has not asked how.
        Some("Z" | "X" | "x") => Found::None,
        _ => Found::Process(fields.nth(18).and_then(|ticks| ticks.parse().ok())),
    }
}

/// Whether a process is on its way out, or gone, and nothing can keep it: it was killed, but may not
/// have given back yet what it has.
pub fn dying(of: &Identity) -> bool {
    /// In the flags of `stat`: the process ends (`PF_EXITING`).
    const EXITING: u64 = 0x4;
    match life(of) {
        Life::Ended => return true,
        Life::Unseen => return false,
        Life::Lives => {}
    }
    let read = |name: &str| std::fs::read_to_string(format!("/proc/{}/{name}", of.pid));
    let stat = read("stat").unwrap_or_default();
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let flags = fields.split_whitespace().nth(6);
    let exiting = flags.and_then(|flags| flags.parse().ok()).unwrap_or(0) & EXITING;
    exiting != 0 || killed(&read("status").unwrap_or_default())
}

/// Whether SIGKILL, which is the ninth, is on its way to a thread of a process or to all of it; see
/// proc_pid_status(5).
fn killed(status: &str) -> bool {
    let pending = |line: &str| {
        let mask = line
            .strip_prefix("SigPnd:")
            .or_else(|| line.strip_prefix("ShdPnd:"))?;
        u64::from_str_radix(mask.trim(), 16).ok()
    };
    let mut masks = status.lines().filter_map(pending);
    masks.any(|mask| mask & (1 << 8) != 0)
}

/// A process that is held: what is sent to it reaches no other, whatever becomes of its number.
pub struct Held {
    identity: Identity,
    #[cfg(target_os = "linux")]
    fd: rustix::fd::OwnedFd,
}

/// Longest rest between two looks at a process that does not tell when it ends.
#[cfg(not(target_os = "linux"))]
const LOOK: Duration = Duration::from_millis(20);

#[cfg(target_os = "linux")]
impl Held {
    /// Hold the process; none when it does not live.
    pub fn hold(identity: &Identity) -> std::io::Result<Option<Held>> {
        use rustix::process::{PidfdFlags, pidfd_open};
        let Some(pid) = raw(identity) else {
            return Ok(None);
        };
        let fd = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(fd) => fd,
            Err(Errno::SRCH) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        // Looked at after it is held: from here on it is the same one.
        let held = Held {
            identity: identity.clone(),
            fd,
        };
        Ok((life(&held.identity) == Life::Lives).then_some(held))
    }

    /// Send it a signal; one that has ended meanwhile gets none.
    pub fn send(&self, signal: Signal) -> std::io::Result<()> {
        match rustix::process::pidfd_send_signal(&self.fd, signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Wait for its end, for at most so long. The answer is whether it has ended.
    pub fn wait(&self, patience: Duration) -> std::io::Result<bool> {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let until = Instant::now() + patience;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let timeout = Timespec::try_from(left).ok();
            let mut watched = [PollFd::new(&self.fd, PollFlags::IN)];
            match poll(&mut watched, timeout.as_ref()) {
                Ok(ready) if ready > 0 => return Ok(true),
                Ok(_) if until <= Instant::now() => return Ok(false),
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
impl Held {
    /// Remember the process; none when it does not live.
    pub fn hold(identity: &Identity) -> std::io::Result<Option<Held>> {
        let identity = identity.clone();
        Ok((life(&identity) == Life::Lives).then_some(Held { identity }))
    }

    /// Send it a signal; one that has ended meanwhile gets none.
    pub fn send(&self, signal: Signal) -> std::io::Result<()> {
        let Some(pid) = raw(&self.identity).filter(|_| life(&self.identity) == Life::Lives) else {
            return Ok(());
        };
        match rustix::process::kill_process(pid, signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Wait for its end, for at most so long. The answer is whether it has ended.
    pub fn wait(&self, patience: Duration) -> std::io::Result<bool> {
        let until = Instant::now() + patience;
        while life(&self.identity) == Life::Lives {
            if until <= Instant::now() {
                return Ok(false);
            }
            std::thread::sleep(LOOK);
        }
        Ok(true)
    }
}

impl Held {
    /// Wait for its end, however long that takes.
    pub fn wait_for_ever(&self) -> std::io::Result<()> {
        while !self.wait(Duration::from_secs(3_600))? {}
        Ok(())
    }
}

fn raw(identity: &Identity) -> Option<Pid> {
    i32::try_from(identity.pid).ok().and_then(Pid::from_raw)
}

/// Whether this process was started with SIGHUP ignored, so that it outlives the terminal, as `nohup` does.
pub fn ignores_hangup() -> bool {
    const HANGUP: u64 = 1;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    ignored.is_some_and(|mask| mask & HANGUP != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_of_a_process_is_read_whatever_its_name() {
        let rest = "1 1 1 0 -1 4194560 2 3 4 5 6 7 8 9 20 0 1 0 4711 10 11";
        let check = |stat: String, expected| assert_eq!(of_stat(&stat), expected, "{stat}");
        check(format!("9 (fishway) S {rest}"), Found::Process(Some(4_711)));
        check(
            format!("9 (a) Z b) c) R {rest}"),
            Found::Process(Some(4_711)),
        );
        check(format!("9 (fishway) Z {rest}"), Found::None);
        check("9 (fishway) S".to_owned(), Found::Process(None));
    }

    #[test]
    fn a_process_that_was_killed_is_known_by_what_is_on_its_way_to_it() {
        let status = |own: &str, shared: &str| {
            format!("Name:\tx\nSigPnd:\t{own}\nShdPnd:\t{shared}\nSigBlk:\t0000000000000100\n")
        };
        let (none, kill, other) = ("0000000000000000", "0000000000000100", "0000000000004200");
        assert!(killed(&status(kill, none)) && killed(&status(none, kill)));
        assert!(!killed(&status(other, other)) && !killed(""));
        assert!(!dying(&own()));
    }

    #[test]
    fn this_process_lives_and_one_that_has_ended_does_not() {
        let us = own();
        assert_eq!(life(&us), Life::Lives);
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let number = Identity {
            pid: child.id(),
            ..us.clone()
        };
        let other = Identity {
            started_ticks: None,
            ..number
        };
        let held = Held::hold(&other).unwrap();
        if let Some(held) = held {
            assert!(held.wait(Duration::from_secs(60)).unwrap());
        }
        // Nobody has asked yet how it ended, so its number is not free.
        assert_eq!(life(&other), Life::Ended);
        child.wait().unwrap();
        assert_eq!(life(&other), Life::Ended);
        assert!(Held::hold(&other).unwrap().is_none());
    }
}
