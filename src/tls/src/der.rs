//! The little of DER that certificates are read with here, where the libraries in use only check and make them.

/// Tags.
pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const OCTETS: u8 = 0x04;
pub(crate) const OBJECT_ID: u8 = 0x06;
pub(crate) const UTF8: u8 = 0x0c;
pub(crate) const PRINTABLE: u8 = 0x13;
pub(crate) const IA5: u8 = 0x16;
pub(crate) const UTC_TIME: u8 = 0x17;
pub(crate) const TIME: u8 = 0x18;
pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const SET: u8 = 0x31;

/// Takes one value with a tag off the front: its content, and what follows.
pub(crate) fn take(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = take_any(bytes)?;
    (found == tag).then_some((content, rest))
}

/// Takes one value off the front: its tag, its content, and what follows.
pub(crate) fn take_any(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (len, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81 => (usize::from(*rest.first()?), &rest[1..]),
        0x82 => (usize::from(u16::from_be_bytes([*rest.first()?, *rest.get(1)?])), &rest[2..]),
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(len)?;
    Some((tag, content, rest))
}

/// Writes one value, with a length as short as it gets: DER has one form for each.
pub(crate) fn put(tag: u8, content: &[u8]) -> Vec<u8> {
    let len = content.len().to_be_bytes();
    let len = &len[len.iter().take_while(|byte| **byte == 0).count()..];
    let mut bytes = vec![tag];
    match len {
        [] => bytes.push(0),
        [short @ 0..=0x7f] => bytes.push(*short),
        long => {
            let count = u8::try_from(long.len()).expect("a length has eight bytes at most");
            bytes.push(0x80 | count);
            bytes.extend(long);
        }
    }
    bytes.extend(content);
    bytes
}

/// Reads the content of an object id.
pub(crate) fn object_id(bytes: &[u8]) -> Option<Vec<u64>> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_written_in_their_only_form_and_read_again() {
        let lengths: [(usize, &[u8]); 6] = [
            (0, &[0]),
            (127, &[127]),
            (128, &[0x81, 128]),
            (255, &[0x81, 255]),
            (256, &[0x82, 1, 0]),
            (65_535, &[0x82, 255, 255]),
        ];
        for (length, written) in lengths {
            let content = vec![7; length];
            let bytes = put(OCTETS, &content);
            assert_eq!(&bytes[1..=written.len()], written, "{length}");
            assert_eq!(take(&bytes, OCTETS), Some((&content[..], &[][..])));
            assert_eq!(take(&bytes[..bytes.len() - 1], OCTETS), None, "{length}, cut");
        }
    }
}
