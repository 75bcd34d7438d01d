//! A terminal that a program may print to, and what stands on it then.

use std::fs::File;
use std::io::{Read, Write};
use std::process::Stdio;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// Wide enough that no line is cut or wrapped.
const COLUMNS: u16 = 200;

/// The side of a pseudo terminal that a person sits at.
pub struct Terminal {
    person: File,
    /// All that was ever printed.
    pub printed: String,
}

impl Terminal {
    /// A terminal of some rows, and its other side for the stdout of a program.
    pub fn new(rows: u16) -> (Terminal, Stdio) {
        let person = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&person).unwrap();
        unlockpt(&person).unwrap();
        let program = program_side(&person);
        let size = Winsize {
            ws_row: rows,
            ws_col: COLUMNS,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&program, size).unwrap();
        let terminal = Terminal {
            person: person.into(),
            printed: String::new(),
        };
        (terminal, program.into())
    }

    /// Another handle to its other side, such as for the stdin of a program.
    pub fn side(&self) -> File {
        program_side(&self.person)
    }

    /// Read until this stands on the screen; the screen then.
    pub fn until(&mut self, words: &str) -> Vec<String> {
        loop {
            let screen = self.screen();
            if screen.iter().any(|line| line.contains(words)) {
                return screen;
            }
            assert!(self.read(), "it ended before it said {words}: {screen:#?}");
        }
    }

    /// Press some keys.
    pub fn press(&mut self, keys: &str) {
        self.person.write_all(keys.as_bytes()).unwrap();
    }

    /// Read until the program has ended; the screen then.
    pub fn at_the_end(&mut self) -> Vec<String> {
        while self.read() {}
        self.screen()
    }

    /// Read a little; whether there was any.
    fn read(&mut self) -> bool {
        let mut some = [0; 4_096];
        // No program has the other side any more: that is an error here, and no end.
        let count = self.person.read(&mut some).unwrap_or(0);
        self.printed
            .push_str(std::str::from_utf8(&some[..count]).unwrap());
        count > 0
    }

    /// What stands there: as much as this program prints of a terminal's language.
    fn screen(&self) -> Vec<String> {
        let mut lines = vec![Vec::new()];
        let (mut row, mut column) = (0usize, 0usize);
        let mut text = self.printed.chars();
        while let Some(next) = text.next() {
            match next {
                '\r' => column = 0,
                '\n' => {
                    row += 1;
                    lines.resize(lines.len().max(row + 1), Vec::new());
                }
                '\x1b' => {
                    let sequence: String = text.by_ref().take_while(|next| *next != '[').collect();
                    assert_eq!(sequence, "");
                    let mut number = String::new();
                    let command = loop {
                        match text.next() {
                            Some(next) if next.is_ascii_digit() || next == '?' => number.push(next),
                            Some(next) => break next,
                            // The rest of it is still on its way.
                            None => break ' ',
                        }
                    };
                    match command {
                        'A' => row -= number.parse::<usize>().unwrap(),
                        'K' => lines[row].truncate(column),
                        'J' => {
                            lines[row].truncate(column);
                            lines.truncate(row + 1);
                        }
                        'h' | 'l' | ' ' => {}
                        other => panic!("a sequence that no terminal was asked for: {other}"),
                    }
                }
                next => {
                    let line = &mut lines[row];
                    line.resize(line.len().max(column + 1), ' ');
                    line[column] = next;
                    column += 1;
                }
            }
        }
        lines
            .iter()
            .map(|line| line.iter().collect::<String>().trim_end().to_owned())
            .collect()
    }
}

/// The program's side of a terminal.
fn program_side(person: impl std::os::fd::AsFd) -> File {
    let name = ptsname(person, Vec::new()).unwrap();
    let mut options = File::options();
    let options = options.read(true).write(true);
    options.open(name.to_str().unwrap()).unwrap()
}
