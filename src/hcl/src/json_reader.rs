//! The text of a JSON file to a tree. After a mistake it reads on where HashiCorp's reader does, so that the same mistakes
//! are told of, at the same places.

use unicode_segmentation::UnicodeSegmentation;

use crate::diagnostics::{Diagnostic, similar_name};
use crate::json::{self, Json, Member, Node};
use crate::range::{Position, Source, Span};

/// How deep arrays and objects may nest.
const DEPTH_MAX: usize = 120;

/// Values in one file. Ten thousand groups have a fifth of so many; each takes a hundred bytes and more.
const NODES_MAX: usize = 500_000;

/// Errors listed of one file. After so many the reader mends the first ones and asks again.
const ERRORS_MAX: usize = 50;

/// What values begin with, as messages say it.
const STARTS: &str = "A JSON value must start with a brace, a bracket, a number, a string, or a keyword.";

/// Reads a text that is one JSON value.
pub(crate) fn read(source: &Source) -> Result<Node, Vec<Diagnostic>> {
    let start = Span { start: Position::START, end: Position::START };
    let mut reader = Reader {
        source,
        text: &source.text,
        at: Position::START,
        next: Token { kind: Kind::End, span: start },
        problems: Vec::new(),
        refused: None,
        depth: 0,
        nodes: 0,
    };
    reader.read();
    let first = reader.next.span;
    let node = reader.value();
    if reader.problems.is_empty() && reader.next.kind != Kind::End {
        let detail = "Extra characters appear after the JSON value.";
        reader.problem("Extraneous data after value", detail, reader.next.span);
    }
    if node.is_none() {
        let detail = "The root value in a JSON-based configuration must be either a JSON object or a JSON array of objects.";
        reader.problem("Root value must be object", detail, first);
    }
    match (reader.refused, node) {
        (Some(refused), _) => Err(vec![refused]),
        (None, Some(node)) if reader.problems.is_empty() => Ok(node),
        (None, _) => Err(reader.problems),
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    OpenBrace,
    CloseBrace,
    OpenBracket,
    CloseBracket,
    Comma,
    Colon,
    /// What native syntax has in the place of a colon.
    Equals,
    Word,
    Text,
    Number,
    Invalid,
    End,
}

#[derive(Clone, Copy, Debug)]
struct Token {
    kind: Kind,
    span: Span,
}

struct Reader<'s> {
    source: &'s Source,
    text: &'s str,
    /// Where the token after the next one may begin.
    at: Position,
    next: Token,
    problems: Vec<Diagnostic>,
    /// A limit that was reached: nothing else is said then.
    refused: Option<Diagnostic>,
    depth: usize,
    nodes: usize,
}

