//! Expressions.

use super::{Failed, Parsed, Parser};
use crate::number::Number;
use crate::range::Span;
use crate::scan::{Kind, Token};
use crate::syntax::{Call, Conditional, Expr, ExprKind, ForExpr, Key, Operator, Step, StepKind};
use crate::value::Value;

impl<'s> Parser<'s> {
    pub(super) fn expression(&mut self) -> Parsed<Expr> {
        self.deeper(|p| {
            let condition = p.binary(0)?;
            if p.peek().kind != Kind::Question {
                return Ok(condition);
            }
            p.read();
            let yes = p.expression()?;
            let colon = p.peek();
            if colon.kind != Kind::Colon {
                return p.fail(
                    "Missing false expression in conditional",
                    "The conditional operator (...?...:...) requires a false expression, delimited by a colon.",
                    colon.span,
                );
            }
            p.read();
            let no = p.expression()?;
            let span = condition.span.to(no.span);
            Ok(Expr::new(span, ExprKind::Conditional(Box::new(Conditional { condition, yes, no }))))
        })
    }

    /// Operators that bind at least as tightly as `level`. Each one makes the tree a level higher.
    fn binary(&mut self, level: u8) -> Parsed<Expr> {
        let mut left = self.postfix()?;
        let mut taken = 0;
        while let Some((operator, binding)) = operator_of(self.peek().kind).filter(|(_, b)| *b >= level) {
            self.read();
            taken += 1;
            self.depth += 1;
            let right = self.deeper(|p| p.binary(binding + 1));
            let Ok(right) = right else {
                self.depth -= taken;
                return Err(Failed);
            };
            let span = left.span.to(right.span);
            left =
                Expr::new(span, ExprKind::Binary { operator, left: Box::new(left), right: Box::new(right) });
        }
        self.depth -= taken;
        Ok(left)
    }

    /// A term and what is taken from it.
    pub(super) fn postfix(&mut self) -> Parsed<Expr> {
        let term = self.term()?;
        self.traversals(term, false)
    }

    fn term(&mut self) -> Parsed<Expr> {
        let start = self.peek();
        match start.kind {
            Kind::OpenParen => self.parens(),
            Kind::Number => {
                self.read();
                self.number(start)
            }
            Kind::Ident => {
                self.read();
                self.name(start)
            }
            Kind::OpenQuote => self.quoted(),
            Kind::OpenHeredoc => self.heredoc(),
            Kind::Minus | Kind::Bang => {
                self.read();
                let operand = self.deeper(Self::postfix)?;
                let span = start.span.to(operand.span);
                let operand = Box::new(operand);
                let kind = if start.kind == Kind::Minus {
                    ExprKind::Negate(operand)
                } else {
                    ExprKind::Not(operand)
                };
                Ok(Expr::new(span, kind))
            }
            Kind::OpenBracket => self.bracketed(Kind::CloseBracket, Self::tuple),
            Kind::OpenBrace => self.bracketed(Kind::CloseBrace, Self::object),
            Kind::End => self.fail(
                "Missing expression",
                "Expected the start of an expression, but found the end of the file.",
                start.span,
            ),
            // Said already, token by token.
            Kind::Invalid => {
                self.recovering = true;
                Err(Failed)
            }
            Kind::Less if self.tokens.get(self.next + 1).is_some_and(|next| next.kind == Kind::Less) => self.fail(
                "Invalid expression",
                "A heredoc starts with \"<<\" and a name, such as \"<<EOT\", at the end of its line, without a blank behind it.",
                start.span,
            ),
            _ => self.fail(
                "Invalid expression",
                "Expected the start of an expression, but found an invalid expression token.",
                start.span,
            ),
        }
    }

    fn within<T>(&mut self, newlines: bool, read: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        self.newlines.push(newlines);
        let result = read(self);
        self.newlines.pop();
        result
    }

    fn parens(&mut self) -> Parsed<Expr> {
        self.within(false, |p| {
            let open = p.read();
            let inner = p.expression()?;
            let close = p.peek();
            if close.kind != Kind::CloseParen {
                return p.fail(
                    "Unbalanced parentheses",
                    "Expected a closing parenthesis to terminate the expression.",
                    close.span,
                );
            }
            p.read();
            Ok(Expr::new(open.span.to(close.span), ExprKind::Parens(Box::new(inner))))
        })
    }

