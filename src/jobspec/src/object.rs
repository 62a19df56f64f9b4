//! Reading JSON objects whose shape the schema has already settled: what is absent or of another type reads as empty.

use serde_json::{Map, Value};

/// One JSON object.
pub type Object = Map<String, Value>;

/// The text at `key`, or nothing.
pub fn text<'a>(object: &'a Object, key: &str) -> &'a str {
    object.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// The number at `key`, or zero.
pub fn int(object: &Object, key: &str) -> i64 {
    let value = object.get(key);
    value.and_then(Value::as_i64).or_else(|| value?.as_u64().map(|_| i64::MAX)).unwrap_or_default()
}

/// The truth at `key`, or false.
pub fn truth(object: &Object, key: &str) -> bool {
    object.get(key).and_then(Value::as_bool).unwrap_or_default()
}

/// The object at `key`.
pub fn child<'a>(object: &'a Object, key: &str) -> Option<&'a Object> {
    object.get(key)?.as_object()
}

/// The object at `key`, to change.
pub fn child_mut<'a>(object: &'a mut Object, key: &str) -> Option<&'a mut Object> {
    object.get_mut(key)?.as_object_mut()
}

/// The objects of the list at `key`.
pub fn children<'a>(object: &'a Object, key: &str) -> impl Iterator<Item = &'a Object> + use<'a> {
    list(object, key).iter().filter_map(Value::as_object)
}

/// The objects of the list at `key`, to change.
pub fn children_mut<'a>(object: &'a mut Object, key: &str) -> impl Iterator<Item = &'a mut Object> + use<'a> {
    let list = object.get_mut(key).and_then(Value::as_array_mut);
    list.into_iter().flatten().filter_map(Value::as_object_mut)
}

/// The list at `key`, or none of it.
pub fn list<'a>(object: &'a Object, key: &str) -> &'a [Value] {
    object.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The texts of the list at `key`.
pub fn texts<'a>(object: &'a Object, key: &str) -> impl Iterator<Item = &'a str> + use<'a> {
    list(object, key).iter().filter_map(Value::as_str)
}

/// Whether nothing is at `key`.
pub fn is_null(object: &Object, key: &str) -> bool {
    object.get(key).is_none_or(Value::is_null)
}

/// Puts `value` at `key`, keeping the place of a key that is there already.
pub fn set(object: &mut Object, key: &str, value: impl Into<Value>) {
    match object.get_mut(key) {
        Some(slot) => *slot = value.into(),
        None => drop(object.insert(key.to_owned(), value.into())),
    }
}

/// Puts `value` at `key` unless something is there.
pub fn set_if_null(object: &mut Object, key: &str, value: impl Into<Value>) {
    if is_null(object, key) {
        set(object, key, value);
    }
}
