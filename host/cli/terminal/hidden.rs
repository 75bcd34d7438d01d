//! A prompt without echo.

use std::io::{self, Read};

use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
};
use zeroize::Zeroizing;

use super::{ask as say, remark};

/// The original terminal mode, which is restored on drop.
struct HiddenInput(Termios);

impl HiddenInput {
    /// Turn off echo and deliver each key at once, Ctrl-C included, so that the terminal is restored before the program
    /// ends.
    fn hide() -> io::Result<HiddenInput> {
        let before = tcgetattr(io::stdin())?;
        let mut hidden = before.clone();
        hidden.local_modes -= LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG;
        hidden.special_codes[SpecialCodeIndex::VMIN] = 1;
        hidden.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(io::stdin(), OptionalActions::Flush, &hidden)?;
        Ok(HiddenInput(before))
    }
}

impl Drop for HiddenInput {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

/// Prompt on standard input, which is a terminal; reads at most this many bytes. `None` after Ctrl-C.
pub fn ask(question: &str, bytes_max: usize) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    let hidden = HiddenInput::hide()?;
    say(question)?;
    let line = line(&mut io::stdin().lock(), bytes_max);
    drop(hidden);
    // The typed line feed was not echoed either.
    remark("");
    line
}

/// The typed line. Input beyond the limit is dropped, except for one byte that shows the overflow.
fn line(keys: &mut impl Read, bytes_max: usize) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    const INTERRUPT: u8 = 0x03;
    const END: u8 = 0x04;
    const ERASE: [u8; 2] = [0x08, 0x7f];
    const ERASE_ALL: u8 = 0x15;
    let mut typed = Zeroizing::new(Vec::with_capacity(bytes_max));
    let mut key = [0];
    while keys.read(&mut key)? == 1 {
        match key[0] {
            INTERRUPT => return Ok(None),
            END | b'\n' | b'\r' => break,
            ERASE_ALL => typed.clear(),
            erase if ERASE.contains(&erase) => {
                // A whole character, which may be several bytes.
                while typed.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {}
            }
            byte if typed.len() < bytes_max => typed.push(byte),
            _ => {}
        }
    }
    Ok(Some(typed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_is_mended_as_on_any_line() {
        let check = |mut keys: &[u8]| {
            let typed = line(&mut keys, 8).unwrap();
            typed.map(|typed| String::from_utf8(typed.to_vec()).unwrap())
        };
        assert_eq!(check(b"hush\nmore").as_deref(), Some("hush"));
        assert_eq!(check(b"hush\r").as_deref(), Some("hush"));
        assert_eq!(check(b"hush").as_deref(), Some("hush"));
        assert_eq!(
            check("hé\x7fusi\x08h\n".as_bytes()).as_deref(),
            Some("hush")
        );
        assert_eq!(check(b"\x7f\x7fwrong\x15hush\x04").as_deref(), Some("hush"));
        assert_eq!(check(b"123456789\n").as_deref(), Some("12345678"));
        assert_eq!(check(b"hu\x03sh\n"), None);
    }
}
