//! The units of a job as people hand them over: JSON lines, or CSV with a header. Read twice: first to
//! check all of it, then to keep it, so that a large file is never in memory.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Cursor, Read};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use anyhow::Context;
use clap::ValueEnum;

use crate::cli::Refused;
use crate::job::Unit;
use crate::limits::{JOB_STDIN_BYTES_MAX, PAYLOAD_BYTES_MAX};
use crate::task::check_payload;

/// Wrong lines that are told.
const TOLD_MAX: usize = 10;

/// How the units are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A JSON document on each line
    Jsonl,
    /// A header, then a record for each unit, which becomes an object of strings
    Csv,
}

/// Where units come from.
pub struct Inputs {
    /// For people.
    pub name: String,
    source: Source,
    format: Format,
}

enum Source {
    File(PathBuf),
    Text(Arc<[u8]>),
}

/// What is wrong with a line.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {why}")]
struct Wrong {
    line: u64,
    why: String,
}

/// A unit, or what is wrong with the line at which it begins.
type Read1 = Result<Unit, Wrong>;

impl Inputs {
    /// The file of that name, or with `-` all of standard input. Where no format is named, the name's
    /// ending tells.
    pub fn open(given: &str, format: Option<Format>) -> anyhow::Result<Inputs> {
        if given == "-" {
            let mut text = Vec::new();
            let most = JOB_STDIN_BYTES_MAX as u64 + 1;
            let stdin = std::io::stdin().lock();
            stdin
                .take(most)
                .read_to_end(&mut text)
                .context("standard input cannot be read")?;
            if text.len() > JOB_STDIN_BYTES_MAX {
                let what = "standard input has more than 1 GB";
                let hint = "write it to a file, and name the file: that is never in memory";
                return Err(Refused::usage(what, hint).into());
            }
            return Ok(Inputs {
                name: "standard input".to_owned(),
                source: Source::Text(text.into()),
                format: format.unwrap_or(Format::Jsonl),
            });
        }
        let path = PathBuf::from(given);
        let ending = path.extension().and_then(|ending| ending.to_str());
        let by_name = match ending.map(str::to_ascii_lowercase).as_deref() {
            Some("csv") => Format::Csv,
            _ => Format::Jsonl,
        };
        Ok(Inputs {
            name: given.to_owned(),
            source: Source::File(path),
            format: format.unwrap_or(by_name),
        })
    }

    /// Units that somebody has in memory: a JSON document on each line.
    pub fn of_lines(name: &str, lines: String) -> Inputs {
        Inputs {
            name: name.to_owned(),
            source: Source::Text(lines.into_bytes().into()),
            format: Format::Jsonl,
        }
    }

    /// Check all of it. Answers with the number of units.
    pub fn check(&self) -> anyhow::Result<u64> {
        let (mut many, mut wrong, mut told) = (0, 0_u64, Vec::new());
        for unit in self.read()? {
            match unit {
                Ok(_) => many += 1,
                Err(line) => {
                    wrong += 1;
                    if told.len() < TOLD_MAX {
                        told.push(format!("\n  {line}"));
                    }
                }
            }
        }
        if wrong == 0 {
            return Ok(many);
        }
        let more = match wrong.saturating_sub(TOLD_MAX as u64) {
            0 => String::new(),
            more => format!("\n  and {more} more"),
        };
        let lines = match wrong {
            1 => "1 line is".to_owned(),
            many => format!("{many} lines are"),
        };
        let what = format!(
            "no job was made of {}: {lines} wrong{}{more}",
            self.name,
            told.concat()
        );
        let hint = match self.format {
            Format::Jsonl => {
                "each line is a JSON document; --format csv reads records under a header"
            }
            Format::Csv => "the first line names the columns, and each record has them all",
        };
        Err(Refused::usage(what, hint).into())
    }

    /// The units, in the order of their lines.
    pub fn units(&self) -> anyhow::Result<impl Iterator<Item = anyhow::Result<Unit>>> {
        let name = self.name.clone();
        let changed = move |wrong: Wrong| {
            let what = format!("{name} has changed while it was read: {wrong}");
            Refused::new(what, "nothing was kept of it: run the command again").into()
        };
        Ok(self.read()?.map(move |unit| unit.map_err(&changed)))
    }

