//! Objects in the shape of the schema: all fields there, in order, of the right type.

use crate::object::Object;
use crate::schema::{Block, Field, Form, JOB, Kind, Width};
use serde_json::{Map, Number, Value};

/// A request body that does not fit the job specification.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Error {
    /// A value of the wrong type. The text is the one that Go's decoder gives, because clients match on it.
    #[error("json: cannot unmarshal {found} into Go {place} of type {wanted}")]
    Type {
        /// What was there.
        found: String,
        /// Where it was.
        place: String,
        /// What should have been there.
        wanted: String,
    },
    /// A job of more fields than any job needs.
    #[error("the blocks of a job may have {} fields together; this one has more", crate::decode::FIELDS_MAX)]
    TooLarge,
    /// A payload that is not base64.
    #[error("{place}: not base64")]
    Base64 {
        /// Where it was.
        place: String,
    },
}

/// Brings a job from a request body into shape: keys in any case, unknown keys dropped, missing keys there.
pub fn normalise_json(value: Value) -> Result<Value, Error> {
    let mut path = Path { names: vec!["Job"], struct_name: "JobRegisterRequest", fields: 0 };
    if value.is_null() {
        return Ok(Value::Object(empty(&JOB)));
    }
    block(&JOB, value, &mut path).map(Value::Object)
}

/// The same job with its keys in the order in which the API declares them, for `job run -output`.
pub fn in_declared_order(job: &Value) -> Value {
    fn order(block: &'static Block, value: &Value) -> Value {
        let Some(object) = value.as_object() else { return value.clone() };
        let mut ordered = Map::with_capacity(object.len());
        for field in block.fields.iter().filter(|field| !field.json.is_empty()) {
            let Some(value) = object.get(field.json) else { continue };
            let value = match (field.kind, value) {
                (Kind::Block(inner), _) => order(inner, value),
                (Kind::Blocks(inner), Value::Array(list)) => {
                    list.iter().map(|item| order(inner, item)).collect::<Vec<_>>().into()
                }
                (Kind::BlockMap(inner), Value::Object(map)) => map
                    .iter()
                    .map(|(name, item)| (name.clone(), order(inner, item)))
                    .collect::<Map<_, _>>()
                    .into(),
                _ => value.clone(),
            };
            ordered.insert(field.json.to_owned(), value);
        }
        ordered.into()
    }
    order(&JOB, job)
}

/// An object in which nothing is set.
pub fn empty(block: &'static Block) -> Object {
    submitted_fields(block).map(|field| (field.json.to_owned(), unset(field))).collect()
}

