//! Text to tokens. Keeps every byte of the text within some token or between two, so that the layout can be restored.

use unicode_segmentation::UnicodeSegmentation;

use crate::range::{Position, Span};

/// What a token is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Ident,
    Number,
    OpenBrace,
    CloseBrace,
    OpenBracket,
    CloseBracket,
    OpenParen,
    CloseParen,
    OpenQuote,
    CloseQuote,
    /// Text within quotes; escapes are still in it.
    QuotedText,
    /// A newline within quotes, which must not be there.
    QuotedNewline,
    /// A line, or the part of one, of a heredoc or a bare template.
    PlainText,
    OpenHeredoc,
    CloseHeredoc,
    /// `${` or `${~`.
    Interpolation,
    /// `%{` or `%{~`.
    Control,
    /// `}` or `~}` that ends one of the two.
    TemplateEnd,
    Plus,
    Minus,
    Star,
    Slash,
    Percent,
    EqualEqual,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    And,
    Or,
    Bang,
    Question,
    Colon,
    DoubleColon,
    Comma,
    Dot,
    Ellipsis,
    Equal,
    Arrow,
    Newline,
    Comment,
    End,
    /// A character that has no meaning.
    Invalid,
    /// Where reading stopped, because there were too many tokens.
    TooMany,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Token {
    pub kind: Kind,
    pub span: Span,
}

/// Tokens of one text. The largest file that is read has a third of so many, unless it is nothing but brackets; each takes
/// some forty bytes.
const TOKENS_MAX: usize = 1_500_000;

/// What surrounds the place that is read.
enum Mode {
    /// Code; counts the braces that are open within it.
    Code { braces: usize },
    /// Between quotes.
    Quoted,
    /// In a heredoc that ends with this word.
    Heredoc { marker: String },
    /// A whole text that is a template, as in JSON.
    Bare,
}

/// Tokens of a file or an expression.
pub(crate) fn scan_code(text: &str, start: Position) -> Vec<Token> {
    Scanner::new(text, start, Mode::Code { braces: 0 }).run()
}

/// Tokens of a template without quotes.
pub(crate) fn scan_template(text: &str, start: Position) -> Vec<Token> {
    Scanner::new(text, start, Mode::Bare).run()
}

struct Scanner<'s> {
    text: &'s str,
    /// Byte in `text` of what is read next; `at.byte` counts from the start of the file.
    offset: usize,
    at: Position,
    modes: Vec<Mode>,
    tokens: Vec<Token>,
    /// No comment that begins with `/*` ends any more: one look to the end of the text is enough.
    comments_stay_open: bool,
}

impl<'s> Scanner<'s> {
    fn new(text: &'s str, start: Position, mode: Mode) -> Scanner<'s> {
        Scanner {
            text,
            offset: 0,
            at: start,
            modes: vec![mode],
            tokens: Vec::new(),
            comments_stay_open: false,
        }
    }

    fn run(mut self) -> Vec<Token> {
        // A byte order mark is no part of the text.
        if self.text.starts_with('\u{feff}') {
            self.skip('\u{feff}'.len_utf8());
        }
        // The rest of an endless text is left unread; the token in its place is no part of any file.
        while self.offset < self.text.len() && self.tokens.len() < TOKENS_MAX {
            match self.modes.last() {
                Some(Mode::Quoted) => self.quoted(),
                Some(Mode::Heredoc { .. }) => self.heredoc(),
                Some(Mode::Bare) => self.template_text(Kind::PlainText, true),
                Some(Mode::Code { .. }) | None => self.code(),
            }
        }
        if self.offset < self.text.len() {
            self.tokens.push(Token { kind: Kind::TooMany, span: Span { start: self.at, end: self.at } });
        }
        self.tokens.push(Token { kind: Kind::End, span: Span { start: self.at, end: self.at } });
        self.tokens
    }

    fn rest(&self) -> &'s str {
        &self.text[self.offset..]
    }

    fn skip(&mut self, length: usize) {
        let taken = &self.text[self.offset..self.offset + length];
        self.offset += length;
        self.at.byte += length;
        let last_line = match taken.rfind('\n') {
            Some(newline) => {
                self.at.line += taken.bytes().filter(|b| *b == b'\n').count() as u32;
                self.at.column = 1;
                &taken[newline + 1..]
            }
            None => taken,
        };
        let columns = if last_line.is_ascii() { last_line.len() } else { last_line.graphemes(true).count() };
        self.at.column += columns as u32;
    }

    /// Skips characters of one byte each and no newline.
    fn skip_plain(&mut self, length: usize) {
        self.offset += length;
        self.at.byte += length;
        self.at.column += length as u32;
    }

    /// Takes a token of characters of one byte each and no newline.
    fn take_plain(&mut self, kind: Kind, length: usize) {
        let start = self.at;
        self.skip_plain(length);
        self.tokens.push(Token { kind, span: Span { start, end: self.at } });
    }

    fn take(&mut self, kind: Kind, length: usize) {
        let start = self.at;
        self.skip(length);
        self.tokens.push(Token { kind, span: Span { start, end: self.at } });
    }

