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

/// Reads a duration that was sent as nanoseconds or as text such as `1m30s`; empty text is none.
pub(crate) fn nanos_or_text<'de, D: serde::Deserializer<'de>>(source: D) -> Result<i64, D::Error> {
    #[derive(serde::Deserialize)]
    #[serde(untagged)]
    enum Sent {
        Nanos(i64),
        Text(String),
        Nothing,
    }
    match <Sent as serde::Deserialize>::deserialize(source)? {
        Sent::Nanos(nanos) => Ok(nanos),
        Sent::Nothing => Ok(0),
        Sent::Text(text) => go_duration(&text)
            .ok_or_else(|| serde::de::Error::custom(format!("time: invalid duration {text:?}"))),
    }
}

/// Reads a duration such as `1m30s`, in nanoseconds; empty text is 0.
pub(crate) fn go_duration(text: &str) -> Option<i64> {
    let mut total = 0.0_f64;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number = rest[..digits].parse::<f64>().ok()?;
        let unit = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |at| digits + at);
        total += number
            * match &rest[digits..unit] {
                "h" => 3.6e12,
                "m" => 6e10,
                "s" => 1e9,
                "ms" => 1e6,
                "us" | "µs" => 1e3,
                "ns" => 1.0,
                _ => return None,
            };
        rest = &rest[unit..];
    }
    // Texts of centuries are more than a number holds, and count as the most that it does.
    #[allow(clippy::cast_possible_truncation)]
    Some(total as i64)
}