impl Reader<'_> {
    fn problem(&mut self, summary: &str, detail: impl Into<String>, span: Span) {
        self.problems.push(Diagnostic::error(summary, detail, self.source.range(span)));
        if self.problems.len() >= ERRORS_MAX {
            self.stop();
        }
    }

    /// Leaves the rest of the text unread.
    fn stop(&mut self) {
        self.at.byte = self.text.len();
        self.next = Token { kind: Kind::End, span: Span { start: self.at, end: self.at } };
    }

    fn refuse(&mut self, summary: &str, detail: String, span: Span) {
        if self.refused.is_none() {
            self.refused = Some(Diagnostic::error(summary, detail, self.source.range(span)));
        }
        self.stop();
    }

    fn token_text(&self, token: Token) -> &str {
        &self.text[token.span.start.byte..token.span.end.byte]
    }

    /// Takes the next token, and reads the one after it.
    fn read(&mut self) -> Token {
        let taken = self.next;
        self.blanks();
        let start = self.at;
        let rest = &self.text[start.byte..];
        let Some(first) = rest.bytes().next() else {
            self.next = Token { kind: Kind::End, span: Span { start, end: start } };
            return taken;
        };
        let while_ascii = |fits: fn(u8) -> bool| rest.bytes().take_while(|byte| fits(*byte)).count();
        let (kind, length) = match first {
            b'{' => (Kind::OpenBrace, 1),
            b'}' => (Kind::CloseBrace, 1),
            b'[' => (Kind::OpenBracket, 1),
            b']' => (Kind::CloseBracket, 1),
            b',' => (Kind::Comma, 1),
            b':' => (Kind::Colon, 1),
            b'=' => (Kind::Equals, 1),
            b'"' => (Kind::Text, text_length(rest)),
            b'-' | b'+' | b'.' | b'0'..=b'9' => {
                let part = |byte| matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9');
                (Kind::Number, while_ascii(part))
            }
            b'a'..=b'z' | b'A'..=b'Z' => {
                (Kind::Word, while_ascii(|byte| byte.is_ascii_alphabetic() || byte == b'_'))
            }
            _ => (Kind::Invalid, rest.chars().next().map_or(1, char::len_utf8)),
        };
        self.at.byte += length;
        self.at.column += match kind {
            Kind::Invalid => 1,
            Kind::Text if !rest[..length].is_ascii() => 1 + rest[1..length].graphemes(true).count() as u32,
            _ => length as u32,
        };
        let end = self.at;
        if kind == Kind::Invalid {
            // Nothing behind it is looked at.
            self.at.byte = self.text.len();
        }
        self.next = Token { kind, span: Span { start, end } };
        taken
    }

    /// Skips what stands between tokens. A tabulator counts as two columns, a carriage return as none.
    fn blanks(&mut self) {
        for byte in self.text.as_bytes()[self.at.byte..].iter() {
            match byte {
                b' ' => self.at.column += 1,
                b'\t' => self.at.column += 2,
                b'\r' => {}
                b'\n' => {
                    self.at.line += 1;
                    self.at.column = 1;
                }
                _ => return,
            }
            self.at.byte += 1;
        }
    }

    /// Reads a value. There is none where a problem was told of.
    fn value(&mut self) -> Option<Node> {
        let token = self.next;
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            let detail = format!("The file has more than {NODES_MAX} values. No job needs as many.");
            self.refuse("File too complex", detail, token.span);
            return None;
        }
        let (summary, detail) = match token.kind {
            Kind::OpenBrace => return self.nested(Self::object),
            Kind::OpenBracket => return self.nested(Self::array),
            Kind::Number => return self.number(),
            Kind::Text => return self.quoted(),
            Kind::Word => return self.word(),
            Kind::CloseBrace => ("Missing JSON value", STARTS),
            Kind::CloseBracket => ("Missing array element value", STARTS),
            Kind::End => ("Missing value", "The JSON data ends prematurely."),
            Kind::Comma | Kind::Colon | Kind::Equals | Kind::Invalid => ("Invalid start of value", STARTS),
        };
        self.problem(summary, detail, token.span);
        None
    }

    fn nested(&mut self, read: fn(&mut Self) -> Option<Node>) -> Option<Node> {
        if self.depth >= DEPTH_MAX {
            let detail = format!("JSON values may nest {DEPTH_MAX} levels deep.");
            self.refuse("Nesting too deep", detail, self.next.span);
            return None;
        }
        self.depth += 1;
        let node = read(self);
        self.depth -= 1;
        node
    }

    /// Says what is wrong, and gives up what is being read.
    fn fail(&mut self, summary: &str, detail: &str, span: Span) -> Option<Node> {
        self.problem(summary, detail, span);
        None
    }

    /// Goes on to what may be the end of an object or array.
    fn recover(&mut self, from: Token, open: Kind, close: Kind) {
        let mut token = from;
        let mut depth = 1;
        loop {
            match token.kind {
                Kind::End => return,
                kind if kind == open => depth += 1,
                kind if kind == close && depth <= 2 => return,
                kind if kind == close => depth -= 1,
                _ => {}
            }
            token = self.read();
        }
    }

    fn object(&mut self) -> Option<Node> {
        let open = self.read().span;
        let mut members = Vec::new();
        while self.next.kind != Kind::CloseBrace {
            let first = self.next.span;
            let (name, name_span) = match self.value() {
                Some(Node { kind: Json::String(name), span }) => (name, span),
                other => {
                    let span = other.as_ref().map_or(first, Node::start);
                    let detail = "A JSON object property name must be a string";
                    return self.fail("Invalid object property name", detail, span);
                }
            };
            let colon = self.read();
            if colon.kind != Kind::Colon {
                return self.no_colon(colon);
            }
            if let Some(value) = self.value() {
                members.push(Member { name, name_span, value });
            }
            let next = self.next;
            match next.kind {
                Kind::CloseBrace => {}
                Kind::Comma => {
                    self.read();
                    if self.next.kind == Kind::CloseBrace {
                        let detail =
                            "JSON does not permit a trailing comma after the final property in an object.";
                        return self.fail("Trailing comma in object", detail, next.span);
                    }
                }
                Kind::End => {
                    let detail = "No closing brace was found for this JSON object.";
                    return self.fail("Unclosed object", detail, open);
                }
                Kind::CloseBracket => {
                    self.read();
                    let detail = "A JSON object must be closed with a brace, not a bracket.";
                    return self.fail("Mismatched braces", detail, self.next.span);
                }
                _ => {
                    let token = self.read();
                    self.recover(token, Kind::OpenBrace, Kind::CloseBrace);
                    let detail = "A comma must appear between each property definition in an object.";
                    return self.fail("Missing attribute seperator comma", detail, self.next.span);
                }
            }
        }
        let close = self.read().span;
        Some(Node { span: open.to(close), kind: Json::Object(members) })
    }

    fn no_colon(&mut self, found: Token) -> Option<Node> {
        self.recover(found, Kind::OpenBrace, Kind::CloseBrace);
        let (summary, detail) = match found.kind {
            Kind::CloseBrace | Kind::Comma => {
                ("Missing object value", "A JSON object attribute must have a value, introduced by a colon.")
            }
            Kind::Equals => (
                "Missing property value colon",
                "JSON uses a colon as its name/value delimiter, not an equals sign.",
            ),
            _ => (
                "Missing property value colon",
                "A colon must appear between an object property's name and its value.",
            ),
        };
        self.fail(summary, detail, found.span)
    }

    fn array(&mut self) -> Option<Node> {
        let open = self.read().span;
        let mut items = Vec::new();
        while self.next.kind != Kind::CloseBracket {
            items.extend(self.value());
            let next = self.next;
            let (summary, detail) = match next.kind {
                Kind::CloseBracket => continue,
                Kind::Comma => {
                    self.read();
                    if self.next.kind == Kind::CloseBracket {
                        let detail =
                            "JSON does not permit a trailing comma after the final value in an array.";
                        return self.fail("Trailing comma in array", detail, next.span);
                    }
                    continue;
                }
                Kind::End => {
                    let detail = "No closing bracket was found for this JSON array.";
                    return self.fail("Unclosed object", detail, open);
                }
                Kind::Colon => {
                    ("Invalid array value", "A colon is not used to introduce values in a JSON array.")
                }
                Kind::CloseBrace => {
                    ("Mismatched brackets", "A JSON array must be closed with a bracket, not a brace.")
                }
                _ => (
                    "Missing attribute seperator comma",
                    "A comma must appear between each value in an array.",
                ),
            };
            let token = self.read();
            self.recover(token, Kind::OpenBracket, Kind::CloseBracket);
            return self.fail(summary, detail, self.next.span);
        }
        let close = self.read().span;
        Some(Node { span: open.to(close), kind: Json::Array(items) })
    }

    fn number(&mut self) -> Option<Node> {
        let token = self.read();
        match json::parse(self.token_text(token)) {
            Ok(Node { kind: kind @ Json::Number(_), .. }) => Some(Node { span: token.span, kind }),
            _ => {
                let detail = "There is a syntax error in the given JSON number.";
                self.fail("Invalid JSON number", detail, token.span)
            }
        }
    }

    fn quoted(&mut self) -> Option<Node> {
        let token = self.read();
        let text = self.token_text(token);
        // Most texts hold nothing that needs to be looked at.
        if let Some(plain) = text[1..].strip_suffix('"').filter(|plain| !plain.contains('\\')) {
            return Some(Node { span: token.span, kind: Json::String(plain.to_owned()) });
        }
        match json::parse(text) {
            Ok(node) => Some(Node { span: token.span, kind: node.kind }),
            Err(error) => {
                // Places are told by what was read, and that includes what is wrong.
                let read = error.span.end.byte.min(error.span.start.byte + 1);
                let mut start = token.span.start;
                start.byte += read;
                start.column += read as u32;
                let mut end = start;
                end.byte += 1;
                end.column += 1;
                let detail = "There is a syntax error in the given JSON string.";
                self.fail("Invalid JSON string", detail, Span { start, end })
            }
        }
    }

    fn word(&mut self) -> Option<Node> {
        let token = self.read();
        let word = self.token_text(token);
        let kind = match word {
            "true" => Json::Bool(true),
            "false" => Json::Bool(false),
            "null" => Json::Null,
            _ => {
                let detail = match (word, similar_name(word, ["false", "true", "null"])) {
                    ("undefined" | "NaN" | "Infinity", _) => {
                        format!("The JavaScript identifier {word:?} cannot be used in JSON.")
                    }
                    (_, Some(known)) => {
                        format!("{word:?} is not a valid JSON keyword. Did you mean {known:?}?")
                    }
                    (_, None) => format!("{word:?} is not a valid JSON keyword."),
                };
                self.problem("Invalid JSON keyword", detail, token.span);
                return None;
            }
        };
        Some(Node { span: token.span, kind })
    }
}

/// Bytes of the quoted text that this begins with: up to its closing quote, or to what can not be in it.
fn text_length(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            b'\\' => escaped = !escaped,
            b'"' if !escaped => return at + 1,
            0..0x20 => return at,
            _ => escaped = false,
        }
    }
    text.len()
}
