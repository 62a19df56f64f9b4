//! The language of the `filter` parameter: `Status == "running" and not (Name matches "^x" or Tags is empty)`.
//!
//! An expression is held against the JSON form of a row. What a row leaves out counts as empty there.

use std::collections::BTreeSet;

use regex::Regex;
use serde_json::Value;
use winnow::{
    Parser,
    ascii::{multispace0, multispace1},
    combinator::{alt, cut_err, delimited, not, opt, peek, preceded, repeat},
    error::{ContextError, ErrMode, StrContext, StrContextValue},
    token::{any, none_of, one_of, take_while},
};

/// Parentheses and `not`s in each other; beyond it an expression is refused, for it is read by recursion.
const DEPTH_MAX: usize = 64;

/// What stands for a value that was expected and not found; callers know the text.
const VALUE_EXPECTED: &str = "\"-\", \"0\", \"\\\"\", \"`\", [ \\t\\r\\n], [1-9] or [a-zA-Z]";

/// An expression that rows are held against.
#[derive(Clone, Debug)]
pub(crate) struct Filter(Expression);

/// A text is not an expression.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{line}:{column} ({offset}): no match found, expected: {expected}")]
pub(crate) struct BadFilter {
    line: usize,
    column: usize,
    offset: usize,
    expected: String,
}

#[derive(Clone, Debug)]
enum Expression {
    And(Box<Self>, Box<Self>),
    Or(Box<Self>, Box<Self>),
    Not(Box<Self>),
    Test { path: Vec<String>, test: Test },
}

#[derive(Clone, Debug)]
enum Test {
    Equals(String),
    Holds(String),
    Empty,
    Matches(Regex),
}

type Parsed<T> = Result<T, ErrMode<ContextError>>;

impl Filter {
    /// Reads an expression.
    ///
    /// # Errors
    ///
    /// When it is none: where, and what was expected there.
    pub(crate) fn parse(text: &str) -> Result<Self, BadFilter> {
        let mut rest = text;
        let read = or_expression(&mut rest, DEPTH_MAX);
        let expected = match read {
            Ok(expression) if rest.trim_start().is_empty() => return Ok(Self(expression)),
            Ok(_) => "\"and\", \"or\" or the end".to_owned(),
            Err(error) => expectation(error),
        };
        let rest = if expected == VALUE_EXPECTED { rest } else { rest.trim_start() };
        let offset = text.len() - rest.len();
        let before = &text[..offset];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = before.matches('\n').count() + 1;
        Err(BadFilter { line, column: before[line_start..].chars().count() + 1, offset, expected })
    }

    /// Tells whether a row matches.
    pub(crate) fn matches(&self, row: &Value) -> bool {
        self.0.matches(row)
    }

    /// Returns the fields of a row that are looked at, so that no others need be made.
    pub(crate) fn fields(&self) -> BTreeSet<&str> {
        let mut fields = BTreeSet::new();
        self.0.collect_fields(&mut fields);
        fields
    }
}

impl Expression {
    fn matches(&self, row: &Value) -> bool {
        match self {
            Self::And(left, right) => left.matches(row) && right.matches(row),
            Self::Or(left, right) => left.matches(row) || right.matches(row),
            Self::Not(inner) => !inner.matches(row),
            Self::Test { path, test } => test.passes(look_up(row, path)),
        }
    }

    fn collect_fields<'a>(&'a self, fields: &mut BTreeSet<&'a str>) {
        match self {
            Self::And(left, right) | Self::Or(left, right) => {
                left.collect_fields(fields);
                right.collect_fields(fields);
            }
            Self::Not(inner) => inner.collect_fields(fields),
            Self::Test { path, .. } => fields.extend(path.first().map(String::as_str)),
        }
    }
}

