//! Templates: quoted texts, heredocs, and the strings of JSON texts.

use unicode_segmentation::UnicodeSegmentation;

use super::{Dialect, Parsed, Parser};
use crate::range::Span;
use crate::scan::{Kind, Token};
use crate::syntax::{Conditional, Expr, ExprKind, ForExpr};
use crate::value::Value;

/// A template taken apart, before its directives are matched with their ends.
enum Part {
    Text { text: String, span: Span },
    Value { expr: Expr },
    If { condition: Expr, span: Span },
    Else { span: Span },
    EndIf { span: Span },
    For { key_name: Option<String>, value_name: String, collection: Expr, span: Span },
    EndFor { span: Span },
}

impl Part {
    fn span(&self) -> Span {
        match self {
            Part::Text { span, .. } | Part::If { span, .. } | Part::Else { span } | Part::EndIf { span } => {
                *span
            }
            Part::For { span, .. } | Part::EndFor { span } => *span,
            Part::Value { expr } => expr.span,
        }
    }
}

impl<'s> Parser<'s> {
    pub(super) fn quoted(&mut self) -> Parsed<Expr> {
        let open = self.read();
        if self.dialect == Dialect::Plain {
            // Unescaped text either way.
            self.next -= 1;
            let (text, span) = self.label()?;
            return Ok(Expr::new(span, ExprKind::Literal(Value::string(text))));
        }
        let (parts, close) = self.parts(open, Kind::CloseQuote)?;
        self.assemble(parts, open.span.to(close), close)
    }

    pub(super) fn heredoc(&mut self) -> Parsed<Expr> {
        let open = self.read();
        let (mut parts, close) = self.parts(open, Kind::CloseHeredoc)?;
        if self.token_text(open).starts_with("<<-") {
            remove_indent(&mut parts);
        }
        self.assemble(parts, open.span.to(close), close)
    }

    /// A whole text that is a template.
    pub(super) fn bare_template(&mut self) -> Parsed<Expr> {
        let open = self.peek();
        let (parts, close) = self.parts(open, Kind::End)?;
        self.assemble(parts, open.span.to(close), close)
    }

