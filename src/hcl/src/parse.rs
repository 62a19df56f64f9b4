//! Tokens to a syntax tree: files and blocks. Expressions and templates are in the modules below.

mod expression;
mod template;

use std::collections::BTreeMap;

use crate::diagnostics::Diagnostic;
use crate::range::{Position, Source, Span};
use crate::scan::{Kind, Token, scan_code, scan_template};
use crate::syntax::{AttributeSyntax, BlockSyntax, BodySyntax, Expr, Item};

/// How deep blocks and expressions may nest. Each level costs a few stack frames here and in the evaluator; job files
/// nest ten deep at most.
pub(crate) const DEPTH_MAX: usize = 100;

/// Errors listed of one file. After so many the reader mends the first ones and asks again.
const ERRORS_MAX: usize = 50;

/// Which texts are accepted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Dialect {
    /// HCL2.
    Native,
    /// What HCL1 files hold on top: quoted names, several items on a line, repeated names, `${` without meaning.
    Plain,
}

/// An error about what was read has been noted; the caller skips to where reading can go on.
#[derive(Debug)]
pub(super) struct Failed;

type Parsed<T> = Result<T, Failed>;

/// Reads a whole file.
pub(crate) fn parse_body(source: &Source, dialect: Dialect) -> Result<BodySyntax, Vec<Diagnostic>> {
    let mut parser = Parser::new(source, scan_code(&source.text, Position::START), dialect);
    parser.report_bad_tokens();
    let body = parser.body(Kind::End);
    parser.finish(body)
}

/// Reads a single expression that stands at `start` of its file, such as the value of a variable on the command line.
pub(crate) fn parse_expression(source: &Source) -> Result<Expr, Vec<Diagnostic>> {
    let mut parser = Parser::new(source, scan_code(&source.text, Position::START), Dialect::Native);
    parser.report_bad_tokens();
    parser.newlines.push(false);
    let expr = parser.expression();
    if expr.is_ok() && parser.peek().kind != Kind::End {
        let span = parser.peek().span;
        parser.error(
            "Extra characters after expression",
            "An expression was successfully parsed, but extra characters were found after it.",
            span,
        );
    }
    match expr {
        Ok(expr) => parser.finish(expr),
        Err(Failed) => Err(parser.problems),
    }
}

/// Reads a template without quotes, such as a string of a JSON text, whose first character stands at `start`.
pub(crate) fn parse_template(source: &Source, text: &str, start: Position) -> Result<Expr, Vec<Diagnostic>> {
    let tokens = scan_template(text, start);
    let mut parser = Parser::new(source, tokens, Dialect::Native);
    parser.text = text;
    parser.base = start.byte;
    let expr = parser.bare_template();
    match expr {
        Ok(expr) => parser.finish(expr),
        Err(Failed) => Err(parser.problems),
    }
}

pub(super) struct Parser<'s> {
    source: &'s Source,
    text: &'s str,
    /// Byte of the file at which `text` begins.
    base: usize,
    tokens: Vec<Token>,
    next: usize,
    /// Whether newlines count, innermost last.
    newlines: Vec<bool>,
    /// After a structural error nothing is said about structure any more: it would be about the same mistake.
    recovering: bool,
    problems: Vec<Diagnostic>,
    depth: usize,
    dialect: Dialect,
}

impl<'s> Parser<'s> {
    fn new(source: &'s Source, tokens: Vec<Token>, dialect: Dialect) -> Parser<'s> {
        Parser {
            source,
            text: &source.text,
            base: 0,
            tokens,
            next: 0,
            newlines: vec![true],
            recovering: false,
            problems: Vec::new(),
            depth: 0,
            dialect,
        }
    }

    fn finish<T>(self, parsed: T) -> Result<T, Vec<Diagnostic>> {
        if self.problems.is_empty() { Ok(parsed) } else { Err(self.problems) }
    }

    fn error(&mut self, summary: &str, detail: impl Into<String>, span: Span) {
        if self.problems.len() < ERRORS_MAX {
            self.problems.push(Diagnostic::error(summary, detail, self.source.range(span)));
        }
    }

    fn fail<T>(&mut self, summary: &str, detail: impl Into<String>, span: Span) -> Parsed<T> {
        if !self.recovering {
            self.error(summary, detail, span);
            self.recovering = true;
        }
        Err(Failed)
    }

    fn token_text(&self, token: Token) -> &'s str {
        &self.text[token.span.start.byte - self.base..token.span.end.byte - self.base]
    }

