//! Lists, tuples, maps and objects.

use super::Accepts::{Any, List, Number as Num, Strings};
use super::{Arguments, Fault, Functions, Outcome, Spec, open, or_null, param, spec};
use crate::types::{Type, unify};
use crate::value::{Members, Value};

pub(super) const SPECS: &[Spec] = &[
    spec("chunklist", &[param("list", List), param("size", Num)], chunklist),
    open("coalesce", &[], or_null("vals", Any), coalesce),
    open("coalescelist", &[], or_null("vals", Any), coalescelist),
    spec("compact", &[param("list", Strings)], compact),
    open("concat", &[], param("seqs", Any), concat),
    spec("contains", &[param("list", Any), param("value", Any)], contains),
    spec("distinct", &[param("list", List)], distinct),
    spec("element", &[param("list", Any), param("index", Num)], element),
    spec("flatten", &[param("list", Any)], flatten),
    spec("index", &[param("collection", Any), param("key", Any)], index),
    spec("keys", &[param("inputMap", Any)], keys),
    spec("length", &[param("collection", Any)], length),
    spec(
        "lookup",
        &[param("inputMap", Any), param("key", super::Accepts::String), or_null("default", Any)],
        lookup,
    ),
    open("merge", &[], or_null("maps", Any), merge),
    spec("slice", &[param("list", Any), param("start_index", Num), param("end_index", Num)], slice),
    spec("sort", &[param("list", Strings)], sort),
    spec("values", &[param("mapping", Any)], values_of),
    spec("zipmap", &[param("keys", Strings), param("values", Any)], zipmap),
];

const NOT_A_COLLECTION: &str = "collection must be a list, a map or a tuple";

fn chunklist(values: Vec<Value>, _: &Functions) -> Outcome {
    let mut arguments = Arguments::new(values);
    let list = arguments.value();
    let item = if let Value::List(item, _) = &list { item.clone() } else { Type::Any };
    let items = list.as_sequence().unwrap_or_default();
    let size = arguments.whole(1)?;
    if size < 0 {
        return Err(Fault::argument(1, "the size argument must be positive"));
    }
    let size = if size == 0 { items.len().max(1) } else { usize::try_from(size).unwrap_or(usize::MAX) };
    let chunks = items.chunks(size).map(|chunk| Value::List(item.clone(), chunk.to_vec())).collect();
    Ok(Value::List(Type::List(Box::new(item.clone())), chunks))
}

fn coalesce(values: Vec<Value>, _: &Functions) -> Outcome {
    if values.is_empty() {
        return Err(Fault::call("at least one argument is required"));
    }
    // A null is of no type, and leaves the others theirs.
    let mixed = values.iter().any(Value::is_null);
    let types: Vec<Type> = values.iter().map(Type::of).collect();
    let common = if mixed { Some(Type::Any) } else { unify(&types) };
    let common = common.ok_or_else(|| Fault::call("all arguments must have the same type"))?;
    let found =
        values.into_iter().find(|v| !v.is_null()).ok_or_else(|| Fault::call("no non-null arguments"))?;
    found.convert(&common).map_err(|e| Fault::call(e.to_string()))
}

fn coalescelist(values: Vec<Value>, _: &Functions) -> Outcome {
    if values.is_empty() {
        return Err(Fault::call("at least one argument is required"));
    }
    for (i, value) in values.into_iter().enumerate() {
        match value {
            Value::Null => {}
            Value::Tuple(ref items) | Value::List(_, ref items) => {
                if !items.is_empty() {
                    return Ok(value);
                }
            }
            _ => return Err(Fault::argument(i, "coalescelist arguments must be lists or tuples")),
        }
    }
    Err(Fault::call("no non-null arguments"))
}

fn compact(values: Vec<Value>, _: &Functions) -> Outcome {
    let items = Arguments::new(values).items();
    let kept = items.into_iter().filter(|v| v.as_str().is_some_and(|s| !s.is_empty()));
    Ok(Value::List(Type::String, kept.collect()))
}