    fn code(&mut self) {
        let rest = self.rest();
        let first = rest.as_bytes()[0];
        match first {
            b' ' | b'\t' => {
                self.skip_plain(rest.bytes().take_while(|byte| matches!(byte, b' ' | b'\t')).count())
            }
            b'\n' => self.take(Kind::Newline, 1),
            b'\r' if rest.starts_with("\r\n") => self.take(Kind::Newline, 2),
            b'#' => self.take(Kind::Comment, line_length(rest)),
            b'/' if rest.starts_with("//") => self.take(Kind::Comment, line_length(rest)),
            b'/' if !self.comments_stay_open && rest.starts_with("/*") => match rest[2..].find("*/") {
                Some(end) => self.take(Kind::Comment, end + 4),
                None => {
                    self.comments_stay_open = true;
                    self.operator();
                }
            },
            b'0'..=b'9' => self.take_plain(Kind::Number, number_length(rest)),
            b'"' => {
                self.take(Kind::OpenQuote, 1);
                self.modes.push(Mode::Quoted);
            }
            b'{' | b'}' => self.brace(first),
            b'~' if rest.starts_with("~}") => self.template_end(2),
            b'<' if rest.starts_with("<<") => self.open_heredoc(),
            _ => match ident_length(rest) {
                0 => self.operator(),
                length if rest[..length].is_ascii() => self.take_plain(Kind::Ident, length),
                length => self.take(Kind::Ident, length),
            },
        }
    }

    fn ends_template(&self) -> bool {
        self.modes.len() > 1 && matches!(self.modes.last(), Some(Mode::Code { braces: 0 }))
    }

    fn template_end(&mut self, length: usize) {
        let ends = self.ends_template();
        self.take(Kind::TemplateEnd, length);
        if ends {
            self.modes.pop();
        }
    }

    fn brace(&mut self, brace: u8) {
        if brace == b'}' && self.ends_template() {
            return self.template_end(1);
        }
        if let Some(Mode::Code { braces }) = self.modes.last_mut() {
            *braces = if brace == b'{' { *braces + 1 } else { braces.saturating_sub(1) };
        }
        self.take(if brace == b'{' { Kind::OpenBrace } else { Kind::CloseBrace }, 1);
    }

    fn open_heredoc(&mut self) {
        let rest = self.rest();
        let dash = usize::from(rest[2..].starts_with('-'));
        let word = &rest[2 + dash..];
        let length = ident_length(word);
        let after = &word[length..];
        let newline = if after.starts_with('\n') {
            1
        } else if after.starts_with("\r\n") {
            2
        } else {
            0
        };
        if length == 0 || newline == 0 {
            return self.operator();
        }
        let marker = word[..length].to_string();
        self.take(Kind::OpenHeredoc, 2 + dash + length + newline);
        self.modes.push(Mode::Heredoc { marker });
    }

    fn operator(&mut self) {
        let rest = self.rest();
        if rest.starts_with("...") {
            return self.take_plain(Kind::Ellipsis, 3);
        }
        let bytes = rest.as_bytes();
        let two = match (bytes[0], bytes.get(1)) {
            (b'=', Some(b'=')) => Some(Kind::EqualEqual),
            (b'!', Some(b'=')) => Some(Kind::NotEqual),
            (b'<', Some(b'=')) => Some(Kind::LessEqual),
            (b'>', Some(b'=')) => Some(Kind::GreaterEqual),
            (b'=', Some(b'>')) => Some(Kind::Arrow),
            (b'&', Some(b'&')) => Some(Kind::And),
            (b'|', Some(b'|')) => Some(Kind::Or),
            (b':', Some(b':')) => Some(Kind::DoubleColon),
            _ => None,
        };
        if let Some(kind) = two {
            return self.take_plain(kind, 2);
        }
        let kind = match rest.as_bytes()[0] {
            b'[' => Kind::OpenBracket,
            b']' => Kind::CloseBracket,
            b'(' => Kind::OpenParen,
            b')' => Kind::CloseParen,
            b'+' => Kind::Plus,
            b'-' => Kind::Minus,
            b'*' => Kind::Star,
            b'/' => Kind::Slash,
            b'%' => Kind::Percent,
            b'<' => Kind::Less,
            b'>' => Kind::Greater,
            b'!' => Kind::Bang,
            b'?' => Kind::Question,
            b':' => Kind::Colon,
            b',' => Kind::Comma,
            b'.' => Kind::Dot,
            b'=' => Kind::Equal,
            _ => Kind::Invalid,
        };
        let length = rest.chars().next().map_or(1, char::len_utf8);
        self.take(kind, length);
    }

    fn quoted(&mut self) {
        let rest = self.rest();
        if rest.starts_with('"') {
            self.take(Kind::CloseQuote, 1);
            self.modes.pop();
        } else if newlines_length(rest) > 0 {
            self.take(Kind::QuotedNewline, newlines_length(rest));
        } else if rest.starts_with('\r') {
            self.take(Kind::QuotedNewline, 1);
        } else {
            self.template_text(Kind::QuotedText, false);
        }
    }

