//! What may be a payload: the bounds of one, and that whoever reads it can.
//!
//! Called by whatever takes an input or a result. Keeps nothing of what it reads.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::limits;

/// Whether `text` may be a payload: one JSON document within the bounds. Errors are sentences.
pub fn check_payload(text: &str) -> Result<(), String> {
    if text.len() > limits::PAYLOAD_BYTES_MAX {
        return Err(format!(
            "the payload has {} bytes, more than the {} that a task may carry",
            text.len(),
            limits::PAYLOAD_BYTES_MAX
        ));
    }
    if depth(text) > limits::JSON_DEPTH_MAX {
        return Err(format!(
            "the payload is nested deeper than {} levels",
            limits::JSON_DEPTH_MAX
        ));
    }
    match serde_json::from_str::<Readable>(text) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("the payload is not JSON: {error}")),
    }
}

/// Whether two JSON texts are one document: the same but for white space between its parts. Numbers are compared by
/// their digits and members by their order, as handlers see them.
pub fn same_document(one: &str, other: &str) -> bool {
    one == other || significant(one).eq(significant(other))
}

/// The bytes of a JSON text that are not white space between its parts.
fn significant(text: &str) -> impl Iterator<Item = u8> {
    let (mut quoted, mut escaped) = (false, false);
    text.bytes().filter(move |byte| {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ => {}
        }
        quoted || !matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
    })
}

/// Brackets open at once outside of strings: the parsers of the guests recurse once for each.
fn depth(text: &str) -> usize {
    let (mut open, mut deepest) = (0usize, 0);
    let (mut quoted, mut escaped) = (false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'[' | b'{' if !quoted => {
                open += 1;
                deepest = deepest.max(open);
            }
            b']' | b'}' if !quoted => open = open.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// JSON that is read to its end and forgotten. Text that is skipped is not looked at: half a pair of
/// surrogates and a number beyond all doubles are JSON by its grammar, and nobody can read them.
struct Readable;

impl<'de> Deserialize<'de> for Readable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Readable, D::Error> {
        deserializer.deserialize_any(Readable)
    }
}

impl<'de> Visitor<'de> for Readable {
    type Value = Readable;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Readable, E> {
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Readable, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Readable, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Readable, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Readable, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Readable, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Readable, A::Error> {
        while items.next_element::<Readable>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Readable, A::Error> {
        while members.next_entry::<Readable, Readable>()?.is_some() {}
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_the_same_but_for_white_space_between_their_parts() {
        assert!(same_document("{\"a\": [1, 2]}", " {\"a\":[1,2]}\n"));
        assert!(same_document("\"a \\\" b\"", "\"a \\\" b\" "));
        assert!(!same_document("\"a b\"", "\"ab\""));
        assert!(!same_document("\"\\\" a\"", "\"\\\"a\""));
        assert!(!same_document("1.0", "1"));
        assert!(!same_document("{\"a\":1,\"b\":2}", "{\"b\":2,\"a\":1}"));
    }

    #[test]
    fn a_payload_is_what_whoever_reads_it_can_read() {
        let fine = [
            "null",
            " [1, -2.5e3, true, \"a\\ud83d\\ude00\"] ",
            "{\"a\": {\"a\": 18446744073709551616, \"\": []}}",
        ];
        for text in fine {
            assert_eq!(check_payload(text), Ok(()), "{text}");
        }
        let check = |text: &str, words: &str| {
            let why = check_payload(text).unwrap_err();
            assert!(why.starts_with("the payload is not JSON: "), "{why}");
            assert!(why.contains(words), "{why}");
        };
        check("", "EOF");
        check("[1] 2", "trailing");
        check("{\"a\": \"\\ud800\"}", "hex escape");
        check("{\"\\udc00\": 1}", "surrogate");
        check("[1e999]", "out of range");
    }
}
