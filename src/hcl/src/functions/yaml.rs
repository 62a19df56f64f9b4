//! YAML, as far as values need it.

use std::collections::BTreeMap;

use yaml_rust2::parser::{Event, Parser};
use yaml_rust2::scanner::TScalarStyle;

use super::{Fault, Outcome};
use crate::number::Number;
use crate::value::{Members, Value};

/// How deep collections may nest.
const DEPTH_MAX: usize = 100;

/// Values that aliases may repeat, so that a few lines do not become billions.
const ALIASED_WEIGHT_MAX: u64 = 8 << 20;

pub(super) fn decode(text: &str) -> Outcome {
    let reader = Reader { parser: Parser::new_from_str(text), anchors: BTreeMap::new(), aliased: 0 };
    reader.document().map_err(Fault::Call)
}

struct Reader<I: Iterator<Item = char>> {
    parser: Parser<I>,
    anchors: BTreeMap<usize, Value>,
    aliased: u64,
}

impl<I: Iterator<Item = char>> Reader<I> {
    fn next(&mut self) -> Result<Event, String> {
        match self.parser.next_token() {
            Ok((event, _)) => Ok(event),
            Err(error) => {
                let text = error.to_string();
                Err(text.split(" at byte").next().unwrap_or(&text).to_string())
            }
        }
    }

    fn document(mut self) -> Result<Value, String> {
        let mut value = Value::Null;
        loop {
            match self.next()? {
                Event::StreamStart | Event::DocumentStart | Event::Nothing => {}
                Event::StreamEnd => return Ok(value),
                Event::DocumentEnd => break,
                event => value = self.value(event, 0)?,
            }
        }
        match self.next()? {
            Event::StreamEnd => Ok(value),
            _ => Err("only one document is allowed".to_string()),
        }
    }

    fn value(&mut self, event: Event, depth: usize) -> Result<Value, String> {
        if depth > DEPTH_MAX {
            return Err(format!("nested more than {DEPTH_MAX} levels deep"));
        }
        let (value, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let tag = tag.map(|t| t.suffix);
                (scalar(text, style, tag.as_deref())?, anchor)
            }
            Event::Alias(anchor) => {
                let value = self.anchors.get(&anchor).cloned().ok_or("an alias refers to itself")?;
                self.aliased += value.weight();
                if self.aliased > ALIASED_WEIGHT_MAX {
                    return Err("aliases make the document too large".to_string());
                }
                return Ok(value);
            }
            Event::SequenceStart(anchor, _) => {
                let mut items = Vec::new();
                loop {
                    match self.next()? {
                        Event::SequenceEnd => break,
                        event => items.push(self.value(event, depth + 1)?),
                    }
                }
                (Value::Tuple(items), anchor)
            }
            Event::MappingStart(anchor, _) => (self.mapping(depth)?, anchor),
            _ => return Err("unexpected end of document".to_string()),
        };
        if anchor > 0 {
            self.anchors.insert(anchor, value.clone());
        }
        Ok(value)
    }

    fn mapping(&mut self, depth: usize) -> Result<Value, String> {
        let mut members = Members::new();
        let mut merged = Members::new();
        loop {
            let event = self.next()?;
            if event == Event::MappingEnd {
                break;
            }
            let merges = matches!(&event, Event::Scalar(text, TScalarStyle::Plain, _, None) if text == "<<");
            let key = self.value(event, depth + 1)?;
            let event = self.next()?;
            let value = self.value(event, depth + 1)?;
            if merges {
                let sources = if let Value::Tuple(items) = value { items } else { vec![value] };
                for source in sources {
                    let Value::Object(source) = source else {
                        return Err("map merge requires map or sequence of maps as the value".to_string());
                    };
                    for (name, value) in source {
                        merged.entry(name).or_insert(value);
                    }
                }
                continue;
            }
            match key.convert(&crate::types::Type::String) {
                Ok(Value::String(name)) => {
                    members.insert(name, value);
                }
                _ => return Err("only string keys are allowed".to_string()),
            }
        }
        for (name, value) in merged {
            members.entry(name).or_insert(value);
        }
        Ok(Value::object(members))
    }
}

