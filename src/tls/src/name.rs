//! The name of an authority, taken from its certificate: what it signs must name it byte for byte.

use rcgen::{DistinguishedName, DnType, DnValue};

/// Tags of DER.
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT_ID: u8 = 0x06;
const UTF8: u8 = 0x0c;
const PRINTABLE: u8 = 0x13;
const IA5: u8 = 0x16;

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

/// Takes one value with a tag off the front: its content, and what follows.
fn take(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (len, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81 => (usize::from(*rest.first()?), &rest[1..]),
        0x82 => (usize::from(u16::from_be_bytes([*rest.first()?, *rest.get(1)?])), &rest[2..]),
        _ => return None,
    };
    (found == tag && rest.len() >= len).then(|| rest.split_at(len))
}

fn object_id(bytes: &[u8]) -> Option<Vec<u64>> {
    let (&first, rest) = bytes.split_first()?;
    let mut parts = vec![u64::from(first / 40).min(2), 0];
    parts[1] = u64::from(first) - 40 * parts[0];
    let mut part = 0_u64;
    for byte in rest {
        part = part.checked_mul(128)? + u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            parts.push(part);
            part = 0;
        }
    }
    Some(parts)
}
