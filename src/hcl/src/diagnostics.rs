//! What is wrong with a text, where, and what to do about it.

use std::fmt;

use unicode_segmentation::UnicodeSegmentation;

use crate::range::{Range, Sources};

/// How bad a diagnostic is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Severity {
    /// Nothing can be made of the text.
    Error,
    /// The text works; its author should look again.
    Warning,
}

/// One thing that is wrong.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// A few words, the same for every problem of this kind.
    pub summary: String,
    /// The sentence about this very problem.
    pub detail: String,
    /// The text it is about; none where no text is at fault, such as a variable that nobody set.
    pub range: Option<Range>,
    /// What to write instead, where that can be guessed.
    pub suggestion: Option<Box<str>>,
}

impl Diagnostic {
    /// An error about a stretch of text.
    pub fn error(summary: impl Into<String>, detail: impl Into<String>, range: Range) -> Diagnostic {
        Diagnostic {
            severity: Severity::Error,
            summary: summary.into(),
            detail: detail.into(),
            range: Some(range),
            suggestion: None,
        }
    }

    /// An error that no stretch of text is to blame for.
    pub fn general(summary: impl Into<String>, detail: impl Into<String>) -> Diagnostic {
        Diagnostic {
            severity: Severity::Error,
            summary: summary.into(),
            detail: detail.into(),
            range: None,
            suggestion: None,
        }
    }

    /// The same, with advice.
    pub fn suggest(mut self, suggestion: impl Into<Box<str>>) -> Diagnostic {
        self.suggestion = Some(suggestion.into());
        self
    }

    /// The same, as a warning.
    pub fn as_warning(mut self) -> Diagnostic {
        self.severity = Severity::Warning;
        self
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.range {
            Some(range) => write!(f, "{range}: {}; {}", self.summary, self.detail),
            None => write!(f, "<nil>: {}; {}", self.summary, self.detail),
        }
    }
}

/// At which step the text was given up.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Stage {
    /// It could not be read: nothing was evaluated.
    Syntax,
    /// It was read, and evaluated as far as possible.
    #[default]
    Evaluation,
}

/// Everything that is wrong, in the order found.
///
/// `Display` is what the HTTP API answers: one line each, except that of several syntax errors it shows the first
/// and counts the others, as clients of that API are used to. [`Diagnostics::render`] shows all of them.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Diagnostics {
    /// The problems.
    pub list: Vec<Diagnostic>,
    /// Where they come from.
    pub stage: Stage,
}

impl Diagnostics {
    /// Problems found while evaluating.
    pub fn evaluation(list: Vec<Diagnostic>) -> Diagnostics {
        Diagnostics { list, stage: Stage::Evaluation }
    }

    /// Problems found while reading.
    pub fn syntax(list: Vec<Diagnostic>) -> Diagnostics {
        Diagnostics { list, stage: Stage::Syntax }
    }

    /// Whether one of them is an error.
    pub fn has_errors(&self) -> bool {
        self.list.iter().any(|d| d.severity == Severity::Error)
    }

    /// All of them, each with its line of the text, a mark under the place, and advice; of very many the first ones.
    pub fn render(&self, sources: &Sources) -> String {
        let mut shown: Vec<_> = self.list.iter().take(RENDERED_MAX).map(|d| render_one(d, sources)).collect();
        if let Some(more) = self.list.len().checked_sub(RENDERED_MAX + 1) {
            shown.push(format!("and {} more\n", more + 1));
        }
        shown.concat()
    }
}

/// Problems that are shown with their lines. Who reads a hundred of them mends these first.
const RENDERED_MAX: usize = 100;

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.stage == Stage::Syntax && self.list.len() > 1 {
            return write!(f, "{}, and {} other diagnostic(s)", self.list[0], self.list.len() - 1);
        }
        for (i, diagnostic) in self.list.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{diagnostic}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}

/// Begins as `Display` does, so that programs which look for that find it, with the line below.
fn render_one(d: &Diagnostic, sources: &Sources) -> String {
    let kind = match d.severity {
        Severity::Error => "",
        Severity::Warning => "warning: ",
    };
    let mut out = format!("{kind}{d}\n");
    if let Some(range) = &d.range
        && let Some(line) = sources.line(&range.file, range.start.line)
    {
        out.push_str(&excerpt(line, range));
    }
    if let Some(suggestion) = &d.suggestion {
        out.push_str(&format!("  help: {suggestion}\n"));
    }
    out
}

/// Characters of a line that are shown before the place and after its beginning. Lines of job files are shorter; those of
/// texts that a program made need not be.
const BEFORE_MAX: usize = 120;
const AFTER_MAX: usize = 120;

fn excerpt(line: &str, range: &Range) -> String {
    let number = range.start.line.to_string();
    let start = range.start.column.saturating_sub(1) as usize;
    let (cut, line, before) = window(line, start);
    let graphemes = line.graphemes(true).count();
    let length = if range.end.line == range.start.line {
        range.end.column.saturating_sub(range.start.column) as usize
    } else {
        usize::MAX
    };
    let length = length.min(graphemes.saturating_sub(before)).max(1);
    // Tabs stay tabs, so that the mark stands below its text however wide the reader's tabs are.
    let pad: String = line.graphemes(true).take(before).map(|g| if g == "\t" { '\t' } else { ' ' }).collect();
    let gap = " ".repeat(number.len());
    let (dots, blank) = if cut { ("...", "   ") } else { ("", "") };
    format!("    {number} | {dots}{line}\n    {gap} | {blank}{pad}{}\n", "^".repeat(length))
}

/// The part of a line around a place, whether something before it is left out, and how far in the place is.
fn window(line: &str, start: usize) -> (bool, &str, usize) {
    let skipped = start.saturating_sub(BEFORE_MAX);
    let byte_of = |text: &str, count: usize| {
        if text.is_ascii() {
            return count.min(text.len());
        }
        text.grapheme_indices(true).nth(count).map_or(text.len(), |(byte, _)| byte)
    };
    let rest = &line[byte_of(line, skipped)..];
    let before = start - skipped;
    (skipped > 0, &rest[..byte_of(rest, before + AFTER_MAX)], before)
}

/// The known name that `wrong` was probably meant to be.
pub fn similar_name<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    /// Three changed letters make another word more often than a slip.
    const DISTANCE_MAX: usize = 2;
    let length = wrong.chars().count();
    known
        .into_iter()
        .filter(|name| name.chars().count().abs_diff(length) <= DISTANCE_MAX)
        .map(|name| (distance(wrong, name), name))
        .filter(|(d, _)| *d <= DISTANCE_MAX)
        .min_by_key(|(d, _)| *d)
        .map(|(_, name)| name)
}

fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let changed = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}
