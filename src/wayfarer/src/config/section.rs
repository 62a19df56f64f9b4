//! How a section of the file is read, merged, shown and complained about: all from one table of its keys.
//!
//! [`section!`] makes a struct of optional fields out of such a table. What a field's type is decides how it is read;
//! nothing else in the agent knows the keys by their names.

use std::{collections::BTreeMap, fmt, time::Duration};

use hcl::Position;
use serde_json::{Map, Value};

use super::tree::{Entry, Tree};

/// What the agent does with a key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Support {
    /// What it says.
    Used,
    /// Nothing, for now: setting it gives a warning.
    Later,
    /// Nothing: it belongs to the enterprise edition. Setting it gives a warning.
    Enterprise,
    /// Nothing, and nobody will miss it.
    Inert,
}

/// A file can not be used, and why.
#[derive(Clone, Debug)]
pub(super) enum Problem {
    /// It is not HCL, or not JSON.
    Syntax { at: Option<Position>, what: String },
    /// A value is of the wrong type.
    Type { path: String, at: Position, what: String },
    /// A text is not a time.
    Duration { path: String, text: String },
    /// Keys that nobody knows.
    Unknown { path: String, keys: Vec<UnknownKey> },
}

impl Problem {
    /// The problem in words, beginning with those that programs know.
    pub fn text(&self, file: &str) -> String {
        match self {
            Self::Syntax { at: Some(at), what } => {
                format!("failed to decode HCL file {file}: At {}:{}: {what}", at.line, at.column)
            }
            Self::Syntax { at: None, what } => format!("failed to decode HCL file {file}: {what}"),
            Self::Type { path, at, what } => {
                format!("failed to decode HCL file {file}: {what} ({path} at {}:{})", at.line, at.column)
            }
            Self::Duration { path, text } => format!("{path} can't parse time duration {text}"),
            Self::Unknown { path, keys } => unknown_text(path, keys),
        }
    }
}

/// A key that nobody knows.
#[derive(Clone, Debug)]
pub(super) struct UnknownKey {
    pub key: String,
    pub at: Position,
    pub similar: Option<&'static str>,
}

impl UnknownKey {
    fn place(&self) -> String {
        let advice = self.similar.map(|similar| format!(", did you mean {similar}?"));
        format!("at {}:{}{}", self.at.line, self.at.column, advice.unwrap_or_default())
    }
}

fn unknown_text(path: &str, keys: &[UnknownKey]) -> String {
    let names: Vec<&str> = keys.iter().map(|key| key.key.as_str()).collect();
    let places: Vec<String> = keys.iter().map(UnknownKey::place).collect();
    let space = if path.is_empty() { "" } else { " " };
    format!("{path}{space}unexpected keys {} ({})", names.join(", "), places.join("; "))
}

/// What reading collects on the way.
#[derive(Debug, Default)]
pub(super) struct Reader {
    pub warnings: Vec<String>,
}

/// A struct made by [`section!`].
pub(super) trait Section: Default {
    /// Its keys.
    const KEYS: &'static [&'static str];

    /// Reads what stands under a key; says whether it is one of these.
    fn set(&mut self, key: &str, found: &[&Entry], path: &str, reader: &mut Reader) -> Result<(), Problem>;

    /// Takes what another one has set.
    fn absorb(&mut self, later: Self);

    /// Writes what is set in the form of the API.
    fn show_into(&self, into: &mut Map<String, Value>);

    /// Warns of keys that are set and do nothing.
    fn note_keys(&self, path: &str, notes: &mut Vec<(String, Support)>);
}

/// A type that a key can have.
pub(super) trait Field: Sized {
    /// Reads all that stands under one key of one section; there is at least one entry.
    fn read(found: &[&Entry], path: &str, reader: &mut Reader) -> Result<Self, Problem>;

    /// Takes over what a later file says.
    fn merge(&mut self, later: Self) {
        *self = later;
    }

    /// In the form of the API; `default` is what is shown when the key is not set.
    fn show(&self, default: &Value) -> Value;

    /// A second form of the same, which the API shows under the same name with `HCL` behind it.
    fn second_form(&self) -> Option<String> {
        None
    }

    /// Warns of keys within that are set and do nothing.
    fn note(&self, _path: &str, _notes: &mut Vec<(String, Support)>) {}
}

