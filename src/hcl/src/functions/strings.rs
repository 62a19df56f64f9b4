//! Texts.

use regex::Regex;
use unicode_segmentation::UnicodeSegmentation;

use super::Accepts::{Number as Num, String as Text, Strings};
use super::{Arguments, Fault, Functions, Outcome, Spec, open, param, spec};
use crate::value::Value;

pub(super) const SPECS: &[Spec] = &[
    spec("chomp", &[param("str", Text)], |v, _| map(v, |s| s.trim_end_matches(['\r', '\n']).to_string())),
    spec("indent", &[param("spaces", Num), param("str", Text)], indent),
    open("join", &[param("separator", Text)], param("lists", Strings), join),
    spec("lower", &[param("str", Text)], |v, _| map(v, |s| s.chars().map(lower).collect())),
    spec(
        "regex_replace",
        &[param("str", Text), param("pattern", Text), param("replace", Text)],
        regex_replace,
    ),
    spec("replace", &[param("str", Text), param("substr", Text), param("replace", Text)], replace),
    spec("reverse", &[param("str", Text)], |v, _| map(v, |s| s.graphemes(true).rev().collect())),
    spec("split", &[param("separator", Text), param("str", Text)], split),
    spec("strlen", &[param("str", Text)], strlen),
    spec("strrev", &[param("str", Text)], |v, _| map(v, |s| s.graphemes(true).rev().collect())),
    spec("substr", &[param("str", Text), param("offset", Num), param("length", Num)], substr),
    spec("title", &[param("str", Text)], |v, _| map(v, |s| title(&s))),
    spec("trim", &[param("str", Text), param("cutset", Text)], trim),
    spec("trimprefix", &[param("str", Text), param("prefix", Text)], trim_prefix),
    spec("trimspace", &[param("str", Text)], |v, _| map(v, |s| s.trim().to_string())),
    spec("trimsuffix", &[param("str", Text), param("suffix", Text)], trim_suffix),
    spec("upper", &[param("str", Text)], |v, _| map(v, |s| s.chars().map(upper).collect())),
];

fn map(values: Vec<Value>, change: impl FnOnce(String) -> String) -> Outcome {
    Ok(Value::string(change(Arguments::new(values).text())))
}

/// The upper case letter, where it is a single one: `ß` stays.
fn upper(c: char) -> char {
    let mut all = c.to_uppercase();
    match (all.next(), all.next()) {
        (Some(one), None) => one,
        _ => c,
    }
}

fn lower(c: char) -> char {
    let mut all = c.to_lowercase();
    match (all.next(), all.next()) {
        (Some(one), None) => one,
        _ => c,
    }
}

fn title(text: &str) -> String {
    let mut previous = ' ';
    text.chars()
        .map(|c| {
            let starts = !(previous.is_alphanumeric() || previous == '_')
                && (previous.is_ascii() || previous.is_whitespace());
            previous = c;
            if starts { upper(c) } else { c }
        })
        .collect()
}

fn indent(values: Vec<Value>, _: &Functions) -> Outcome {
    /// More than any layout needs, and few enough not to fill the memory.
    const SPACES_MAX: i64 = 1000;
    let mut arguments = Arguments::new(values);
    let (spaces, text) = (arguments.whole(0)?, arguments.text());
    if !(0..=SPACES_MAX).contains(&spaces) {
        return Err(Fault::argument(0, format!("must be between 0 and {SPACES_MAX}")));
    }
    Ok(Value::string(text.replace('\n', &format!("\n{}", " ".repeat(spaces as usize)))))
}

fn join(values: Vec<Value>, _: &Functions) -> Outcome {
    let mut arguments = Arguments::new(values);
    let separator = arguments.text();
    let lists = arguments.rest();
    if lists.is_empty() {
        return Err(Fault::call("at least one list is required"));
    }
    let mut pieces = Vec::new();
    for (i, list) in lists.into_iter().enumerate() {
        for (j, item) in list.as_sequence().unwrap_or_default().iter().enumerate() {
            match item {
                Value::String(text) => pieces.push(text.clone()),
                _ => {
                    let reason = format!("element {j} of list {i} is null; cannot concatenate null values");
                    return Err(Fault::argument(i + 1, reason));
                }
            }
        }
    }
    Ok(Value::string(pieces.join(&separator)))
}