impl Test {
    fn passes(&self, value: &Value) -> bool {
        match (self, value) {
            (Self::Equals(wanted), value) => equals(value, wanted),
            (Self::Holds(wanted), Value::Array(items)) => items.iter().any(|item| equals(item, wanted)),
            (Self::Holds(wanted), Value::Object(map)) => map.contains_key(wanted),
            (Self::Holds(wanted), Value::String(text)) => text.contains(wanted.as_str()),
            (Self::Empty, Value::Array(items)) => items.is_empty(),
            (Self::Empty, Value::Object(map)) => map.is_empty(),
            (Self::Empty, Value::String(text)) => text.is_empty(),
            (Self::Empty, Value::Null) => true,
            (Self::Matches(pattern), Value::String(text)) => pattern.is_match(text),
            (Self::Matches(pattern), Value::Null) => pattern.is_match(""),
            (Self::Holds(_) | Self::Empty | Self::Matches(_), _) => false,
        }
    }
}

fn look_up<'a>(row: &'a Value, path: &[String]) -> &'a Value {
    path.iter().fold(row, |value, name| match value {
        Value::Object(map) => map.get(name).unwrap_or(&Value::Null),
        Value::Array(items) => {
            name.parse::<usize>().ok().and_then(|at| items.get(at)).unwrap_or(&Value::Null)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => &Value::Null,
    })
}

fn equals(value: &Value, wanted: &str) -> bool {
    match value {
        Value::String(text) => text == wanted,
        Value::Bool(truth) => match wanted {
            "1" | "t" | "T" | "TRUE" | "true" | "True" => *truth,
            "0" | "f" | "F" | "FALSE" | "false" | "False" => !truth,
            _ => false,
        },
        Value::Number(number) => match (number.as_i128(), wanted.parse::<i128>()) {
            (Some(number), Ok(wanted)) => number == wanted,
            // What is no whole number is compared as what it reads as; nothing is computed with it.
            #[allow(clippy::float_cmp)]
            _ => wanted.parse::<f64>().is_ok_and(|wanted| number.as_f64() == Some(wanted)),
        },
        // A field that is left out is empty, zero or false.
        Value::Null => matches!(wanted, "" | "0" | "false"),
        Value::Array(_) | Value::Object(_) => false,
    }
}

fn expectation(error: ErrMode<ContextError>) -> String {
    let (ErrMode::Backtrack(context) | ErrMode::Cut(context)) = error else { return "more".to_owned() };
    let told = context.context().find_map(|context| match context {
        StrContext::Expected(StrContextValue::Description(text)) => Some((*text).to_owned()),
        _ => None,
    });
    told.unwrap_or_else(|| "a comparison such as Name == \"x\"".to_owned())
}

fn expected(text: &'static str) -> StrContext {
    StrContext::Expected(StrContextValue::Description(text))
}

fn or_expression(input: &mut &str, depth: usize) -> Parsed<Expression> {
    let mut left = and_expression(input, depth)?;
    while opt(keyword("or")).parse_next(input)?.is_some() {
        left = Expression::Or(Box::new(left), Box::new(and_expression(input, depth)?));
    }
    Ok(left)
}

fn and_expression(input: &mut &str, depth: usize) -> Parsed<Expression> {
    let mut left = not_expression(input, depth)?;
    while opt(keyword("and")).parse_next(input)?.is_some() {
        left = Expression::And(Box::new(left), Box::new(not_expression(input, depth)?));
    }
    Ok(left)
}

fn not_expression(input: &mut &str, depth: usize) -> Parsed<Expression> {
    let Some(depth) = depth.checked_sub(1) else {
        let mut context = ContextError::new();
        context.extend([expected("fewer expressions in each other")]);
        return Err(ErrMode::Cut(context));
    };
    if opt(keyword("not")).parse_next(input)?.is_some() {
        return Ok(Expression::Not(Box::new(not_expression(input, depth)?)));
    }
    if opt((multispace0, '(')).parse_next(input)?.is_some() {
        let inner = or_expression(input, depth)?;
        cut_err((multispace0, ')')).context(expected("\")\"")).parse_next(input)?;
        return Ok(inner);
    }
    preceded(multispace0, alt((selector_first, value_first))).parse_next(input)
}