/// Makes a section: `key: Type => "NameInTheApi" [Support];`, where no name means that it is not shown.
macro_rules! section {
    ($(#[$doc:meta])* $name:ident { $( $key:ident : $type:ty => $shown:literal $([$support:ident])? ; )* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default)]
        pub(in crate::config) struct $name { $( pub $key: Option<$type>, )* }

        impl crate::config::section::Section for $name {
            const KEYS: &'static [&'static str] = &[$( stringify!($key) ),*];

            fn set(
                &mut self,
                key: &str,
                found: &[&crate::config::tree::Entry],
                path: &str,
                reader: &mut crate::config::section::Reader,
            ) -> Result<(), crate::config::section::Problem> {
                match key {
                    $( stringify!($key) => {
                        self.$key = Some(crate::config::section::Field::read(found, path, reader)?);
                    } )*
                    other => unreachable!("{other} is not in KEYS"),
                }
                Ok(())
            }

            fn absorb(&mut self, later: Self) {
                $( crate::config::section::merge(&mut self.$key, later.$key); )*
            }

            fn show_into(&self, into: &mut serde_json::Map<String, serde_json::Value>) {
                $( crate::config::section::show_field(into, $shown, self.$key.as_ref()); )*
            }

            fn note_keys(&self, path: &str, notes: &mut Vec<(String, crate::config::section::Support)>) {
                $( crate::config::section::note_field(
                    self.$key.as_ref(),
                    crate::config::section::joined(path, stringify!($key)),
                    crate::config::section::support!($($support)?),
                    notes,
                ); )*
            }
        }
    };
}
pub(super) use section;

macro_rules! support {
    () => {
        crate::config::section::Support::Used
    };
    ($support:ident) => {
        crate::config::section::Support::$support
    };
}
pub(super) use support;

/// The path of a key in a section.
pub(super) fn joined(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// Takes over what a later one has set.
pub(super) fn merge<F: Field>(slot: &mut Option<F>, later: Option<F>) {
    match (slot.as_mut(), later) {
        (Some(own), Some(later)) => own.merge(later),
        (None, Some(later)) => *slot = Some(later),
        (_, None) => {}
    }
}

/// Shows a field that is set, under its name in the API.
pub(super) fn show_field<F: Field>(into: &mut Map<String, Value>, shown: &str, field: Option<&F>) {
    let Some(field) = field.filter(|_| !shown.is_empty()) else { return };
    let value = field.show(into.get(shown).unwrap_or(&Value::Null));
    into.insert(shown.to_owned(), value);
    let second = format!("{shown}HCL");
    if let Some(text) = field.second_form().filter(|_| into.contains_key(&second)) {
        into.insert(second, text.into());
    }
}

/// Notes a field that is set and does nothing.
pub(super) fn note_field<F: Field>(
    field: Option<&F>,
    path: String,
    support: Support,
    notes: &mut Vec<(String, Support)>,
) {
    let Some(field) = field else { return };
    match support {
        Support::Used => field.note(&path, notes),
        Support::Later | Support::Enterprise if !is_off(&field.show(&Value::Null)) => {
            notes.push((path, support))
        }
        Support::Later | Support::Enterprise | Support::Inert => {}
    }
}

/// Tells whether a value asks for nothing: false, empty, or a section that says it is not enabled.
fn is_off(shown: &Value) -> bool {
    match shown {
        Value::Null => true,
        Value::Bool(on) => !on,
        Value::Number(_) => false,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.iter().all(is_off),
        Value::Object(members) => {
            members.get("Enabled") == Some(&Value::Bool(false))
                || members.iter().all(|(key, value)| key == "Name" || is_off(value))
        }
    }
}

impl<S: Section> Field for S {
    fn read(found: &[&Entry], path: &str, reader: &mut Reader) -> Result<Self, Problem> {
        let mut objects = Vec::new();
        for entry in found {
            let Some(own) = entry.value.objects() else {
                return Err(wrong_type(path, entry, "expected a block"));
            };
            objects.extend(own);
        }
        read_section(&objects, path, reader)
    }

    fn merge(&mut self, later: Self) {
        self.absorb(later);
    }

    fn show(&self, default: &Value) -> Value {
        let mut members = default.as_object().cloned().unwrap_or_default();
        self.show_into(&mut members);
        members.into()
    }

    fn note(&self, path: &str, notes: &mut Vec<(String, Support)>) {
        self.note_keys(path, notes);
    }
}

/// Reads the objects that make up a section together.
pub(super) fn read_section<S: Section>(
    objects: &[&[Entry]],
    path: &str,
    reader: &mut Reader,
) -> Result<S, Problem> {
    let mut section = S::default();
    let entries = || objects.iter().flat_map(|object| object.iter());
    for key in S::KEYS {
        let found: Vec<&Entry> = entries().filter(|entry| entry.key.eq_ignore_ascii_case(key)).collect();
        if !found.is_empty() {
            section.set(key, &found, &joined(path, key), reader)?;
        }
    }
    let known = |entry: &&Entry| S::KEYS.iter().any(|key| entry.key.eq_ignore_ascii_case(key));
    let mut unknown = Vec::new();
    for entry in entries().filter(|entry| !known(entry)) {
        let similar = hcl::similar_name(&entry.key, S::KEYS.iter().copied());
        let key = UnknownKey { key: entry.key.clone(), at: entry.at, similar };
        // Nomad has always passed over blocks at the top of a file that it does not know.
        if path.is_empty() && matches!(entry.value, Tree::Object(_)) {
            reader.warnings.push(format!("unknown block {} ignored ({})", key.key, key.place()));
        } else {
            unknown.push(key);
        }
    }
    if unknown.is_empty() {
        Ok(section)
    } else {
        Err(Problem::Unknown { path: path.to_owned(), keys: unknown })
    }
}

fn wrong_type(path: &str, entry: &Entry, what: impl Into<String>) -> Problem {
    Problem::Type { path: path.to_owned(), at: entry.at, what: what.into() }
}

/// The last of several entries: the one that counts for a plain value.
fn last<'e>(found: &[&'e Entry]) -> &'e Entry {
    found.last().expect("a field is read only when it is there")
}