    fn number(&mut self, token: Token) -> Parsed<Expr> {
        match Number::parse(self.token_text(token)) {
            Some(number) => Ok(Expr::new(token.span, ExprKind::Literal(Value::Number(number)))),
            None => self.fail(
                "Invalid number literal",
                "Failed to recognize the value of this number literal.",
                token.span,
            ),
        }
    }

    fn name(&mut self, token: Token) -> Parsed<Expr> {
        let mut name = self.token_text(token).to_string();
        let mut name_span = token.span;
        while self.peek().kind == Kind::DoubleColon {
            self.read();
            let part = self.read();
            if part.kind != Kind::Ident {
                return self.fail(
                    "Missing function name",
                    "A function name is required after \"::\".",
                    part.span,
                );
            }
            name = format!("{name}::{}", self.token_text(part));
            name_span = name_span.to(part.span);
        }
        let next = self.peek();
        if next.kind == Kind::OpenParen {
            return self.call(name, name_span);
        }
        if name.contains("::") {
            return self.fail(
                "Missing open parenthesis",
                "Function selector must be followed by an open parenthesis to begin the function call.",
                next.span,
            );
        }
        let literal = match name.as_str() {
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            "null" => Value::Null,
            _ => {
                let text = name.clone();
                return Ok(Expr::new(name_span, ExprKind::Traversal { root: name, steps: Vec::new(), text }));
            }
        };
        Ok(Expr::new(name_span, ExprKind::Literal(literal)))
    }

    fn call(&mut self, name: String, name_span: Span) -> Parsed<Expr> {
        self.within(false, |p| {
            let open = name_span.to(p.read().span);
            let mut arguments = Vec::new();
            let mut expand = false;
            let close = loop {
                if p.peek().kind == Kind::CloseParen {
                    break p.read().span;
                }
                if expand {
                    let span = p.peek().span;
                    return p.fail("Missing closing parenthesis", "An expanded function argument (with ...) must be immediately followed by closing parentheses.", span);
                }
                arguments.push(p.expression()?);
                let separator = p.peek();
                match separator.kind {
                    Kind::Comma => {
                        p.read();
                    }
                    Kind::Ellipsis => {
                        p.read();
                        expand = true;
                    }
                    Kind::CloseParen => {}
                    Kind::End => return p.fail("Unterminated function call", "There is no closing parenthesis for this function call before the end of the file. This may be caused by incorrect parenthesis nesting elsewhere in this file.", open),
                    _ => return p.fail("Missing argument separator", "A comma is required to separate each function argument from the next.", separator.span),
                }
            };
            let span = name_span.to(close);
            Ok(Expr::new(span, ExprKind::Call(Box::new(Call { name, name_span, open, close, arguments, expand }))))
        })
    }

    /// Attributes, indexes and splats that follow `from`. Those of a `.*` are attributes and plain numbers only.
    fn traversals(&mut self, from: Expr, attributes_only: bool) -> Parsed<Expr> {
        let mut from = from;
        let mut taken = 0;
        loop {
            let next = self.peek();
            let step = match next.kind {
                Kind::Dot => self.dot(from, attributes_only),
                Kind::OpenBracket if !attributes_only => self.within(false, |p| p.index(from)),
                _ => break,
            };
            taken += 1;
            self.depth += 1;
            if self.depth > super::DEPTH_MAX {
                self.depth -= taken;
                return self.fail(
                    "Nesting too deep",
                    "Too many indexes follow each other in this expression.",
                    next.span,
                );
            }
            from = match step {
                Ok(expr) => expr,
                Err(Failed) => {
                    self.depth -= taken;
                    return Err(Failed);
                }
            };
        }
        self.depth -= taken;
        Ok(from)
    }

