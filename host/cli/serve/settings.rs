//! What the flags of `serve` set for the executor.

use std::time::Duration;

use super::HostArgs;
use crate::exchange::ProxySettings;
use crate::executor::Settings;

impl HostArgs {
    /// The settings of a host that is started with these flags.
    pub(super) fn settings(&self) -> Settings {
        let mut settings = Settings::default();
        if let Some(concurrency) = self.concurrency {
            settings.slots = usize::from(concurrency);
        }
        settings.memory_bytes = self.memory.unwrap_or(settings.memory_bytes);
        settings.http.ca_files = self.ca_file.iter().cloned().collect();
        settings.http.proxies = ProxySettings::of_environment();
        settings.parked_max = usize::from(self.parked);
        settings.park = Duration::from_millis(self.park);
        settings.grace = Duration::from_millis(self.grace);
        settings.restarts_max = self.restarts;
        settings
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Serve {
        #[command(flatten)]
        host: HostArgs,
    }

    fn settings(flags: &[&str]) -> Settings {
        let flags = ["serve"].iter().chain(flags);
        Serve::parse_from(flags).host.settings()
    }

    #[test]
    fn one_grace_holds_for_a_cancelled_task_and_for_the_end_of_the_host() {
        assert_eq!(settings(&["--grace", "2s"]).grace, Duration::from_secs(2));
    }

    #[test]
    fn a_host_without_flags_has_the_defaults_of_the_executor() {
        let mut expected = Settings::default();
        expected.http.proxies = ProxySettings::of_environment();
        assert_eq!(settings(&[]), expected);
    }
}
