//! The usual layout of a file: indentation by nesting, one blank between words, equals signs and comments of
//! neighbouring lines below each other. Blank lines, comments and the texts of heredocs stay as they are.

use unicode_segmentation::UnicodeSegmentation;

use crate::diagnostics::Diagnostics;
use crate::parse::{Dialect, parse_body};
use crate::range::{Position, Source};
use crate::scan::{Kind, scan_code};

/// Lays out a file in native syntax. Doing it twice changes nothing more.
///
/// # Errors
/// When the text can not be read: a layout would only hide the mistake.
pub fn format(name: &str, text: &str) -> Result<String, Diagnostics> {
    let source = Source::new(name, text);
    parse_body(&source, Dialect::Native).map_err(Diagnostics::syntax)?;
    let mut lines = split(text);
    indent(&mut lines);
    lines.iter_mut().for_each(space);
    align_assignments(&mut lines);
    align_comments(&mut lines);
    Ok(lines.iter().flat_map(|line| &line.words).map(Word::show).collect())
}

struct Word<'t> {
    kind: Kind,
    text: &'t str,
    spaces: usize,
}

impl Word<'_> {
    fn show(&self) -> String {
        format!("{}{}", " ".repeat(self.spaces), self.text)
    }

    fn columns(&self) -> usize {
        self.spaces + self.text.graphemes(true).count()
    }

    /// How many brackets it opens, or closes when negative.
    fn brackets(&self) -> i32 {
        match self.kind {
            Kind::OpenBrace | Kind::OpenBracket | Kind::OpenParen | Kind::Interpolation | Kind::Control => 1,
            Kind::CloseBrace | Kind::CloseBracket | Kind::CloseParen | Kind::TemplateEnd => -1,
            _ => 0,
        }
    }
}

/// The words of a line, its newline last. A heredoc with all of its text belongs to the line that it begins on.
struct Line<'t> {
    words: Vec<Word<'t>>,
}

impl Line<'_> {
    /// Where its equals sign stands, if the whole value stands on the line.
    fn assignment(&self) -> Option<usize> {
        let at = self.words.iter().position(|w| w.kind == Kind::Equal).filter(|at| *at > 0)?;
        (self.words[at..].iter().map(Word::brackets).sum::<i32>() == 0).then_some(at)
    }

    /// How many brackets it opens that count for the lines below. What a heredoc opens, it closes.
    fn net_brackets(&self) -> i32 {
        let heredoc = self.words.iter().position(|w| w.kind == Kind::OpenHeredoc);
        let end = match heredoc {
            Some(at) if self.assignment().is_none() => at,
            _ => self.words.len(),
        };
        self.words[..end].iter().map(Word::brackets).sum()
    }

    /// Where the comment behind its other words stands.
    fn comment(&self) -> Option<usize> {
        let last = self.words.iter().rposition(|w| w.kind != Kind::End)?;
        let at = match self.words[last].kind {
            Kind::Newline => {
                let at = last.checked_sub(1)?;
                (!self.words[at].text.starts_with("/*")).then_some(at)?
            }
            _ => last,
        };
        (at > 0 && self.words[at].kind == Kind::Comment).then_some(at)
    }

    fn columns(&self, end: usize) -> usize {
        self.words[..end].iter().map(Word::columns).sum()
    }
}

fn split(text: &str) -> Vec<Line<'_>> {
    let mut lines = vec![Line { words: Vec::new() }];
    let mut end = 0;
    for token in scan_code(text, Position::START) {
        let (start, stop) = (token.span.start.byte, token.span.end.byte);
        let between = &text[end..start];
        end = stop;
        if let Some(line) = lines.last_mut() {
            line.words.push(Word {
                kind: token.kind,
                text: &text[start..stop],
                spaces: between.chars().filter(|c| matches!(c, ' ' | '\t')).count(),
            });
        }
        if token.kind == Kind::Newline {
            lines.push(Line { words: Vec::new() });
        }
    }
    lines
}

