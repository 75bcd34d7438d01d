//! How things look on a terminal: durations, ages, statuses, cut texts.

use anstyle::AnsiColor;

use super::terminal::Ink;
use crate::task::Status;

/// A duration as people say it: `45 ms`, `2.5 s`, `2m 30s`, `3h 5m`, `2d 4h`.
pub fn duration(ms: u64) -> String {
    let seconds = ms / 1_000;
    match ms {
        0..1_000 => format!("{ms}ms"),
        1_000..60_000 => format!("{}.{}s", seconds, ms % 1_000 / 100),
        60_000..3_600_000 => format!("{}m {}s", seconds / 60, seconds % 60),
        3_600_000..86_400_000 => format!("{}h {}m", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// The colour of a status.
pub fn style(status: Status) -> Ink {
    let colour = match status {
        Status::Pending => AnsiColor::White,
        Status::Running => AnsiColor::Cyan,
        Status::Waiting => AnsiColor::Blue,
        Status::Completed => AnsiColor::Green,
        Status::Failed => AnsiColor::Red,
        Status::Cancelled | Status::Expired | Status::Skipped => AnsiColor::Yellow,
    };
    Ink::of(colour)
}

/// The first `most` characters of one line of text; the cut is shown.
pub fn cut(text: &str, most: usize) -> String {
    let line = text.split(['\n', '\r']).next().unwrap_or_default();
    if line.chars().count() <= most && line.len() == text.trim_end().len() {
        return line.to_owned();
    }
    let mut short: String = line.chars().take(most.saturating_sub(1)).collect();
    short.push('…');
    short
}

/// Bytes as people say them.
pub fn bytes(bytes: u64) -> String {
    match bytes {
        0..1_024 => format!("{bytes} B"),
        1_024..1_048_576 => format!("{} KB", bytes / 1_024),
        1_048_576..1_073_741_824 => format!("{:.1} MB", bytes as f64 / 1_048_576.0),
        _ => format!("{:.1} GB", bytes as f64 / 1_073_741_824.0),
    }
}

/// So many of something: `1 file`, `2 files`.
pub fn count(many: u64, one: &str, several: &str) -> String {
    match many {
        1 => format!("1 {one}"),
        many => format!("{many} {several}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_as_people_say_them() {
        let check = |size: u64, expected: &str| assert_eq!(bytes(size), expected);
        check(1_023, "1023 B");
        check(1_024, "1 KB");
        check(1_048_575, "1023 KB");
        check(1_048_576, "1.0 MB");
        check(12_638_277_632, "11.8 GB");
    }

    #[test]
    fn durations_read_as_people_say_them() {
        let cases = [
            (0, "0ms"),
            (999, "999ms"),
            (1_250, "1.2s"),
            (150_000, "2m 30s"),
            (11_100_000, "3h 5m"),
            (187_200_000, "2d 4h"),
        ];
        for (ms, expected) in cases {
            assert_eq!(duration(ms), expected);
        }
    }

    #[test]
    fn long_text_is_cut_where_it_is_seen() {
        assert_eq!(cut("short", 10), "short");
        assert_eq!(cut("a long text", 6), "a lon…");
        assert_eq!(cut("two\nlines", 10), "two…");
    }
}
