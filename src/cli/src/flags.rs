//! Flags in the manner of Go: one dash or two, `-x=v` or `-x v`, all of them before the arguments.

use std::collections::BTreeMap;

/// What a flag holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// True or false; true when it stands alone.
    Bool,
    /// Text.
    Text,
    /// A whole number.
    Number,
    /// A time such as `1m30s`.
    Duration,
    /// Text; may be given again and again.
    List,
}

/// A flag of a command.
#[derive(Clone, Copy, Debug)]
pub struct Flag {
    /// Without dashes.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// A line about it.
    pub help: &'static str,
}

/// Makes a flag.
pub const fn flag(name: &'static str, kind: Kind, help: &'static str) -> Flag {
    Flag { name, kind, help }
}

/// The flags of a call.
#[derive(Debug, Default)]
pub struct Flags(BTreeMap<&'static str, Vec<String>>);

/// A call, taken apart.
#[derive(Debug, Default)]
pub struct Parsed {
    /// The flags.
    pub flags: Flags,
    /// What stands after them.
    pub args: Vec<String>,
}

/// A call can not be taken apart.
#[derive(Debug, Eq, PartialEq)]
pub enum BadFlag {
    /// There is no such flag; perhaps another one was meant.
    Unknown(String),
    /// It wants a value.
    NoValue(String),
    /// The value is of the wrong kind.
    BadValue {
        /// The flag.
        flag: String,
        /// The value.
        value: String,
        /// What is wrong with it.
        why: String,
    },
}

impl std::fmt::Display for BadFlag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unknown(name) => write!(f, "flag provided but not defined: -{name}"),
            Self::NoValue(name) => write!(f, "flag needs an argument: -{name}"),
            Self::BadValue { flag, value, why } => {
                write!(f, "invalid value {value:?} for flag -{flag}: {why}")
            }
        }
    }
}

/// Takes a call apart.
///
/// # Errors
///
/// At the first flag that is unknown, or lacks a good value.
pub fn parse(
    known: impl Iterator<Item = &'static Flag> + Clone,
    words: &[String],
) -> Result<Parsed, BadFlag> {
    let mut parsed = Parsed::default();
    let mut at = 0;
    while let Some(word) = words.get(at) {
        let body = match word.strip_prefix("--").or_else(|| word.strip_prefix('-')) {
            Some("") if word == "--" => {
                at += 1;
                break;
            }
            Some("") | None => break, // a lone dash is an argument: standard input
            Some(body) => body,
        };
        at += 1;
        let (name, inline) =
            body.split_once('=').map_or((body, None), |(name, value)| (name, Some(value.to_owned())));
        let flag =
            known.clone().find(|flag| flag.name == name).ok_or_else(|| BadFlag::Unknown(name.to_owned()))?;
        let value = match (flag.kind, inline) {
            (_, Some(value)) => value,
            (Kind::Bool, None) => "true".to_owned(),
            (_, None) => {
                let value = words.get(at).ok_or_else(|| BadFlag::NoValue(name.to_owned()))?;
                at += 1;
                value.clone()
            }
        };
        let value = check(flag, value)?;
        let values = parsed.flags.0.entry(flag.name).or_default();
        if flag.kind != Kind::List {
            values.clear();
        }
        values.push(value);
    }
    parsed.args = words[at..].to_vec();
    Ok(parsed)
}

fn check(flag: &Flag, value: String) -> Result<String, BadFlag> {
    let bad = |why: &str| BadFlag::BadValue {
        flag: flag.name.to_owned(),
        value: value.clone(),
        why: why.to_owned(),
    };
    match flag.kind {
        Kind::Text | Kind::List => Ok(value),
        Kind::Bool => match value.as_str() {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok("true".to_owned()),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok("false".to_owned()),
            _ => Err(bad("parse error")),
        },
        Kind::Number => value.parse::<i64>().map(|number| number.to_string()).map_err(|_| bad("parse error")),
        Kind::Duration => crate::format::parse_duration(&value)
            .map(|nanos| nanos.to_string())
            .ok_or_else(|| bad("parse error")),
    }
}

impl Flags {
    /// Tells whether a flag was given.
    pub fn given(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Tells whether a truth is set.
    pub fn on(&self, name: &str) -> bool {
        self.text(name) == Some("true")
    }

    /// Returns a truth, if it was given.
    pub fn truth(&self, name: &str) -> Option<bool> {
        self.text(name).map(|value| value == "true")
    }

    /// Returns a text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(|values| values.last()).map(String::as_str)
    }

    /// Returns a number, or the nanoseconds of a time.
    pub fn number(&self, name: &str) -> Option<i64> {
        self.text(name).and_then(|value| value.parse().ok())
    }

    /// Returns all values of a list.
    pub fn list(&self, name: &str) -> &[String] {
        self.0.get(name).map(Vec::as_slice).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static KNOWN: [Flag; 4] = [
        flag("yes", Kind::Bool, ""),
        flag("n", Kind::Number, ""),
        flag("var", Kind::List, ""),
        flag("deadline", Kind::Duration, ""),
    ];

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn one_dash_or_two_and_values_in_both_forms() {
        let parsed = parse(KNOWN.iter(), &words("--yes -n 5 -var=a=b --var c=d -deadline 1m30s job -yes"))
            .expect("good");
        assert!(parsed.flags.on("yes"));
        assert_eq!(parsed.flags.number("n"), Some(5));
        assert_eq!(parsed.flags.list("var"), ["a=b", "c=d"]);
        assert_eq!(parsed.flags.number("deadline"), Some(90_000_000_000));
        assert_eq!(parsed.args, ["job", "-yes"], "flags end where arguments begin");
    }

    #[test]
    fn a_dash_is_an_argument_and_two_end_the_flags() {
        assert_eq!(parse(KNOWN.iter(), &words("-yes=false -")).expect("good").args, ["-"]);
        assert_eq!(parse(KNOWN.iter(), &words("-yes -- -n")).expect("good").args, ["-n"]);
    }

    #[test]
    fn bad_flags_are_named() {
        assert_eq!(
            parse(KNOWN.iter(), &words("-nope")).expect_err("bad").to_string(),
            "flag provided but not defined: -nope"
        );
        assert_eq!(
            parse(KNOWN.iter(), &words("-n")).expect_err("bad").to_string(),
            "flag needs an argument: -n"
        );
        assert!(parse(KNOWN.iter(), &words("-n x")).is_err());
    }
}