    fn skips(&self, kind: Kind) -> bool {
        kind == Kind::Comment || (kind == Kind::Newline && self.newlines.last() == Some(&false))
    }

    fn peek(&self) -> Token {
        let mut at = self.next;
        while self.skips(self.tokens[at].kind) {
            at += 1;
        }
        self.with_comment(at)
    }

    /// The token; a newline begins where the comment before it does.
    fn with_comment(&self, at: usize) -> Token {
        let mut token = self.tokens[at];
        if token.kind == Kind::Newline
            && let Some(comment) = at.checked_sub(1).map(|before| self.tokens[before])
            && comment.kind == Kind::Comment
            && !self.token_text(comment).starts_with("/*")
        {
            token.span = comment.span.to(token.span);
        }
        token
    }

    fn read(&mut self) -> Token {
        while self.skips(self.tokens[self.next].kind) {
            self.next += 1;
        }
        let token = self.with_comment(self.next);
        if token.kind != Kind::End {
            self.next += 1;
        }
        token
    }

    /// Where the last token that was read ends.
    fn previous(&self) -> Span {
        self.tokens[..self.next]
            .iter()
            .rev()
            .find(|t| !self.skips(t.kind))
            .map_or(self.tokens[0].span, |t| t.span)
    }

    fn deeper<T>(&mut self, read: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        if self.depth >= DEPTH_MAX {
            let span = self.peek().span;
            return self.fail(
                "Nesting too deep",
                format!("Blocks and expressions may nest {DEPTH_MAX} levels deep."),
                span,
            );
        }
        self.depth += 1;
        let result = read(self);
        self.depth -= 1;
        result
    }

    fn report_bad_tokens(&mut self) {
        if let Some(last) = self.tokens.iter().rev().find(|token| token.kind == Kind::TooMany) {
            let detail = "The file has too many words and signs to be read. No job needs as many.";
            self.problems.push(Diagnostic::error("File too complex", detail, self.source.range(last.span)));
            self.next = self.tokens.len() - 1;
            return;
        }
        let mut told = Vec::new();
        for i in 0..self.tokens.len() {
            let token = self.tokens[i];
            if !matches!(token.kind, Kind::QuotedNewline | Kind::Invalid) {
                continue;
            }
            let text = self.token_text(token);
            let detail = match (token.kind, text) {
                (Kind::QuotedNewline, _) => {
                    self.error("Invalid multi-line string", "Quoted strings may not be split over multiple lines. To produce a multi-line string, either use the \\n escape to represent a newline character or use the \"heredoc\" multi-line template syntax.", token.span);
                    continue;
                }
                (Kind::Invalid, "'") => {
                    "Single quotes are not valid. Use double quotes (\") to enclose strings."
                }
                (Kind::Invalid, "`") => {
                    "The \"`\" character is not valid. To create a multi-line string, use the \"heredoc\" syntax, like \"<<EOT\"."
                }
                (Kind::Invalid, ";") => {
                    "The \";\" character is not valid. Use newlines to separate arguments and blocks, and commas to separate items in collection values."
                }
                (Kind::Invalid, "&") => {
                    "Bitwise operators are not supported. Did you mean boolean AND (\"&&\")?"
                }
                (Kind::Invalid, "|") => {
                    "Bitwise operators are not supported. Did you mean boolean OR (\"||\")?"
                }
                (Kind::Invalid, "~") => {
                    "Bitwise operators are not supported. Did you mean boolean NOT (\"!\")?"
                }
                (Kind::Invalid, "^") => "Bitwise operators are not supported.",
                (Kind::Invalid, _) => "This character is not used within the language.",
                _ => continue,
            };
            if !told.contains(&detail) {
                told.push(detail);
                let operator = matches!(text, "&" | "|" | "~" | "^");
                let summary = if operator { "Unsupported operator" } else { "Invalid character" };
                self.error(summary, detail, token.span);
            }
        }
    }