    /// The text of a sequence that means nothing here, from its opening on, as it is written.
    pub(super) fn raw_sequence(&mut self, open: Token) -> &'s str {
        let mut depth = 1;
        while depth > 0 {
            let token = self.tokens[self.next];
            match token.kind {
                Kind::Interpolation | Kind::Control => depth += 1,
                Kind::TemplateEnd => depth -= 1,
                Kind::End => break,
                _ => {}
            }
            self.next += 1;
        }
        let end = self.tokens[self.next.saturating_sub(1)].span.end.byte;
        &self.text[open.span.start.byte - self.base..end - self.base]
    }

    fn parts(&mut self, open: Token, end: Kind) -> Parsed<(Vec<Part>, Span)> {
        let mut parts: Vec<Part> = Vec::new();
        let mut trim_next = false;
        loop {
            // No token within a template is to be skipped, newlines least of all.
            let token = self.tokens[self.next];
            if token.kind != Kind::End {
                self.next += 1;
            }
            if token.kind == end {
                return Ok((parts, token.span));
            }
            match token.kind {
                Kind::QuotedText | Kind::PlainText => {
                    let text = if token.kind == Kind::QuotedText {
                        self.unescape(token)
                    } else {
                        unescape_plain(self.token_text(token))
                    };
                    let text = if trim_next { text.trim_start().to_string() } else { text };
                    trim_next = false;
                    parts.push(Part::Text { text, span: token.span });
                }
                // Said already, token by token.
                Kind::QuotedNewline => self.recovering_newline(),
                Kind::Interpolation | Kind::Control if self.dialect == Dialect::Plain => {
                    let text = self.raw_sequence(token).to_string();
                    parts.push(Part::Text { text, span: token.span });
                }
                Kind::Interpolation | Kind::Control => {
                    if self.token_text(token).ends_with('~')
                        && let Some(Part::Text { text, .. }) = parts.last_mut()
                    {
                        text.truncate(text.trim_end().len());
                    }
                    self.newlines.push(false);
                    let part = self.sequence(token);
                    self.newlines.pop();
                    parts.push(part?);
                    trim_next = self.token_text(self.tokens[self.next - 1]).starts_with('~');
                }
                _ => {
                    // Several newline errors tell about the same missing quote; this one tells where it began.
                    self.recovering = false;
                    let begin = self.source.range(open.span);
                    let detail =
                        format!("No closing marker was found for the string that begins at {begin}.");
                    return self.fail("Unterminated template string", detail, token.span);
                }
            }
        }
    }

    fn recovering_newline(&mut self) {
        self.recovering = true;
    }

    fn sequence(&mut self, open: Token) -> Parsed<Part> {
        if open.kind == Kind::Control {
            return self.control(open);
        }
        let expr = self.expression()?;
        self.end_sequence(
            open,
            "Extra characters after interpolation expression",
            "Expected a closing brace to end the interpolation expression, but found extra characters.",
        )?;
        Ok(Part::Value { expr })
    }

    fn end_sequence(&mut self, open: Token, summary: &str, detail: &str) -> Parsed<Span> {
        let close = self.peek();
        match close.kind {
            Kind::TemplateEnd => Ok(self.read().span),
            Kind::End => self.fail("Unclosed template interpolation sequence", "There is no closing brace for this interpolation sequence before the end of the file. This might be caused by incorrect nesting inside the given expression.", open.span),
            // The quote that ends the template, which is scanned as one that begins another.
            Kind::CloseQuote | Kind::OpenQuote if open.kind == Kind::Interpolation => self.fail("Unclosed template interpolation sequence", "There is no closing brace for this interpolation sequence before the end of the quoted template. This might be caused by incorrect nesting inside the given expression.", open.span),
            Kind::Colon if open.kind == Kind::Interpolation => self.fail(summary, "Template interpolation doesn't expect a colon at this location. If this is a literal sequence for another language, begin it with \"$${\" instead of just \"${\".", close.span),
            _ => self.fail(summary, detail, close.span),
        }
    }

    fn control(&mut self, open: Token) -> Parsed<Part> {
        const EXTRA: &str = "Extra characters after control expression";
        const DETAIL: &str =
            "Expected a closing brace to end the control sequence, but found extra characters.";
        let word = self.peek();
        if word.kind != Kind::Ident {
            return self.fail("Invalid template directive", "A template directive keyword (\"if\", \"for\", etc) is expected at the beginning of a %{ sequence.", word.span);
        }
        self.read();
        let to = |end: Span| open.span.to(end);
        Ok(match self.token_text(word) {
            "if" => {
                let condition = self.expression()?;
                Part::If { condition, span: to(self.end_sequence(open, EXTRA, DETAIL)?) }
            }
            "else" => Part::Else { span: to(self.end_sequence(open, EXTRA, DETAIL)?) },
            "endif" => Part::EndIf { span: to(self.end_sequence(open, EXTRA, DETAIL)?) },
            "for" => {
                let (key_name, value_name) = self.for_names()?;
                let collection = self.expression()?;
                Part::For {
                    key_name,
                    value_name,
                    collection,
                    span: to(self.end_sequence(open, EXTRA, DETAIL)?),
                }
            }
            "endfor" => Part::EndFor { span: to(self.end_sequence(open, EXTRA, DETAIL)?) },
            other => {
                let known = ["if", "else", "endif", "for", "endfor"];
                let hint = crate::diagnostics::similar_name(other, known);
                let hint = hint.map(|known| format!(" Did you mean {known:?}?")).unwrap_or_default();
                let detail = format!("{other:?} is not a valid template control keyword.{hint}");
                return self.fail("Invalid template control keyword", detail, word.span);
            }
        })
    }

    fn assemble(&mut self, mut parts: Vec<Part>, span: Span, close: Span) -> Parsed<Expr> {
        if parts.len() == 1 {
            match parts.remove(0) {
                Part::Value { expr } => return Ok(Expr::new(span, ExprKind::Wrap(Box::new(expr)))),
                other => parts.push(other),
            }
        }
        let exprs = self.sequence_of(&mut parts.into_iter().peekable(), close, &[])?;
        Ok(Expr::new(span, ExprKind::Template(exprs)))
    }

    /// Parts up to a directive that ends the surrounding one, which is left to be read.
    fn sequence_of(&mut self, parts: &mut Parts, close: Span, ends: &[End]) -> Parsed<Vec<Expr>> {
        let mut exprs = Vec::new();
        while let Some(part) = parts.peek() {
            if ends.iter().any(|end| end.matches(part)) {
                break;
            }
            let span = part.span();
            match parts.next() {
                Some(Part::Text { text, span }) => {
                    exprs.push(Expr::new(span, ExprKind::Literal(Value::string(text))))
                }
                Some(Part::Value { expr }) => exprs.push(expr),
                Some(Part::If { condition, span }) => {
                    exprs.push(self.deeper(|p| p.if_directive(parts, condition, span, close))?)
                }
                Some(Part::For { key_name, value_name, collection, span }) => {
                    let rounds = self.deeper(|p| p.sequence_of(parts, close, &[End::For]))?;
                    let end = self.expect_end(parts, span, close, "for")?;
                    let value = Expr::new(span.to(end), ExprKind::Template(rounds));
                    let rounds = ForExpr {
                        key_name,
                        value_name,
                        collection,
                        key: None,
                        value,
                        condition: None,
                        group: false,
                        open: span,
                    };
                    let rounds = Expr::new(span.to(end), ExprKind::For(Box::new(rounds)));
                    exprs.push(Expr::new(span.to(end), ExprKind::Join(Box::new(rounds))));
                }
                Some(part @ (Part::Else { .. } | Part::EndIf { .. } | Part::EndFor { .. })) => {
                    let word = match part {
                        Part::Else { .. } => "else",
                        Part::EndIf { .. } => "endif",
                        _ => "endfor",
                    };
                    let summary = format!("Unexpected {word} directive");
                    let detail = "The control directives within this template are unbalanced.";
                    return self.fail(&summary, detail, span);
                }
                None => break,
            }
        }
        if exprs.is_empty() {
            exprs.push(Expr::new(close.at_end(), ExprKind::Literal(Value::string(""))));
        }
        Ok(exprs)
    }

    fn if_directive(&mut self, parts: &mut Parts, condition: Expr, span: Span, close: Span) -> Parsed<Expr> {
        let yes = self.sequence_of(parts, close, &[End::Else, End::If])?;
        let mut no = vec![Expr::new(close.at_end(), ExprKind::Literal(Value::string("")))];
        if matches!(parts.peek(), Some(Part::Else { .. })) {
            parts.next();
            no = self.sequence_of(parts, close, &[End::If])?;
        }
        let end = self.expect_end(parts, span, close, "if")?;
        let whole = span.to(end);
        let (yes, no) = (Expr::new(whole, ExprKind::Template(yes)), Expr::new(whole, ExprKind::Template(no)));
        Ok(Expr::new(whole, ExprKind::Conditional(Box::new(Conditional { condition, yes, no }))))
    }

    fn expect_end(&mut self, parts: &mut Parts, begin: Span, close: Span, word: &str) -> Parsed<Span> {
        match parts.next() {
            Some(Part::EndIf { span } | Part::EndFor { span }) => Ok(span),
            Some(_) | None => {
                let begin = self.source.range(begin);
                let detail = format!(
                    "The {word} directive at {begin} is missing its corresponding end{word} directive."
                );
                self.fail("Unexpected end of template", detail, close)
            }
        }
    }

    /// Text within quotes with its escapes resolved. Wrong ones are reported and left out.
    pub(super) fn unescape(&mut self, token: Token) -> String {
        let raw = self.token_text(token);
        if !raw.contains(['\\', '$', '%']) {
            return raw.to_string();
        }
        let mut out = String::with_capacity(raw.len());
        let mut at = 0;
        while at < raw.len() {
            let here = &raw[at..];
            if self.dialect == Dialect::Native && (here.starts_with("$${") || here.starts_with("%%{")) {
                out.push_str(&here[1..3]);
                at += 3;
                continue;
            }
            let Some(c) = here.chars().next() else { break };
            if c != '\\' {
                out.push(c);
                at += c.len_utf8();
                continue;
            }
            let (length, resolved) = escape(here);
            match resolved {
                Ok(c) => out.push(c),
                Err(detail) => {
                    let span = self.sub_span(token, at, length);
                    self.error("Invalid escape sequence", detail, span);
                }
            }
            at += length;
        }
        out
    }

    fn sub_span(&self, token: Token, from: usize, length: usize) -> Span {
        let raw = self.token_text(token);
        let mut start = token.span.start;
        start.byte += from;
        start.column += raw[..from].graphemes(true).count() as u32;
        let mut end = start;
        end.byte += length;
        end.column += raw[from..from + length].graphemes(true).count() as u32;
        Span { start, end }
    }
}