/// A plain value as text; numbers and truth values are written out.
fn text_of(tree: &Tree) -> Option<String> {
    match tree {
        Tree::Plain(hcl::Value::String(text)) => Some(text.clone()),
        Tree::Plain(hcl::Value::Number(number)) => Some(number.to_string()),
        Tree::Plain(hcl::Value::Bool(value)) => Some(value.to_string()),
        Tree::Plain(_) | Tree::List(_) | Tree::Object(_) => None,
    }
}

fn plain_text(entry: &Entry, path: &str) -> Result<String, Problem> {
    text_of(&entry.value).ok_or_else(|| wrong_type(path, entry, "expected a single value"))
}

impl Field for String {
    fn read(found: &[&Entry], path: &str, _: &mut Reader) -> Result<Self, Problem> {
        plain_text(last(found), path)
    }

    fn show(&self, _: &Value) -> Value {
        self.as_str().into()
    }
}

impl Field for bool {
    fn read(found: &[&Entry], path: &str, _: &mut Reader) -> Result<Self, Problem> {
        let entry = last(found);
        let text = plain_text(entry, path)?;
        match text.as_str() {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
            _ => Err(wrong_type(path, entry, format!("decodeBool: Unknown value for boolean: {text:?}"))),
        }
    }

    fn show(&self, _: &Value) -> Value {
        (*self).into()
    }
}

impl Field for i64 {
    fn read(found: &[&Entry], path: &str, _: &mut Reader) -> Result<Self, Problem> {
        let entry = last(found);
        let text = plain_text(entry, path)?;
        text.parse().map_err(|_| {
            wrong_type(path, entry, format!("strconv.ParseInt: parsing {text:?}: invalid syntax"))
        })
    }

    fn show(&self, default: &Value) -> Value {
        if default.is_f64() { (*self as f64).into() } else { (*self).into() }
    }
}

impl Field for f64 {
    fn read(found: &[&Entry], path: &str, _: &mut Reader) -> Result<Self, Problem> {
        let entry = last(found);
        let text = plain_text(entry, path)?;
        let number: Option<f64> = text.parse().ok().filter(|number: &f64| number.is_finite());
        number.ok_or_else(|| {
            wrong_type(path, entry, format!("strconv.ParseFloat: parsing {text:?}: invalid syntax"))
        })
    }

    fn show(&self, _: &Value) -> Value {
        (*self).into()
    }
}

/// A length of time, as it was written and as it is.
#[derive(Clone, Debug)]
pub(super) struct Span {
    pub text: String,
    pub time: Duration,
}

impl Span {
    /// Reads a time such as `1m30s`; none that is negative.
    pub fn parse(text: &str) -> Option<Self> {
        let nanos = jobspec::duration::parse(text).ok()?;
        Some(Self { text: text.to_owned(), time: Duration::from_nanos(u64::try_from(nanos).ok()?) })
    }
}

impl Field for Span {
    fn read(found: &[&Entry], path: &str, _: &mut Reader) -> Result<Self, Problem> {
        let text = plain_text(last(found), path)?;
        Self::parse(&text).ok_or_else(|| Problem::Duration { path: path.to_owned(), text })
    }

    fn show(&self, default: &Value) -> Value {
        if default.is_number() { (self.time.as_nanos() as u64).into() } else { self.text.as_str().into() }
    }

