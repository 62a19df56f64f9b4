//! Output as JSON or by a Go template.

use std::collections::BTreeMap;

use gotmpl::Template;
use serde_json::Value;

use crate::command::{Context, Failure};

/// Prints a value as `-json` or `-t` asks; returns whether one of them did.
///
/// # Errors
///
/// When both are there, or the template is wrong.
pub fn print(context: &Context, value: impl FnOnce() -> Value) -> Result<bool, Failure> {
    let template = context.text("t");
    if context.on("json") && !template.is_empty() {
        return Err(Failure::new("Both json and template formatting are not allowed"));
    }
    if context.on("json") {
        context.console.out(&json(&value()));
        return Ok(true);
    }
    if template.is_empty() {
        return Ok(false);
    }
    context.console.out(&render(template, &value())?);
    Ok(true)
}

/// Makes sure that not both are there, before anything is asked of the agent.
///
/// # Errors
///
/// When both are.
pub fn check(context: &Context) -> Result<bool, Failure> {
    let template = !context.text("t").is_empty();
    if context.on("json") && template {
        return Err(Failure::new("Both json and template formatting are not allowed"));
    }
    Ok(context.on("json") || template)
}

/// Writes JSON with four spaces a level.
pub fn json(value: &Value) -> String {
    let mut out = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, formatter);
    serde::Serialize::serialize(value, &mut serializer).expect("a JSON value serialises to memory");
    String::from_utf8(out).expect("JSON is text")
}

/// Renders a value by a template.
///
/// # Errors
///
/// When the template can not be read, or asks for what is not there.
pub fn render(template: &str, value: &Value) -> Result<String, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::new(format!("Error formatting the data: {error}"));
    Template::new("")
        .parse(template)
        .map_err(|error| failed(&error))?
        .execute_to_string(&convert(value))
        .map_err(|error| failed(&error))
}

fn convert(value: &Value) -> gotmpl::Value {
    match value {
        Value::Null => gotmpl::Value::Nil,
        Value::Bool(truth) => gotmpl::Value::Bool(*truth),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => gotmpl::Value::Int(whole),
            None => gotmpl::Value::Float(number.as_f64().unwrap_or(f64::MAX)),
        },
        Value::String(text) => gotmpl::Value::from(text.as_str()),
        Value::Array(items) => gotmpl::Value::from(items.iter().map(convert).collect::<Vec<_>>()),
        Value::Object(map) => gotmpl::Value::from(
            map.iter().map(|(key, value)| (key.clone(), convert(value))).collect::<BTreeMap<String, _>>(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn templates_reach_fields_and_range_over_lists() {
        let value = json!([{"Name": "a", "N": 1}, {"Name": "b", "N": 2}]);
        let text = super::render("{{len .}}{{range .}} {{.Name}}={{.N}}{{end}}", &value)
            .map_err(|failure| failure.message);
        assert_eq!(text.expect("a good template"), "2 a=1 b=2");
        assert!(super::render("{{.", &value).is_err());
    }
}