fn concat(values: Vec<Value>, _: &Functions) -> Outcome {
    if values.is_empty() {
        return Err(Fault::call("at least one argument is required"));
    }
    let mut all = Vec::new();
    let mut item_types = Vec::new();
    let mut lists_only = true;
    for (i, value) in values.into_iter().enumerate() {
        match value {
            Value::List(item, items) => {
                item_types.push(item);
                all.extend(items);
            }
            Value::Tuple(items) => {
                lists_only = false;
                all.extend(items);
            }
            _ => return Err(Fault::argument(i, "all arguments must be lists or tuples")),
        }
    }
    match unify(&item_types) {
        Some(item) if lists_only => {
            let items: Result<Vec<Value>, _> = all.into_iter().map(|v| v.convert(&item)).collect();
            items.map(|items| Value::List(item, items)).map_err(|e| Fault::call(e.to_string()))
        }
        _ => Ok(Value::Tuple(all)),
    }
}

fn contains(values: Vec<Value>, _: &Functions) -> Outcome {
    let mut arguments = Arguments::new(values);
    let (collection, wanted) = (arguments.value(), arguments.value());
    let items =
        collection.as_sequence().ok_or_else(|| Fault::call("argument must be list, tuple, or set"))?;
    Ok(Value::Bool(items.contains(&wanted)))
}

fn distinct(values: Vec<Value>, _: &Functions) -> Outcome {
    let Value::List(item, items) = Arguments::new(values).value() else {
        return Ok(Value::Tuple(Vec::new()));
    };
    let mut kept: Vec<Value> = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    for value in items {
        if seen.insert(super::json_text(&value)) {
            kept.push(value);
        }
    }
    Ok(Value::List(item, kept))
}

fn element(values: Vec<Value>, _: &Functions) -> Outcome {
    let mut arguments = Arguments::new(values);
    let list = arguments.value();
    let items = match &list {
        Value::Tuple(items) | Value::List(_, items) => items,
        other => {
            return Err(Fault::argument(0, format!("cannot read elements from {}", other.friendly_type())));
        }
    };
    let index = arguments.whole(1)?;
    if items.is_empty() {
        return Err(Fault::call("cannot use element function with an empty list"));
    }
    Ok(items[index.rem_euclid(items.len() as i64) as usize].clone())
}

fn flatten(values: Vec<Value>, _: &Functions) -> Outcome {
    fn take(value: Value, into: &mut Vec<Value>) {
        match value {
            Value::Tuple(items) | Value::List(_, items) | Value::Set(_, items) => {
                items.into_iter().for_each(|v| take(v, into))
            }
            other => into.push(other),
        }
    }
    let list = Arguments::new(values).value();
    if list.as_sequence().is_none() {
        return Err(Fault::call("can only flatten lists, sets and tuples"));
    }
    let mut items = Vec::new();
    take(list, &mut items);
    Ok(Value::Tuple(items))
}

fn index(values: Vec<Value>, _: &Functions) -> Outcome {
    let mut arguments = Arguments::new(values);
    let (collection, key) = (arguments.value(), arguments.value());
    match (&collection, &key) {
        (Value::Tuple(items) | Value::List(_, items), Value::Number(n)) => {
            let found = n.as_u64().and_then(|i| items.get(usize::try_from(i).ok()?)).cloned();
            found.ok_or_else(|| Fault::call("index out of range"))
        }
        (Value::Tuple(_), _) => Err(Fault::call("key for tuple must be number")),
        (Value::List(..), _) => Err(Fault::call("key for list must be number")),
        (Value::Map(_, members), Value::String(name)) => {
            members.get(name).cloned().ok_or_else(|| Fault::call("key not found"))
        }
        (Value::Map(..), _) => Err(Fault::call("key for map must be string")),
        _ => Err(Fault::call(NOT_A_COLLECTION)),
    }
}

fn sorted(members: &Members) -> Vec<(&String, &Value)> {
    let mut all: Vec<_> = members.iter().collect();
    all.sort_by_key(|(name, _)| *name);
    all
}

fn keys(values: Vec<Value>, _: &Functions) -> Outcome {
    let map = Arguments::new(values).value();
    let names = |members| sorted(members).into_iter().map(|(name, _)| Value::String(name.clone())).collect();
    match &map {
        Value::Object(members) => Ok(Value::Tuple(names(members))),
        Value::Map(_, members) => Ok(Value::List(Type::String, names(members))),
        _ => Err(Fault::argument(0, "must have map or object type")),
    }
}

