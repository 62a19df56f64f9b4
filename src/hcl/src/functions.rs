//! The functions that expressions may call.

mod collections;
mod csv;
mod dates;
mod encoding;
mod files;
mod formatting;
mod hashes;
mod json;
mod network;
mod numbers;
mod sets;
mod strings;
mod yaml;

use std::fmt;
use std::sync::Arc;

use crate::types::Type;
use crate::value::Value;

pub(crate) use json::json_text;

/// Fills a buffer with random bytes.
pub type Random = Arc<dyn Fn(&mut [u8]) + Send + Sync>;

/// What the file functions may see. Relative paths are relative to the folder of the job file.
pub trait Files: Send + Sync {
    /// The content of a file, or why it can not be had.
    ///
    /// # Errors
    /// A few words about the cause.
    fn read(&self, path: &str) -> Result<Vec<u8>, String>;

    /// Whether there is a regular file of that path; an error when there is something else.
    ///
    /// # Errors
    /// A few words about the cause.
    fn exists(&self, path: &str) -> Result<bool, String>;

    /// Regular files below a folder, as paths relative to it with `/` between, in any order.
    ///
    /// # Errors
    /// A few words about the cause.
    fn list(&self, folder: &str) -> Result<Vec<String>, String>;

    /// The absolute form of a path.
    ///
    /// # Errors
    /// A few words about the cause.
    fn absolute(&self, path: &str) -> Result<String, String>;

    /// The home folder of the user, for `~`.
    fn home(&self) -> Option<String>;
}

/// What functions need of the world outside.
#[derive(Clone)]
pub struct Functions {
    /// Where `file` and its like look; without it they are refused, as on a server.
    pub files: Option<Arc<dyn Files>>,
    /// For `uuidv4`, `bcrypt`.
    pub random: Random,
}

impl fmt::Debug for Functions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Functions").field("files", &self.files.is_some()).finish_non_exhaustive()
    }
}

/// Why a call failed.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The argument at this place is at fault.
    Argument(usize, String),
    Call(String),
}

impl Fault {
    fn call(reason: impl Into<String>) -> Fault {
        Fault::Call(reason.into())
    }

    fn argument(at: usize, reason: impl Into<String>) -> Fault {
        Fault::Argument(at, reason.into())
    }
}

pub(crate) type Outcome = Result<Value, Fault>;

pub use files::FILE_BYTES_MAX;

/// What calls take that are quick, but not as quick as a step.
const SMALL_STEPS: u64 = 16;

/// What a power or a logarithm takes: some ten times what other arithmetic does.
const POWER_STEPS: u64 = 48;

/// Walking through a folder takes as long as so many steps.
const FILESET_STEPS: u64 = 10_000;

/// Bytes of a text that is decoded to a value that take as long as a step.
const DECODED_BYTES: u64 = 2;

/// What a call takes of the limits beside the size of its arguments.
pub(crate) fn own_steps(name: &str, arguments: &[Value]) -> u64 {
    match name {
        "bcrypt" => hashes::bcrypt_steps(arguments),
        "fileset" => FILESET_STEPS,
        "jsondecode" | "yamldecode" | "csvdecode" => match arguments.first() {
            Some(Value::String(text)) => SMALL_STEPS + text.len() as u64 / DECODED_BYTES,
            _ => 0,
        },
        "regex_replace" => match arguments.get(1) {
            Some(Value::String(pattern)) => pattern_steps(pattern),
            _ => 0,
        },
        "pow" | "log" => POWER_STEPS,
        "uuidv4" | "uuidv5" => SMALL_STEPS,
        _ => 0,
    }
}

/// What a regular expression takes, whatever it is; it is compiled for each call.
const PATTERN_STEPS: u64 = 100;

