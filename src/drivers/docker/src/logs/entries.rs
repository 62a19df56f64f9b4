//! What the engine says when it is asked for output with timestamps.

use bytes::Bytes;

/// The engine cuts longer lines into pieces of this size.
const PIECE: usize = 16 * 1024;
/// The longest timestamp that the engine writes.
const STAMP_MAX: usize = 36;

/// One piece of output, and when it was said, in nanoseconds since the epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub at: i64,
    pub text: Bytes,
}

/// Takes the timestamp off one piece of output. What has none is passed on as said at the beginning of time, so that
/// it is never lost.
pub(super) fn split(frame: &Bytes) -> Entry {
    match stamp(frame) {
        Some((at, length)) => Entry { at, text: frame.slice(length..) },
        None => Entry { at: 0, text: frame.clone() },
    }
}

/// Takes apart what comes from a terminal: there the engine does not say where a piece of a long line ends.
pub(super) fn split_terminal(line: &Bytes) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut rest = line.clone();
    loop {
        let entry = split(&rest);
        let next = entry.text.len() > PIECE && stamp(&entry.text[PIECE..]).is_some();
        if !next {
            entries.push(entry);
            return entries;
        }
        rest = entry.text.slice(PIECE..);
        entries.push(Entry { at: entry.at, text: entry.text.slice(..PIECE) });
    }
}

/// Reads a timestamp and the space behind it.
fn stamp(bytes: &[u8]) -> Option<(i64, usize)> {
    let space = bytes.iter().take(STAMP_MAX).position(|byte| *byte == b' ')?;
    let text = std::str::from_utf8(&bytes[..space]).ok()?;
    let at: jiff::Timestamp = text.parse().ok()?;
    Some((i64::try_from(at.as_nanosecond()).ok()?, space + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: &str = "2026-11-22T14:46:49.356994232Z";
    const AT: i64 = 1_795_358_809_356_994_232;

    #[test]
    fn the_timestamp_is_taken_off() {
        let entry = split(&Bytes::from(format!("{STAMP} two words\n")));
        assert_eq!(entry, Entry { at: AT, text: Bytes::from("two words\n") });
        for odd in ["no stamp\n", "", " ", "2026 x"] {
            assert_eq!(split(&Bytes::from(odd)), Entry { at: 0, text: Bytes::from(odd) });
        }
    }

    #[test]
    fn pieces_of_a_long_line_on_a_terminal_are_told_apart() {
        let long = "x".repeat(PIECE);
        let entries = split_terminal(&Bytes::from(format!("{STAMP} {long}{STAMP} end\n")));
        assert_eq!(entries.len(), 2);
        assert_eq!((entries[0].text.len(), &entries[1].text[..]), (PIECE, &b"end\n"[..]));
    }
}
