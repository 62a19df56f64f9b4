//! The shape of a task's `config` block, and the check against it.
//!
//! A configuration arrives as the JSON of a job file. The same thing can be written in several ways there: a number
//! or a boolean may be a string, a block is a list of one object or the object itself, and a map may be one of both.
//! [`Schema::check`] accepts what Nomad accepts, reports every mistake at once by its path, and returns the
//! configuration in one form, with defaults filled in, ready for `serde_json::from_value`.

use std::fmt;

use serde_json::{Map, Number, Value};

/// The arguments and blocks that a configuration may hold.
#[derive(Clone, Debug, Default)]
pub struct Schema {
    fields: Vec<Field>,
}

#[derive(Clone, Debug)]
struct Field {
    name: &'static str,
    kind: Kind,
    required: bool,
    default: Option<Value>,
}

/// What a value must be.
#[derive(Clone, Debug)]
pub enum Kind {
    /// Text; numbers and booleans become text.
    String,
    /// A whole number, or text that is one.
    Integer,
    /// A number, or text that is one.
    Number,
    /// True or false, or text that is one.
    Bool,
    /// Many of a kind; a single one becomes a list.
    List(Box<Kind>),
    /// Names to values of a kind; may be written as one block or several, which are merged.
    Map(Box<Kind>),
    /// One block of its own shape.
    Block(Schema),
    /// Any number of blocks of their own shape.
    Blocks(Schema),
    /// Anything at all.
    Any,
}

impl Kind {
    /// Many texts.
    pub fn strings() -> Self {
        Self::List(Box::new(Self::String))
    }

    /// Names to texts.
    pub fn string_map() -> Self {
        Self::Map(Box::new(Self::String))
    }

    fn name(&self) -> &'static str {
        match self {
            Self::String => "a string",
            Self::Integer => "a whole number",
            Self::Number => "a number",
            Self::Bool => "a boolean",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
            Self::Block(_) | Self::Blocks(_) => "a block",
            Self::Any => "a value",
        }
    }
}

impl Schema {
    /// Makes a shape that allows nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds something that may be left out.
    #[must_use]
    pub fn optional(mut self, name: &'static str, kind: Kind) -> Self {
        self.fields.push(Field { name, kind, required: false, default: None });
        self
    }

    /// Adds something that must be there.
    #[must_use]
    pub fn required(mut self, name: &'static str, kind: Kind) -> Self {
        self.fields.push(Field { name, kind, required: true, default: None });
        self
    }

    /// Adds something that has a value when it is left out.
    #[must_use]
    pub fn defaulted(mut self, name: &'static str, kind: Kind, default: impl Into<Value>) -> Self {
        self.fields.push(Field { name, kind, required: false, default: Some(default.into()) });
        self
    }

    /// Returns the names of all arguments and blocks, in the order they were added.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.fields.iter().map(|field| field.name)
    }

    /// Checks a configuration and brings it into one form. Null and nothing are an empty configuration.
    ///
    /// # Errors
    ///
    /// All mistakes, each with the path to it.
    pub fn check(&self, config: &Value) -> Result<Value, ConfigErrors> {
        let mut errors = Vec::new();
        let empty = Map::new();
        let checked = match config {
            Value::Null => self.check_object(&empty, "", &mut errors),
            Value::Object(object) => self.check_object(object, "", &mut errors),
            Value::Array(items) => match items.as_slice() {
                [] => self.check_object(&empty, "", &mut errors),
                [Value::Object(object)] => self.check_object(object, "", &mut errors),
                _ => wrong(config, "a block", "", &mut errors),
            },
            _ => wrong(config, "a block", "", &mut errors),
        };
        if errors.is_empty() { Ok(checked) } else { Err(ConfigErrors(errors)) }
    }

    fn check_object(&self, object: &Map<String, Value>, path: &str, errors: &mut Vec<ConfigError>) -> Value {
        for name in object.keys() {
            if !self.fields.iter().any(|field| field.name == name) {
                let nearest = nearest(name, self.names()).map(str::to_owned);
                errors.push(ConfigError::Unknown { path: join(path, name), name: name.clone(), nearest });
            }
        }
        let mut checked = Map::new();
        for field in &self.fields {
            let path = join(path, field.name);
            match object.get(field.name).filter(|value| !value.is_null()) {
                Some(value) => {
                    checked.insert(field.name.to_owned(), check_value(value, &field.kind, &path, errors));
                }
                None if field.required => {
                    errors.push(ConfigError::Missing { path, name: field.name.to_owned() });
                }
                None => {
                    if let Some(default) = &field.default {
                        checked.insert(field.name.to_owned(), default.clone());
                    }
                }
            }
        }
        Value::Object(checked)
    }
}

