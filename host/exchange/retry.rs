//! Whether a request is sent again, and when. Pure: it depends on the grant's policy and the outcome of the request.

use std::time::{Duration, UNIX_EPOCH};

use ::http::{HeaderMap, Method};

use super::failure::FailureCode;
use crate::limits::HttpRetry;

/// The jitter of a delay, so that a thousand tasks that were refused together do not come back together.
const JITTER: f64 = 0.2;

/// Longest `Retry-After` that is honoured, in milliseconds: a day. Above that the handler decides.
pub const RETRY_AFTER_MS_MAX: u64 = 24 * 3_600_000;

/// The outcome of sending a request.
#[derive(Debug, Clone, Copy)]
pub enum Outcome<'a> {
    /// A response with this status.
    Status(u16),
    /// No response.
    Failure(&'a FailureCode),
}

/// Whether a request can safely be sent twice: by its method, or because the server recognizes its key.
pub fn repeatable(method: &Method, headers: &HeaderMap) -> bool {
    method.is_idempotent() || headers.contains_key("idempotency-key")
}

/// The delay before a request is sent again, in milliseconds; none if it is not.
///
/// `tries` is how often it has been sent; `repeatable` is the result of [`repeatable`]; `retry_after` is that header of
/// the response, seconds or a date; `now_ms` is the current time, which a date is compared with; `chance` is a random
/// number from 0 to 1.
pub fn after(
    policy: &HttpRetry,
    tries: u32,
    outcome: &Outcome<'_>,
    repeatable: bool,
    retry_after: Option<&str>,
    now_ms: u64,
    chance: f64,
) -> Option<u64> {
    if tries >= policy.attempts {
        return None;
    }
    let chance = chance.clamp(0.0, 1.0);
    let doublings = tries.saturating_sub(1).min(63);
    let backoff = (policy.backoff_ms.saturating_mul(1 << doublings)).min(policy.backoff_max_ms);
    let jitter = |ms: u64| (ms as f64 * JITTER * chance) as u64;
    let backoff = backoff - jitter(backoff);
    match outcome {
        Outcome::Failure(code) => may_repeat(code, repeatable).then_some(backoff),
        Outcome::Status(status) => {
            if !policy.statuses.contains(status) {
                return None;
            }
            match retry_after.and_then(|text| wait_ms(text, now_ms)) {
                None => Some(backoff),
                Some(wait) if wait > policy.backoff_max_ms.min(RETRY_AFTER_MS_MAX) => None,
                // Never before the server's time, and spread out after it.
                Some(wait) => Some(backoff.max(wait + jitter(policy.backoff_ms))),
            }
        }
    }
}

/// Whether sending again can help, and is safe.
fn may_repeat(code: &FailureCode, repeatable: bool) -> bool {
    match code {
        // The name is unknown, and will be a moment later.
        FailureCode::DnsError {
            rcode: Some(rcode), ..
        } if rcode == "NXDOMAIN" => false,
        // No part of the request has reached a server.
        FailureCode::DnsTimeout
        | FailureCode::DnsError { .. }
        | FailureCode::DestinationUnavailable
        | FailureCode::DestinationIpUnroutable
        | FailureCode::ConnectionRefused
        | FailureCode::ConnectionTimeout
        | FailureCode::ConnectionLimitReached => true,
        // The server may have acted on the request.
        FailureCode::ConnectionTerminated
        | FailureCode::ConnectionReadTimeout
        | FailureCode::ConnectionWriteTimeout
        | FailureCode::HttpResponseIncomplete
        | FailureCode::HttpResponseTimeout => repeatable,
        // The same request would fail again.
        _ => false,
    }
}