    fn read(&self) -> anyhow::Result<Box<dyn Iterator<Item = Read1>>> {
        let reader: Box<dyn Read> = match &self.source {
            Source::Text(text) => Box::new(Cursor::new(text.clone())),
            Source::File(path) => {
                let file = File::open(path).and_then(|file| {
                    // A directory opens, and only the first read says what it is.
                    match file.metadata()?.is_dir() {
                        true => Err(std::io::ErrorKind::IsADirectory.into()),
                        false => Ok(file),
                    }
                });
                Box::new(file.with_context(|| format!("{} cannot be read", self.name))?)
            }
        };
        Ok(match self.format {
            Format::Jsonl => Box::new(Lines::new(reader)),
            Format::Csv => Box::new(Records::new(reader)),
        })
    }
}

/// JSON lines; empty ones are no units.
struct Lines {
    reader: BufReader<Box<dyn Read>>,
    line: u64,
}

impl Lines {
    fn new(reader: Box<dyn Read>) -> Lines {
        Lines {
            reader: BufReader::with_capacity(64 << 10, reader),
            line: 0,
        }
    }

    /// The next line, and whether it is longer than an input may be; then it is cut.
    fn next_line(&mut self) -> std::io::Result<Option<(Vec<u8>, bool)>> {
        let (mut text, mut long, mut any) = (Vec::new(), false, false);
        loop {
            let some = self.reader.fill_buf()?;
            if some.is_empty() {
                return Ok(any.then_some((text, long)));
            }
            any = true;
            let end = some.iter().position(|byte| *byte == b'\n');
            let part = &some[..end.unwrap_or(some.len())];
            // Room for the blanks around it.
            if text.len() + part.len() > PAYLOAD_BYTES_MAX + 1_024 {
                long = true;
            } else {
                text.extend_from_slice(part);
            }
            let taken = part.len() + usize::from(end.is_some());
            self.reader.consume(taken);
            if end.is_some() {
                return Ok(Some((text, long)));
            }
        }
    }

    fn unit(&mut self, text: &[u8], long: bool) -> Option<Read1> {
        let line = self.line;
        let wrong = |why: String| Some(Err(Wrong { line, why }));
        if long {
            return wrong(format!("it is longer than {PAYLOAD_BYTES_MAX} bytes"));
        }
        let Ok(text) = std::str::from_utf8(text) else {
            return wrong("it is not UTF-8".to_owned());
        };
        let text = match line {
            1 => text.trim_start_matches('\u{feff}').trim(),
            _ => text.trim(),
        };
        if text.is_empty() {
            return None;
        }
        match check_payload(text) {
            Ok(()) => Some(Ok(Unit {
                line,
                input: text.into(),
            })),
            Err(why) => wrong(why),
        }
    }
}

impl Iterator for Lines {
    type Item = Read1;

    fn next(&mut self) -> Option<Read1> {
        loop {
            self.line += 1;
            match self.next_line() {
                Ok(None) => return None,
                Ok(Some((text, long))) => {
                    if let Some(unit) = self.unit(&text, long) {
                        return Some(unit);
                    }
                }
                Err(error) => {
                    // Once said, it is over: the next read finds an empty file.
                    let why = format!("it cannot be read: {error}");
                    let line = self.line;
                    *self = Lines::new(Box::new(std::io::empty()));
                    return Some(Err(Wrong { line, why }));
                }
            }
        }
    }
}

/// What the reader of CSV does not say: where lines that are not empty begin (its own numbers are those
/// of the line break before), and how much it may still read for one record: a quote that is never
/// closed makes one record of all that follows.
struct Meter {
    left: usize,
    offset: u64,
    line: u64,
    /// Whether nothing of the line has come yet.
    fresh: bool,
    /// Offsets and numbers of lines that the reader has, and perhaps has not come to.
    begins: VecDeque<(u64, u64)>,
}

impl Meter {
    fn passed(&mut self, bytes: &[u8]) {
        self.left = self.left.saturating_sub(bytes.len());
        for byte in bytes {
            match byte {
                b'\n' => {
                    self.line += 1;
                    self.fresh = true;
                }
                b'\r' => {}
                _ if self.fresh => {
                    self.fresh = false;
                    self.begins.push_back((self.offset, self.line));
                }
                _ => {}
            }
            self.offset += 1;
        }
    }