fn check_value(value: &Value, kind: &Kind, path: &str, errors: &mut Vec<ConfigError>) -> Value {
    let converted = match kind {
        Kind::Any => Some(value.clone()),
        Kind::String => text_of(value).map(Value::String),
        Kind::Integer => whole_of(value).map(|number| Value::Number(number.into())),
        Kind::Number => number_of(value),
        Kind::Bool => bool_of(value).map(Value::Bool),
        Kind::List(inner) => return check_list(value, inner, path, errors),
        Kind::Map(inner) => return check_map(value, inner, path, errors),
        Kind::Block(schema) => match single(value) {
            Some(Value::Object(object)) => return schema.check_object(object, path, errors),
            _ => None,
        },
        Kind::Blocks(schema) => return check_blocks(value, schema, path, errors),
    };
    converted.unwrap_or_else(|| wrong(value, kind.name(), path, errors))
}

fn check_list(value: &Value, inner: &Kind, path: &str, errors: &mut Vec<ConfigError>) -> Value {
    let items = match value {
        Value::Array(items) => items.as_slice(),
        Value::Object(_) => return wrong(value, "a list", path, errors),
        one => std::slice::from_ref(one),
    };
    let checked = items.iter().enumerate();
    Value::Array(checked.map(|(n, item)| check_value(item, inner, &format!("{path}[{n}]"), errors)).collect())
}

fn check_map(value: &Value, inner: &Kind, path: &str, errors: &mut Vec<ConfigError>) -> Value {
    let blocks = match value {
        Value::Array(items) => items.as_slice(),
        one => std::slice::from_ref(one),
    };
    let mut merged = Map::new();
    for block in blocks {
        let Value::Object(object) = block else {
            return wrong(value, "a map", path, errors);
        };
        for (name, item) in object {
            merged.insert(name.clone(), check_value(item, inner, &join(path, name), errors));
        }
    }
    Value::Object(merged)
}

fn check_blocks(value: &Value, schema: &Schema, path: &str, errors: &mut Vec<ConfigError>) -> Value {
    let blocks = match value {
        Value::Array(items) => items.as_slice(),
        one => std::slice::from_ref(one),
    };
    let mut checked = Vec::with_capacity(blocks.len());
    for (n, block) in blocks.iter().enumerate() {
        let path = format!("{path}[{n}]");
        checked.push(match block {
            Value::Object(object) => schema.check_object(object, &path, errors),
            other => wrong(other, "a block", &path, errors),
        });
    }
    Value::Array(checked)
}

fn single(value: &Value) -> Option<&Value> {
    match value {
        Value::Array(items) => match items.as_slice() {
            [one] => Some(one),
            _ => None,
        },
        one => Some(one),
    }
}

fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(yes) => Some(yes.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn whole_of(value: &Value) -> Option<i64> {
    match value {
        // A job that came as JSON may have its whole numbers as floats.
        #[allow(clippy::cast_possible_truncation)]
        Value::Number(number) => number
            .as_i64()
            .or_else(|| number.as_f64().filter(|float| float.fract() == 0.0).map(|float| float as i64)),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

fn number_of(value: &Value) -> Option<Value> {
    match value {
        Value::Number(_) => Some(value.clone()),
        Value::String(text) => {
            let text = text.trim();
            text.parse::<i64>()
                .map(Number::from)
                .ok()
                .or_else(|| text.parse::<f64>().ok().and_then(Number::from_f64))
                .map(Value::Number)
        }
        _ => None,
    }
}

fn bool_of(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(yes) => Some(*yes),
        Value::String(text) => match text.as_str() {
            "true" | "1" => Some(true),
            "false" | "0" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

fn wrong(value: &Value, expected: &'static str, path: &str, errors: &mut Vec<ConfigError>) -> Value {
    let found = match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    };
    errors.push(ConfigError::Kind { path: path.to_owned(), expected, found });
    Value::Null
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// One mistake in a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Nothing has this name.
    #[error("Invalid label: No argument or block type is named {name:?}.{}", Suggestion(nearest.as_deref()))]
    Unknown {
        /// Where.
        path: String,
        /// The name.
        name: String,
        /// The name that was perhaps meant.
        nearest: Option<String>,
    },
    /// Something must be there.
    #[error("Missing required argument: The argument {name:?} is required, but no definition was found.")]
    Missing {
        /// Where.
        path: String,
        /// The name.
        name: String,
    },
    /// The value is of the wrong kind.
    #[error(
        "Incorrect attribute value type: Inappropriate value for attribute {path:?}: {expected} required, but have {found}."
    )]
    Kind {
        /// Where.
        path: String,
        /// What it must be.
        expected: &'static str,
        /// What it is.
        found: &'static str,
    },
    /// The value is of the right kind and cannot be meant.
    #[error("Invalid value for {path:?}: {reason}")]
    Value {
        /// Where.
        path: String,
        /// Why not, and what would do.
        reason: String,
    },
}

struct Suggestion<'a>(Option<&'a str>);

impl fmt::Display for Suggestion<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(name) => write!(f, " Did you mean {name:?}?"),
            None => Ok(()),
        }
    }
}

