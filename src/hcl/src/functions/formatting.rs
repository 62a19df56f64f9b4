//! `format` and `formatlist`.

use unicode_segmentation::UnicodeSegmentation;

use super::Accepts::{Any, String as Text};
use super::{Arguments, Fault, Functions, Outcome, Spec, json_text, open, or_null, param};
use crate::number::Number;
use crate::types::Type;
use crate::value::Value;

pub(super) const SPECS: &[Spec] = &[
    open("format", &[param("format", Text)], or_null("args", Any), format_one),
    open("formatlist", &[param("format", Text)], or_null("args", Any), format_each),
];

/// Widest field and most digits after the point. Wider ones would only waste memory.
const WIDTH_MAX: usize = 1024;

/// A sequence such as `%-5.2f`.
#[derive(Debug, Default)]
struct Verb<'f> {
    raw: &'f str,
    offset: usize,
    mode: char,
    minus: bool,
    plus: bool,
    space: bool,
    zero: bool,
    sharp: bool,
    width: usize,
    places: Option<usize>,
    /// Which argument, from 1.
    argument: Option<usize>,
}

fn format_one(values: Vec<Value>, _: &Functions) -> Outcome {
    let mut arguments = Arguments::new(values);
    let pattern = arguments.text();
    format_with(&pattern, &arguments.rest()).map(Value::string)
}

fn format_each(values: Vec<Value>, _: &Functions) -> Outcome {
    let mut arguments = Arguments::new(values);
    let pattern = arguments.text();
    let arguments = arguments.rest();
    let mut rounds: Option<(usize, usize)> = None;
    for (i, value) in arguments.iter().enumerate() {
        let Some(items) = value.as_sequence() else { continue };
        match rounds {
            Some((first, length)) if length != items.len() => {
                let reason = format!(
                    "argument {} has length {}, which is inconsistent with argument {first} of length {length}",
                    i + 1,
                    items.len()
                );
                return Err(Fault::argument(i + 1, reason));
            }
            Some(_) => {}
            None => rounds = Some((i + 1, items.len())),
        }
    }
    let mut results = Vec::new();
    for round in 0..rounds.map_or(1, |(_, length)| length) {
        let row: Vec<Value> = arguments
            .iter()
            .map(|v| v.as_sequence().map_or_else(|| v.clone(), |items| items[round].clone()))
            .collect();
        let text = format_with(&pattern, &row).map_err(|fault| match fault {
            Fault::Call(reason) => Fault::Call(format!("error on format iteration {round}: {reason}")),
            other => other,
        })?;
        results.push(text);
    }
    Ok(Value::strings(results))
}

fn format_with(pattern: &str, arguments: &[Value]) -> Result<String, Fault> {
    let mut out = String::new();
    let mut next = 0;
    let mut highest = 0;
    let mut at = 0;
    while let Some(found) = pattern[at..].find('%') {
        out.push_str(&pattern[at..at + found]);
        at += found;
        let verb = parse_verb(pattern, at)?;
        at += verb.raw.len();
        if verb.mode == '%' {
            out.push('%');
            continue;
        }
        if !"vtbdoxXeEfgGsq".contains(verb.mode) {
            return Err(Fault::call(format!(
                "unsupported format verb {:?} in {:?} at offset {}",
                verb.mode, verb.raw, verb.offset
            )));
        }
        let index = verb.argument.unwrap_or(next + 1);
        let Some(value) = index.checked_sub(1).and_then(|i| arguments.get(i)) else {
            let (raw, offset, total) = (verb.raw, verb.offset, arguments.len());
            return Err(Fault::call(format!(
                "not enough arguments for {raw:?} at {offset}: need index {index} but have {total} total"
            )));
        };
        next = index;
        highest = highest.max(index);
        let piece = render(&verb, value).map_err(|why| {
            Fault::call(format!("unsupported value for {:?} at {}: {why}", verb.raw, verb.offset))
        })?;
        out.push_str(&piece);
    }
    out.push_str(&pattern[at..]);
    if highest < arguments.len() {
        let reason = match highest {
            0 => "too many arguments; no verbs in format string".to_string(),
            used => format!("too many arguments; only {used} used by format string"),
        };
        return Err(Fault::argument(highest + 1, reason));
    }
    Ok(out)
}