/// The delay that a `Retry-After` asks for, in milliseconds; none if it is neither seconds nor a date.
fn wait_ms(text: &str, now_ms: u64) -> Option<u64> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|one| one.is_ascii_digit()) {
        // A number that overflows is longer than any wait.
        let seconds = text.parse::<u64>().unwrap_or(u64::MAX);
        return Some(seconds.saturating_mul(1_000));
    }
    let at = httpdate::parse_http_date(text).ok()?;
    let at = at.duration_since(UNIX_EPOCH).ok()?;
    let wait = at.saturating_sub(Duration::from_millis(now_ms));
    u64::try_from(wait.as_millis()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 784_111_777_000; // Sun, 06 Nov 1994 08:49:37 GMT

    fn policy() -> HttpRetry {
        HttpRetry {
            attempts: 4,
            ..HttpRetry::default()
        }
    }

    fn answered(status: u16, retry_after: Option<&str>) -> Option<u64> {
        let status = Outcome::Status(status);
        after(&policy(), 1, &status, false, retry_after, NOW_MS, 0.0)
    }

    #[test]
    fn delays_double_up_to_the_longest_and_end_with_the_attempts() {
        let policy = HttpRetry {
            attempts: 5,
            backoff_max_ms: 3_000,
            ..HttpRetry::default()
        };
        let busy = Outcome::Status(503);
        let delay = |tries, chance| after(&policy, tries, &busy, false, None, NOW_MS, chance);
        let delays: Vec<_> = (1..=5).map(|tries| delay(tries, 0.0)).collect();
        assert_eq!(
            delays,
            [Some(1_000), Some(2_000), Some(3_000), Some(3_000), None]
        );
        assert_eq!((delay(1, 1.0), delay(2, 7.0)), (Some(800), Some(1_600)));
        let never = HttpRetry::default();
        assert_eq!(after(&never, 1, &busy, true, None, NOW_MS, 0.0), None);
    }

    #[test]
    fn a_server_s_time_counts_unless_it_is_later_than_the_grant_waits() {
        assert_eq!(answered(200, None), None);
        assert_eq!(answered(500, None), None);
        assert_eq!(answered(429, None), Some(1_000));
        assert_eq!(answered(429, Some("30")), Some(30_000));
        assert_eq!(answered(503, Some(" 0 ")), Some(1_000));
        assert_eq!(answered(429, Some("300")), Some(300_000));
        assert_eq!(answered(429, Some("301")), None);
        assert_eq!(answered(429, Some("99999999999999999999999")), None);
        assert_eq!(
            answered(429, Some("Sun, 06 Nov 1994 08:50:37 GMT")),
            Some(60_000)
        );
        assert_eq!(
            answered(429, Some("Sunday, 06-Nov-94 08:49:47 GMT")),
            Some(10_000)
        );
        assert_eq!(
            answered(429, Some("Sun, 06 Nov 1994 08:00:00 GMT")),
            Some(1_000)
        );
        assert_eq!(answered(429, Some("Mon, 07 Nov 1994 08:50:37 GMT")), None);
        for nonsense in ["", "soon", "-1", "1.5", "Sun, 99 Nov 1994"] {
            assert_eq!(answered(429, Some(nonsense)), Some(1_000), "{nonsense}");
        }
        // A grant with a maximum of years still waits for at most a day.
        let patient = HttpRetry {
            backoff_max_ms: u64::MAX,
            ..policy()
        };
        let day = |retry_after| {
            let status = Outcome::Status(429);
            after(&patient, 1, &status, false, Some(retry_after), NOW_MS, 1.0)
        };
        assert_eq!((day("86400"), day("86401")), (Some(86_400_200), None));
    }

    #[test]
    fn what_may_have_reached_a_server_is_repeated_only_where_that_does_no_harm() {
        let check = |code: FailureCode, blind: bool, repeatable: bool| {
            let failed = Outcome::Failure(&code);
            let found = [false, true].map(|repeatable| {
                after(&policy(), 1, &failed, repeatable, None, NOW_MS, 0.0).is_some()
            });
            assert_eq!(found, [blind, repeatable], "{code}");
        };
        let dns = |rcode: Option<&str>| FailureCode::DnsError {
            rcode: rcode.map(ToOwned::to_owned),
            info_code: None,
        };
        check(FailureCode::ConnectionRefused, true, true);
        check(FailureCode::ConnectionTimeout, true, true);
        check(FailureCode::ConnectionLimitReached, true, true);
        check(FailureCode::DnsTimeout, true, true);
        check(dns(None), true, true);
        check(dns(Some("NXDOMAIN")), false, false);
        check(FailureCode::ConnectionTerminated, false, true);
        check(FailureCode::HttpResponseTimeout, false, true);
        check(FailureCode::HttpResponseIncomplete, false, true);
        check(FailureCode::TlsCertificateError, false, false);
        check(FailureCode::DestinationIpProhibited, false, false);
        check(FailureCode::HttpResponseBodySize(None), false, false);
        check(FailureCode::HttpProtocolError, false, false);
    }

    #[test]
    fn a_request_is_repeatable_by_its_method_or_its_key() {
        let mut headers = HeaderMap::new();
        let found = [
            "GET", "HEAD", "PUT", "DELETE", "OPTIONS", "POST", "PATCH", "OTHER",
        ]
        .map(|method| repeatable(&method.parse().unwrap(), &headers));
        assert_eq!(found, [true, true, true, true, true, false, false, false]);
        headers.insert("idempotency-key", "1".parse().unwrap());
        assert!(repeatable(&Method::POST, &headers));
    }
}
