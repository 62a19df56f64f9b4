//! JSON to values and back.

use super::Accepts::{Any, String as Text};
use super::{Arguments, Fault, Functions, Outcome, Spec, or_null, param, spec};
use crate::json::{self, Json, Node};
use crate::number::Number;
use crate::value::{Members, Value};

pub(super) const SPECS: &[Spec] =
    &[spec("jsondecode", &[param("str", Text)], decode), spec("jsonencode", &[or_null("val", Any)], encode)];

fn encode(values: Vec<Value>, _: &Functions) -> Outcome {
    let value = Arguments::new(values).value();
    if has_infinity(&value) {
        return Err(Fault::call("cannot serialize infinity as JSON"));
    }
    Ok(Value::string(json_text(&value)))
}

fn has_infinity(value: &Value) -> bool {
    match value {
        Value::Number(n) => n.is_infinite(),
        Value::Tuple(items) | Value::List(_, items) | Value::Set(_, items) => items.iter().any(has_infinity),
        Value::Object(members) | Value::Map(_, members) => members.values().any(has_infinity),
        Value::Null | Value::Unknown | Value::Bool(_) | Value::String(_) => false,
    }
}

fn decode(values: Vec<Value>, _: &Functions) -> Outcome {
    let text = Arguments::new(values).text();
    let node = json::parse(&text).map_err(|e| Fault::call(e.reason))?;
    Ok(value_of(&node))
}

/// The value of a JSON text in which strings are just strings.
fn value_of(node: &Node) -> Value {
    match &node.kind {
        Json::Null => Value::Null,
        Json::Bool(b) => Value::Bool(*b),
        Json::Number(text) => Value::Number(Number::parse(text).unwrap_or_else(Number::zero)),
        Json::String(text) => Value::string(text.as_str()),
        Json::Array(items) => Value::Tuple(items.iter().map(value_of).collect()),
        Json::Object(members) => Value::object(members.iter().map(|m| (m.name.clone(), value_of(&m.value)))),
    }
}

/// The value as JSON text: members sorted, numbers exact, and escaped so that it may stand in HTML.
pub(crate) fn json_text(value: &Value) -> String {
    let mut out = String::new();
    write(value, &mut out);
    out
}

fn write(value: &Value, out: &mut String) {
    match value {
        Value::Null | Value::Unknown => out.push_str("null"),
        Value::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
        Value::Number(n) => out.push_str(&n.to_string()),
        Value::String(text) => write_string(text, out),
        Value::Tuple(items) | Value::List(_, items) | Value::Set(_, items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write(item, out);
            }
            out.push(']');
        }
        Value::Object(members) | Value::Map(_, members) => write_members(members, out),
    }
}

fn write_members(members: &Members, out: &mut String) {
    let mut sorted: Vec<_> = members.iter().collect();
    sorted.sort_by_key(|(name, _)| *name);
    out.push('{');
    for (i, (name, value)) in sorted.into_iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        write_string(name, out);
        out.push(':');
        write(value, out);
    }
    out.push('}');
}

fn write_string(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => out.push_str(&format!("\\u{:04x}", c as u32)),
            c if (c as u32) < 0x20 => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
}