    fn second_form(&self) -> Option<String> {
        Some(self.text.clone())
    }
}

/// A text that is never shown.
#[derive(Clone)]
pub(super) struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

impl Field for Secret {
    fn read(found: &[&Entry], path: &str, _: &mut Reader) -> Result<Self, Problem> {
        plain_text(last(found), path).map(Self)
    }

    fn show(&self, _: &Value) -> Value {
        if self.0.is_empty() { "".into() } else { "<redacted>".into() }
    }
}

impl Field for Vec<String> {
    fn read(found: &[&Entry], path: &str, _: &mut Reader) -> Result<Self, Problem> {
        let mut all = Vec::new();
        for entry in found {
            match &entry.value {
                Tree::List(items) => {
                    for item in items {
                        let text = text_of(item);
                        all.push(text.ok_or_else(|| wrong_type(path, entry, "expected a list of texts"))?);
                    }
                }
                Tree::Plain(_) => all.push(plain_text(entry, path)?),
                Tree::Object(_) => return Err(wrong_type(path, entry, "expected a list of texts")),
            }
        }
        Ok(all)
    }

    fn show(&self, _: &Value) -> Value {
        self.as_slice().into()
    }
}

/// A list to which later files add.
#[derive(Clone, Debug, Default)]
pub(super) struct Added(pub Vec<String>);

impl Field for Added {
    fn read(found: &[&Entry], path: &str, reader: &mut Reader) -> Result<Self, Problem> {
        Vec::read(found, path, reader).map(Self)
    }

    fn merge(&mut self, later: Self) {
        self.0.extend(later.0);
    }

    fn show(&self, _: &Value) -> Value {
        self.0.as_slice().into()
    }
}

impl Field for BTreeMap<String, String> {
    fn read(found: &[&Entry], path: &str, _: &mut Reader) -> Result<Self, Problem> {
        let mut map = Self::new();
        for entry in found {
            let Some(objects) = entry.value.objects() else {
                return Err(wrong_type(path, entry, "expected names with values"));
            };
            for member in objects.into_iter().flatten() {
                map.insert(member.key.clone(), plain_text(member, &joined(path, &member.key))?);
            }
        }
        Ok(map)
    }

    fn merge(&mut self, later: Self) {
        self.extend(later);
    }

    fn show(&self, _: &Value) -> Value {
        self.iter()
            .map(|(name, value)| (name.clone(), Value::from(value.as_str())))
            .collect::<Map<_, _>>()
            .into()
    }
}

/// Sections with a label each: `host_volume "certs" { ... }`.
impl<S: Section> Field for BTreeMap<String, S> {
    fn read(found: &[&Entry], path: &str, reader: &mut Reader) -> Result<Self, Problem> {
        let mut map = Self::new();
        for entry in found {
            let Some(objects) = entry.value.objects() else {
                return Err(wrong_type(path, entry, "expected blocks with a label"));
            };
            for member in objects.into_iter().flatten() {
                let section: S = S::read(&[member], &joined(path, &member.key), reader)?;
                match map.get_mut(&member.key) {
                    Some(known) => known.absorb(section),
                    None => _ = map.insert(member.key.clone(), section),
                }
            }
        }
        Ok(map)
    }

    fn merge(&mut self, later: Self) {
        for (label, section) in later {
            match self.get_mut(&label) {
                Some(known) => known.absorb(section),
                None => _ = self.insert(label, section),
            }
        }
    }

    fn show(&self, _: &Value) -> Value {
        self.iter()
            .map(|(label, section)| {
                let mut members = Map::from_iter([("Name".to_owned(), Value::from(label.as_str()))]);
                section.show_into(&mut members);
                Value::from(members)
            })
            .collect()
    }

    fn note(&self, path: &str, notes: &mut Vec<(String, Support)>) {
        for (label, section) in self {
            section.note_keys(&joined(path, label), notes);
        }
    }
}

/// Anything: what a plugin or an edition that is not this one makes of it.
#[derive(Clone, Debug)]
pub(super) struct Free(pub Value);

impl Field for Free {
    fn read(found: &[&Entry], _: &str, _: &mut Reader) -> Result<Self, Problem> {
        Ok(Self(match found {
            [only] => only.value.to_json(),
            several => several.iter().map(|entry| entry.value.to_json()).collect(),
        }))
    }

    fn merge(&mut self, later: Self) {
        match (&mut self.0, later.0) {
            (Value::Object(own), Value::Object(later)) => own.extend(later),
            (own, later) => *own = later,
        }
    }

    fn show(&self, _: &Value) -> Value {
        self.0.clone()
    }
}
