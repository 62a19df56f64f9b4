//! Values of arguments, and bodies whose names are free.

use super::Decoder;
use crate::duration;
use crate::object::Object;
use crate::schema::{Field, Kind, Width};
use hcl::{Body, Range, Type};
use serde_json::{Map, Value};

const SUMMARY: &str = "Unsuitable value type";
const NULL: &str = "Unsuitable value: null value is not allowed";

impl Decoder {
    /// Converts one argument. A null is as good as nothing where a field can be unset.
    pub(super) fn value(&mut self, field: &Field, value: &hcl::Value, range: &Range) -> Option<Value> {
        if value.is_null() {
            let single = matches!(field.kind, Kind::String | Kind::Int | Kind::Uint | Kind::Bool);
            if matches!(field.kind, Kind::Duration) {
                let detail = "Unsuitable value: expected a string but found null";
                self.report(SUMMARY, detail, range.clone());
            } else if single && !field.pointer && !field.json.is_empty() {
                self.report(SUMMARY, NULL, range.clone());
            }
            return None;
        }
        self.converted(field.kind, field.width, value, range)
    }

    fn converted(&mut self, kind: Kind, width: Width, value: &hcl::Value, range: &Range) -> Option<Value> {
        match convert(kind, width, value) {
            Ok(value) => Some(value),
            Err(detail) => {
                self.report(SUMMARY, detail, range.clone());
                None
            }
        }
    }

    /// Converts an argument of a comparison. These are read by another decoder there: nulls are as good as nothing,
    /// what failed to evaluate is not reported again, and fractions are cut off.
    pub(super) fn compared(&mut self, kind: Kind, attribute: &hcl::Attribute) -> Option<Value> {
        let value = &attribute.value;
        if value.is_null() || !value.is_wholly_known() {
            return None;
        }
        let wanted = match kind {
            Kind::Int => Type::Number,
            Kind::Bool => Type::Bool,
            _ => Type::String,
        };
        match value.clone().convert(&wanted) {
            Ok(converted) => {
                let json = converted.to_json();
                let whole =
                    json.as_f64().filter(|_| matches!(kind, Kind::Int)).map(|number| number.trunc() as i64);
                Some(whole.map_or(json, Value::from))
            }
            Err(error) => {
                let detail = format!("Inappropriate value for attribute {:?}: {error}.", attribute.name);
                self.report("Incorrect attribute value type", detail, attribute.range.clone());
                None
            }
        }
    }

    /// A map that is written as an argument, which allows keys that are no names; not beside a block of that name.
    pub(super) fn map_argument(
        &mut self,
        field: &Field,
        attribute: &hcl::Attribute,
        body: &Body,
    ) -> Option<Value> {
        let name = field.hcl;
        if let Some(block) = body.blocks_of(name).next() {
            let detail = format!(
                "{name} may not be defined more than once. Another definition is defined at {}.",
                attribute.name_range.to(&attribute.range),
            );
            self.report(format!("Duplicate {name} block"), detail, block.range.clone());
        }
        self.value(field, &attribute.value, &attribute.value_range)
    }

    /// A block that stands for a map.
    pub(super) fn map(&mut self, kind: Kind, body: &Body) -> Option<Value> {
        let item = if matches!(kind, Kind::StringListMap) { Kind::Strings } else { Kind::String };
        let mut map = Map::with_capacity(body.attributes.len());
        for attribute in &body.attributes {
            if attribute.value.is_null() && matches!(item, Kind::String) {
                self.report(SUMMARY, NULL, attribute.value_range.clone());
            } else if let Some(value) =
                self.converted(item, Width::Whole, &attribute.value, &attribute.value_range)
            {
                map.insert(attribute.name.clone(), value);
            }
        }
        // A block is as good as a list of objects, which no map of texts holds.
        for block in &body.blocks {
            self.converted(
                item,
                Width::Whole,
                &hcl::Value::Tuple(vec![hcl::Value::Object(Default::default())]),
                &block.open_range,
            );
        }
        Some(map.into())
    }
}