    fn dot(&mut self, from: Expr, in_splat: bool) -> Parsed<Expr> {
        let dot = self.read();
        let next = self.peek();
        let text = self.token_text(next).to_string();
        let span = dot.span.to(next.span);
        match next.kind {
            Kind::Ident => {
                self.read();
                Ok(self.with_step(from, Step { span, kind: StepKind::Attribute(text) }))
            }
            // `a.0.1`: the scanner takes the two for one number.
            Kind::Number if text.contains('.') => {
                let (first, second) = text.split_once('.').unwrap_or_default();
                let full = if in_splat { " with a full splat expression [*]" } else { "" };
                let detail = format!(
                    "When using the legacy index syntax, chaining two indexes together is not permitted. Use the proper index syntax{full} instead, like [{first}][{second}]."
                );
                self.fail("Invalid legacy index syntax", detail, next.span)
            }
            Kind::Number => {
                self.read();
                let index = Number::parse(&text).unwrap_or_else(Number::zero);
                Ok(self.with_step(from, Step { span, kind: StepKind::Index(Value::Number(index)) }))
            }
            Kind::Star if in_splat => self.fail(
                "Nested splat expression not allowed",
                "A splat expression (*) cannot be used inside another attribute-only splat expression.",
                next.span,
            ),
            Kind::Star => {
                self.read();
                let each = self.deeper(|p| p.traversals(Expr::new(next.span, ExprKind::SplatItem), true))?;
                Ok(splat(from, each, span))
            }
            _ => self.fail("Invalid attribute name", "An attribute name is required after a dot.", next.span),
        }
    }

    fn index(&mut self, from: Expr) -> Parsed<Expr> {
        let open = self.read();
        if self.peek().kind == Kind::Star {
            let star = self.read();
            let close = self.peek();
            if close.kind != Kind::CloseBracket {
                let place = self.close_after(Kind::OpenBracket, Kind::CloseBracket);
                return self.fail("Missing close bracket on splat index", "The star for a full splat operator must be immediately followed by a closing bracket (\"]\").", place);
            }
            self.read();
            // What follows belongs to each item, on the terms that hold outside of the brackets.
            let newlines = self.newlines.pop();
            let each = self.deeper(|p| p.traversals(Expr::new(star.span, ExprKind::SplatItem), false));
            self.newlines.extend(newlines);
            return Ok(splat(from, each?, open.span.to(close.span)));
        }
        let key = self.expression()?;
        let close = self.peek();
        if close.kind != Kind::CloseBracket {
            let place = self.close_after(Kind::OpenBracket, Kind::CloseBracket);
            return self.fail(
                "Missing close bracket on index",
                "The index operator must end with a closing bracket (\"]\").",
                place,
            );
        }
        self.read();
        let bracket = open.span.to(close.span);
        if let Some(literal) = literal_key(&key) {
            return Ok(self.with_step(from, Step { span: bracket, kind: StepKind::Index(literal) }));
        }
        let span = from.span.to(bracket);
        Ok(Expr::new(span, ExprKind::Index { source: Box::new(from), key: Box::new(key), bracket }))
    }

    fn bracketed(&mut self, close: Kind, read: fn(&mut Self, Span) -> Parsed<Expr>) -> Parsed<Expr> {
        let newlines = close == Kind::CloseBrace;
        // Newlines before the bracket count as they do outside of it.
        let open = self.read().span;
        self.within(newlines, |p| {
            let blanks =
                p.tokens[p.next..].iter().take_while(|t| matches!(t.kind, Kind::Newline | Kind::Comment));
            let first = p.next + blanks.count();
            if p.tokens[first].kind == Kind::Ident && p.is_for(first) {
                return p.within(false, |p| p.for_expression(open, close));
            }
            read(p, open)
        })
    }

    /// Tells `for x in` from an object member that is called `for`.
    fn is_for(&self, word: usize) -> bool {
        self.token_text(self.tokens[word]) == "for"
            && !matches!(
                self.tokens[word + 1].kind,
                Kind::Equal | Kind::Colon | Kind::CloseBracket | Kind::Comma
            )
    }