    fn body(&mut self, end: Kind) -> BodySyntax {
        let start = self.previous();
        let mut items = Vec::new();
        let mut names: BTreeMap<&'s str, Span> = BTreeMap::new();
        loop {
            // What else is wrong is said once these are mended.
            if self.problems.len() >= ERRORS_MAX {
                self.next = self.tokens.len() - 1;
                break;
            }
            let next = self.peek();
            if next.kind == end {
                self.read();
                break;
            }
            match next.kind {
                Kind::Newline => {
                    self.read();
                }
                Kind::Comma if self.dialect == Dialect::Plain => {
                    self.read();
                }
                Kind::Ident => {
                    let before = self.problems.len();
                    match self.item(false) {
                        Ok(Item::Attribute(attribute)) => self.keep(attribute, &mut items, &mut names),
                        Ok(block @ Item::Block(_)) => items.push(block),
                        Err(Failed) => self.skip_item(self.problems.len() > before),
                    }
                }
                Kind::OpenQuote if self.dialect == Dialect::Plain => match self.item(false) {
                    Ok(item) => items.push(item),
                    Err(Failed) => self.skip_item(true),
                },
                Kind::End => {
                    self.unclosed(start);
                    break;
                }
                _ => {
                    self.stray(next);
                    self.skip_to_close(end);
                    break;
                }
            }
        }
        let span = if end == Kind::End {
            Span { start: Position::START, end: self.previous().end }
        } else {
            start.to(self.previous())
        };
        BodySyntax { items, span, json: false }
    }

    fn keep(
        &mut self,
        attribute: AttributeSyntax,
        items: &mut Vec<Item>,
        names: &mut BTreeMap<&'s str, Span>,
    ) {
        // In HCL1 a name may be in quotes; it may be there as often as its writer likes, too.
        let span = attribute.name_span;
        let name = &self.text[span.start.byte - self.base..span.end.byte - self.base];
        match names.get(name).copied() {
            Some(first) if self.dialect == Dialect::Native => {
                let detail = format!(
                    "The argument {:?} was already set at {}. Each argument may be set only once.",
                    attribute.name,
                    self.source.range(first)
                );
                self.error("Attribute redefined", detail, attribute.name_span);
            }
            Some(_) | None => {
                names.insert(name, attribute.name_span);
                items.push(Item::Attribute(attribute));
            }
        }
    }

    fn unclosed(&mut self, open: Span) {
        let detail = "There is no closing brace for this block before the end of the file. This may be caused by incorrect brace nesting elsewhere in this file.";
        let _reported: Parsed<()> = self.fail("Unclosed configuration block", detail, open);
    }

    fn stray(&mut self, token: Token) {
        let _reported: Parsed<()> = if token.kind == Kind::OpenQuote {
            self.fail("Invalid argument name", "Argument names must not be quoted.", token.span)
        } else {
            self.fail(
                "Argument or block definition required",
                "An argument or block definition is required here.",
                token.span,
            )
        };
    }

    fn item(&mut self, single_line: bool) -> Parsed<Item> {
        let (name, name_span) = match self.peek().kind {
            Kind::OpenQuote => self.label()?,
            _ => {
                let token = self.read();
                (self.token_text(token).to_string(), token.span)
            }
        };
        let next = self.peek();
        match next.kind {
            Kind::Equal => self.attribute(name, name_span, single_line).map(Item::Attribute),
            Kind::Colon if self.dialect == Dialect::Plain => self.attribute(name, name_span, single_line).map(Item::Attribute),
            Kind::OpenQuote | Kind::OpenBrace | Kind::Ident if single_line => {
                let detail = format!("A single-line block definition can contain only a single argument. If you meant to define argument {name:?}, use an equals sign to assign it a value. To define a nested block, place it on a line of its own within its parent block.");
                self.fail("Argument definition required", detail, name_span.to(next.span))
            }
            Kind::OpenQuote | Kind::OpenBrace | Kind::Ident => self.deeper(|p| p.block(name, name_span)).map(Item::Block),
            _ => self.fail(
                "Argument or block definition required",
                "An argument or block definition is required here. To set an argument, use the equals sign \"=\" to introduce the argument value.",
                name_span,
            ),
        }
    }