fn parse_verb(pattern: &str, offset: usize) -> Result<Verb<'_>, Fault> {
    let rest = &pattern[offset + 1..];
    let mut verb = Verb { offset, ..Verb::default() };
    let mut length = 0;
    for c in rest.chars().take_while(|c| "-+ #0".contains(*c)) {
        match c {
            '-' => verb.minus = true,
            '+' => verb.plus = true,
            ' ' => verb.space = true,
            '#' => verb.sharp = true,
            _ => verb.zero = true,
        }
        length += 1;
    }
    let digits = |from: usize| rest[from..].bytes().take_while(u8::is_ascii_digit).count();
    let number = |from: usize, count: usize| rest[from..from + count].parse::<usize>().unwrap_or(usize::MAX);
    let count = digits(length);
    if count > 0 {
        verb.width = number(length, count);
        length += count;
    }
    if rest[length..].starts_with('.') {
        let count = digits(length + 1);
        verb.places = Some(if count == 0 { 0 } else { number(length + 1, count) });
        length += 1 + count;
    }
    if rest[length..].starts_with('[') {
        let count = digits(length + 1);
        if count == 0 || !rest[length + 1 + count..].starts_with(']') {
            return Err(Fault::call(format!("invalid argument index at offset {}", offset + 1 + length)));
        }
        verb.argument = Some(number(length + 1, count));
        length += 2 + count;
    }
    if verb.width > WIDTH_MAX || verb.places.unwrap_or(0) > WIDTH_MAX {
        return Err(Fault::call(format!(
            "width and precision may be {WIDTH_MAX} at most, at offset {offset}"
        )));
    }
    let Some(mode) = rest[length..].chars().next() else {
        return Err(Fault::call("unexpected end of format string"));
    };
    verb.mode = mode;
    verb.raw = &pattern[offset..offset + 1 + length + mode.len_utf8()];
    Ok(verb)
}

fn render(verb: &Verb<'_>, value: &Value) -> Result<String, String> {
    if verb.mode == 'v' {
        return Ok(pad(verb, as_is(verb, value)));
    }
    if value.is_null() {
        return Err("null value cannot be formatted".to_string());
    }
    let wanted = match verb.mode {
        't' => Type::Bool,
        's' | 'q' => Type::String,
        _ => Type::Number,
    };
    match value.clone().convert(&wanted).map_err(|e| e.to_string())? {
        Value::Bool(b) => Ok(pad(verb, b.to_string())),
        Value::String(text) => {
            let text = match verb.places {
                Some(places) => text.graphemes(true).take(places).collect(),
                None => text,
            };
            Ok(pad(verb, if verb.mode == 'q' { quoted(&text) } else { text }))
        }
        Value::Number(number) => number_text(verb, &number),
        _ => Err("not supported".to_string()),
    }
}

fn as_is(verb: &Verb<'_>, value: &Value) -> String {
    match value {
        Value::String(text) if !verb.sharp => text.clone(),
        Value::Number(n) if !verb.sharp => n.to_general(None),
        other => json_text(other),
    }
}

fn number_text(verb: &Verb<'_>, number: &Number) -> Result<String, String> {
    let text = match verb.mode {
        'd' | 'b' | 'o' | 'x' | 'X' => {
            let (_, magnitude) = number.abs().as_integer().ok_or("an integer is required")?;
            let (radix, prefix) = match verb.mode {
                'b' => (2, "0b"),
                'o' => (8, "0"),
                'x' => (16, "0x"),
                'X' => (16, "0X"),
                _ => (10, ""),
            };
            let digits = magnitude.to_str_radix(radix);
            let digits = if verb.mode == 'X' { digits.to_uppercase() } else { digits };
            format!("{}{digits}", if verb.sharp { prefix } else { "" })
        }
        'e' => number.abs().to_exponent(Some(verb.places.unwrap_or(6))),
        'E' => number.abs().to_exponent(Some(verb.places.unwrap_or(6))).to_uppercase(),
        'f' => number.abs().to_fixed(verb.places.unwrap_or(6)),
        'G' => number.abs().to_general(verb.places).to_uppercase(),
        _ => number.abs().to_general(verb.places),
    };
    let text = text.trim_start_matches('+');
    let sign = match (number.is_negative(), verb.plus, verb.space) {
        (true, _, _) => "-",
        (false, true, _) => "+",
        (false, false, true) => " ",
        (false, false, false) => "",
    };
    let missing = verb.width.saturating_sub(text.len() + sign.len());
    if verb.zero && !verb.minus && !number.is_infinite() {
        return Ok(format!("{sign}{}{text}", "0".repeat(missing)));
    }
    Ok(pad(verb, format!("{sign}{text}")))
}

fn pad(verb: &Verb<'_>, text: String) -> String {
    let missing = verb.width.saturating_sub(text.graphemes(true).count());
    let fill = if verb.zero && !verb.minus { "0" } else { " " }.repeat(missing);
    if verb.minus { format!("{text}{fill}") } else { format!("{fill}{text}") }
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() && (c as u32) < 0x80 => out.push_str(&format!("\\x{:02x}", c as u32)),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