    fn tuple(&mut self, open: Span) -> Parsed<Expr> {
        let mut items = Vec::new();
        loop {
            if self.peek().kind == Kind::CloseBracket {
                break;
            }
            items.push(self.expression()?);
            let separator = self.peek();
            match separator.kind {
                Kind::Comma => {
                    self.read();
                }
                Kind::CloseBracket => break,
                Kind::End => return self.fail("Unterminated tuple constructor expression", "There is no corresponding closing bracket before the end of the file. This may be caused by incorrect bracket nesting elsewhere in this file.", open),
                _ => return self.fail("Missing item separator", "Expected a comma to mark the beginning of the next item.", separator.span),
            }
        }
        let close = self.read().span;
        Ok(Expr::new(open.to(close), ExprKind::Tuple(items)))
    }

    fn object(&mut self, open: Span) -> Parsed<Expr> {
        let mut members = Vec::new();
        loop {
            while self.peek().kind == Kind::Newline {
                self.read();
            }
            if self.peek().kind == Kind::CloseBrace {
                break;
            }
            let key = self.key(open)?;
            members.push((key, self.expression()?));
            let separator = self.peek();
            match separator.kind {
                Kind::Comma | Kind::Newline => {
                    self.read();
                }
                Kind::CloseBrace => break,
                Kind::End => return self.fail("Unterminated object constructor expression", "There is no corresponding closing brace before the end of the file. This may be caused by incorrect brace nesting elsewhere in this file.", open),
                _ => return self.fail("Missing attribute separator", "Expected a newline or comma to mark the beginning of the next attribute.", separator.span),
            }
        }
        let close = self.read().span;
        Ok(Expr::new(open.to(close), ExprKind::Object(members)))
    }

    fn key(&mut self, open: Span) -> Parsed<Key> {
        let expr = self.expression()?;
        let separator = self.peek();
        if !matches!(separator.kind, Kind::Equal | Kind::Colon) {
            return match separator.kind {
                Kind::Newline | Kind::Comma => self.fail("Missing attribute value", "Expected an attribute value, introduced by an equals sign (\"=\").", separator.span),
                Kind::Ident => self.fail("Missing key/value separator", "Expected an equals sign (\"=\") to mark the beginning of the attribute value. If you intended to given an attribute name containing periods or spaces, write the name in quotes to create a string literal.", separator.span),
                Kind::End => self.fail("Unterminated object constructor expression", "There is no corresponding closing brace before the end of the file. This may be caused by incorrect brace nesting elsewhere in this file.", open),
                _ => self.fail("Missing key/value separator", "Expected an equals sign (\"=\") to mark the beginning of the attribute value.", separator.span),
            };
        }
        self.read();
        match expr.kind {
            ExprKind::Traversal { root, steps, .. } if steps.is_empty() => Ok(Key::Name(root)),
            ExprKind::Traversal { .. } => Ok(Key::Ambiguous(expr.span)),
            ExprKind::Literal(Value::Bool(b)) => Ok(Key::Name(b.to_string())),
            ExprKind::Literal(Value::Null) => Ok(Key::Name("null".to_string())),
            _ => Ok(Key::Computed(expr)),
        }
    }

    fn for_expression(&mut self, open: Span, close: Kind) -> Parsed<Expr> {
        self.read();
        let (key_name, value_name) = self.for_names()?;
        let collection = self.expression()?;
        let colon = self.peek();
        if colon.kind != Kind::Colon {
            return self.fail(
                "Invalid 'for' expression",
                "A colon is required after the collection expression.",
                colon.span,
            );
        }
        self.read();
        let mut value = self.expression()?;
        let mut key = None;
        let is_object = close == Kind::CloseBrace;
        let arrow = self.peek();
        match (arrow.kind, is_object) {
            (Kind::Arrow, true) => {
                self.read();
                key = Some(std::mem::replace(&mut value, self.expression()?));
            }
            (Kind::Arrow, false) => {
                return self.fail(
                    "Invalid 'for' expression",
                    "Key expression is not valid when building a tuple.",
                    value.span,
                );
            }
            (_, true) => {
                return self.fail(
                    "Invalid 'for' expression",
                    "Key expression is required when building an object.",
                    value.span,
                );
            }
            (_, false) => {}
        }
        let group = self.peek().kind == Kind::Ellipsis;
        if group {
            let ellipsis = self.read();
            if !is_object {
                return self.fail(
                    "Invalid 'for' expression",
                    "Grouping ellipsis (...) cannot be used when building a tuple.",
                    ellipsis.span,
                );
            }
        }
        let mut condition = None;
        let word = self.peek();
        if word.kind == Kind::Ident && self.token_text(word) == "if" {
            self.read();
            condition = Some(self.expression()?);
        }
        let end = self.peek();
        if end.kind != close {
            return self.fail(
                "Invalid 'for' expression",
                "Extra characters after the end of the 'for' expression.",
                end.span,
            );
        }
        self.read();
        let parts = ForExpr { key_name, value_name, collection, key, value, condition, group, open };
        Ok(Expr::new(open.to(end.span), ExprKind::For(Box::new(parts))))
    }