    fn attribute(&mut self, name: String, name_span: Span, single_line: bool) -> Parsed<AttributeSyntax> {
        self.read();
        // An expression has its own mistakes, however muddled the blocks around it are.
        let muddled = std::mem::replace(&mut self.recovering, false);
        let expr = self.expression()?;
        self.recovering = muddled;
        let end = self.peek();
        if !single_line && self.dialect == Dialect::Native {
            match end.kind {
                Kind::Newline => {
                    self.read();
                }
                Kind::End => {}
                Kind::Comma => {
                    return self.fail(
                        "Unexpected comma after argument",
                        "Argument definitions must be separated by newlines, not commas. An argument definition must end with a newline.",
                        end.span,
                    );
                }
                _ => {
                    return self.fail(
                        "Missing newline after argument",
                        "An argument definition must end with a newline.",
                        end.span,
                    );
                }
            }
        }
        Ok(AttributeSyntax { name, name_span, expr })
    }

    fn block(&mut self, kind: String, kind_span: Span) -> Parsed<BlockSyntax> {
        let mut labels = Vec::new();
        let open = loop {
            let next = self.peek();
            match next.kind {
                Kind::OpenBrace => break self.read().span,
                Kind::OpenQuote => labels.push(self.label()?),
                Kind::Ident => {
                    self.read();
                    labels.push((self.token_text(next).to_string(), next.span));
                }
                Kind::Equal => {
                    return self.fail("Invalid block definition", "The equals sign \"=\" indicates an argument definition, and must not be used when defining a block.", next.span);
                }
                Kind::Newline => {
                    return self.fail("Invalid block definition", "A block definition must have block content delimited by \"{\" and \"}\", starting on the same line as the block header.", next.span);
                }
                _ => {
                    return self.fail(
                        "Invalid block definition",
                        "Either a quoted string block label or an opening brace (\"{\") is expected here.",
                        next.span,
                    );
                }
            }
        };
        let whole = matches!(self.peek().kind, Kind::Newline | Kind::End | Kind::CloseBrace);
        self.newlines.push(true);
        let body = if whole || self.dialect == Dialect::Plain {
            Ok(self.body(Kind::CloseBrace))
        } else {
            self.single(open)
        };
        self.newlines.pop();
        let body = body?;
        let end = self.peek();
        match end.kind {
            Kind::Newline => {
                self.read();
            }
            Kind::End => {}
            _ if self.dialect == Dialect::Plain => {}
            _ => {
                return self.fail(
                    "Missing newline after block definition",
                    "A block definition must end with a newline.",
                    end.span,
                );
            }
        }
        let head = labels.last().map_or(kind_span, |(_, label)| kind_span.to(*label));
        Ok(BlockSyntax { kind, kind_span, labels, head, open, body })
    }

    /// The inside of a block on one line: a single argument.
    fn single(&mut self, open: Span) -> Parsed<BodySyntax> {
        let first = self.peek();
        if first.kind != Kind::Ident {
            return self.fail(
                "Argument or block definition required",
                "A single-line block definition can contain only a single argument.",
                first.span,
            );
        }
        let item = self.item(true)?;
        let end = self.peek();
        match end.kind {
            Kind::CloseBrace => {
                self.read();
            }
            Kind::End => {
                self.unclosed(open);
                return Err(Failed);
            }
            Kind::Comma => {
                return self.fail("Invalid single-argument block definition", "Single-line block syntax can include only one argument definition. To define multiple arguments, use the multi-line block syntax with one argument definition per line.", end.span);
            }
            Kind::Newline => {
                return self.fail("Invalid single-argument block definition", "An argument definition on the same line as its containing block creates a single-line block definition, which must also be closed on the same line. Place the block's closing brace immediately after the argument definition.", end.span);
            }
            _ => {
                return self.fail("Invalid single-argument block definition", "A single-line block definition must end with a closing brace immediately after its single argument definition.", end.span);
            }
        }
        Ok(BodySyntax { items: vec![item], span: open.to(end.span), json: false })
    }