fn indent(lines: &mut [Line<'_>]) {
    let mut open: Vec<i32> = Vec::new();
    for line in lines {
        let net = line.net_brackets();
        let depth = open.len();
        let Some(first) = line.words.first_mut() else { continue };
        match first.kind {
            Kind::Newline => {
                first.spaces = 0;
                continue;
            }
            // Blanks at the end of the text stay: no line follows for them to disturb.
            Kind::End => continue,
            _ => {}
        }
        if net > 0 {
            open.push(net);
        }
        let mut closed = -net;
        while closed > 0
            && let Some(last) = open.pop()
        {
            if last > closed {
                open.push(last - closed);
            }
            closed -= last;
        }
        first.spaces = 2 * if net < 0 { open.len() } else { depth };
    }
}

fn space(line: &mut Line<'_>) {
    for at in 1..line.words.len() {
        if line.words[at].kind == Kind::End {
            break;
        }
        let before = at.checked_sub(2).map(|i| line.words[i].kind);
        let before_in = line.words[at - 1].text == "in" && before == Some(Kind::Ident);
        let wanted = is_spaced(before, &line.words[at - 1], &line.words[at], before_in);
        line.words[at].spaces = usize::from(wanted);
    }
}

/// Whether there is a blank between `left` and `right`.
fn is_spaced(before: Option<Kind>, left: &Word<'_>, right: &Word<'_>, after_in: bool) -> bool {
    use Kind::{
        Arrow, Bang, CloseBrace, CloseHeredoc, CloseQuote, Comma, Control, Dot, DoubleColon, Ellipsis, End,
        Ident, Interpolation, Minus, Newline, Number, OpenBrace, OpenBracket, OpenHeredoc, OpenParen,
        OpenQuote, PlainText, QuotedText, TemplateEnd,
    };
    match (left.kind, right.kind) {
        (_, Newline | End) => false,
        (Ident, OpenParen) => false,
        (Dot | DoubleColon, _) | (_, Dot | DoubleColon) => false,
        (_, Comma | Ellipsis) => false,
        (Comma, _) => true,
        (QuotedText | PlainText | OpenQuote | OpenHeredoc, _) => false,
        (_, QuotedText | PlainText | CloseQuote | CloseHeredoc) => false,
        _ if after_in => true,
        (Ident | Number, OpenBracket) => false,
        (_, OpenBracket) if left.brackets() < 0 => false,
        (Bang, _) => false,
        (Minus, _) => !before.is_none_or(begins_operand),
        (OpenBrace, CloseBrace) => false,
        (OpenBrace, _) | (_, CloseBrace) => true,
        (Interpolation | Control, OpenBrace) | (CloseBrace, TemplateEnd) => true,
        (TemplateEnd, Interpolation | Control) => false,
        (Arrow, _) | (_, Arrow) => true,
        _ => left.brackets() <= 0 && right.brackets() >= 0,
    }
}

/// Whether a minus behind this makes a number negative, rather than subtracting.
fn begins_operand(kind: Kind) -> bool {
    use Kind::{
        And, Bang, Colon, Comma, Equal, EqualEqual, Greater, GreaterEqual, Less, LessEqual, Minus, NotEqual,
        OpenBrace, OpenBracket, OpenParen, Or, Percent, Plus, Question, Slash, Star,
    };
    matches!(
        kind,
        OpenParen
            | OpenBrace
            | OpenBracket
            | Equal
            | Colon
            | Comma
            | Question
            | Plus
            | Star
            | Slash
            | Percent
            | Minus
            | EqualEqual
            | NotEqual
            | Greater
            | GreaterEqual
            | Less
            | LessEqual
            | And
            | Or
            | Bang
    )
}

/// Puts the cells that begin at `cell` below each other, in each run of lines that have one.
fn align(lines: &mut [Line<'_>], cell: impl Fn(&Line<'_>) -> Option<usize>) {
    let mut at = 0;
    while at < lines.len() {
        let run = lines[at..].iter().take_while(|line| cell(line).is_some()).count();
        let cells: Vec<usize> = lines[at..at + run].iter().filter_map(&cell).collect();
        let chain = &mut lines[at..at + run];
        let widest = chain.iter().zip(&cells).map(|(line, cell)| line.columns(*cell)).max().unwrap_or(0);
        for (line, cell) in chain.iter_mut().zip(&cells) {
            let columns = line.columns(*cell);
            line.words[*cell].spaces = widest - columns + 1;
        }
        at += run + 1;
    }
}

fn align_assignments(lines: &mut [Line<'_>]) {
    align(lines, |line| line.assignment());
}

fn align_comments(lines: &mut [Line<'_>]) {
    align(lines, |line| line.comment());
}