fn scalar(text: String, style: TScalarStyle, tag: Option<&str>) -> Result<Value, String> {
    if tag == Some("str") || (style != TScalarStyle::Plain && tag.is_none()) {
        return Ok(Value::string(text));
    }
    let value = match text.as_str() {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => Value::Number(Number::infinity(false)),
        "-.inf" | "-.Inf" | "-.INF" => Value::Number(Number::infinity(true)),
        other => match number(other) {
            Some(number) => Value::Number(number),
            None => Value::string(other),
        },
    };
    match (tag, &value) {
        (Some("int" | "float"), Value::Number(_))
        | (Some("bool"), Value::Bool(_))
        | (Some("null"), Value::Null) => Ok(value),
        (Some(tag @ ("int" | "float" | "bool" | "null")), _) => Err(format!("cannot use {text:?} as {tag}")),
        (Some("binary"), _) => Ok(Value::string(text.split_whitespace().collect::<String>())),
        (_, _) => Ok(value),
    }
}

fn number(text: &str) -> Option<Number> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    for (prefix, radix) in [("0x", 16), ("0o", 8), ("0b", 2)] {
        if let Some(digits) = digits.strip_prefix(prefix) {
            return num_bigint::BigUint::parse_bytes(digits.as_bytes(), radix)
                .map(|m| Number::from_integer(negative, m));
        }
    }
    let begins = digits.bytes().find(|b| *b != b'.').is_some_and(|b| b.is_ascii_digit());
    if !begins || !digits.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'))
    {
        return None;
    }
    Number::parse(text)
}

pub(super) fn encode(value: &Value) -> String {
    let mut out = String::new();
    write(value, 0, &mut out);
    if !out.ends_with('\n') {
        out.push('\n');
    }
    // A word that stands alone and without quotes might go on: the end of the document says that it does not.
    if matches!(value, Value::Null | Value::Unknown | Value::Bool(_) | Value::Number(_)) {
        out.push_str("...\n");
    }
    out
}

/// Writes a value whose first line begins where `out` ends; further lines are indented by `indent`.
fn write(value: &Value, indent: usize, out: &mut String) {
    let margin = " ".repeat(indent);
    match value {
        Value::Null | Value::Unknown => out.push_str("null\n"),
        Value::Bool(b) => out.push_str(&format!("{b}\n")),
        Value::Number(n) if n.is_infinite() => {
            out.push_str(if n.is_negative() { "-.inf\n" } else { ".inf\n" })
        }
        Value::Number(n) => out.push_str(&format!("{n}\n")),
        Value::String(text) => write_text(text, indent, out),
        Value::Tuple(items) | Value::List(_, items) | Value::Set(_, items) => {
            if items.is_empty() {
                out.push_str("[]\n");
            }
            for (i, item) in items.iter().enumerate() {
                out.push_str(if i > 0 { &margin } else { "" });
                out.push_str("- ");
                // The lines of a text stand as far in as the text of the item's first line.
                let deeper = if item.as_str().is_some() { indent } else { indent + 2 };
                write(item, deeper, out);
            }
        }
        Value::Object(members) | Value::Map(_, members) => {
            if members.is_empty() {
                out.push_str("{}\n");
            }
            let mut sorted: Vec<_> = members.iter().collect();
            sorted.sort_by_key(|(name, _)| *name);
            for (i, (name, value)) in sorted.into_iter().enumerate() {
                out.push_str(if i > 0 { &margin } else { "" });
                out.push_str(&format!("{}:", quoted(name)));
                write_member(value, indent, out);
            }
        }
    }
}

fn write_member(value: &Value, indent: usize, out: &mut String) {
    match value {
        Value::Tuple(items) | Value::List(_, items) | Value::Set(_, items) if !items.is_empty() => {
            // Items of a list stand below their name, not further in.
            out.push_str(&format!("\n{}", " ".repeat(indent)));
            write(value, indent, out);
        }
        Value::Object(members) | Value::Map(_, members) if !members.is_empty() => {
            out.push_str(&format!("\n{}", " ".repeat(indent + 2)));
            write(value, indent + 2, out);
        }
        _ => {
            out.push(' ');
            write(value, indent, out);
        }
    }
}

fn write_text(text: &str, indent: usize, out: &mut String) {
    let plain_lines =
        !text.starts_with([' ', '\n', '\t']) && text.chars().all(|c| c == '\n' || !c.is_control());
    let trailing_blank = text.lines().any(|l| l.ends_with(' '));
    if !text.trim_end_matches('\n').contains('\n') && !text.ends_with('\n') || !plain_lines || trailing_blank
    {
        out.push_str(&format!("{}\n", quoted(text)));
        return;
    }
    let ends = text.len() - text.trim_end_matches('\n').len();
    out.push_str(match ends {
        0 => "|-\n",
        1 => "|\n",
        _ => "|+\n",
    });
    for line in text.lines() {
        if !line.is_empty() {
            out.push_str(&" ".repeat(indent + 2));
            out.push_str(line);
        }
        out.push('\n');
    }
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() && (c as u32) < 0x100 => out.push_str(&format!("\\x{:02X}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
