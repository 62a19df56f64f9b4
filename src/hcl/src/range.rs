//! Where something stands in a source text.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// A place in a text: line and column count from 1, the column in characters as a reader sees them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Position {
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1, in grapheme clusters.
    pub column: u32,
    /// Bytes before this place.
    pub byte: usize,
}

impl Position {
    /// The beginning of every text.
    pub const START: Position = Position { line: 1, column: 1, byte: 0 };
}

/// Two places in the same text, without its name. What the syntax tree carries.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Span {
    /// First byte.
    pub start: Position,
    /// Just after the last byte.
    pub end: Position,
}

impl Span {
    /// From the start of `self` to the end of `other`.
    pub fn to(self, other: Span) -> Span {
        Span { start: self.start, end: other.end }
    }

    /// An empty span at the start of `self`.
    pub fn at_start(self) -> Span {
        Span { start: self.start, end: self.start }
    }

    /// An empty span at the end of `self`.
    pub fn at_end(self) -> Span {
        Span { start: self.end, end: self.end }
    }
}

/// A stretch of a named text. `Display` gives `file:line,column-column`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Range {
    /// The name of the text, as it was given.
    pub file: Arc<str>,
    /// First character.
    pub start: Position,
    /// Just after the last character.
    pub end: Position,
}

impl Range {
    /// From the start of `self` to the end of `other`, which must be of the same text.
    pub fn to(&self, other: &Range) -> Range {
        Range { file: self.file.clone(), start: self.start, end: other.end }
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (start, end) = (self.start, self.end);
        write!(f, "{}:{},{}-", self.file, start.line, start.column)?;
        if start.line != end.line {
            write!(f, "{},", end.line)?;
        }
        write!(f, "{}", end.column)
    }
}

/// A named text.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub name: Arc<str>,
    pub text: Arc<str>,
}

impl Source {
    pub fn new(name: &str, text: &str) -> Source {
        Source { name: name.into(), text: text.into() }
    }

    pub fn range(&self, span: Span) -> Range {
        Range { file: self.name.clone(), start: span.start, end: span.end }
    }
}

/// The texts behind a set of diagnostics, by name, so that excerpts can be shown.
#[derive(Clone, Debug, Default)]
pub struct Sources(BTreeMap<Arc<str>, Arc<str>>);

impl Sources {
    /// Remembers one text under its name.
    pub fn add(&mut self, name: &str, text: &str) {
        self.0.insert(name.into(), text.into());
    }

    /// The line of that number, without its newline.
    pub fn line(&self, file: &str, line: u32) -> Option<&str> {
        self.0.get(file)?.lines().nth(line.checked_sub(1)? as usize)
    }
}
