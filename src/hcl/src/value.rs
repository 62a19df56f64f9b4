//! What expressions evaluate to.

use std::cmp::Ordering;

use indexmap::IndexMap;
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

use crate::number::Number;
use crate::types::Type;

/// Members of an object or map. Evaluated ones are in order of their names; those of a JSON text are as written.
pub type Members = IndexMap<String, Value>;

/// A value. Lists, sets and maps know the type of their items, which an empty one could not tell otherwise.
#[derive(Clone, Debug)]
pub enum Value {
    /// Nothing; fits every type.
    Null,
    /// The result of an expression that failed: an error about it has been reported.
    Unknown,
    /// True or false.
    Bool(bool),
    /// A number.
    Number(Number),
    /// Text, in normalization form C.
    String(String),
    /// What `[...]` and most functions give.
    Tuple(Vec<Value>),
    /// Items of one type.
    List(Type, Vec<Value>),
    /// Different items of one type, sorted.
    Set(Type, Vec<Value>),
    /// What `{...}` gives.
    Object(Members),
    /// Values of one type by name.
    Map(Type, Members),
}

impl Value {
    /// Text, brought into normalization form C.
    pub fn string(text: impl Into<String>) -> Value {
        let text = text.into();
        if text.is_ascii() || is_nfc_quick(text.chars()) == IsNormalized::Yes {
            return Value::String(text);
        }
        Value::String(text.nfc().collect())
    }

    /// An object, its members sorted by name.
    pub fn object(members: impl IntoIterator<Item = (String, Value)>) -> Value {
        let mut members: Members = members.into_iter().collect();
        members.sort_unstable_keys();
        Value::Object(members)
    }

    /// A list of strings.
    pub fn strings(items: impl IntoIterator<Item = String>) -> Value {
        Value::List(Type::String, items.into_iter().map(Value::string).collect())
    }

    /// A set: items sorted, each kept once.
    pub fn set(item: Type, mut items: Vec<Value>) -> Value {
        items.sort_by(Value::order);
        items.dedup_by(|a, b| a == b);
        Value::Set(item, items)
    }

    /// Whether it is null.
    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }

    /// Whether it and all within is known.
    pub fn is_wholly_known(&self) -> bool {
        match self {
            Value::Unknown => false,
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
            Value::Tuple(items) | Value::List(_, items) | Value::Set(_, items) => {
                items.iter().all(Value::is_wholly_known)
            }
            Value::Object(members) | Value::Map(_, members) => members.values().all(Value::is_wholly_known),
        }
    }

    /// The text of a string.
    pub fn as_str(&self) -> Option<&str> {
        if let Value::String(text) = self { Some(text) } else { None }
    }

    /// The items of a tuple, list or set.
    pub fn as_sequence(&self) -> Option<&[Value]> {
        match self {
            Value::Tuple(items) | Value::List(_, items) | Value::Set(_, items) => Some(items),
            Value::Null | Value::Unknown | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
            Value::Object(_) | Value::Map(..) => None,
        }
    }

    /// The members of an object or map.
    pub fn as_members(&self) -> Option<&Members> {
        match self {
            Value::Object(members) | Value::Map(_, members) => Some(members),
            Value::Null | Value::Unknown | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
            Value::Tuple(_) | Value::List(..) | Value::Set(..) => None,
        }
    }

    /// Its type in words: `tuple`, `list of string`.
    pub fn friendly_type(&self) -> String {
        Type::of(self).friendly()
    }

    /// As JSON. Numbers that neither fit 64 bits nor a machine float exactly are rounded; an infinite one is null.
    pub fn to_json(&self) -> serde_json::Value {
        use serde_json::Value as Json;
        match self {
            Value::Null | Value::Unknown => Json::Null,
            Value::Bool(b) => Json::Bool(*b),
            Value::Number(n) => match (n.as_i64(), n.as_u64()) {
                (Some(whole), _) => whole.into(),
                (None, Some(whole)) => whole.into(),
                (None, None) => serde_json::Number::from_f64(n.as_f64()).map_or(Json::Null, Json::Number),
            },
            Value::String(s) => Json::String(s.clone()),
            Value::Tuple(items) | Value::List(_, items) | Value::Set(_, items) => {
                Json::Array(items.iter().map(Value::to_json).collect())
            }
            Value::Object(members) | Value::Map(_, members) => {
                Json::Object(members.iter().map(|(k, v)| (k.clone(), v.to_json())).collect())
            }
        }
    }

    /// Roughly how many bytes a copy takes.
    pub(crate) fn weight(&self) -> u64 {
        const SLOT: u64 = 80;
        match self {
            Value::Null | Value::Unknown | Value::Bool(_) | Value::Number(_) => SLOT,
            Value::String(s) => SLOT + s.len() as u64,
            Value::Tuple(items) | Value::List(_, items) | Value::Set(_, items) => {
                SLOT + items.iter().map(Value::weight).sum::<u64>()
            }
            Value::Object(members) | Value::Map(_, members) => {
                SLOT + members.iter().map(|(k, v)| k.len() as u64 + SLOT + v.weight()).sum::<u64>()
            }
        }
    }

    /// Steps that an operation on it takes because of what it is: a number of thousands of digits, or a text of characters
    /// that are more than a byte each, have to be looked at closely.
    pub(crate) fn own_steps(&self) -> u64 {
        /// Bytes of such a text that take as long as a step.
        const STEP: u64 = 16;
        match self {
            Value::Null | Value::Unknown | Value::Bool(_) => 0,
            Value::Number(number) => number.own_steps(),
            Value::String(text) if text.is_ascii() => 0,
            Value::String(text) => text.len() as u64 / STEP,
            Value::Tuple(items) | Value::List(_, items) | Value::Set(_, items) => {
                items.iter().map(Value::own_steps).sum()
            }
            Value::Object(members) | Value::Map(_, members) => members.values().map(Value::own_steps).sum(),
        }
    }

    /// The order in which sets keep their items.
    pub(crate) fn order(a: &Value, b: &Value) -> Ordering {
        match (a, b) {
            (Value::String(a), Value::String(b)) => a.cmp(b),
            (Value::Number(a), Value::Number(b)) => a.cmp(b),
            (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
            _ => a.sort_text().cmp(&b.sort_text()),
        }
    }

    fn sort_text(&self) -> String {
        crate::functions::json_text(self)
    }
}

/// Values of different types differ, as in HCL: neither `1 == "1"` nor `[] == list([])`.
impl PartialEq for Value {
    fn eq(&self, other: &Value) -> bool {
        match (self, other) {
            (Value::Null, Value::Null) => true,
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::Number(a), Value::Number(b)) => a == b,
            (Value::String(a), Value::String(b)) => a == b,
            (Value::Tuple(a), Value::Tuple(b)) => a == b,
            (Value::List(s, a), Value::List(t, b)) | (Value::Set(s, a), Value::Set(t, b)) => s == t && a == b,
            (Value::Object(a), Value::Object(b)) => a == b,
            (Value::Map(s, a), Value::Map(t, b)) => s == t && a == b,
            _ => false,
        }
    }
}

impl Eq for Value {}

impl From<bool> for Value {
    fn from(value: bool) -> Value {
        Value::Bool(value)
    }
}

impl From<Number> for Value {
    fn from(value: Number) -> Value {
        Value::Number(value)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Value {
        Value::Number(value.into())
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Value {
        Value::string(value)
    }
}

impl From<String> for Value {
    fn from(value: String) -> Value {
        Value::string(value)
    }
}
