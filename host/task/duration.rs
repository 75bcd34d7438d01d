//! Durations as people write them.

/// A duration such as `250ms`, `30s`, `5m` or `1h 30m`, in milliseconds. A day has 24 hours; months
/// have no length.
pub fn duration_ms(text: &str) -> Option<u64> {
    let span: jiff::Span = text.trim().parse().ok()?;
    let days = jiff::SpanRelativeTo::days_are_24_hours();
    u64::try_from(span.to_duration(days).ok()?.as_millis()).ok()
}
