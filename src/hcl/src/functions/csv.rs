//! Comma-separated values with a header line.

use super::{Fault, Outcome};
use crate::types::{Field, Type};
use crate::value::Value;

pub(super) fn decode(text: &str) -> Outcome {
    let mut records = records(text)?.into_iter();
    let (_, header) = records.next().ok_or_else(|| Fault::call("missing header line"))?;
    for (i, name) in header.iter().enumerate() {
        if header[..i].contains(name) {
            return Err(Fault::call(format!("duplicate column name {name:?}")));
        }
    }
    let mut rows = Vec::new();
    for (line, record) in records {
        if record.len() != header.len() {
            return Err(Fault::call(format!("parse error on line {line}: wrong number of fields")));
        }
        rows.push(Value::object(header.iter().cloned().zip(record.into_iter().map(Value::string))));
    }
    let field = Field { kind: Type::String, optional: false };
    let item = Type::Object(header.into_iter().map(|name| (name, field.clone())).collect());
    Ok(Value::List(item, rows))
}

type Record = (usize, Vec<String>);

fn records(text: &str) -> Result<Vec<Record>, Fault> {
    let mut records: Vec<Record> = Vec::new();
    let mut rest = text;
    let mut line = 1;
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('\n').or_else(|| rest.strip_prefix("\r\n")) {
            rest = after;
            line += 1;
            continue;
        }
        let begin = line;
        let mut fields = Vec::new();
        loop {
            let (field, after) =
                if rest.starts_with('"') { quoted(rest, &mut line)? } else { bare(rest, line)? };
            fields.push(field);
            if let Some(next) = after.strip_prefix(',') {
                rest = next;
                continue;
            }
            let after = after.strip_prefix('\r').unwrap_or(after);
            line += usize::from(after.starts_with('\n'));
            rest = after.strip_prefix('\n').unwrap_or(after);
            break;
        }
        records.push((begin, fields));
    }
    Ok(records)
}

fn bare(text: &str, line: usize) -> Result<(String, &str), Fault> {
    let end = text.find([',', '\n']).unwrap_or(text.len());
    let field = text[..end].strip_suffix('\r').unwrap_or(&text[..end]);
    if let Some(at) = field.find('"') {
        return Err(Fault::call(format!(
            "parse error on line {line}, column {}: bare \" in non-quoted-field",
            at + 1
        )));
    }
    Ok((field.to_string(), &text[end..]))
}

fn quoted<'t>(text: &'t str, line: &mut usize) -> Result<(String, &'t str), Fault> {
    let begin = *line;
    let mut field = String::new();
    let mut rest = &text[1..];
    loop {
        let Some(end) = rest.find('"') else {
            return Err(Fault::call(format!(
                "parse error on line {begin}: extraneous or missing \" in quoted-field"
            )));
        };
        *line += rest[..end].matches('\n').count();
        field.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(after) => {
                field.push('"');
                rest = after;
            }
            None if rest.is_empty() || rest.starts_with([',', '\n', '\r']) => return Ok((field, rest)),
            None => {
                return Err(Fault::call(format!(
                    "parse error on line {line}: extraneous or missing \" in quoted-field"
                )));
            }
        }
    }
}
