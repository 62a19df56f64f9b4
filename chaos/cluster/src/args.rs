//! What was asked for on the command line.

use std::{collections::BTreeMap, str::FromStr};

use crate::fault::Kind;

/// The words of a command: flags with their values, and switches.
#[derive(Debug, Default)]
pub struct Args {
    values: BTreeMap<String, String>,
}

/// A command line that can not be understood.
#[derive(Debug, thiserror::Error)]
pub enum BadArgs {
    /// Not a flag of this command.
    #[error("{0} is no flag of this command; see wayfarer-chaos help")]
    Unknown(String),
    /// A flag without its value.
    #[error("{0} needs a value")]
    NoValue(String),
    /// A value that can not be read.
    #[error("--{flag}: {value:?} is not {wanted}")]
    BadValue {
        /// Which flag.
        flag: String,
        /// What was given.
        value: String,
        /// What it must be.
        wanted: String,
    },
    /// Two flags that say different things about the same.
    #[error("--{0} and --{1} can not be given together")]
    Both(&'static str, &'static str),
    /// A flag that must be there.
    #[error("--{0} must be given")]
    Missing(&'static str),
}

impl Args {
    /// Reads the words after a command's name. `flags` take a value, `switches` do not. Both `--x` and `-x` are fine, and
    /// `--x=y` is `--x y`.
    ///
    /// # Errors
    ///
    /// See [`BadArgs`].
    pub fn read(words: &[String], flags: &[&str], switches: &[&str]) -> Result<Self, BadArgs> {
        let mut args = Self::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let name = word.strip_prefix("--").or_else(|| word.strip_prefix('-'));
            let name = name.ok_or_else(|| BadArgs::Unknown(word.clone()))?;
            let (name, given) =
                name.split_once('=').map_or((name, None), |(name, value)| (name, Some(value)));
            let value = if switches.contains(&name) {
                given.unwrap_or("true").to_owned()
            } else if flags.contains(&name) {
                let value = given.map(str::to_owned).or_else(|| words.next().cloned());
                value.ok_or_else(|| BadArgs::NoValue(word.clone()))?
            } else {
                return Err(BadArgs::Unknown(word.clone()));
            };
            args.values.insert(name.to_owned(), value);
        }
        Ok(args)
    }

    /// A flag's value as it was written.
    #[must_use]
    pub fn text(&self, flag: &str) -> Option<&str> {
        self.values.get(flag).map(String::as_str)
    }

    /// Whether a switch is on.
    #[must_use]
    pub fn is_on(&self, switch: &str) -> bool {
        self.text(switch) == Some("true")
    }

    /// A number within limits.
    ///
    /// # Errors
    ///
    /// When it is none, or beyond them.
    pub fn number<T>(
        &self,
        flag: &str,
        fallback: T,
        limits: std::ops::RangeInclusive<T>,
    ) -> Result<T, BadArgs>
    where
        T: FromStr + PartialOrd + std::fmt::Display,
    {
        let Some(value) = self.text(flag) else { return Ok(fallback) };
        value.parse().ok().filter(|number| limits.contains(number)).ok_or_else(|| BadArgs::BadValue {
            flag: flag.to_owned(),
            value: value.to_owned(),
            wanted: format!("a number from {} to {}", limits.start(), limits.end()),
        })
    }

    /// Names of faults; none when the flag was not given.
    ///
    /// # Errors
    ///
    /// When one is no fault's.
    pub fn kinds(&self) -> Result<Vec<Kind>, BadArgs> {
        let Some(value) = self.text("faults") else { return Ok(Vec::new()) };
        if value == "all" {
            return Ok(Kind::ALL.to_vec());
        }
        let kind = |name: &str| {
            Kind::named(name.trim()).ok_or_else(|| BadArgs::BadValue {
                flag: "faults".to_owned(),
                value: name.to_owned(),
                wanted: "a fault; see wayfarer-chaos list".to_owned(),
            })
        };
        value.split(',').map(kind).collect()
    }

    /// Words between commas.
    #[must_use]
    pub fn words(&self, flag: &str) -> Vec<String> {
        let words = self.text(flag).unwrap_or_default().split(',').map(str::trim);
        words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Args, BadArgs> {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        Args::read(&words, &["seed", "faults"], &["keep"])
    }

    #[test]
    fn flags_are_read_in_all_their_forms() {
        let args = read("--seed 7 -faults=kill,pause --keep").expect("fine");
        assert_eq!(args.number("seed", 0_u64, 0..=9).expect("a number"), 7);
        assert_eq!(args.kinds().expect("faults"), [Kind::Kill, Kind::Pause]);
        assert!(args.is_on("keep"));
        assert_eq!(args.number("other", 3_u64, 0..=9).expect("the fallback"), 3);
    }

    #[test]
    fn what_makes_no_sense_is_said() {
        assert!(matches!(read("--nope 1"), Err(BadArgs::Unknown(_))));
        assert!(matches!(read("word"), Err(BadArgs::Unknown(_))));
        assert!(matches!(read("--seed"), Err(BadArgs::NoValue(_))));
        let args = read("--seed 70 --faults kill,nope").expect("read");
        assert!(args.number("seed", 0_u64, 0..=9).is_err());
        assert!(args.kinds().expect_err("nope").to_string().contains("nope"));
    }
}
