//! Reads JSON the way Nomad does: keys in any case, unknown keys skipped, `null` for anything.

use serde::{
    Deserializer,
    de::{
        DeserializeOwned, Error as _, Expected, IntoDeserializer, Unexpected, Visitor,
        value::{MapDeserializer, SeqDeserializer},
    },
    forward_to_deserialize_any,
};
use serde_json::{Map, Value};

/// A body is not JSON, or has another shape than it must.
#[derive(Debug)]
pub struct BodyError(serde_json::Error);

impl std::fmt::Display for BodyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for BodyError {}

/// Reads a value from the bytes of a body.
///
/// # Errors
///
/// When the bytes are not JSON, or a field has another type than it must.
pub fn from_slice<T: DeserializeOwned>(body: &[u8]) -> Result<T, BodyError> {
    from_value(serde_json::from_slice(body).map_err(BodyError)?)
}

/// Reads a value from parsed JSON.
///
/// # Errors
///
/// When a field has another type than it must.
pub fn from_value<T: DeserializeOwned>(value: Value) -> Result<T, BodyError> {
    T::deserialize(Loose(value)).map_err(BodyError)
}

struct Loose(Value);

impl<'de> IntoDeserializer<'de, serde_json::Error> for Loose {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl Loose {
    /// Reads what is neither list nor object.
    fn plain<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, serde_json::Error> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(truth) => visitor.visit_bool(truth),
            Value::Number(number) => number.deserialize_any(visitor),
            Value::String(text) => visitor.visit_string(text),
            other @ (Value::Array(_) | Value::Object(_)) => Err(wrong(&other, &visitor)),
        }
    }
}

fn entries(map: Map<String, Value>) -> impl Iterator<Item = (String, Loose)> {
    map.into_iter().map(|(key, value)| (key, Loose(value)))
}

/// Gives keys the spelling of the fields that they mean, and drops what is `null`: the field keeps its default.
fn respell(map: Map<String, Value>, fields: &'static [&'static str]) -> Map<String, Value> {
    let mut known = Map::with_capacity(map.len());
    for (key, value) in map {
        if value.is_null() {
            continue;
        }
        let exact = fields.iter().find(|field| **field == key);
        match exact.or_else(|| fields.iter().find(|field| field.eq_ignore_ascii_case(&key))) {
            Some(field) => known.insert((*field).to_owned(), value),
            None => known.insert(key, value),
        };
    }
    known
}

/// Says that a value is of another type. Handing the value on to `serde_json` would say the same, and make the code that
/// reads each shape from its own trees a second time.
fn wrong(value: &Value, wanted: &dyn Expected) -> serde_json::Error {
    let found = match value {
        Value::Null => Unexpected::Unit,
        Value::Bool(truth) => Unexpected::Bool(*truth),
        Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
            (Some(number), _, _) => Unexpected::Unsigned(number),
            (_, Some(number), _) => Unexpected::Signed(number),
            (_, _, number) => Unexpected::Float(number.unwrap_or_default()),
        },
        Value::String(text) => Unexpected::Str(text),
        Value::Array(_) => Unexpected::Seq,
        Value::Object(_) => Unexpected::Map,
    };
    serde_json::Error::invalid_type(found, wanted)
}

macro_rules! zero_for_null {
    ($($method:ident $visit:ident $zero:expr;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
            if self.0.is_null() { visitor.$visit($zero) } else { self.plain(visitor) }
        }
    )*};
}

impl<'de> Deserializer<'de> for Loose {
    type Error = serde_json::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        match self.0 {
            Value::Object(map) => visitor.visit_map(MapDeserializer::new(entries(map))),
            Value::Array(items) => visitor.visit_seq(SeqDeserializer::new(items.into_iter().map(Loose))),
            plain => Self(plain).plain(visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        let _ = name; // only formats that tag their values look at it
        match self.0 {
            Value::Object(map) => visitor.visit_map(MapDeserializer::new(entries(respell(map, fields)))),
            Value::Null => visitor.visit_map(MapDeserializer::new(entries(Map::new()))),
            other => Err(wrong(&other, &visitor)),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        match self.0 {
            Value::Array(items) => visitor.visit_seq(SeqDeserializer::new(items.into_iter().map(Loose))),
            Value::Null => visitor.visit_seq(SeqDeserializer::new(std::iter::empty::<Loose>())),
            other => Err(wrong(&other, &visitor)),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        match self.0 {
            Value::Object(map) => visitor.visit_map(MapDeserializer::new(entries(map))),
            Value::Null => visitor.visit_map(MapDeserializer::new(entries(Map::new()))),
            other => Err(wrong(&other, &visitor)),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        if self.0.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        let _ = name; // only formats that tag their values look at it
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        self.0.deserialize_enum(name, variants, visitor)
    }

    zero_for_null! {
        deserialize_bool visit_bool false;
        deserialize_i8 visit_i64 0;
        deserialize_i16 visit_i64 0;
        deserialize_i32 visit_i64 0;
        deserialize_i64 visit_i64 0;
        deserialize_u8 visit_u64 0;
        deserialize_u16 visit_u64 0;
        deserialize_u32 visit_u64 0;
        deserialize_u64 visit_u64 0;
        deserialize_f32 visit_f64 0.0;
        deserialize_f64 visit_f64 0.0;
        deserialize_str visit_str "";
        deserialize_string visit_str "";
    }

    forward_to_deserialize_any! {
        i128 u128 char bytes byte_buf unit unit_struct tuple tuple_struct identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    shape! {
        /// One shape in another.
        Outer {
            id "ID": String,
            inner "Inner": Vec<Inner>,
            names "Names": std::collections::BTreeMap<String, Inner>,
        }
        /// The other shape.
        Inner {
            count "Count": u64,
            wanted "Wanted": Option<bool>,
        }
    }

    #[test]
    fn keys_match_in_any_case_at_any_depth() {
        let read: Outer = from_slice(
            br#"{"id":"x","INNER":[{"count":3,"wanted":true,"more":1}],"names":{"Key":{"COUNT":4}}}"#,
        )
        .expect("reads");
        assert_eq!(read.id, "x");
        assert_eq!(read.inner, [Inner { count: 3, wanted: Some(true) }]);
        assert_eq!(read.names["Key"].count, 4);
    }

    #[test]
    fn null_is_the_zero_value_of_anything() {
        let read: Outer = from_slice(br#"{"ID":null,"Inner":null,"Names":{"k":null}}"#).expect("reads");
        assert_eq!(read.names["k"], Inner::default());
        assert!(from_slice::<Vec<Inner>>(b"null").expect("reads").is_empty());
    }

    #[test]
    fn a_wrong_type_is_an_error_and_no_panic() {
        assert!(from_slice::<Outer>(br#"{"ID":7}"#).is_err());
        assert!(from_slice::<Outer>(br#"[1"#).is_err());
        assert!(from_slice::<Outer>(br#""x""#).is_err());
    }
}
