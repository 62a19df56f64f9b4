//! JSON text to a tree that knows where each part stands.

use crate::range::{Position, Span};
use unicode_segmentation::UnicodeSegmentation;

/// How deep arrays and objects may nest.
const DEPTH_MAX: usize = 120;

#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub span: Span,
    pub kind: Json,
}

#[derive(Clone, Debug)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    /// As written, so that no digit is lost.
    Number(String),
    String(String),
    Array(Vec<Node>),
    Object(Vec<Member>),
}

#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub name: String,
    pub name_span: Span,
    pub value: Node,
}

#[derive(Clone, Debug)]
pub(crate) struct JsonError {
    pub reason: String,
    pub span: Span,
}

/// Reads a text that is one JSON value.
pub(crate) fn parse(text: &str) -> Result<Node, JsonError> {
    let mut reader = Reader { text, at: Position::START, depth: 0 };
    reader.blanks();
    let node = reader.value()?;
    reader.blanks();
    match reader.peek() {
        None => Ok(node),
        Some(c) => Err(reader.unexpected(c, "after top-level value")),
    }
}

struct Reader<'t> {
    text: &'t str,
    at: Position,
    depth: usize,
}

impl<'t> Reader<'t> {
    fn rest(&self) -> &'t str {
        &self.text[self.at.byte..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn skip(&mut self, length: usize) {
        let taken = &self.rest()[..length];
        self.at.byte += length;
        let last = match taken.rfind('\n') {
            Some(newline) => {
                self.at.line += taken.matches('\n').count() as u32;
                self.at.column = 1;
                &taken[newline + 1..]
            }
            None => taken,
        };
        self.at.column += if last.is_ascii() { last.len() } else { last.graphemes(true).count() } as u32;
    }

    fn blanks(&mut self) {
        let rest = self.rest();
        self.skip(rest.len() - rest.trim_start_matches([' ', '\t', '\r', '\n']).len());
    }

    fn here(&self) -> Span {
        let mut end = self.at;
        if let Some(c) = self.peek() {
            end.byte += c.len_utf8();
            end.column += 1;
        }
        Span { start: self.at, end }
    }

    fn error(&self, reason: impl Into<String>) -> JsonError {
        JsonError { reason: reason.into(), span: self.here() }
    }

    fn end(&self) -> JsonError {
        self.error("unexpected end of JSON input")
    }

    fn unexpected(&self, c: char, context: &str) -> JsonError {
        let shown = match c {
            '\'' => "'\\''".to_string(),
            '"' => "'\"'".to_string(),
            c => format!("{c:?}"),
        };
        self.error(format!("invalid character {shown} {context}"))
    }

    fn value(&mut self) -> Result<Node, JsonError> {
        let start = self.at;
        let kind = match self.peek().ok_or_else(|| self.end())? {
            '{' | '[' if self.depth >= DEPTH_MAX => {
                return Err(self.error(format!("nested more than {DEPTH_MAX} levels deep")));
            }
            '{' => self.nested(Self::object)?,
            '[' => self.nested(Self::array)?,
            '"' => Json::String(self.string()?),
            't' => self.word("true", Json::Bool(true))?,
            'f' => self.word("false", Json::Bool(false))?,
            'n' => self.word("null", Json::Null)?,
            '-' | '0'..='9' => self.number()?,
            c => return Err(self.unexpected(c, "looking for beginning of value")),
        };
        Ok(Node { span: Span { start, end: self.at }, kind })
    }

    fn nested(&mut self, read: fn(&mut Self) -> Result<Json, JsonError>) -> Result<Json, JsonError> {
        self.depth += 1;
        self.skip(1);
        let result = read(self);
        self.depth -= 1;
        result
    }

    fn word(&mut self, word: &str, value: Json) -> Result<Json, JsonError> {
        for expected in word.chars() {
            match self.peek() {
                Some(c) if c == expected => self.skip(1),
                Some(c) => {
                    return Err(self.unexpected(c, &format!("in literal {word} (expecting {expected:?})")));
                }
                None => return Err(self.end()),
            }
        }
        Ok(value)
    }

    fn digits(&mut self, context: &str) -> Result<(), JsonError> {
        let count = self.rest().bytes().take_while(u8::is_ascii_digit).count();
        if count == 0 {
            return Err(self.peek().map_or_else(|| self.end(), |c| self.unexpected(c, context)));
        }
        self.skip(count);
        Ok(())
    }

    fn number(&mut self) -> Result<Json, JsonError> {
        let start = self.at.byte;
        if self.rest().starts_with('-') {
            self.skip(1);
        }
        if self.rest().starts_with('0') {
            self.skip(1)
        } else {
            self.digits("in numeric literal")?
        }
        if self.rest().starts_with('.') {
            self.skip(1);
            self.digits("after decimal point in numeric literal")?;
        }
        if self.rest().starts_with(['e', 'E']) {
            self.skip(1);
            if self.rest().starts_with(['+', '-']) {
                self.skip(1);
            }
            self.digits("in exponent of numeric literal")?;
        }
        Ok(Json::Number(self.text[start..self.at.byte].to_string()))
    }

    fn string(&mut self) -> Result<String, JsonError> {
        self.skip(1);
        let mut out = String::new();
        loop {
            let rest = self.rest();
            let plain = rest.find(|c: char| c == '"' || c == '\\' || (c as u32) < 0x20).unwrap_or(rest.len());
            out.push_str(&rest[..plain]);
            self.skip(plain);
            match self.peek() {
                None => return Err(self.end()),
                Some('"') => {
                    self.skip(1);
                    return Ok(out);
                }
                Some('\\') => out.push(self.escape()?),
                Some(c) => return Err(self.unexpected(c, "in string literal")),
            }
        }
    }

    fn escape(&mut self) -> Result<char, JsonError> {
        self.skip(1);
        let c = self.peek().ok_or_else(|| self.end())?;
        let plain = match c {
            '"' | '\\' | '/' => c,
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => return self.unicode(),
            c => return Err(self.unexpected(c, "in string escape code")),
        };
        self.skip(1);
        Ok(plain)
    }

    fn unicode(&mut self) -> Result<char, JsonError> {
        let first = self.four()?;
        if (0xd800..0xdc00).contains(&first) && self.rest().starts_with("\\u") {
            let before = self.at;
            self.skip(1);
            let second = self.four()?;
            if (0xdc00..0xe000).contains(&second) {
                let code = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                return Ok(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            self.at = before;
        }
        Ok(char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    /// The `u` and the number behind it.
    fn four(&mut self) -> Result<u32, JsonError> {
        self.skip(1);
        let digits = self.rest().get(..4).filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()));
        match digits.and_then(|d| u32::from_str_radix(d, 16).ok()) {
            Some(code) => {
                self.skip(4);
                Ok(code)
            }
            None => Err(self.error("invalid character in \\u hexadecimal character escape")),
        }
    }

    fn array(&mut self) -> Result<Json, JsonError> {
        let mut items = Vec::new();
        self.blanks();
        if self.rest().starts_with(']') {
            self.skip(1);
            return Ok(Json::Array(items));
        }
        loop {
            self.blanks();
            items.push(self.value()?);
            self.blanks();
            match self.peek() {
                Some(',') => self.skip(1),
                Some(']') => {
                    self.skip(1);
                    return Ok(Json::Array(items));
                }
                Some(c) => return Err(self.unexpected(c, "after array element")),
                None => return Err(self.end()),
            }
        }
    }

    fn object(&mut self) -> Result<Json, JsonError> {
        let mut members = Vec::new();
        self.blanks();
        if self.rest().starts_with('}') {
            self.skip(1);
            return Ok(Json::Object(members));
        }
        loop {
            self.blanks();
            let start = self.at;
            let name = match self.peek() {
                Some('"') => self.string()?,
                Some(c) => return Err(self.unexpected(c, "looking for beginning of object key string")),
                None => return Err(self.end()),
            };
            let name_span = Span { start, end: self.at };
            self.blanks();
            match self.peek() {
                Some(':') => self.skip(1),
                Some(c) => return Err(self.unexpected(c, "after object key")),
                None => return Err(self.end()),
            }
            self.blanks();
            members.push(Member { name, name_span, value: self.value()? });
            self.blanks();
            match self.peek() {
                Some(',') => self.skip(1),
                Some('}') => {
                    self.skip(1);
                    return Ok(Json::Object(members));
                }
                Some(c) => return Err(self.unexpected(c, "after object key:value pair")),
                None => return Err(self.end()),
            }
        }
    }
}