/// Reads a word that stands alone, with the blanks before it.
fn keyword<'i>(word: &'static str) -> impl Parser<&'i str, (), ErrMode<ContextError>> {
    let ends = not(one_of(|c: char| c.is_alphanumeric() || c == '_'));
    (multispace0, word, peek(ends)).void()
}

enum Operator {
    Equals,
    Holds,
    Matches,
    Empty,
}

/// Reads `Selector operator value`.
fn selector_first(input: &mut &str) -> Parsed<Expression> {
    let path = selector(input)?;
    let (operator, negated) = operator(input)?;
    let test = match operator {
        Operator::Empty => Test::Empty,
        Operator::Equals => Test::Equals(wanted_value(input)?),
        Operator::Holds => Test::Holds(wanted_value(input)?),
        Operator::Matches => {
            let text = wanted_value(input)?;
            let wrong = |_| {
                let mut context = ContextError::new();
                context.extend([expected("a regular expression")]);
                ErrMode::Cut(context)
            };
            Test::Matches(Regex::new(&text).map_err(wrong)?)
        }
    };
    let test = Expression::Test { path, test };
    Ok(if negated { Expression::Not(Box::new(test)) } else { test })
}

fn operator(input: &mut &str) -> Parsed<(Operator, bool)> {
    alt((
        (multispace0, "==").map(|_| (Operator::Equals, false)),
        (multispace0, "!=").map(|_| (Operator::Equals, true)),
        (keyword("contains")).map(|()| (Operator::Holds, false)),
        (keyword("not"), keyword("contains")).map(|_| (Operator::Holds, true)),
        (keyword("matches")).map(|()| (Operator::Matches, false)),
        (keyword("not"), keyword("matches")).map(|_| (Operator::Matches, true)),
        (keyword("is"), keyword("not"), keyword("empty")).map(|_| (Operator::Empty, true)),
        (keyword("is"), keyword("empty")).map(|_| (Operator::Empty, false)),
    ))
    .parse_next(input)
}

fn wanted_value(input: &mut &str) -> Parsed<String> {
    cut_err(preceded(multispace0, value)).context(expected(VALUE_EXPECTED)).parse_next(input)
}

/// Reads `value in Selector` and `value not in Selector`.
fn value_first(input: &mut &str) -> Parsed<Expression> {
    let wanted = value(input)?;
    let negated = opt(preceded(multispace1, "not")).parse_next(input)?.is_some();
    keyword("in").parse_next(input)?;
    let path = cut_err(preceded(multispace0, selector)).context(expected("a field")).parse_next(input)?;
    let test = Expression::Test { path, test: Test::Holds(wanted) };
    Ok(if negated { Expression::Not(Box::new(test)) } else { test })
}

/// Reads `A.B["c"].0`, or the same as a pointer, `"/A/B/c/0"`.
fn selector(input: &mut &str) -> Parsed<Vec<String>> {
    let pointer = quoted.verify(|text: &String| text.starts_with('/')).map(|text: String| {
        text.split('/').skip(1).map(|part| part.replace("~1", "/").replace("~0", "~")).collect::<Vec<_>>()
    });
    let name = || {
        take_while(1.., |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '/' | '-'))
            .map(str::to_owned)
    };
    let first =
        (one_of(|c: char| c.is_ascii_alphabetic()), take_while(0.., is_name)).take().map(str::to_owned);
    let part = alt((preceded('.', name()), delimited('[', quoted, ']')));
    let path = (first, repeat(0.., part)).map(|(first, mut rest): (String, Vec<String>)| {
        rest.insert(0, first);
        rest
    });
    alt((pointer, path)).parse_next(input)
}

fn is_name(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '_' | '/')
}