    /// The line of what begins at an offset, or after the line breaks there.
    fn line_from(&mut self, offset: u64) -> u64 {
        while let Some((begin, line)) = self.begins.front() {
            if *begin >= offset {
                return *line;
            }
            self.begins.pop_front();
        }
        self.line
    }
}

struct Metered {
    reader: Box<dyn Read>,
    meter: Rc<RefCell<Meter>>,
}

impl Read for Metered {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let mut meter = self.meter.borrow_mut();
        if meter.left == 0 {
            return Err(std::io::Error::other(
                "the record does not end: is a quote not closed?",
            ));
        }
        let read = self.reader.read(buffer)?;
        meter.passed(&buffer[..read]);
        Ok(read)
    }
}

/// Records of a CSV file.
struct Records {
    reader: csv::Reader<Metered>,
    meter: Rc<RefCell<Meter>>,
    /// The line of the last record: no two have the same.
    line: u64,
    /// The names of the columns, as JSON strings; none before the header is read.
    names: Option<Vec<String>>,
    over: bool,
}

impl Records {
    fn new(reader: Box<dyn Read>) -> Records {
        let meter = Rc::new(RefCell::new(Meter {
            left: 0,
            offset: 0,
            line: 1,
            fresh: true,
            begins: VecDeque::new(),
        }));
        let metered = Metered {
            reader,
            meter: meter.clone(),
        };
        Records {
            reader: csv::ReaderBuilder::new()
                .flexible(true)
                .from_reader(metered),
            meter,
            line: 0,
            names: None,
            over: false,
        }
    }

    fn header(&mut self) -> Result<Vec<String>, Wrong> {
        let wrong = |why: String| Wrong { line: 1, why };
        let header = match self.reader.headers() {
            Ok(header) => header,
            Err(error) => return Err(wrong(said(&error))),
        };
        let mut names: Vec<&str> = header.iter().collect();
        let quoted = names.iter().map(|name| json_string(name)).collect();
        if let Some(place) = names.iter().position(|name| name.is_empty()) {
            return Err(wrong(format!("column {} has no name", place + 1)));
        }
        names.sort_unstable();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(wrong(format!("two columns are named \"{}\"", pair[0]))),
            None => Ok(quoted),
        }
    }

    fn record(&mut self) -> Option<Read1> {
        // More than the largest record with its quotes, and a buffer.
        self.meter.borrow_mut().left = 2 * PAYLOAD_BYTES_MAX + (64 << 10);
        if self.names.is_none() {
            match self.header() {
                Ok(names) => self.names = Some(names),
                Err(wrong) => {
                    self.over = true;
                    return Some(Err(wrong));
                }
            }
        }
        let names = self.names.as_deref().unwrap_or_default();
        let mut record = csv::StringRecord::new();
        let from = self.reader.position().byte();
        let read = self.reader.read_record(&mut record);
        let line = self.meter.borrow_mut().line_from(from).max(self.line + 1);
        self.line = line;
        match read {
            Ok(false) => return None,
            Ok(true) => {}
            Err(error) => {
                // Other errors than of one record come again and again.
                self.over = !matches!(error.kind(), csv::ErrorKind::Utf8 { .. });
                let why = said(&error);
                return Some(Err(Wrong { line, why }));
            }
        }
        let wrong = |why| Some(Err(Wrong { line, why }));
        if record.len() != names.len() {
            return wrong(format!(
                "it has {} fields, and the header {}",
                record.len(),
                names.len()
            ));
        }
        let fields = names.iter().zip(&record);
        let fields: Vec<String> = fields
            .map(|(name, value)| format!("{name}:{}", json_string(value)))
            .collect();
        let input = format!("{{{}}}", fields.join(","));
        match check_payload(&input) {
            Ok(()) => Some(Ok(Unit {
                line,
                input: input.into(),
            })),
            Err(why) => wrong(why),
        }
    }
}

impl Iterator for Records {
    type Item = Read1;

    fn next(&mut self) -> Option<Read1> {
        match self.over {
            true => None,
            false => self.record(),
        }
    }
}

/// What the reader says, without its own words for the place.
fn said(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::Io(error) => format!("it cannot be read: {error}"),
        csv::ErrorKind::Utf8 { .. } => "it is not UTF-8".to_owned(),
        _ => error.to_string(),
    }
}

