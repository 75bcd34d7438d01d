//! What is wrong with a workflow's document: all of it at once, each with its place.

use std::fmt;

use super::document::{Field, Node, Shape};
use crate::limits::PROBLEMS_MAX;

/// One thing that is wrong with a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The line, from 1.
    pub line: usize,
    /// The character in the line, from 1.
    pub column: usize,
    /// A sentence: what is wrong.
    pub what: String,
    /// What to do, where that is known.
    pub hint: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "line {}, column {}: {}",
            self.line, self.column, self.what
        )?;
        match &self.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

/// Problems as they are found, at byte offsets.
pub struct Problems {
    found: Vec<(usize, String, Option<String>)>,
    /// Those that there was no room for.
    more: usize,
    line_starts: Vec<usize>,
}

impl Problems {
    /// None yet, of this text.
    pub fn of(text: &str) -> Problems {
        let ends = text.match_indices('\n').map(|(at, _)| at + 1);
        Problems {
            found: Vec::new(),
            more: 0,
            line_starts: std::iter::once(0).chain(ends).collect(),
        }
    }

    /// One more.
    pub fn add(&mut self, at: usize, what: impl Into<String>) {
        self.advise(at, what, || None);
    }

    /// One more, with what to do.
    pub fn advise(
        &mut self,
        at: usize,
        what: impl Into<String>,
        hint: impl FnOnce() -> Option<String>,
    ) {
        match self.found.len() < PROBLEMS_MAX {
            true => self.found.push((at, what.into(), hint())),
            false => self.more += 1,
        }
    }

    /// A part that is something else than it has to be.
    pub fn wrong_kind(&mut self, field: &Field<'_>, found: &Shape<'_>, wanted: &str) {
        let (name, found) = (&field.name, found.noun());
        self.add(
            field.node.at(),
            format!("{name} is {found}: it has to be {wanted}"),
        );
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// The line of an offset, from 1.
    pub fn line(&self, at: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= at)
    }

    /// All of them, by their place.
    pub fn sorted(mut self, text: &str) -> Vec<Problem> {
        self.found.sort_by_key(|(at, ..)| *at);
        let offsets: Vec<usize> = self.found.iter().map(|(at, ..)| *at).collect();
        let places = places(text, &offsets);
        let found = self.found.into_iter().zip(places);
        let mut problems: Vec<Problem> = found
            .map(|((_, what, hint), (line, column))| Problem {
                line,
                column,
                what,
                hint,
            })
            .collect();
        if let (Some(last), true) = (problems.last(), self.more > 0) {
            let more = Problem {
                what: format!("and {} more problems", self.more),
                hint: None,
                ..*last
            };
            problems.push(more);
        }
        problems
    }
}

/// Lines and columns of ascending offsets, in one walk over the text: a document of one line may
/// be long.
pub fn places(text: &str, offsets: &[usize]) -> Vec<(usize, usize)> {
    let (mut line, mut column, mut at) = (1, 1, 0);
    let mut place = |offset: &usize| {
        let end = (*offset).min(text.len());
        for byte in &text.as_bytes()[at.min(end)..end] {
            match byte {
                b'\n' => (line, column) = (line + 1, 1),
                // The later bytes of a character.
                0x80..=0xbf => {}
                _ => column += 1,
            }
        }
        at = at.max(end);
        (line, column)
    };
    offsets.iter().map(&mut place).collect()
}

/// The fields of an object, taken one by one; what nobody takes is a problem.
pub struct Fields<'a> {
    at: usize,
    /// Whose fields, for the sentences.
    pub whose: String,
    left: Vec<Field<'a>>,
    /// What was asked for.
    known: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    /// The fields of `node`; a problem when it has none.
    pub fn of(node: Node<'a>, whose: String, problems: &mut Problems) -> Option<Fields<'a>> {
        match node.shape() {
            Shape::Table(left) => Some(Fields {
                at: node.at(),
                whose,
                left,
                known: Vec::new(),
            }),
            other => {
                let found = other.noun();
                problems.add(
                    node.at(),
                    format!("{whose} is {found}: it has to be an object with fields"),
                );
                None
            }
        }
    }

    /// Where the object stands.
    pub fn at(&self) -> usize {
        self.at
    }

    /// The field that has one of these names, which are alike: given twice, it is a problem.
    /// Names are written like `max-attempts` here, and understood as `maxAttempts` and
    /// `max_attempts`, too.
    pub fn take(&mut self, names: &[&'static str], problems: &mut Problems) -> Option<Field<'a>> {
        self.known.extend(names);
        let mut found: Option<Field<'a>> = None;
        let mut index = 0;
        while index < self.left.len() {
            if !names.contains(&kebab(&self.left[index].name).as_str()) {
                index += 1;
                continue;
            }
            let field = self.left.remove(index);
            match &found {
                None => found = Some(field),
                Some(first) => {
                    let whose = &self.whose;
                    let what = match first.name == field.name {
                        true => format!("{whose} has {} twice", field.name),
                        false => format!(
                            "{whose} has {} and {}, which mean the same",
                            first.name, field.name
                        ),
                    };
                    problems.add(field.at, what);
                }
            }
        }
        found.filter(|field| !matches!(field.node.shape(), Shape::Null))
    }

    /// Fields of these names, which others have: whoever takes them says why they are wrong here.
    pub fn foreign(&mut self, names: &[&str]) -> Vec<Field<'a>> {
        let left = std::mem::take(&mut self.left).into_iter();
        let (foreign, left) =
            left.partition(|field: &Field<'_>| names.contains(&kebab(&field.name).as_str()));
        self.left = left;
        foreign
    }

    /// Nothing more is known: what is left is a problem.
    pub fn end(self, problems: &mut Problems) {
        for field in self.left {
            let (whose, name) = (&self.whose, &field.name);
            problems.advise(field.at, format!("{whose} has no field \"{name}\""), || {
                let nearest = nearest(&kebab(name), self.known.iter().copied());
                Some(match nearest {
                    Some(nearest) => format!("did you mean {}?", camel(nearest)),
                    None => {
                        let all: Vec<String> = self.known.iter().map(|name| camel(name)).collect();
                        format!("it may have {}", all.join(", "))
                    }
                })
            });
        }
    }
}

/// The one of `known` that is most like `name`, when it is much like it.
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let alike = known.map(|one| (strsim::jaro_winkler(name, one), one));
    let best = alike.max_by(|one, other| one.0.total_cmp(&other.0));
    best.filter(|(alike, _)| *alike > 0.8).map(|(_, one)| one)
}

/// `maxAttempts` and `max_attempts` as `max-attempts`.
fn kebab(name: &str) -> String {
    let mut kebab = String::with_capacity(name.len() + 2);
    for one in name.chars() {
        if one == '_' {
            kebab.push('-');
        } else if one.is_ascii_uppercase() {
            kebab.push('-');
            kebab.push(one.to_ascii_lowercase());
        } else {
            kebab.push(one);
        }
    }
    kebab
}

/// `max-attempts` as `maxAttempts`.
fn camel(name: &str) -> String {
    let mut parts = name.split('-');
    let mut camel = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let mut letters = part.chars();
        camel.extend(letters.next().map(|one| one.to_ascii_uppercase()));
        camel.push_str(letters.as_str());
    }
    camel
}
