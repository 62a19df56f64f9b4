//! Values of arguments, and bodies whose names are free.

use super::Decoder;
use crate::duration;
use crate::object::Object;
use crate::schema::Kind;
use hcl::{Body, Range, Type};
use serde_json::{Map, Value};

const SUMMARY: &str = "Unsuitable value type";

impl Decoder<'_> {
    /// Converts one argument. A null is as good as nothing.
    pub(super) fn value(&mut self, kind: Kind, value: &hcl::Value, range: &Range) -> Option<Value> {
        if value.is_null() {
            return None;
        }
        match convert(kind, value) {
            Ok(value) => Some(value),
            Err(detail) => {
                self.report(SUMMARY, detail, range.clone());
                None
            }
        }
    }

    /// A block that stands for a map.
    pub(super) fn map(&mut self, kind: Kind, body: &Body) -> Option<Value> {
        for block in &body.blocks {
            let summary = format!("Unexpected {:?} block", block.kind);
            self.report(summary, "Blocks are not allowed here.", block.kind_range.clone());
        }
        let item = if matches!(kind, Kind::StringListMap) { Kind::Strings } else { Kind::String };
        let mut map = Map::with_capacity(body.attributes.len());
        for attribute in &body.attributes {
            if let Some(value) = self.value(item, &attribute.value, &attribute.value_range) {
                map.insert(attribute.name.clone(), value);
            }
        }
        Some(map.into())
    }
}

fn convert(kind: Kind, value: &hcl::Value) -> Result<Value, String> {
    if !value.is_wholly_known() {
        return Err("Unsuitable value: value must be known".into());
    }
    if matches!(kind, Kind::Duration) {
        return convert_duration(value);
    }
    let list = |item| Type::List(Box::new(item));
    let wanted = match kind {
        Kind::String | Kind::Bytes => Type::String,
        Kind::Int | Kind::Uint | Kind::Duration => Type::Number,
        Kind::Bool => Type::Bool,
        Kind::Strings => list(Type::String),
        Kind::Ints => list(Type::Number),
        Kind::StringMap => Type::Map(Box::new(Type::String)),
        Kind::StringListMap => Type::Map(Box::new(list(Type::String))),
        Kind::Free | Kind::Block(_) | Kind::Blocks(_) | Kind::BlockMap(_) => Type::Any,
    };
    let converted = value.clone().convert(&wanted).map_err(|error| format!("Unsuitable value: {error}"))?;
    match (kind, &converted) {
        (Kind::Int, hcl::Value::Number(_)) => {
            whole(&converted, "-9223372036854775808 and 9223372036854775807", i64::MIN)
        }
        (Kind::Uint, hcl::Value::Number(_)) => whole(&converted, "0 and 18446744073709551615", 0),
        (Kind::Strings, hcl::Value::List(_, items)) => {
            Ok(items.iter().map(text_or_empty).collect::<Vec<_>>().into())
        }
        (Kind::Ints, hcl::Value::List(_, items)) => {
            let items = items.iter().map(|item| whole(item, "0 and 65535", 0));
            items.collect::<Result<Vec<_>, _>>().map(Value::Array)
        }
        (Kind::StringMap, hcl::Value::Map(_, members)) => Ok(members
            .iter()
            .map(|(name, value)| (name.clone(), text_or_empty(value)))
            .collect::<Map<_, _>>()
            .into()),
        _ => Ok(converted.to_json()),
    }
}

fn text_or_empty(value: &hcl::Value) -> Value {
    match value.to_json() {
        Value::Null => Value::String(String::new()),
        text => text,
    }
}

fn whole(value: &hcl::Value, between: &str, least: i64) -> Result<Value, String> {
    let json = value.to_json();
    let fits = json.as_i64().is_some_and(|number| number >= least) || (least == 0 && json.as_u64().is_some());
    let problem = || format!("Unsuitable value: value must be a whole number, between {between}");
    if fits { Ok(json) } else { Err(problem()) }
}

fn convert_duration(value: &hcl::Value) -> Result<Value, String> {
    match value {
        hcl::Value::String(text) => duration::parse(text)
            .map(Value::from)
            .map_err(|error| format!("Unsuitable duration value: {error}")),
        hcl::Value::Number(_) => whole(value, "-9223372036854775808 and 9223372036854775807", i64::MIN),
        other => Err(format!("Unsuitable value: expected a string but found {}", other.friendly_type())),
    }
}

/// A body that its reader alone understands. Nested blocks become lists, one level deeper for each label.
pub(super) fn free(body: &Body) -> Object {
    let mut map = Map::with_capacity(body.attributes.len() + body.blocks.len());
    for attribute in &body.attributes {
        map.insert(attribute.name.clone(), attribute.value.to_json());
    }
    for block in &body.blocks {
        let mut value = Value::Object(free(&block.body));
        for (label, _) in block.labels.iter().rev() {
            value = Value::Object(Map::from_iter([(label.clone(), Value::Array(vec![value]))]));
        }
        match map.entry(block.kind.clone()).or_insert_with(|| Value::Array(Vec::new())) {
            Value::Array(list) => list.push(value),
            other => *other = Value::Array(vec![other.take(), value]),
        }
    }
    map
}
