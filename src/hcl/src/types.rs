//! What kinds of values there are, and the kind that several have in common.

use std::collections::BTreeMap;

use crate::value::Value;

/// The type of a value, or what a variable's `type` asks for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Type {
    /// Any value; also the type of what is not known.
    Any,
    /// True or false.
    Bool,
    /// A number.
    Number,
    /// Text.
    String,
    /// Any number of values of one type, in order.
    List(Box<Type>),
    /// Different values of one type, without order.
    Set(Box<Type>),
    /// Values of one type, by name.
    Map(Box<Type>),
    /// A value of its own type for each name.
    Object(BTreeMap<String, Field>),
    /// A value of its own type for each place.
    Tuple(Vec<Type>),
}

/// One attribute of an object type.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Field {
    /// Type of the value.
    pub kind: Type,
    /// Whether it may be left out; null stands in for it then.
    pub optional: bool,
}

/// What a type expression is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum TypeUse {
    /// The type of a variable: every part of it is said.
    Exact,
    /// What `convert` converts to: parts may stay open, as `any` or as attributes that may be missing.
    Constraint,
}

impl Type {
    /// The type in words, as error messages have it: `list of string`.
    pub fn friendly(&self) -> String {
        match self {
            Type::Any => "dynamic".to_string(),
            Type::Bool => "bool".to_string(),
            Type::Number => "number".to_string(),
            Type::String => "string".to_string(),
            Type::List(item) => format!("list of {}", item.friendly_item()),
            Type::Set(item) => format!("set of {}", item.friendly_item()),
            Type::Map(item) => format!("map of {}", item.friendly_item()),
            Type::Object(_) => "object".to_string(),
            Type::Tuple(_) => "tuple".to_string(),
        }
    }

    fn friendly_item(&self) -> String {
        if *self == Type::Any { "any single type".to_string() } else { self.friendly() }
    }

    /// The type of a value.
    pub fn of(value: &Value) -> Type {
        match value {
            Value::Null | Value::Unknown => Type::Any,
            Value::Bool(_) => Type::Bool,
            Value::Number(_) => Type::Number,
            Value::String(_) => Type::String,
            Value::Tuple(items) => Type::Tuple(items.iter().map(Type::of).collect()),
            Value::List(item, _) => Type::List(Box::new(item.clone())),
            Value::Set(item, _) => Type::Set(Box::new(item.clone())),
            Value::Map(item, _) => Type::Map(Box::new(item.clone())),
            Value::Object(members) => Type::Object(
                members
                    .iter()
                    .map(|(k, v)| (k.clone(), Field { kind: Type::of(v), optional: false }))
                    .collect(),
            ),
        }
    }

    fn is_primitive(&self) -> bool {
        matches!(self, Type::Bool | Type::Number | Type::String)
    }
}

/// The type that values of all the given types can be converted to, if there is one.
pub(crate) fn unify(types: &[Type]) -> Option<Type> {
    let mut known = types.iter().filter(|t| **t != Type::Any);
    let Some(first) = known.next() else { return Some(Type::Any) };
    let rest: Vec<&Type> = known.collect();
    if rest.iter().all(|t| *t == first) {
        return Some(first.clone());
    }
    let all: Vec<&Type> = std::iter::once(first).chain(rest).collect();
    if all.iter().all(|t| t.is_primitive()) {
        return all.iter().any(|t| **t == Type::String).then_some(Type::String);
    }
    if all.iter().all(|t| matches!(t, Type::Object(_) | Type::Map(_))) {
        return unify_by_name(&all);
    }
    if all.iter().all(|t| matches!(t, Type::Tuple(_) | Type::List(_) | Type::Set(_))) {
        return unify_in_order(&all);
    }
    None
}

fn unify_by_name(all: &[&Type]) -> Option<Type> {
    let objects: Vec<&BTreeMap<String, Field>> =
        all.iter().filter_map(|t| if let Type::Object(fields) = t { Some(fields) } else { None }).collect();
    if objects.len() == all.len() && objects.iter().all(|o| o.keys().eq(objects[0].keys())) {
        let mut fields = BTreeMap::new();
        for name in objects[0].keys() {
            let kinds: Vec<Type> = objects.iter().map(|o| o[name].kind.clone()).collect();
            fields.insert(name.clone(), Field { kind: unify(&kinds)?, optional: false });
        }
        return Some(Type::Object(fields));
    }
    let mut items = Vec::new();
    for kind in all {
        match kind {
            Type::Object(fields) => items.extend(fields.values().map(|f| f.kind.clone())),
            Type::Map(item) => items.push((**item).clone()),
            _ => return None,
        }
    }
    Some(Type::Map(Box::new(unify(&items)?)))
}

fn unify_in_order(all: &[&Type]) -> Option<Type> {
    let tuples: Vec<&Vec<Type>> =
        all.iter().filter_map(|t| if let Type::Tuple(items) = t { Some(items) } else { None }).collect();
    if tuples.len() == all.len() && tuples.iter().all(|t| t.len() == tuples[0].len()) {
        let places = 0..tuples[0].len();
        let items: Option<Vec<Type>> =
            places.map(|i| unify(&tuples.iter().map(|t| t[i].clone()).collect::<Vec<_>>())).collect();
        return Some(Type::Tuple(items?));
    }
    let mut items = Vec::new();
    for kind in all {
        match kind {
            Type::Tuple(places) => items.extend(places.iter().cloned()),
            Type::List(item) | Type::Set(item) => items.push((**item).clone()),
            _ => return None,
        }
    }
    let item = Box::new(unify(&items)?);
    let sets = all.iter().all(|t| matches!(t, Type::Set(_)));
    Some(if sets { Type::Set(item) } else { Type::List(item) })
}
