//! Files beside the job file. Refused where nobody gave access to any.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use regex::Regex;

use super::Accepts::String as Text;
use super::{Arguments, Fault, Files, Functions, Outcome, Spec, param, spec};
use crate::types::Type;
use crate::value::Value;

pub(super) const SPECS: &[Spec] = &[
    spec("abspath", &[param("path", Text)], |v, f| {
        with_path(v, f, |files, path| files.absolute(&path).map(Value::string).map_err(Fault::call))
    }),
    spec("basename", &[param("path", Text)], |v, f| {
        with_path(v, f, |_, path| Ok(Value::string(basename(&path))))
    }),
    spec("dirname", &[param("path", Text)], |v, f| {
        with_path(v, f, |_, path| Ok(Value::string(dirname(&path))))
    }),
    spec("file", &[param("path", Text)], |v, f| with_path(v, f, file)),
    spec("filebase64", &[param("path", Text)], |v, f| {
        with_path(v, f, |files, path| Ok(Value::string(STANDARD.encode(read(files, &path)?))))
    }),
    spec("fileexists", &[param("path", Text)], |v, f| {
        with_path(v, f, |files, path| {
            files.exists(&expand(files, &path)).map(Value::Bool).map_err(Fault::call)
        })
    }),
    spec("fileset", &[param("path", Text), param("pattern", Text)], fileset),
    spec("pathexpand", &[param("path", Text)], |v, f| {
        with_path(v, f, |files, path| Ok(Value::string(expand(files, &path))))
    }),
];

/// Largest file that becomes a value.
pub const FILE_BYTES_MAX: usize = 16 << 20;

fn access(functions: &Functions) -> Result<&dyn Files, Fault> {
    functions.files.as_deref().ok_or_else(|| Fault::call("filesystem function disabled"))
}

fn with_path(
    values: Vec<Value>,
    functions: &Functions,
    act: impl FnOnce(&dyn Files, String) -> Outcome,
) -> Outcome {
    act(access(functions)?, Arguments::new(values).text())
}

fn expand(files: &dyn Files, path: &str) -> String {
    match (path.strip_prefix('~'), files.home()) {
        (Some(rest), Some(home)) if rest.is_empty() || rest.starts_with('/') => format!("{home}{rest}"),
        _ => path.to_string(),
    }
}

fn read(files: &dyn Files, path: &str) -> Result<Vec<u8>, Fault> {
    let bytes = files.read(&expand(files, path)).map_err(Fault::call)?;
    if bytes.len() > FILE_BYTES_MAX {
        return Err(Fault::call(format!("{path} is larger than {} MiB", FILE_BYTES_MAX >> 20)));
    }
    Ok(bytes)
}

fn file(files: &dyn Files, path: String) -> Outcome {
    let bytes = read(files, &path)?;
    let text = String::from_utf8(bytes);
    text.map(Value::string).map_err(|_| Fault::call(format!("contents of {path} are not valid UTF-8")))
}

fn basename(path: &str) -> &str {
    let trimmed = path.trim_end_matches('/');
    match (path.is_empty(), trimmed.is_empty()) {
        (true, _) => ".",
        (false, true) => "/",
        (false, false) => trimmed.rsplit('/').next().unwrap_or(trimmed),
    }
}

fn dirname(path: &str) -> String {
    let Some(end) = path.rfind('/') else { return ".".to_string() };
    let mut parts: Vec<&str> = Vec::new();
    let rooted = path.starts_with('/');
    for part in path[..end].split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|p| *p != "..") => {
                parts.pop();
            }
            ".." if rooted => {}
            part => parts.push(part),
        }
    }
    match (rooted, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".to_string(),
        (false, false) => parts.join("/"),
    }
}

fn fileset(values: Vec<Value>, functions: &Functions) -> Outcome {
    let files = access(functions)?;
    let mut arguments = Arguments::new(values);
    let (path, pattern) = (arguments.text(), arguments.text());
    let matcher =
        glob(&pattern).map_err(|why| Fault::call(format!("failed to glob pattern ({pattern}): {why}")))?;
    let found = files.list(&expand(files, &path)).map_err(Fault::call)?;
    let matches = found.into_iter().filter(|file| matcher.is_match(file)).map(Value::string).collect();
    Ok(Value::set(Type::String, matches))
}

/// `*` and `?` stay within a folder, `**` goes through any number; `{a,b}` and `[abc]` as usual.
fn glob(pattern: &str) -> Result<Regex, String> {
    let mut out = String::from("^");
    let mut rest = pattern;
    let mut braces = 0;
    while let Some(c) = rest.chars().next() {
        let mut length = c.len_utf8();
        match c {
            '*' if rest.starts_with("**/") => {
                out.push_str("(?:.*/)?");
                length = 3;
            }
            '*' if rest.starts_with("**") => {
                out.push_str(".*");
                length = 2;
            }
            '*' => out.push_str("[^/]*"),
            '?' => out.push_str("[^/]"),
            '{' => {
                braces += 1;
                out.push_str("(?:");
            }
            '}' if braces > 0 => {
                braces -= 1;
                out.push(')');
            }
            ',' if braces > 0 => out.push('|'),
            '[' => {
                let end = rest.find(']').ok_or("missing ]")?;
                let class = rest[1..end].replace('\\', "\\\\").replace('[', "\\[");
                out.push_str(&format!(
                    "[{}]",
                    class.strip_prefix('!').map_or(class.clone(), |c| format!("^{c}"))
                ));
                length = end + 1;
            }
            c => out.push_str(&regex::escape(&c.to_string())),
        }
        rest = &rest[length..];
    }
    out.push('$');
    Regex::new(&out).map_err(|e| e.to_string())
}
