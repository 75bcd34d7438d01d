//! Text from guests, files and people, made safe to show.
//!
//! A terminal obeys control characters: text could change its title, clear the screen, or look like a line of
//! Fishway. Bidirectional overrides and invisible characters make one text look like another. This module has
//! the one list of such characters and their visible form. Every door and the log use it when they show text.
//! Stored data and inputs of handlers do not pass through here.

use std::borrow::Cow;
use std::fmt::{self, Display, Write};

/// Whether a character does something other than being seen. Tab and line feed count: who shows several lines
/// lets them pass by itself.
pub fn is_hidden(one: char) -> bool {
    one.is_control() || turns_or_hides(one)
}

/// Whether a character reorders the text around it, separates lines, or is invisible, without being a control
/// character. The joiners that scripts and emoji need, and the plain direction marks, are not among them.
pub fn turns_or_hides(one: char) -> bool {
    matches!(one,
        // Embeddings, overrides and isolates of the bidirectional algorithm.
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        // Separators of lines and paragraphs.
        | '\u{2028}' | '\u{2029}'
        // Invisible: zero-width space, word joiner and invisible operators, deprecated controls, byte order mark.
        | '\u{200b}' | '\u{2060}'..='\u{2065}' | '\u{206a}'..='\u{206f}' | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}'
        // Code points that are no characters; the terminal's styles are written with them.
        | '\u{fdd0}'..='\u{fdef}' | '\u{fffe}' | '\u{ffff}'
        // Tags: a second, invisible ASCII.
        | '\u{e0000}'..='\u{e007f}')
}

/// A text without the byte order mark that editors of Windows put before it.
pub fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// A text in one line: everything hidden is spelled out, as `\n`, `\x1b` or `\u{202e}`.
#[derive(Debug, Clone, Copy)]
pub struct Escaped<'a>(pub &'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|one| write_escaped(f, one))
    }
}

/// The same for several lines: line feeds and tabs stay.
pub fn lines(text: &str) -> Cow<'_, str> {
    let hidden = |one: char| is_hidden(one) && one != '\n' && one != '\t';
    replaced(text, hidden, |out, one| {
        let _ = write_escaped(out, one);
    })
}

/// JSON text that says the same, in which everything hidden is spelled `\u202e`. Of control characters JSON
/// has only white space outside of strings: line feeds and tabs stay, a carriage return becomes a space.
pub fn json(text: &str) -> Cow<'_, str> {
    let hidden = |one: char| is_hidden(one) && !matches!(one, '\n' | '\t');
    replaced(text, hidden, |out, one| {
        if one == '\r' {
            return out.push(' ');
        }
        let mut units = [0; 2];
        for unit in one.encode_utf16(&mut units) {
            let _ = write!(out, "\\u{unit:04x}");
        }
    })
}

/// Write one character, spelled out where it is hidden.
pub fn write_escaped(out: &mut impl Write, one: char) -> fmt::Result {
    match one {
        '\n' => out.write_str("\\n"),
        '\r' => out.write_str("\\r"),
        '\t' => out.write_str("\\t"),
        _ if !is_hidden(one) => out.write_char(one),
        _ if u32::from(one) < 0x100 => write!(out, "\\x{:02x}", u32::from(one)),
        _ => write!(out, "\\u{{{:x}}}", u32::from(one)),
    }
}

fn replaced(
    text: &str,
    hidden: impl Fn(char) -> bool,
    spell: impl Fn(&mut String, char),
) -> Cow<'_, str> {
    if !text.chars().any(&hidden) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for one in text.chars() {
        if hidden(one) {
            spell(&mut out, one);
        } else {
            out.push(one);
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hidden_characters_are_spelled_out_and_all_others_stay() {
        let check = |text: &str, one_line: &str, several: &str| {
            assert_eq!(Escaped(text).to_string(), one_line);
            assert_eq!(lines(text), several);
        };
        check("plain: é 字 😀", "plain: é 字 😀", "plain: é 字 😀");
        check(
            "\x1b]0;T\x07\x1b[2J",
            "\\x1b]0;T\\x07\\x1b[2J",
            "\\x1b]0;T\\x07\\x1b[2J",
        );
        check("a\r\nb\tc", "a\\r\\nb\\tc", "a\\r\nb\tc");
        check("\u{9b}31m\u{7f}", "\\x9b31m\\x7f", "\\x9b31m\\x7f");
        check(
            "\u{202e}x\u{2066}",
            "\\u{202e}x\\u{2066}",
            "\\u{202e}x\\u{2066}",
        );
        check(
            "\u{e0041}\u{feff}",
            "\\u{e0041}\\u{feff}",
            "\\u{e0041}\\u{feff}",
        );
        // What scripts and emoji are made of.
        check(
            "👩\u{200d}💻 \u{200f}",
            "👩\u{200d}💻 \u{200f}",
            "👩\u{200d}💻 \u{200f}",
        );
    }

    proptest! {
        #[test]
        fn escaped_json_says_the_same_and_hides_nothing(text: String, odd in "[\u{0}-\u{9f}\u{2028}-\u{206f}\u{e0000}-\u{e007f}\u{fdd0}-\u{ffff}]{0,20}") {
            let value = serde_json::json!([format!("{text}{odd}"), { odd: 1 }]);
            let shown = json(&value.to_string()).into_owned();
            prop_assert!(!shown.chars().any(is_hidden), "{shown:?}");
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
        }

        #[test]
        fn an_escaped_text_hides_nothing(text in "\\PC{0,10}[\u{0}-\u{9f}\u{2028}-\u{206f}]{0,20}") {
            prop_assert!(!Escaped(&text).to_string().chars().any(is_hidden));
            prop_assert!(!lines(&text).chars().any(|one| is_hidden(one) && one != '\n' && one != '\t'));
        }
    }
}