fn values_of(values: Vec<Value>, _: &Functions) -> Outcome {
    let map = Arguments::new(values).value();
    let items = |members| sorted(members).into_iter().map(|(_, value)| value.clone()).collect();
    match &map {
        Value::Object(members) => Ok(Value::Tuple(items(members))),
        Value::Map(item, members) => Ok(Value::List(item.clone(), items(members))),
        _ => Err(Fault::call("values() requires a map as the first argument")),
    }
}

fn length(values: Vec<Value>, _: &Functions) -> Outcome {
    let count = match Arguments::new(values).value() {
        Value::Tuple(items) | Value::List(_, items) | Value::Set(_, items) => items.len(),
        Value::Map(_, members) => members.len(),
        _ => return Err(Fault::call(NOT_A_COLLECTION)),
    };
    Ok(Value::Number(count.into()))
}

fn lookup(values: Vec<Value>, _: &Functions) -> Outcome {
    let mut arguments = Arguments::new(values);
    let (map, key, default) = (arguments.value(), arguments.text(), arguments.value());
    match &map {
        Value::Object(members) => Ok(members.get(&key).cloned().unwrap_or(default)),
        Value::Map(item, members) => match members.get(&key) {
            Some(value) => Ok(value.clone()),
            None => default.convert(item).map_err(|_| {
                Fault::argument(2, "the default value must have the same type as the map elements")
            }),
        },
        _ => Err(Fault::call("lookup() requires a map as the first argument")),
    }
}

fn merge(values: Vec<Value>, _: &Functions) -> Outcome {
    let mut merged = Members::new();
    let mut item_types = Vec::new();
    let mut maps_only = true;
    for value in values {
        match value {
            Value::Null => {}
            Value::Map(item, members) => {
                item_types.push(item);
                merged.extend(members);
            }
            Value::Object(members) => {
                maps_only = false;
                merged.extend(members);
            }
            other => {
                let reason = format!("arguments must be maps or objects, got {:?}", other.friendly_type());
                return Err(Fault::call(reason));
            }
        }
    }
    merged.sort_unstable_keys();
    match item_types.first().cloned() {
        Some(item) if maps_only && item_types.iter().all(|t| *t == item) => Ok(Value::Map(item, merged)),
        _ => Ok(Value::Object(merged)),
    }
}

fn slice(values: Vec<Value>, _: &Functions) -> Outcome {
    let mut arguments = Arguments::new(values);
    let list = arguments.value();
    let items = match &list {
        Value::Tuple(items) | Value::List(_, items) => items,
        _ => return Err(Fault::argument(0, "must be a list or tuple value")),
    };
    let (start, end) = (arguments.whole(1)?, arguments.whole(2)?);
    let count = items.len() as i64;
    if start < 0 {
        return Err(Fault::argument(1, "start index must not be less than zero"));
    }
    if start > count {
        return Err(Fault::argument(1, "start index must not be greater than the length of the list"));
    }
    if end > count {
        return Err(Fault::argument(2, "end index must not be greater than the length of the list"));
    }
    if start > end {
        return Err(Fault::argument(1, "start index must not be greater than end index"));
    }
    let part = items[start as usize..end as usize].to_vec();
    Ok(if let Value::List(item, _) = list { Value::List(item, part) } else { Value::Tuple(part) })
}

fn sort(values: Vec<Value>, _: &Functions) -> Outcome {
    let mut items = Arguments::new(values).items();
    if let Some(at) = items.iter().position(Value::is_null) {
        return Err(Fault::argument(
            0,
            format!("given list element {at} is null; a null string cannot be sorted"),
        ));
    }
    items.sort_by(Value::order);
    Ok(Value::List(Type::String, items))
}

fn zipmap(values: Vec<Value>, _: &Functions) -> Outcome {
    let mut arguments = Arguments::new(values);
    let (names, given) = (arguments.items(), arguments.value());
    let items = match &given {
        Value::Tuple(items) | Value::List(_, items) => items,
        _ => return Err(Fault::argument(1, "values must be a list or tuple value")),
    };
    if names.len() != items.len() {
        let reason =
            format!("number of keys ({}) does not match number of values ({})", names.len(), items.len());
        return Err(Fault::call(reason));
    }
    let pairs = names
        .iter()
        .zip(items)
        .map(|(name, value)| (name.as_str().unwrap_or_default().to_string(), value.clone()));
    let Value::Object(members) = Value::object(pairs) else { return Ok(Value::Null) };
    Ok(if let Value::List(item, _) = given { Value::Map(item, members) } else { Value::Object(members) })
}
