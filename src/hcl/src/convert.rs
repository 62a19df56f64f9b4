//! Conversion of values to types, with HCL's rules and words.

use std::fmt;

use crate::number::Number;
use crate::types::{Type, unify};
use crate::value::{Members, Value};

/// Why a value does not fit a type: where within it, and what is wrong there.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConvertError {
    path: Vec<String>,
    reason: String,
}

impl ConvertError {
    fn new(reason: impl Into<String>) -> ConvertError {
        ConvertError { path: Vec::new(), reason: reason.into() }
    }

    fn within(mut self, step: String) -> ConvertError {
        self.path.insert(0, step);
        self
    }
}

impl fmt::Display for ConvertError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.path {
            write!(f, "{step}: ")?;
        }
        f.write_str(&self.reason)
    }
}

impl std::error::Error for ConvertError {}

impl Value {
    /// The same value as one of the given type.
    ///
    /// # Errors
    /// When HCL has no conversion: a word where a number is needed, a tuple where text is.
    pub fn convert(self, to: &Type) -> Result<Value, ConvertError> {
        let value = match (self, to) {
            (value @ (Value::Null | Value::Unknown), _) | (value, Type::Any) => value,
            (value @ Value::Bool(_), Type::Bool) => value,
            (value @ Value::Number(_), Type::Number) => value,
            (value @ Value::String(_), Type::String) => value,
            (Value::Bool(b), Type::String) => Value::string(b.to_string()),
            (Value::Number(n), Type::String) => Value::string(n.to_string()),
            (Value::String(s), Type::Number) => match Number::parse(&s) {
                Some(number) => Value::Number(number),
                None => return Err(ConvertError::new("a number is required")),
            },
            (Value::String(s), Type::Bool) => return to_bool(&s),
            (Value::Tuple(items) | Value::List(_, items) | Value::Set(_, items), Type::List(item)) => {
                let (item, items) = convert_items(items, item)?;
                Value::List(item, items)
            }
            (Value::Tuple(items) | Value::List(_, items) | Value::Set(_, items), Type::Set(item)) => {
                let (item, items) = convert_items(items, item)?;
                Value::set(item, items)
            }
            (Value::Object(members) | Value::Map(_, members), Type::Map(item)) => {
                convert_members(members, item)?
            }
            (Value::Object(members) | Value::Map(_, members), Type::Object(_)) => to_object(members, to)?,
            (Value::Tuple(items), Type::Tuple(kinds)) if items.len() == kinds.len() => {
                let places = items.into_iter().zip(kinds).enumerate();
                let items = places
                    .map(|(i, (v, kind))| v.convert(kind).map_err(|e| e.within(format!("element {i}"))));
                Value::Tuple(items.collect::<Result<_, _>>()?)
            }
            (Value::Tuple(items), Type::Tuple(kinds)) => {
                let (have, need) = (items.len(), kinds.len());
                return Err(ConvertError::new(format!(
                    "tuple of {need} elements required, but have {have} elements"
                )));
            }
            (value, to) => {
                let have = value.friendly_type();
                return Err(ConvertError::new(format!("{} required, but have {have}", to.friendly())));
            }
        };
        Ok(value)
    }
}

fn to_bool(text: &str) -> Result<Value, ConvertError> {
    match text {
        "true" | "1" => Ok(Value::Bool(true)),
        "false" | "0" => Ok(Value::Bool(false)),
        "True" | "TRUE" | "False" | "FALSE" => {
            let lower = text.to_lowercase();
            Err(ConvertError::new(format!(
                "a bool is required; to convert from string, use lowercase \"{lower}\""
            )))
        }
        _ => Err(ConvertError::new("a bool is required")),
    }
}

fn common_type<'a>(
    items: impl Iterator<Item = &'a Value>,
    wanted: &Type,
    what: &str,
) -> Result<Type, ConvertError> {
    if *wanted != Type::Any {
        return Ok(wanted.clone());
    }
    let types: Vec<Type> = items.map(Type::of).collect();
    unify(&types).ok_or_else(|| ConvertError::new(format!("all {what} elements must have the same type")))
}

fn convert_items(items: Vec<Value>, wanted: &Type) -> Result<(Type, Vec<Value>), ConvertError> {
    let item = common_type(items.iter(), wanted, "list")?;
    let converted = items.into_iter().enumerate();
    let converted = converted.map(|(i, v)| v.convert(&item).map_err(|e| e.within(format!("element {i}"))));
    let converted = converted.collect::<Result<Vec<_>, _>>()?;
    Ok((item, converted))
}

fn convert_members(members: Members, wanted: &Type) -> Result<Value, ConvertError> {
    let item = common_type(members.values(), wanted, "map")?;
    let mut converted = Members::with_capacity(members.len());
    for (name, value) in members {
        let value = value.convert(&item).map_err(|e| e.within(format!("element {name:?}")))?;
        converted.insert(name, value);
    }
    Ok(Value::Map(item, converted))
}

fn to_object(mut members: Members, to: &Type) -> Result<Value, ConvertError> {
    let Type::Object(fields) = to else { return Ok(Value::Object(members)) };
    let missing: Vec<String> = fields
        .iter()
        .filter(|(name, field)| !field.optional && !members.contains_key(*name))
        .map(|(name, _)| format!("{name:?}"))
        .collect();
    match missing.len() {
        0 => {}
        1 => return Err(ConvertError::new(format!("attribute {} is required", missing[0]))),
        _ => return Err(ConvertError::new(format!("attributes {} are required", join_words(&missing)))),
    }
    let mut converted = Vec::with_capacity(fields.len());
    for (name, field) in fields {
        let value = members.shift_remove(name).unwrap_or(Value::Null);
        let value = value.convert(&field.kind).map_err(|e| e.within(format!("attribute {name:?}")))?;
        converted.push((name.clone(), value));
    }
    Ok(Value::object(converted))
}

fn join_words(words: &[String]) -> String {
    match words.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, [one])) => format!("{one} and {last}"),
        Some((last, rest)) => format!("{}, and {last}", rest.join(", ")),
        None => String::new(),
    }
}
