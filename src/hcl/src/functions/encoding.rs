//! Base 64, URLs, CSV and YAML.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::Accepts::{Any, String as Text};
use super::{Arguments, Fault, Functions, Outcome, Spec, csv, or_null, param, spec, yaml};
use crate::value::Value;

pub(super) const SPECS: &[Spec] = &[
    spec("base64decode", &[param("str", Text)], base64decode),
    spec("base64encode", &[param("str", Text)], |v, _| {
        Ok(Value::string(STANDARD.encode(Arguments::new(v).text())))
    }),
    spec("csvdecode", &[param("str", Text)], |v, _| csv::decode(&Arguments::new(v).text())),
    spec("urlencode", &[param("str", Text)], |v, _| {
        Ok(Value::string(query_escape(&Arguments::new(v).text())))
    }),
    spec("yamldecode", &[param("src", Text)], |v, _| yaml::decode(&Arguments::new(v).text())),
    spec("yamlencode", &[or_null("value", Any)], |v, _| {
        Ok(Value::string(yaml::encode(&Arguments::new(v).value())))
    }),
];

fn base64decode(values: Vec<Value>, _: &Functions) -> Outcome {
    let text = Arguments::new(values).text();
    // Line breaks are allowed within.
    let joined: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
    let bytes = STANDARD
        .decode(&joined)
        .map_err(|_| Fault::call(format!("failed to decode base64 data '{text}'")))?;
    let not_text = || Fault::call("the result of decoding the provided string is not valid UTF-8");
    String::from_utf8(bytes).map(Value::string).map_err(|_| not_text())
}

fn query_escape(text: &str) -> String {
    let mut out = String::new();
    for b in text.bytes() {
        match b {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(b)),
            b' ' => out.push('+'),
            _ => out.push_str(&format!("%{b:02X}")),
        }
    }
    out
}
