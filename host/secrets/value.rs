//! The plain-text value of a secret.

use std::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

/// Largest value, in bytes: a private key or a certificate chain has some thousand. Anything larger is a file rather
/// than a secret.
pub const VALUE_BYTES_MAX: usize = 64 << 10;

/// A value. It has no `Display`, shows nothing to `Debug`, and its bytes are cleared when the last copy is dropped.
#[derive(Clone)]
pub struct SecretValue(Arc<Zeroizing<String>>);

impl SecretValue {
    /// Takes ownership of the text.
    pub fn new(text: Zeroizing<String>) -> SecretValue {
        SecretValue(Arc::new(text))
    }

    /// The plain text: for sending it, or for encrypting it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// From a file or an input: without one trailing line feed, since editors and `echo` add one. The error says what
    /// is wrong, without any of the content.
    pub fn from_text(mut bytes: Zeroizing<Vec<u8>>) -> Result<SecretValue, &'static str> {
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
            if bytes.last() == Some(&b'\r') {
                bytes.pop();
            }
        }
        if bytes.is_empty() {
            return Err("is empty");
        }
        if bytes.len() > VALUE_BYTES_MAX {
            return Err("is larger than 64 KiB");
        }
        match std::str::from_utf8(&bytes) {
            Ok(text) if text.contains('\0') => Err("has a NUL byte"),
            Ok(text) => Ok(SecretValue::new(Zeroizing::new(text.to_owned()))),
            Err(_) => Err("is not UTF-8"),
        }
    }

    /// Whether it is allowed in a header: no line breaks and no other control characters.
    pub fn fits_header(&self) -> bool {
        let control = |byte: u8| (byte < 0x20 && byte != b'\t') || byte == 0x7f;
        !self.expose().bytes().any(control)
    }
}

/// Without its text, so that no message contains it by mistake.
impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretValue(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_loses_one_line_feed_at_its_end_and_nothing_else() {
        let check = |bytes: &[u8]| match SecretValue::from_text(Zeroizing::new(bytes.to_vec())) {
            Ok(value) => value.expose().to_owned(),
            Err(why) => format!("it {why}"),
        };
        assert_eq!(check(b"a\n"), "a");
        assert_eq!(check(b"a\r\n"), "a");
        assert_eq!(check(b" a\n\n"), " a\n");
        assert_eq!(check("é".as_bytes()), "é");
        for empty in [&b""[..], b"\n", b"\r\n"] {
            assert_eq!(check(empty), "it is empty");
        }
        assert_eq!(check(b"a\0b"), "it has a NUL byte");
        assert_eq!(check(b"\xff"), "it is not UTF-8");
        let long = vec![b'a'; VALUE_BYTES_MAX + 1];
        assert_eq!(check(&long), "it is larger than 64 KiB");
        assert_eq!(check(&long[1..]).len(), VALUE_BYTES_MAX);
    }

    #[test]
    fn a_value_shows_itself_to_nobody() {
        let value = SecretValue::from_text(Zeroizing::new(b"hush".to_vec())).unwrap();
        assert_eq!(
            format!("{value:?} {:?}", Some(&value)),
            "SecretValue(..) Some(SecretValue(..))"
        );
    }

    #[test]
    fn a_value_with_a_line_break_does_not_fit_a_header() {
        let fits = |text: &str| SecretValue::new(Zeroizing::new(text.to_owned())).fits_header();
        assert!(fits("Bearer x\ty é"));
        for bad in ["a\nb", "a\rb", "a\u{7f}", "\u{1}"] {
            assert!(!fits(bad), "{bad:?}");
        }
    }
}
