//! JSON that a command is given: as an argument, in a file or by standard input.

use std::io::Read;

use anyhow::Context;

use super::Refused;
use super::view::cut;
use crate::limits::PAYLOAD_BYTES_MAX;
use crate::task::check_payload;

/// The text that an argument stands for: itself, what is in `@FILE`, or with `-` standard input.
pub fn text(given: &str) -> anyhow::Result<String> {
    if let Some(path) = given.strip_prefix('@') {
        return std::fs::read_to_string(path).with_context(|| format!("{path} cannot be read"));
    }
    if given != "-" {
        return Ok(given.to_owned());
    }
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .context("standard input cannot be read")?;
    Ok(text)
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