    /// A quoted text that must be known without computing.
    fn label(&mut self) -> Parsed<(String, Span)> {
        let open = self.read();
        let mut text = String::new();
        loop {
            let token = self.read();
            match token.kind {
                Kind::CloseQuote => return Ok((text, open.span.to(token.span))),
                Kind::QuotedText => text.push_str(&self.unescape(token)),
                Kind::Interpolation | Kind::Control if self.dialect == Dialect::Plain => {
                    let raw = self.raw_sequence(token);
                    text.push_str(raw);
                }
                Kind::Interpolation | Kind::Control => {
                    let sign = if token.kind == Kind::Interpolation { '$' } else { '%' };
                    let detail = format!(
                        "Template sequences are not allowed in this string. To include a literal {:?}, double it (as \"{sign}{sign}\") to escape it.",
                        sign.to_string()
                    );
                    return self.fail("Invalid string literal", detail, token.span);
                }
                // Said already, token by token.
                Kind::QuotedNewline => {
                    self.recovering = true;
                    return Err(Failed);
                }
                _ => {
                    return self.fail(
                        "Unterminated string literal",
                        "Unable to find the closing quote mark before the end of the file.",
                        token.span,
                    );
                }
            }
        }
    }

    /// Skips what is left of an item that could not be read, so that the one on the next line can be.
    fn skip_item(&mut self, _reported: bool) {
        self.recovering = true;
        let line = self.tokens[self.next.saturating_sub(1)].span.start.line;
        // Brackets that the failed item has opened on its way here.
        let mut begin = self.next.min(self.tokens.len() - 1);
        while begin > 0
            && !(self.tokens[begin - 1].kind == Kind::Newline
                && self.tokens[begin - 1].span.start.line < line)
        {
            begin -= 1;
        }
        let mut open = Vec::new();
        for at in begin..self.next {
            balance(&mut open, self.tokens[at].kind);
        }
        if self.next > 0 && self.tokens[self.next - 1].kind == Kind::Newline && open.is_empty() {
            return;
        }
        loop {
            let token = self.tokens[self.next];
            if token.kind == Kind::End || (token.kind == Kind::CloseBrace && open.is_empty()) {
                return;
            }
            self.next += 1;
            if token.kind == Kind::Newline && open.is_empty() {
                return;
            }
            balance(&mut open, token.kind);
        }
    }

    /// Skips to the bracket that closes, whatever else does not fit before it, and tells where it stands.
    pub(super) fn close_after(&mut self, open: Kind, close: Kind) -> Span {
        let mut nested = 0usize;
        loop {
            let token = self.read();
            match token.kind {
                kind if kind == open => nested += 1,
                kind if kind == close && nested == 0 => return token.span,
                kind if kind == close => nested -= 1,
                Kind::End => return token.span,
                _ => {}
            }
        }
    }

    fn skip_to_close(&mut self, end: Kind) {
        let mut open = Vec::new();
        loop {
            let token = self.tokens[self.next];
            if token.kind == Kind::End {
                return;
            }
            self.next += 1;
            if token.kind == end && open.is_empty() {
                return;
            }
            balance(&mut open, token.kind);
        }
    }
}

/// Keeps track of which brackets are open; one that closes an outer bracket closes the inner ones as well.
fn balance(open: &mut Vec<Kind>, kind: Kind) {
    let opener = match kind {
        Kind::OpenBrace | Kind::OpenBracket | Kind::OpenParen | Kind::OpenQuote | Kind::OpenHeredoc => {
            return open.push(kind);
        }
        Kind::Interpolation | Kind::Control => return open.push(Kind::Interpolation),
        Kind::CloseBrace => Kind::OpenBrace,
        Kind::CloseBracket => Kind::OpenBracket,
        Kind::CloseParen => Kind::OpenParen,
        Kind::CloseQuote => Kind::OpenQuote,
        Kind::CloseHeredoc => Kind::OpenHeredoc,
        Kind::TemplateEnd => Kind::Interpolation,
        _ => return,
    };
    match open.iter().rposition(|k| *k == opener) {
        Some(at) => open.truncate(at),
        None => open.clear(),
    }
}
