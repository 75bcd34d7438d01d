//! Free text that is written to a database.
//!
//! Payloads, keys and names contain no NUL: JSON writes it as an escape, and names have no control
//! characters. Other text is not checked, such as the lines of a log, and PostgreSQL cannot store a NUL in a
//! text. So the kernel replaces it for both engines, and the same task has the same text in both databases.

use std::borrow::Cow;

use super::LogLine;

/// The picture of the character NUL, which stands in its place.
const PICTURE: &str = "\u{2400}";

/// A text as every engine can keep it: with the picture of NUL (U+2400) in the place of NUL.
pub fn storable(text: &str) -> Cow<'_, str> {
    if text.contains('\0') {
        Cow::Owned(text.replace('\0', PICTURE))
    } else {
        Cow::Borrowed(text)
    }
}

/// The same for a line of a log.
pub fn storable_line(line: &LogLine) -> Cow<'_, LogLine> {
    match storable(&line.message) {
        Cow::Borrowed(_) => Cow::Borrowed(line),
        Cow::Owned(message) => Cow::Owned(LogLine {
            message,
            ..line.clone()
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nul_becomes_its_picture_and_nothing_else_changes() {
        assert_eq!(storable("a\0b"), "a\u{2400}b");
        assert!(matches!(
            storable("a\tb\u{1b}"),
            Cow::Borrowed("a\tb\u{1b}")
        ));
    }
}
