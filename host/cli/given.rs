//! JSON that a command is given: as an argument, in a file or by standard input.

use std::io::Read;

use anyhow::Context;

use super::Refused;
use super::view::cut;
use crate::escape::without_mark;
use crate::limits::PAYLOAD_BYTES_MAX;
use crate::task::check_payload;

/// The text that an argument stands for: itself, what is in `@FILE`, or with `-` standard input.
pub fn text(given: &str) -> anyhow::Result<String> {
    if let Some(path) = given.strip_prefix('@') {
        let text = std::fs::read_to_string(path);
        return Ok(unmarked(
            text.with_context(|| format!("{path} cannot be read"))?,
        ));
    }
    if given != "-" {
        return Ok(given.to_owned());
    }
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .context("standard input cannot be read")?;
    Ok(unmarked(text))
}

fn unmarked(text: String) -> String {
    match without_mark(&text) {
        same if same.len() == text.len() => text,
        rest => rest.to_owned(),
    }
}

/// One JSON document within the bounds. `place` says where a wrong one stands, `example` how the
/// command is written.
pub fn checked(text: &str, place: &str, example: &str) -> anyhow::Result<String> {
    let text = text.trim();
    match check_payload(text) {
        Ok(()) => Ok(text.to_owned()),
        Err(why) if text.len() > PAYLOAD_BYTES_MAX => Err(anyhow::Error::new(Refused::new(
            format!("{why}{place}"),
            "put the data into a file of a granted directory, and its name into the payload",
        ))),
        Err(why) => {
            let found = cut(text, 60);
            let hint = format!("quote the JSON for the shell: {example} (found {found})");
            Err(Refused::usage(format!("{why}{place}"), hint).into())
        }
    }
}
