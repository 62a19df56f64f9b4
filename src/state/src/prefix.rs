use std::str::FromStr;

use uuid::Uuid;

/// The beginning of an id, in hexadecimal digits and hyphens.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct IdPrefix {
    first: Uuid,
    last: Uuid,
}

/// A text is not the beginning of an id.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "{text:?} is not the beginning of an id: wanted up to 32 hexadecimal digits, with or without hyphens"
)]
pub struct BadPrefix {
    /// What was given.
    pub text: String,
}

impl IdPrefix {
    /// Returns the smallest id that begins so.
    pub fn first(&self) -> Uuid {
        self.first
    }

    /// Returns the largest id that begins so.
    pub fn last(&self) -> Uuid {
        self.last
    }
}

impl FromStr for IdPrefix {
    type Err = BadPrefix;

    fn from_str(text: &str) -> Result<Self, BadPrefix> {
        let bad = || BadPrefix { text: text.to_owned() };
        let (mut bits, mut count) = (0_u128, 0_u32);
        for character in text.chars().filter(|&character| character != '-') {
            let digit = character.to_digit(16).ok_or_else(bad)?;
            if count == 32 {
                return Err(bad());
            }
            bits = bits << 4 | u128::from(digit);
            count += 1;
        }
        let free = (32 - count) * 4;
        let first = bits.checked_shl(free).unwrap_or(0);
        let rest = u128::MAX.checked_shr(128 - free).unwrap_or(0);
        Ok(Self { first: Uuid::from_u128(first), last: Uuid::from_u128(first | rest) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_covers_the_ids_that_begin_so() {
        let prefix: IdPrefix = "8d5a1c6e-0".parse().expect("valid");
        assert_eq!(prefix.first().to_string(), "8d5a1c6e-0000-0000-0000-000000000000");
        assert_eq!(prefix.last().to_string(), "8d5a1c6e-0fff-ffff-ffff-ffffffffffff");
        let all: IdPrefix = "".parse().expect("valid");
        assert_eq!((all.first(), all.last()), (Uuid::nil(), Uuid::max()));
        let one: IdPrefix = all.last().to_string().parse().expect("valid");
        assert_eq!((one.first(), one.last()), (Uuid::max(), Uuid::max()));
    }

    #[test]
    fn what_is_not_hexadecimal_or_too_long_is_refused() {
        assert!("xyz".parse::<IdPrefix>().is_err());
        assert!("0".repeat(33).parse::<IdPrefix>().is_err());
    }
}
