//! The name of an authority, taken from its certificate: what it signs must name it byte for byte.

use rcgen::{DistinguishedName, DnType, DnValue};

use crate::der::{IA5, OBJECT_ID, PRINTABLE, SEQUENCE, SET, UTF8, object_id, take};

/// Reads the content of a name in DER. None where it holds what this version does not know.
pub(crate) fn read(mut content: &[u8]) -> Option<DistinguishedName> {
    let mut name = DistinguishedName::new();
    while !content.is_empty() {
        let (set, rest) = take(content, SET)?;
        let (pair, after) = take(set, SEQUENCE)?;
        let (id, value) = take(pair, OBJECT_ID)?;
        let (&tag, _) = value.split_first()?;
        let (text, left) = take(value, tag)?;
        if !after.is_empty() || !left.is_empty() {
            return None;
        }
        let text = std::str::from_utf8(text).ok()?;
        let value = match tag {
            UTF8 => DnValue::Utf8String(text.to_owned()),
            PRINTABLE => DnValue::PrintableString(text.try_into().ok()?),
            IA5 => DnValue::Ia5String(text.try_into().ok()?),
            _ => return None,
        };
        name.push(DnType::from_oid(&object_id(id)?), value);
        content = rest;
    }
    Some(name)
}