fn split(values: Vec<Value>, _: &Functions) -> Outcome {
    let mut arguments = Arguments::new(values);
    let (separator, text) = (arguments.text(), arguments.text());
    if separator.is_empty() {
        return Ok(Value::strings(text.chars().map(String::from)));
    }
    Ok(Value::strings(text.split(&separator).map(str::to_string)))
}

/// Bytes that a text may grow to when parts of it are replaced.
const GROWN_MAX: usize = 64 << 20;

fn replace(values: Vec<Value>, _: &Functions) -> Outcome {
    let mut arguments = Arguments::new(values);
    let (text, from, to) = (arguments.text(), arguments.text(), arguments.text());
    let grown = (text.len() + 1).saturating_mul(to.len().saturating_sub(from.len()));
    if grown > GROWN_MAX {
        return Err(Fault::call("the result is too long"));
    }
    Ok(Value::string(text.replace(&from, &to)))
}

fn regex_replace(values: Vec<Value>, _: &Functions) -> Outcome {
    let mut arguments = Arguments::new(values);
    let (text, pattern, to) = (arguments.text(), arguments.text(), arguments.text());
    let regex = Regex::new(&pattern)
        .map_err(|e| Fault::call(format!("error parsing regexp: {}", why(&e, &pattern))))?;
    if (text.len() + 1).saturating_mul(to.len()) > GROWN_MAX {
        return Err(Fault::call("the result is too long"));
    }
    Ok(Value::string(regex.replace_all(&text, to.as_str()).into_owned()))
}

fn why(error: &regex::Error, pattern: &str) -> String {
    let text = error.to_string();
    let reason =
        text.lines().find_map(|line| line.strip_prefix("error: ")).unwrap_or("invalid or too large pattern");
    match reason {
        "unclosed group" => format!("missing closing ): `{pattern}`"),
        "unopened group" => format!("unexpected ): `{pattern}`"),
        "unclosed character class" => format!("missing closing ]: `{pattern}`"),
        "repetition operator missing expression" => {
            format!("missing argument to repetition operator: `{pattern}`")
        }
        other => format!("{other}: `{pattern}`"),
    }
}

fn strlen(values: Vec<Value>, _: &Functions) -> Outcome {
    let text = Arguments::new(values).text();
    Ok(Value::Number(text.graphemes(true).count().into()))
}

fn substr(values: Vec<Value>, _: &Functions) -> Outcome {
    let mut arguments = Arguments::new(values);
    let text = arguments.text();
    let (offset, length) = (arguments.whole(1)?, arguments.whole(2)?);
    let total = text.graphemes(true).count() as i64;
    let offset = if offset < 0 { (offset.saturating_add(total)).max(0) } else { offset.min(total) };
    let rest = text.graphemes(true).skip(offset as usize);
    let count = if length < 0 { usize::MAX } else { length as usize };
    Ok(Value::string(rest.take(count).collect::<String>()))
}

fn trim(values: Vec<Value>, _: &Functions) -> Outcome {
    let mut arguments = Arguments::new(values);
    let (text, cutset) = (arguments.text(), arguments.text());
    Ok(Value::string(text.trim_matches(|c| cutset.contains(c))))
}

fn trim_prefix(values: Vec<Value>, _: &Functions) -> Outcome {
    let mut arguments = Arguments::new(values);
    let (text, prefix) = (arguments.text(), arguments.text());
    Ok(Value::string(text.strip_prefix(&prefix).unwrap_or(&text)))
}

fn trim_suffix(values: Vec<Value>, _: &Functions) -> Outcome {
    let mut arguments = Arguments::new(values);
    let (text, suffix) = (arguments.text(), arguments.text());
    Ok(Value::string(text.strip_suffix(&suffix).unwrap_or(&text)))
}