    fn with_step(&self, from: Expr, step: Step) -> Expr {
        let span = from.span.to(step.span);
        let kind = match from.kind {
            ExprKind::Traversal { root, mut steps, mut text } => {
                steps.push(step);
                text.push_str(&self.text[from.span.end.byte - self.base..span.end.byte - self.base]);
                ExprKind::Traversal { root, steps, text }
            }
            ExprKind::Relative { source, mut steps } => {
                steps.push(step);
                ExprKind::Relative { source, steps }
            }
            kind => ExprKind::Relative { source: Box::new(Expr::new(from.span, kind)), steps: vec![step] },
        };
        Expr::new(span, kind)
    }

    /// `k, v in` or `v in`, up to the collection.
    pub(super) fn for_names(&mut self) -> Parsed<(Option<String>, String)> {
        let mut names = Vec::new();
        loop {
            let name = self.peek();
            if name.kind != Kind::Ident {
                return self.fail(
                    "Invalid 'for' expression",
                    "For expression requires variable name after 'for'.",
                    name.span,
                );
            }
            self.read();
            names.push(self.token_text(name).to_string());
            let next = self.peek();
            match next.kind {
                Kind::Comma if names.len() == 1 => {
                    self.read();
                }
                Kind::Ident if self.token_text(next) == "in" => {
                    self.read();
                    break;
                }
                _ => {
                    return self.fail(
                        "Invalid 'for' expression",
                        "For expression requires the 'in' keyword after its name declarations.",
                        next.span,
                    );
                }
            }
        }
        let value = names.pop().unwrap_or_default();
        Ok((names.pop(), value))
    }
}

fn operator_of(kind: Kind) -> Option<(Operator, u8)> {
    Some(match kind {
        Kind::Or => (Operator::Or, 1),
        Kind::And => (Operator::And, 2),
        Kind::EqualEqual => (Operator::Equal, 3),
        Kind::NotEqual => (Operator::NotEqual, 3),
        Kind::Less => (Operator::Less, 4),
        Kind::LessEqual => (Operator::LessEqual, 4),
        Kind::Greater => (Operator::Greater, 4),
        Kind::GreaterEqual => (Operator::GreaterEqual, 4),
        Kind::Plus => (Operator::Add, 5),
        Kind::Minus => (Operator::Subtract, 5),
        Kind::Star => (Operator::Multiply, 6),
        Kind::Slash => (Operator::Divide, 6),
        Kind::Percent => (Operator::Modulo, 6),
        _ => return None,
    })
}

fn splat(from: Expr, each: Expr, marker: Span) -> Expr {
    let end = if matches!(each.kind, ExprKind::SplatItem) { marker } else { each.span };
    let span = from.span.to(end);
    Expr::new(span, ExprKind::Splat { source: Box::new(from), each: Box::new(each), marker })
}

/// A number or a text without sequences: an index that needs no computing.
fn literal_key(key: &Expr) -> Option<Value> {
    match &key.kind {
        ExprKind::Literal(value @ (Value::Number(_) | Value::Bool(_) | Value::Null)) => Some(value.clone()),
        ExprKind::Template(parts) => match parts.as_slice() {
            [Expr { kind: ExprKind::Literal(value @ Value::String(_)), .. }] => Some(value.clone()),
            _ => None,
        },
        _ => None,
    }
}
