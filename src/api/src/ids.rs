//! Ids and their beginnings, as callers write them, and what is said when they are none.

use std::str::FromStr;

use model::BadId;
use state::IdPrefix;

use crate::HttpError;

/// Characters of an id.
const ID_CHARS: usize = 36;

/// Reads a whole id. `kind` is what messages call the thing: `alloc`, `eval`, `deployment`, `node`.
///
/// # Errors
///
/// 500 with what is wrong, as callers know it.
pub(crate) fn id<T: FromStr<Err = BadId>>(kind: &str, text: &str) -> Result<T, HttpError> {
    let wrong = |what: &str| HttpError::internal(format!("{kind} lookup failed: index error: {what}"));
    if text.len() != ID_CHARS {
        return Err(wrong("UUID must be 36 characters"));
    }
    text.parse().map_err(|_| wrong(&format!("Invalid UUID: {}", bad_hex(text))))
}

/// Reads the beginning of an id: an even number of hexadecimal digits.
///
/// # Errors
///
/// 500 with what is wrong, as callers know it.
pub(crate) fn prefix(kind: &str, text: &str) -> Result<IdPrefix, HttpError> {
    // Lists of deployments alone do not say what was looked up.
    let lookup = if kind == "deployment" { String::new() } else { format!("{kind} lookup failed: ") };
    let wrong = |what: &str| HttpError::internal(format!("{lookup}index error: {what}"));
    if text.len() > ID_CHARS {
        return Err(wrong("UUID prefix is too long"));
    }
    let hyphens = text.bytes().filter(|byte| *byte == b'-').count();
    if hyphens > 4 {
        return Err(wrong("Invalid UUID: too many hyphens"));
    }
    if !(text.len() - hyphens).is_multiple_of(2) {
        return Err(wrong("Input (without hyphens) must be even length"));
    }
    text.parse().map_err(|_| wrong(&format!("Invalid UUID: {}", bad_hex(text))))
}

fn bad_hex(text: &str) -> String {
    let bad = text.chars().find(|character| !character.is_ascii_hexdigit() && *character != '-');
    match bad {
        Some(character) => {
            format!("encoding/hex: invalid byte: U+{:04X} '{character}'", u32::from(character))
        }
        None => "misplaced hyphens".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_prefixes_are_told_as_callers_know_it() {
        let told = |text: &str| prefix("alloc", text).expect_err("no prefix").message;
        assert_eq!(
            told("abc"),
            "alloc lookup failed: index error: Input (without hyphens) must be even length"
        );
        assert_eq!(
            told("zz"),
            "alloc lookup failed: index error: Invalid UUID: encoding/hex: invalid byte: U+007A 'z'"
        );
        assert!(prefix("alloc", "abcd").is_ok());
        assert!(prefix("alloc", "").is_ok());
    }

    #[test]
    fn a_short_id_is_told_so() {
        let told = id::<model::AllocId>("alloc", "none").expect_err("no id").message;
        assert_eq!(told, "alloc lookup failed: index error: UUID must be 36 characters");
    }
}