/// All mistakes of one configuration, never none. Its text is the list that programs expect in a task's validation
/// event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl ConfigErrors {
    /// One mistake about a value.
    pub fn value(path: &str, reason: impl Into<String>) -> Self {
        Self(vec![ConfigError::Value { path: path.to_owned(), reason: reason.into() }])
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} errors occurred:\n\t* failed to parse config: ", self.0.len() + 1)?;
        for error in &self.0 {
            write!(f, "\n\t* {error}")?;
        }
        f.write_str("\n\n")
    }
}

impl std::error::Error for ConfigErrors {}

/// Finds the name that was perhaps meant: at most two edits away, and fewer than a third of its letters.
fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = (name.chars().count() / 3).clamp(1, 2);
    known
        .map(|other| (edits(name, other), other))
        .filter(|(n, _)| *n <= allowed)
        .min()
        .map(|(_, other)| other)
}

/// Counts the letters to insert, remove or replace to make one word of the other.
fn edits(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in right.iter().enumerate() {
            let replace = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replace.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema() -> Schema {
        Schema::new()
            .required("command", Kind::String)
            .optional("args", Kind::strings())
            .defaulted("oom_score_adj", Kind::Integer, 0)
            .optional("tty", Kind::Bool)
            .optional("labels", Kind::string_map())
            .optional("auth", Kind::Block(Schema::new().optional("username", Kind::String)))
            .optional("mount", Kind::Blocks(Schema::new().required("target", Kind::String)))
    }

    #[test]
    fn every_spelling_ends_in_one_form() {
        let config = json!({
            "command": "/bin/true", "args": [1, "two", true], "oom_score_adj": "7", "tty": "true",
            "labels": [{"a": 1}, {"b": "x"}], "auth": [{"username": "u"}], "mount": {"target": "/t"},
        });
        let expected = json!({
            "command": "/bin/true", "args": ["1", "two", "true"], "oom_score_adj": 7, "tty": true,
            "labels": {"a": "1", "b": "x"}, "auth": {"username": "u"}, "mount": [{"target": "/t"}],
        });
        assert_eq!(schema().check(&config), Ok(expected));
    }

    #[test]
    fn an_absent_configuration_is_an_empty_one() {
        let schema = Schema::new().defaulted("n", Kind::Integer, 3);
        for config in [json!(null), json!({}), json!([]), json!([{}])] {
            assert_eq!(schema.check(&config), Ok(json!({"n": 3})));
        }
    }

    #[test]
    fn a_missing_argument_reads_as_programs_expect() {
        let text = schema().check(&json!({})).expect_err("command is required").to_string();
        assert_eq!(
            text,
            "2 errors occurred:\n\t* failed to parse config: \n\t* Missing required argument: The argument \
             \"command\" is required, but no definition was found.\n\n"
        );
    }

    #[test]
    fn every_mistake_is_named_by_its_path() {
        let config = json!({"comand": "x", "tty": "perhaps", "mount": [{"target": "/t"}, {"source": "/s"}], "auth": [1, 2]});
        let ConfigErrors(errors) = schema().check(&config).expect_err("it is full of mistakes");
        let nearest = Some("command".to_owned());
        assert!(errors.contains(&ConfigError::Unknown {
            path: "comand".into(),
            name: "comand".into(),
            nearest
        }));
        assert!(
            errors.contains(&ConfigError::Missing { path: "mount[1].target".into(), name: "target".into() })
        );
        let tty = ConfigError::Kind { path: "tty".into(), expected: "a boolean", found: "a string" };
        assert!(errors.contains(&tty));
        assert_eq!(errors.len(), 6, "{errors:?}");
    }
}