fn value(input: &mut &str) -> Parsed<String> {
    let number = (
        opt('-'),
        take_while(1.., |c: char| c.is_ascii_digit()),
        opt(('.', take_while(1.., |c: char| c.is_ascii_digit()))),
    );
    let number = (number, not(one_of(is_name))).take().map(str::to_owned);
    let word = (
        one_of(|c: char| c.is_ascii_alphabetic()),
        take_while(0.., |c: char| is_name(c) || matches!(c, '.' | '-')),
    );
    let word = word.take().map(str::to_owned);
    alt((quoted, number, word)).parse_next(input)
}

fn quoted(input: &mut &str) -> Parsed<String> {
    let escaped = preceded('\\', any).map(|c: char| match c {
        'n' => '\n',
        't' => '\t',
        'r' => '\r',
        other => other,
    });
    let character = alt((escaped, none_of(['"', '\\'])));
    let double = delimited(
        '"',
        repeat(0.., character).fold(String::new, |mut text, c: char| {
            text.push(c);
            text
        }),
        '"',
    );
    let raw = delimited('`', take_while(0.., |c: char| c != '`'), '`').map(str::to_owned);
    alt((double, raw)).parse_next(input)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn matches(text: &str) -> bool {
        let row = json!({
            "ID": "web/api", "Status": "running", "Priority": 50, "Stop": false, "Datacenters": ["dc1", "eu-2"],
            "Meta": {"team": "a", "with.dot": "b"}, "Summary": {"g": {"Running": 2}}, "Empty": [], "Ratio": 0.5,
        });
        Filter::parse(text).unwrap_or_else(|error| panic!("{text}: {error}")).matches(&row)
    }

    #[test]
    fn rows_match_what_is_said_of_them() {
        for text in [
            r#"Status == "running""#,
            "Status == running",
            "Status==`running`",
            r#"Status != "dead" and Priority == 50"#,
            "Stop == false",
            "Ratio == 0.50",
            r#""dc1" in Datacenters"#,
            r#""mars" not in Datacenters"#,
            r#"Datacenters contains "eu-2""#,
            r#"Datacenters not contains "x""#,
            "team in Meta",
            "Meta.team == a",
            r#"Meta["with.dot"] == "b""#,
            r#""/Meta/with.dot" == "b""#,
            "Summary.g.Running == 2",
            "Datacenters.1 == `eu-2`",
            "Empty is empty",
            "Meta is not empty",
            r#"ID matches "^web/""#,
            r#"ID not matches "^x""#,
            r#"ID contains "api""#,
            "not Status == dead",
            "not (Status == dead or Stop == true)",
            "Stop == true or Status == running and Priority == 50",
            "Nope is empty",
            r#"Nope != "x""#,
            "notable != x",
        ] {
            assert!(matches(text), "{text}");
        }
    }

    #[test]
    fn rows_do_not_match_what_is_not_so() {
        for text in [
            r#"Nope == "x""#,
            "Status == dead",
            "Priority == 5",
            "Priority == fifty",
            r#""dc" in Datacenters"#,
            "Datacenters is empty",
            "Stop == true and Status == running or Priority == 1",
            r#"ID matches "^b""#,
        ] {
            assert!(!matches(text), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let told = |text: &str| Filter::parse(text).expect_err("no expression").to_string();
        assert_eq!(
            told("x =="),
            "1:5 (4): no match found, expected: \"-\", \"0\", \"\\\"\", \"`\", [ \\t\\r\\n], [1-9] or [a-zA-Z]"
        );
        assert!(told("Status == a b").starts_with("1:13 (12): "), "{}", told("Status == a b"));
        assert!(told("(Status == a").contains("\")\""));
        assert!(told("Name matches \"(\"").contains("regular expression"));
        for text in ["", "==", "x", "\"a\"", "not", "a == b and", &"(".repeat(1_000), "a.b.", "é == 1"] {
            assert!(Filter::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn only_the_fields_that_are_looked_at_are_asked_for() {
        let filter = Filter::parse("A.B == 1 or not (C is empty and x in D)").expect("an expression");
        assert_eq!(filter.fields().into_iter().collect::<Vec<_>>(), ["A", "C", "D"]);
    }
}
