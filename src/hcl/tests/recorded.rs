//! Expressions, broken files and a job that uses the whole language, held against what a real Nomad answered.

mod root;

use std::sync::Arc;

use hcl::{Body, Diagnostic, Inputs, RootBlock, Type, Value, evaluate, evaluate_partly};
use serde_json::Value as Json;

/// The recordings stand where the whole system is held against them, too.
fn recorded(name: &str) -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/recorded").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn rows(name: &str) -> Vec<Json> {
    serde_json::from_str(&recorded(name)).expect("recorded as JSON")
}

const JOB: RootBlock = root::job(|| hcl::Inside::Arguments);

fn inputs(text: &str) -> Inputs {
    Inputs::of_file("input.hcl", text, &[JOB], Arc::new(|bytes: &mut [u8]| bytes.fill(7)))
}

/// The `meta` of a job as its decoder reads it: a map of texts.
fn meta(body: &Body) -> Result<Value, Diagnostic> {
    let attribute =
        body.blocks_of("job").next().and_then(|job| job.body.attribute("meta")).expect("the job has a meta");
    let unsuitable = |why: String| {
        Diagnostic::error(
            "Unsuitable value type",
            format!("Unsuitable value: {why}"),
            attribute.value_range.clone(),
        )
    };
    if !attribute.value.is_wholly_known() {
        return Err(unsuitable("value must be known".to_string()));
    }
    let map = attribute
        .value
        .clone()
        .convert(&Type::Map(Box::new(Type::String)))
        .map_err(|e| unsuitable(e.to_string()))?;
    let members = map.as_members().expect("it was converted to a map");
    if members.values().any(Value::is_null) {
        return Err(unsuitable("null value is not allowed".to_string()));
    }
    Ok(members["v"].clone())
}

/// What the HTTP API answers to a job with that value in its meta.
fn answer(expression: &str) -> Result<String, String> {
    let newline = if expression.starts_with("<<") { "\n" } else { "" };
    let text = format!("job \"j\" {{\n  meta = {{\n    v = {expression}{newline}\n  }}\n}}\n");
    let mut evaluation = evaluate_partly(&inputs(&text));
    if let Some(body) = &evaluation.body {
        match meta(body) {
            Ok(value) if !evaluation.diagnostics.has_errors() => {
                return Ok(value.as_str().unwrap_or_default().to_string());
            }
            Ok(_) => {}
            Err(problem) => evaluation.diagnostics.list.push(problem),
        }
    }
    Err(format!("Failed to parse job: {}", evaluation.diagnostics))
}

/// YAML errors are those of another parser; what counts is where the call stands and that it failed.
fn without_yaml_reason(text: String) -> String {
    match text.split_once("\"yamldecode\" failed: ") {
        Some((before, after)) => format!("{before}{}", after.split_once('\n').map_or("", |(_, rest)| rest)),
        None => text,
    }
}

fn compare(row: &Json, key: &str, got: Result<String, String>) -> Option<String> {
    let wanted = match (row[key].as_str(), row[format!("{key}_error")].as_str()) {
        (Some(value), _) => Ok(value.to_string()),
        (None, Some(error)) => Err(error.to_string()),
        (None, None) => return None,
    };
    let (wanted, got) = (wanted.map_err(without_yaml_reason), got.map_err(without_yaml_reason));
    (wanted != got).then(|| format!("{} as {key}:\n  wanted {wanted:?}\n  got    {got:?}", row["expression"]))
}

#[test]
fn expressions_give_the_recorded_results() {
    let rows = rows("expressions.json");
    let mut wrong = Vec::new();
    for row in &rows {
        let expression = row["expression"].as_str().expect("a text");
        wrong.extend(compare(row, "json", answer(&format!("jsonencode({expression})"))));
        wrong.extend(compare(row, "text", answer(expression)));
    }
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), rows.len() * 2, wrong.join("\n"));
}

