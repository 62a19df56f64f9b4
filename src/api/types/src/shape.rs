//! How a shape is declared, and the rules for empty fields.
//!
//! Fields stand in the alphabetical order of their JSON names, which is the order on the wire. [`shape!`] writes every
//! field, [`sparse!`] leaves out the ones that are zero or empty.

use serde::{Serialize, Serializer};

/// Declares a JSON object whose fields are always there.
macro_rules! shape {
    ($($(#[$meta:meta])* $name:ident { $($(#[$attr:meta])* $field:ident $json:literal : $kind:ty,)* })+) => {$(
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq, serde::Deserialize, serde::Serialize)]
        #[serde(default)]
        pub struct $name {
            $(#[serde(rename = $json)] $(#[$attr])* pub $field: $kind,)*
        }
    )+};
}

/// Declares a JSON object that leaves out what is zero or empty.
macro_rules! sparse {
    ($($(#[$meta:meta])* $name:ident { $($(#[$attr:meta])* $field:ident $json:literal : $kind:ty,)* })+) => {$(
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq, serde::Deserialize, serde::Serialize)]
        #[serde(default)]
        pub struct $name {
            $(
                #[serde(rename = $json, skip_serializing_if = "crate::shape::is_default")]
                $(#[$attr])*
                pub $field: $kind,
            )*
        }
    )+};
}

/// Tells whether a field is zero or empty.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Writes an empty list, map or text as `null`.
pub(crate) fn or_null<T: Default + PartialEq + Serialize, S: Serializer>(
    value: &T,
    out: S,
) -> Result<S::Ok, S::Error> {
    if is_default(value) { out.serialize_none() } else { value.serialize(out) }
}

/// Returns an id as text, and the id of nothing as empty text.
pub(crate) fn id_text<T: ToString>(id: Option<T>) -> String {
    id.map(|id| id.to_string()).unwrap_or_default()
}

/// Returns whole nanoseconds; durations past 292 years count as that long.
pub(crate) fn nanos(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

/// Copies a map of short texts.
pub(crate) fn text_map<'a, V: AsRef<str> + 'a>(
    pairs: impl IntoIterator<Item = (&'a model::Text, &'a V)>,
) -> std::collections::BTreeMap<String, String> {
    pairs.into_iter().map(|(key, value)| (key.to_string(), value.as_ref().to_owned())).collect()
}
