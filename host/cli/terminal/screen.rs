//! Lines that are drawn over the lines before, for `top` and `trace --follow`.

use std::fmt::Write as _;
use std::io::{self, Write as _};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use tokio::sync::oneshot;

use super::{Breaks, STDOUT_COLOURS, shown};

/// Rows of a terminal that does not say how many it has.
const ROWS: usize = 24;

/// Lines of a terminal that are drawn over those before.
#[derive(Default)]
pub struct Screen {
    drawn: usize,
}

impl Screen {
    /// Draw as many lines as there is room for. The cursor ends below them, so that the terminal is
    /// in order whenever the program ends.
    pub fn draw(
        &mut self,
        lines: impl Iterator<Item = anyhow::Result<String>>,
    ) -> anyhow::Result<()> {
        let stdout = io::stdout();
        let rows = rustix::termios::tcgetwinsize(&stdout).map_or(0, |size| size.ws_row.into());
        let room = if rows > 0 { rows } else { ROWS } - 1;
        // One more than fits tells whether there are more.
        let mut rows = Vec::new();
        for line in lines.take(room + 1) {
            let line = shown(&line?, *STDOUT_COLOURS, Breaks::Indented);
            rows.extend(line.lines().map(str::to_owned));
            if line.is_empty() {
                rows.push(line);
            }
        }
        if rows.len() > room {
            rows.truncate(room.saturating_sub(1));
            rows.push("...".to_owned());
        }
        let text = self.over(&rows);
        let mut stdout = stdout.lock();
        stdout.write_all(text.as_bytes())?;
        stdout.flush()?;
        Ok(())
    }

    /// The text that puts `lines` in the place of those drawn before.
    fn over(&mut self, lines: &[String]) -> String {
        let mut text = String::new();
        if self.drawn > 0 {
            let _ = write!(text, "\x1b[{}A", self.drawn);
        }
        // A line that is too long is cut by the terminal, not wrapped: lines are counted.
        text.push_str("\x1b[?7l");
        for line in lines {
            let _ = write!(text, "\r{line}\x1b[K\n");
        }
        text.push_str("\x1b[?7h\x1b[J");
        self.drawn = lines.len();
        text
    }
}

/// Tells when nobody reads any more what is printed, though there may be nothing to print for long.
pub fn reader_gone() -> oneshot::Receiver<()> {
    let (tell, gone) = oneshot::channel();
    std::thread::spawn(move || {
        let stdout = io::stdout();
        // Nothing is asked for, so only the loss of the reader ends it.
        let mut watched = [PollFd::new(&stdout, PollFlags::empty())];
        while let Err(Errno::INTR) = poll(&mut watched, None) {}
        if !watched[0].revents().is_empty() {
            let _ = tell.send(());
        }
    });
    gone
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_screen_is_drawn_over_the_one_before_and_left_in_order() {
        let mut screen = Screen::default();
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        let mut check = |text: &str, expected: &str| {
            let drawn = screen.over(&lines(text)).replace('\x1b', "^");
            assert_eq!(drawn, expected);
        };
        check("a\nb", "^[?7l\ra^[K\n\rb^[K\n^[?7h^[J");
        check("a", "^[2A^[?7l\ra^[K\n^[?7h^[J");
        check("", "^[1A^[?7l^[?7h^[J");
    }
}