/// What it takes to compile an expression: its length with its repetitions written out. A class such as `\w` stands for
/// many ranges.
fn pattern_steps(pattern: &str) -> u64 {
    const CLASS: u64 = 32;
    // Lengths of the groups that are open, and of the item before.
    let (mut groups, mut item) = (vec![0u64], 0u64);
    let mut rest = pattern.chars();
    while let Some(sign) = rest.next() {
        match sign {
            '(' => {
                groups.push(0);
                continue;
            }
            ')' if groups.len() > 1 => item = groups.pop().unwrap_or_default(),
            '{' => {
                let bounds = rest.as_str().split_once('}').map_or("", |(bounds, _)| bounds);
                let times: u64 = bounds.rsplit(',').find_map(|number| number.parse().ok()).unwrap_or(1);
                item = item.saturating_mul(times);
            }
            '\\' => {
                rest.next();
                item = CLASS;
            }
            _ => item = 1,
        }
        if let Some(length) = groups.last_mut() {
            *length = length.saturating_add(item);
        }
    }
    let length: u64 = groups.into_iter().fold(0, u64::saturating_add);
    PATTERN_STEPS.saturating_add(length)
}

/// What an argument is converted to before the call.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Accepts {
    Any,
    Number,
    String,
    Strings,
    List,
    Set,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Param {
    pub name: &'static str,
    accepts: Accepts,
    null: bool,
}

impl Param {
    pub fn accept(&self, value: Value) -> Result<Value, String> {
        if value.is_null() && !self.null {
            return Err("argument must not be null".to_string());
        }
        let wanted = match self.accepts {
            Accepts::Any => return Ok(value),
            Accepts::Number => Type::Number,
            Accepts::String => Type::String,
            Accepts::Strings => Type::List(Box::new(Type::String)),
            Accepts::List => Type::List(Box::new(Type::Any)),
            Accepts::Set => Type::Set(Box::new(Type::Any)),
        };
        value.convert(&wanted).map_err(|e| e.to_string())
    }
}

pub(crate) struct Spec {
    pub name: &'static str,
    pub params: &'static [Param],
    /// What any further arguments are.
    pub rest: Option<Param>,
    pub run: fn(Vec<Value>, &Functions) -> Outcome,
}

const fn param(name: &'static str, accepts: Accepts) -> Param {
    Param { name, accepts, null: false }
}

const fn or_null(name: &'static str, accepts: Accepts) -> Param {
    Param { name, accepts, null: true }
}

const fn spec(
    name: &'static str,
    params: &'static [Param],
    run: fn(Vec<Value>, &Functions) -> Outcome,
) -> Spec {
    Spec { name, params, rest: None, run }
}

const fn open(
    name: &'static str,
    params: &'static [Param],
    rest: Param,
    run: fn(Vec<Value>, &Functions) -> Outcome,
) -> Spec {
    Spec { name, params, rest: Some(rest), run }
}

/// Those that the evaluator itself has.
const SPECIAL: [&str; 3] = ["can", "convert", "try"];

fn all() -> impl Iterator<Item = &'static Spec> {
    let groups: [&'static [Spec]; 11] = [
        collections::SPECS,
        sets::SPECS,
        strings::SPECS,
        formatting::SPECS,
        numbers::SPECS,
        encoding::SPECS,
        hashes::SPECS,
        network::SPECS,
        dates::SPECS,
        files::SPECS,
        json::SPECS,
    ];
    groups.into_iter().flatten()
}

pub(crate) fn find(name: &str) -> Option<&'static Spec> {
    all().find(|spec| spec.name == name)
}

pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    all().map(|spec| spec.name).chain(SPECIAL)
}

/// Arguments one after the other, as the types that their parameters promise.
struct Arguments(std::vec::IntoIter<Value>);

impl Arguments {
    fn new(values: Vec<Value>) -> Arguments {
        Arguments(values.into_iter())
    }

    fn value(&mut self) -> Value {
        self.0.next().unwrap_or(Value::Null)
    }

    fn text(&mut self) -> String {
        if let Value::String(text) = self.value() { text } else { String::new() }
    }

    fn number(&mut self) -> crate::number::Number {
        if let Value::Number(n) = self.value() { n } else { crate::number::Number::zero() }
    }

    /// The argument as a whole number that fits; `at` is its place for the message.
    fn whole(&mut self, _at: usize) -> Result<i64, Fault> {
        let range = "value must be a whole number, between -9223372036854775808 and 9223372036854775807";
        self.number().as_i64().ok_or_else(|| Fault::call(range))
    }

    fn items(&mut self) -> Vec<Value> {
        match self.value() {
            Value::Tuple(items) | Value::List(_, items) | Value::Set(_, items) => items,
            _ => Vec::new(),
        }
    }

    fn rest(self) -> Vec<Value> {
        self.0.collect()
    }
}