    fn heredoc(&mut self) {
        let Some(Mode::Heredoc { marker }) = self.modes.last() else { return };
        let rest = self.rest();
        let at_line_start = self.tokens.last().is_none_or(|t| {
            t.kind == Kind::OpenHeredoc || (t.kind == Kind::PlainText && t.span.end.column == 1)
        });
        if at_line_start {
            let line = &rest[..line_length(rest)];
            let word = line.strip_suffix('\r').unwrap_or(line).trim_start_matches([' ', '\t']);
            // A marker that nothing follows, not even a newline, ends no heredoc.
            if word.trim_end() == marker && line.len() < rest.len() {
                let indent = line.len() - line.trim_start().len();
                let length = indent + marker.len();
                self.take(Kind::CloseHeredoc, length);
                self.modes.pop();
                return;
            }
        }
        self.template_text(Kind::PlainText, true);
    }

    /// Takes literal text up to the next sequence, the end of the line (kept in `lines`), or the closing quote.
    fn template_text(&mut self, kind: Kind, lines: bool) {
        let in_heredoc = matches!(self.modes.last(), Some(Mode::Heredoc { .. }));
        let rest = self.rest();
        let bytes = rest.as_bytes();
        let mut length = 0;
        while length < bytes.len() {
            // Most of a text means nothing but itself.
            let special = |byte: &u8| matches!(byte, b'$' | b'%' | b'\n' | b'\r' | b'"' | b'\\');
            let plain = bytes[length..].iter().position(special).unwrap_or(bytes.len() - length);
            length += plain;
            if length == bytes.len() {
                break;
            }
            let here = &rest[length..];
            match bytes[length] {
                b'$' | b'%' if here[1..].starts_with('{') => {
                    if length > 0 {
                        break;
                    }
                    let kind = if bytes[0] == b'$' { Kind::Interpolation } else { Kind::Control };
                    self.take(kind, if here[2..].starts_with('~') { 3 } else { 2 });
                    self.modes.push(Mode::Code { braces: 0 });
                    return;
                }
                b'$' if here.starts_with("$${") => length += 3,
                b'%' if here.starts_with("%%{") => length += 3,
                b'\n' if lines => {
                    length += 1;
                    break;
                }
                b'"' if !lines => break,
                b'\n' if !lines => break,
                b'\r' if !lines => break,
                // A carriage return belongs to a newline here, and nothing behind another one is read.
                b'\r' if in_heredoc && !here.starts_with("\r\n") => {
                    if length > 0 {
                        break;
                    }
                    return self.take(Kind::Invalid, rest.len());
                }
                b'\\' if !lines => {
                    length += 1 + here[1..].chars().next().filter(|c| *c != '\n').map_or(0, char::len_utf8)
                }
                _ => length += here.chars().next().map_or(1, char::len_utf8),
            }
        }
        self.take(kind, length);
    }
}

/// Bytes of the newlines that the text begins with.
fn newlines_length(text: &str) -> usize {
    let mut length = 0;
    loop {
        let rest = &text[length..];
        match () {
            () if rest.starts_with('\n') => length += 1,
            () if rest.starts_with("\r\n") => length += 2,
            () => return length,
        }
    }
}

fn line_length(text: &str) -> usize {
    text.find('\n').map_or(text.len(), |end| if text[..end].ends_with('\r') { end - 1 } else { end })
}

/// Bytes of the number that the text begins with, or of what was probably meant to be one: `10.0.0.1` is a single token.
fn number_length(text: &str) -> usize {
    let bytes = text.as_bytes();
    let digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    let (mut at, mut length) = (0, 0);
    loop {
        match bytes.get(at) {
            Some(b'0'..=b'9') => at += 1,
            Some(b'.') => {
                at += 1;
                continue;
            }
            Some(b'e' | b'E') if digit(at + 1) => at += 2,
            Some(b'e' | b'E') if matches!(bytes.get(at + 1), Some(b'+' | b'-')) && digit(at + 2) => at += 3,
            _ => return length,
        }
        // A point ends no number: it may be the first of an ellipsis.
        length = at;
    }
}

/// Bytes of the name that the text begins with; 0 when it begins with none.
pub(crate) fn ident_length(text: &str) -> usize {
    let Some(first) = text.bytes().next() else { return 0 };
    if first.is_ascii() && !(first.is_ascii_alphabetic() || first == b'_') {
        return 0;
    }
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    let length = text.bytes().take_while(plain).count();
    // Most names are plain to their end.
    if length > 0 && text.as_bytes().get(length).is_none_or(u8::is_ascii) {
        return length;
    }
    let mut chars = text.char_indices();
    match chars.next() {
        Some((_, c)) if unicode_ident::is_xid_start(c) || c == '_' => {}
        _ => return 0,
    }
    chars.find(|(_, c)| !(unicode_ident::is_xid_continue(*c) || *c == '-')).map_or(text.len(), |(i, _)| i)
}