type Parts = std::iter::Peekable<std::vec::IntoIter<Part>>;

#[derive(Clone, Copy)]
enum End {
    Else,
    If,
    For,
}

impl End {
    fn matches(self, part: &Part) -> bool {
        matches!(
            (self, part),
            (End::Else, Part::Else { .. }) | (End::If, Part::EndIf { .. }) | (End::For, Part::EndFor { .. })
        )
    }
}

/// How many bytes the escape at the start of `text` has, and what it stands for.
fn escape(text: &str) -> (usize, Result<char, String>) {
    let Some(selector) = text[1..].chars().next() else {
        return (1, Err("Backslash must be followed by an escape sequence selector character.".to_string()));
    };
    let digits = match selector {
        'n' => return (2, Ok('\n')),
        'r' => return (2, Ok('\r')),
        't' => return (2, Ok('\t')),
        '"' => return (2, Ok('"')),
        '\\' => return (2, Ok('\\')),
        'u' => 4,
        'U' => 8,
        other => {
            let detail =
                format!("The symbol {:?} is not a valid escape sequence selector.", other.to_string());
            return (1 + other.len_utf8(), Err(detail));
        }
    };
    let found = text[2..].bytes().take(digits).take_while(u8::is_ascii_hexdigit).count();
    if found < digits {
        let detail =
            format!("The \\{selector} escape sequence must be followed by {digits} hexadecimal digits.");
        return (2 + found, Err(detail));
    }
    let code = u32::from_str_radix(&text[2..2 + digits], 16).ok().and_then(char::from_u32);
    (2 + digits, code.ok_or_else(|| "This is not the number of a character.".to_string()))
}

fn unescape_plain(raw: &str) -> String {
    raw.replace("$${", "${").replace("%%{", "%{")
}

/// Takes from each line of a `<<-` heredoc the blanks that all lines have in front. Blank lines do not count.
fn remove_indent(parts: &mut [Part]) {
    let mut at_line_start = true;
    let mut least: Option<usize> = None;
    let mut starts = Vec::new();
    for (i, part) in parts.iter().enumerate() {
        if at_line_start {
            at_line_start = false;
            match part {
                Part::Text { text, .. } if text.trim_start().is_empty() && text.ends_with('\n') => {}
                Part::Text { text, .. } => {
                    let blanks = &text[..text.len() - text.trim_start().len()];
                    let count = blanks.graphemes(true).count();
                    least = Some(least.map_or(count, |l| l.min(count)));
                    starts.push(i);
                }
                _ => least = Some(0),
            }
        }
        if let Part::Text { text, .. } = part {
            at_line_start = text.ends_with('\n');
        }
    }
    let least = least.unwrap_or(0);
    for i in starts {
        if let Part::Text { text, .. } = &mut parts[i] {
            let bytes: usize = text.graphemes(true).take(least).map(str::len).sum();
            text.drain(..bytes);
        }
    }
}