/// Mistakes that only the decoder of the job sees.
const OF_THE_DECODER: [&str; 14] = [
    "empty",
    "unknown-job-attr",
    "unknown-job-block",
    "unknown-group-block",
    "unknown-task-attr",
    "wrong-type-count",
    "wrong-type-list",
    "wrong-type-block",
    "bad-duration",
    "fraction-int",
    "duplicate-block",
    "three-errors-decoded",
    "duplicate-group",
    "duplicate-task",
];

/// Up to the summary of an error: `input.hcl:1,2-3: Invalid index`.
fn head(error: &str) -> &str {
    let error = error.strip_prefix("Failed to parse job: ").unwrap_or(error);
    error.split(';').next().unwrap_or(error)
}

#[test]
fn broken_files_are_refused_at_the_recorded_places() {
    let mut wrong = Vec::new();
    for row in &rows("bad-jobs.json") {
        let (name, text) = (row["name"].as_str().expect("a name"), row["hcl"].as_str().expect("a text"));
        if OF_THE_DECODER.contains(&name) {
            continue;
        }
        let got = evaluate(&inputs(text)).map(|_| ()).map_err(|d| d.to_string());
        match (row["parse"]["error"].as_str(), &got) {
            (None, Ok(())) => {}
            (Some(wanted), Err(got)) if head(wanted) == head(got) => {}
            // Which of the two comes first is chance there.
            (Some(_), Err(got)) if name == "local-cycle" && head(got).starts_with("input.hcl:2,12-14") => {}
            (wanted, got) => wrong.push(format!("{name}:\n  wanted {wanted:?}\n  got    {got:?}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_whole_language_evaluates_as_recorded() {
    let parsed: Json =
        serde_json::from_str(&recorded("parsed/language.nomad.hcl.json")).expect("recorded as JSON");
    let body = evaluate(&inputs(&recorded("jobs/language.nomad.hcl"))).expect("the job is valid");
    let recorded = &parsed["as_written"];
    let job = &body.blocks[0].body;
    assert_eq!(job.attribute("meta").expect("a meta").value.to_json(), recorded["Meta"]);
    assert_eq!(job.attribute("name").expect("a name").value.to_json(), recorded["Name"]);
    let groups: Vec<_> = job.blocks_of("group").collect();
    for (group, wanted) in groups.iter().zip(recorded["TaskGroups"].as_array().expect("groups")) {
        assert_eq!(group.labels[0].0, wanted["Name"].as_str().expect("a name"));
        assert_eq!(group.body.attribute("count").expect("a count").value.to_json(), wanted["Count"]);
        let task = group.body.blocks_of("task").next().expect("a task");
        assert_eq!(task.body.attribute("env").expect("an env").value.to_json(), wanted["Tasks"][0]["Env"]);
        let templates: Vec<_> = task.body.blocks_of("template").collect();
        for (template, wanted) in
            templates.iter().zip(wanted["Tasks"][0]["Templates"].as_array().expect("templates"))
        {
            assert_eq!(
                template.body.attribute("data").expect("data").value.to_json(),
                wanted["EmbeddedTmpl"]
            );
            assert_eq!(
                template.body.attribute("destination").expect("a path").value.to_json(),
                wanted["DestPath"]
            );
        }
        let ports = group.body.blocks_of("network").next().expect("a network").body.blocks.clone();
        assert_eq!(ports.len(), 2);
        assert_eq!(ports[0].labels[0].0, "admin");
    }
    assert_eq!(groups.len(), 2);
}

#[test]
fn json_syntax_evaluates_its_strings() {
    let body = evaluate(&inputs(&recorded("jobs/hcl-json.json"))).expect("the job is valid");
    let job = body.blocks_of("job").next().expect("a job");
    assert_eq!(job.labels[0].0, "hcl-json");
    let meta = job.body.attribute("meta").expect("an argument");
    assert_eq!(meta.value.to_json()["a"], "X");
    assert_eq!(meta.range.start.line, 1);
}