fn json_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inputs(text: &str, format: Format) -> Inputs {
        Inputs {
            name: "x".to_owned(),
            source: Source::Text(text.as_bytes().into()),
            format,
        }
    }

    fn shown(text: &str, format: Format) -> Vec<String> {
        let units = inputs(text, format).read().unwrap();
        let show = |unit: Read1| match unit {
            Ok(unit) => format!("{} {}", unit.line, unit.input),
            Err(wrong) => wrong.to_string(),
        };
        units.map(show).collect()
    }

    #[test]
    fn a_unit_knows_the_line_at_which_it_begins() {
        assert_eq!(
            shown("\u{feff}1\n\n {\"a\": 2} \r\n\"three\"", Format::Jsonl),
            ["1 1", "3 {\"a\": 2}", "4 \"three\""]
        );
        let csv = "\u{feff}id,text\n1,one\n2,\"two\nlines\"\n3,\"a \"\"quote\"\"\"\n";
        assert_eq!(
            shown(csv, Format::Csv),
            [
                "2 {\"id\":\"1\",\"text\":\"one\"}",
                "3 {\"id\":\"2\",\"text\":\"two\\nlines\"}",
                "5 {\"id\":\"3\",\"text\":\"a \\\"quote\\\"\"}",
            ]
        );
        assert_eq!(
            shown("a\r\n1\r\n2\r\n", Format::Csv),
            ["2 {\"a\":\"1\"}", "3 {\"a\":\"2\"}"]
        );
        assert_eq!(
            shown("a\r\n\r\n1\n\n\n2\n", Format::Csv),
            ["3 {\"a\":\"1\"}", "6 {\"a\":\"2\"}"]
        );
        // Lines that are read long after the first bytes of the file.
        let many: String = (0..5_000).map(|line| format!("{line}\r\n")).collect();
        let last = shown(&format!("a\r\n{many}"), Format::Csv).pop();
        assert_eq!(last.as_deref(), Some("5001 {\"a\":\"4999\"}"));
        // Old line ends are none to us, but no two units have one line.
        assert_eq!(
            shown("a\r1\r2\r", Format::Csv),
            ["1 {\"a\":\"1\"}", "2 {\"a\":\"2\"}"]
        );
        assert!(shown("", Format::Jsonl).is_empty() && shown("", Format::Csv).is_empty());
        assert!(shown("a,b\n", Format::Csv).is_empty());
    }

    #[test]
    fn wrong_lines_are_told_with_their_numbers_and_the_others_are_read() {
        let found = shown("1\n{\"a\":\n2\nnot\n", Format::Jsonl);
        assert_eq!((&*found[0], &*found[2]), ("1 1", "3 2"));
        assert!(found[1].starts_with("line 2: the payload is not JSON: EOF"));
        assert!(found[3].starts_with("line 4: the payload is not JSON"));
        assert_eq!(
            shown("a,b\n1\n1,2\n1,2,3\n", Format::Csv),
            [
                "line 2: it has 1 fields, and the header 2",
                "3 {\"a\":\"1\",\"b\":\"2\"}",
                "line 4: it has 3 fields, and the header 2"
            ]
        );
        assert_eq!(
            shown("a,b,a\n1,2,3\n", Format::Csv),
            ["line 1: two columns are named \"a\""]
        );
        assert_eq!(
            shown("a,,c\n1,2,3\n", Format::Csv),
            ["line 1: column 2 has no name"]
        );
    }

    #[test]
    fn a_quote_that_is_never_closed_and_a_line_that_never_ends_do_not_fill_the_memory() {
        let endless = "x".repeat(3 * PAYLOAD_BYTES_MAX);
        let found = shown(&format!("a\n\"{endless}"), Format::Csv);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("is a quote not closed?"), "{found:?}");
        let found = shown(&format!("\"{endless}\"\n2"), Format::Jsonl);
        assert_eq!(found[0], "line 1: it is longer than 4194304 bytes");
        assert_eq!(found[1], "2 2");
    }

    #[test]
    fn ten_wrong_lines_are_told_and_the_rest_is_counted() {
        let error = inputs(&"{\n".repeat(12), Format::Jsonl)
            .check()
            .unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with("no job was made of x: 12 lines are wrong\n  line 1: "),
            "{text}"
        );
        assert!(
            text.contains("line 10") && !text.contains("line 11"),
            "{text}"
        );
        assert!(text.ends_with("\n  and 2 more"), "{text}");
        assert_eq!(inputs("1\n2\n", Format::Jsonl).check().unwrap(), 2);
    }
}