fn convert(kind: Kind, width: Width, value: &hcl::Value) -> Result<Value, String> {
    // What is of the right type already, as nearly all of it is.
    match (kind, value) {
        (Kind::String, hcl::Value::String(text)) => return Ok(text.as_str().into()),
        (Kind::Bool, hcl::Value::Bool(truth)) => return Ok((*truth).into()),
        (Kind::Int, hcl::Value::Number(_)) => return whole(value, width, true),
        _ => {}
    }
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
        (Kind::Int, hcl::Value::Number(_)) => whole(&converted, width, true),
        (Kind::Uint, hcl::Value::Number(_)) => whole(&converted, width, false),
        (Kind::Strings, hcl::Value::List(_, items)) => {
            if items.iter().any(hcl::Value::is_null) {
                return Err(NULL.into());
            }
            Ok(converted.to_json())
        }
        (Kind::Ints, hcl::Value::List(_, items)) => {
            let items = items.iter().map(|item| whole(item, Width::Uint16, false));
            items.collect::<Result<Vec<_>, _>>().map(Value::Array)
        }
        (Kind::StringMap, hcl::Value::Map(_, members)) if members.values().any(hcl::Value::is_null) => {
            Err(NULL.into())
        }
        _ => Ok(converted.to_json()),
    }
}

fn whole(value: &hcl::Value, width: Width, signed: bool) -> Result<Value, String> {
    let json = value.to_json();
    if json.as_number().is_some_and(|number| width.holds(signed, number)) {
        return Ok(json);
    }
    let (least, most, _) = width.bounds(signed);
    let inclusive = if least == 0 { " inclusive" } else { "" };
    Err(format!("Unsuitable value: value must be a whole number, between {least} and {most}{inclusive}"))
}

fn convert_duration(value: &hcl::Value) -> Result<Value, String> {
    match value {
        hcl::Value::String(text) => duration::parse(text)
            .map(Value::from)
            .map_err(|error| format!("Unsuitable duration value: {error}")),
        hcl::Value::Number(_) => whole(value, Width::Whole, true),
        other => Err(format!("Unsuitable value: expected a string but found {}", other.friendly_type())),
    }
}

/// A body that its reader alone understands. Nested blocks become lists, one level deeper for each label, and objects
/// lists of one, so that both forms of a map come out alike.
pub(super) fn free(body: &Body) -> Object {
    let mut map = Map::with_capacity(body.attributes.len() + body.blocks.len());
    for attribute in &body.attributes {
        let mut value = attribute.value.to_json();
        lose_precision(&mut value);
        map.insert(attribute.name.clone(), if attribute.is_object { vec![value].into() } else { value });
    }
    let mut blocks: Vec<(&str, Vec<Value>)> = Vec::new();
    for block in &body.blocks {
        let mut value = Value::Object(free(&block.body));
        for (label, _) in block.labels.iter().rev() {
            value = Value::Object(Map::from_iter([(label.clone(), Value::Array(vec![value]))]));
        }
        match blocks.iter_mut().find(|(kind, _)| *kind == block.kind) {
            Some((_, list)) => list.push(value),
            None => blocks.push((&block.kind, vec![value])),
        }
    }
    map.extend(blocks.into_iter().map(|(kind, list)| (kind.to_owned(), Value::Array(list))));
    map
}

/// What is no number of 64 bits with a sign is a floating point number to whoever reads such a body.
fn lose_precision(value: &mut Value) {
    match value {
        Value::Number(number) if !number.is_i64() => {
            let Some(float) = number.as_f64() else { return };
            // Large whole numbers are written with all their digits there.
            match float.to_string().parse::<u64>() {
                Ok(digits) => *number = digits.into(),
                Err(_) => serde_json::Number::from_f64(float).into_iter().for_each(|float| *number = float),
            }
        }
        Value::Array(items) => items.iter_mut().for_each(lose_precision),
        Value::Object(members) => members.values_mut().for_each(lose_precision),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