/// The fields of a submitted object, without those that show only when set.
fn submitted_fields(block: &'static Block) -> impl Iterator<Item = &'static Field> {
    block.alphabetical().iter().copied().filter(|field| field.form != Form::Stored && !field.omit_null)
}

/// What stands for an unset field in the API's form.
pub fn unset(field: &Field) -> Value {
    if field.pointer { Value::Null } else { zero(field.kind) }
}

/// The zero value of a kind: Go's.
pub fn zero(kind: Kind) -> Value {
    match kind {
        Kind::String => Value::String(String::new()),
        Kind::Int | Kind::Uint | Kind::Duration => 0.into(),
        Kind::Bool => false.into(),
        Kind::Bytes
        | Kind::Strings
        | Kind::Ints
        | Kind::StringMap
        | Kind::StringListMap
        | Kind::Free
        | Kind::Block(_)
        | Kind::Blocks(_)
        | Kind::BlockMap(_) => Value::Null,
    }
}

/// Makes an object from what was found for each field, in the order of [`Block::alphabetical`].
pub fn assemble(block: &'static Block, found: Vec<Option<Value>>) -> Object {
    let fields = block.alphabetical();
    let mut object = Map::with_capacity(fields.len());
    for (field, value) in fields.iter().zip(found) {
        let value = value.filter(|value| !value.is_null());
        if field.form == Form::Stored || (field.omit_null && value.is_none()) {
            continue;
        }
        object.insert(field.json.to_owned(), value.unwrap_or_else(|| unset(field)));
    }
    object
}

/// Where in the request the reader stands.
struct Path {
    names: Vec<&'static str>,
    struct_name: &'static str,
    /// Fields of the objects that were read.
    fields: usize,
}

impl Path {
    fn mismatch(&self, found: &Value, wanted: String) -> Error {
        let found = match found {
            Value::Null => "null".to_owned(),
            Value::Bool(_) => "bool".to_owned(),
            // Go shows the number when it is of the right sort but does not fit.
            Value::Number(number) if wanted.starts_with(['i', 'u']) || wanted == "time.Duration" => {
                format!("number {number}")
            }
            Value::Number(_) => "number".to_owned(),
            Value::String(_) => "string".to_owned(),
            Value::Array(_) => "array".to_owned(),
            Value::Object(_) => "object".to_owned(),
        };
        Error::Type {
            found,
            place: format!("struct field {}.{}", self.struct_name, self.names.join(".")),
            wanted,
        }
    }
}

fn block(block: &'static Block, value: Value, path: &mut Path) -> Result<Object, Error> {
    let Value::Object(mut given) = value else {
        return Err(path.mismatch(&value, format!("api.{}", block.name)));
    };
    let fields = block.alphabetical();
    path.fields += fields.len();
    if path.fields > crate::decode::FIELDS_MAX {
        return Err(Error::TooLarge);
    }
    let mut found: Vec<Option<Value>> = vec![None; fields.len()];
    let outer = std::mem::replace(&mut path.struct_name, block.name);
    for (key, value) in &mut given {
        let exact = fields.binary_search_by(|field| field.json.cmp(key)).ok();
        let index = exact.or_else(|| fields.iter().position(|field| field.json.eq_ignore_ascii_case(key)));
        let Some(index) = index.filter(|index| fields[*index].form != Form::Stored) else { continue };
        path.names.push(fields[index].json);
        found[index] = Some(field(fields[index], value.take(), path)?);
        path.names.pop();
    }
    path.struct_name = outer;
    Ok(assemble(block, found))
}

fn field(field: &'static Field, value: Value, path: &mut Path) -> Result<Value, Error> {
    if value.is_null() {
        return Ok(Value::Null);
    }
    match (field.kind, value) {
        (Kind::String, value @ Value::String(_)) | (Kind::Bool, value @ Value::Bool(_)) => Ok(value),
        (Kind::Int | Kind::Duration, Value::Number(number)) if field.width.holds(true, &number) => {
            Ok(number.into())
        }
        (Kind::Uint, Value::Number(number)) if field.width.holds(false, &number) => Ok(number.into()),
        (Kind::Bytes, Value::String(text)) => {
            use base64::Engine as _;
            let bad = |_| Error::Base64 { place: path.names.join(".") };
            base64::engine::general_purpose::STANDARD.decode(&text).map_err(bad)?;
            Ok(text.into())
        }
        (Kind::Strings, Value::Array(items)) => scalars(items, "string", Value::is_string, path),
        (Kind::Ints, Value::Array(items)) => {
            scalars(items, "uint16", |item| item.as_u64().is_some_and(|port| port <= u16::MAX.into()), path)
        }
        (Kind::StringMap, Value::Object(map)) => string_map(map, path),
        (Kind::StringListMap, Value::Object(map)) => {
            let lists = map.into_iter().map(|(name, list)| match list {
                Value::Array(items) => Ok((name, scalars(items, "string", Value::is_string, path)?)),
                Value::Null => Ok((name, Value::Null)),
                other => Err(path.mismatch(&other, "[]string".into())),
            });
            lists.collect::<Result<Map<_, _>, _>>().map(Value::Object)
        }
        (Kind::Free, value @ Value::Object(_)) => Ok(value),
        (Kind::Block(inner), value) => block(inner, value, path).map(Value::Object),
        (Kind::Blocks(inner), Value::Array(items)) => {
            let items = items.into_iter().filter(|item| !item.is_null());
            items
                .map(|item| block(inner, item, path).map(Value::Object))
                .collect::<Result<Vec<_>, _>>()
                .map(Value::Array)
        }
        (Kind::BlockMap(inner), Value::Object(map)) => {
            let items = map.into_iter().filter(|(_, item)| !item.is_null());
            let items = items.map(|(name, item)| Ok((name, Value::Object(block(inner, item, path)?))));
            items.collect::<Result<Map<_, _>, _>>().map(Value::Object)
        }
        (kind, value) => Err(path.mismatch(&value, go_type(kind, field.width))),
    }
}

fn scalars(
    items: Vec<Value>,
    wanted: &str,
    fits: impl Fn(&Value) -> bool,
    path: &Path,
) -> Result<Value, Error> {
    let blank =
        || if wanted == "string" { Value::String(String::new()) } else { Value::Number(Number::from(0)) };
    let items = items.into_iter().map(|item| match item {
        Value::Null => Ok(blank()),
        item if fits(&item) => Ok(item),
        item => Err(path.mismatch(&item, wanted.to_owned())),
    });
    items.collect::<Result<Vec<_>, _>>().map(Value::Array)
}

fn string_map(map: Map<String, Value>, path: &Path) -> Result<Value, Error> {
    let entries = map.into_iter().map(|(name, value)| match value {
        Value::Null => Ok((name, Value::String(String::new()))),
        Value::String(_) => Ok((name, value)),
        other => Err(path.mismatch(&other, "string".to_owned())),
    });
    entries.collect::<Result<Map<_, _>, _>>().map(Value::Object)
}

fn go_type(kind: Kind, width: Width) -> String {
    match kind {
        Kind::String => "string".into(),
        Kind::Int | Kind::Uint => width.bounds(matches!(kind, Kind::Int)).2.into(),
        Kind::Bool => "bool".into(),
        Kind::Duration => "time.Duration".into(),
        Kind::Bytes => "[]uint8".into(),
        Kind::Strings => "[]string".into(),
        Kind::Ints => "[]uint16".into(),
        Kind::StringMap => "map[string]string".into(),
        Kind::StringListMap => "map[string][]string".into(),
        Kind::Free => "map[string]interface {}".into(),
        Kind::Block(block) => format!("api.{}", block.name),
        Kind::Blocks(block) => format!("[]*api.{}", block.name),
        Kind::BlockMap(block) => format!("map[string]*api.{}", block.name),
    }
}
