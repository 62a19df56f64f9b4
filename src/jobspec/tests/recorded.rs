//! Holds this crate against what a real agent answered.

use serde_json::Value;
use std::fs;
use std::path::PathBuf;

/// What was recorded stands where the whole system is held against it, too.
fn data(name: &str) -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let own = here.join("tests/data").join(name);
    if own.exists() { own } else { here.join("../../tests/recorded").join(name) }
}

fn json(path: PathBuf) -> Value {
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Lists where two values differ, by path.
fn differences(path: &str, ours: &Value, theirs: &Value, into: &mut Vec<String>) {
    match (ours, theirs) {
        (Value::Object(ours), Value::Object(theirs)) => {
            for key in ours.keys().chain(theirs.keys().filter(|key| !ours.contains_key(*key))) {
                let absent = Value::String("(absent)".into());
                let (our, their) = (ours.get(key).unwrap_or(&absent), theirs.get(key).unwrap_or(&absent));
                differences(&format!("{path}.{key}"), our, their, into);
            }
        }
        (Value::Array(ours), Value::Array(theirs)) if ours.len() == theirs.len() => {
            for (index, (our, their)) in ours.iter().zip(theirs).enumerate() {
                differences(&format!("{path}[{index}]"), our, their, into);
            }
        }
        (Value::Number(our), Value::Number(their)) if our.as_f64() == their.as_f64() => {}
        _ if ours == theirs => {}
        _ => into.push(format!("{path}: ours {ours}, theirs {theirs}")),
    }
}

fn assert_same(what: &str, ours: &Value, theirs: &Value) {
    let mut found = Vec::new();
    differences("", ours, theirs, &mut found);
    assert!(found.is_empty(), "{what}:\n{}", found.join("\n"));
}

fn parsed() -> Vec<(String, Value)> {
    let entries = fs::read_dir(data("parsed")).expect("the recordings are part of the crate");
    let mut all: Vec<_> = entries
        .map(|entry| entry.expect("a readable directory").path())
        .map(|path| (path.file_stem().expect("a file name").to_string_lossy().into_owned(), json(path)))
        .filter(|(_, recorded)| recorded["status"] == 200)
        .collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(all.len(), 17);
    all
}

fn inputs(name: &str, text: &str) -> hcl::Inputs {
    let random = std::sync::Arc::new(|bytes: &mut [u8]| bytes.fill(7));
    hcl::Inputs::of_file(name, text, &jobspec::ROOT_BLOCKS, random)
}

#[test]
fn job_files_are_read_as_recorded() {
    for (name, recorded) in parsed() {
        let text = fs::read_to_string(data("jobs").join(&name)).expect("each recording has its job file");
        match jobspec::parse_hcl(&inputs("input.hcl", &text)) {
            Ok(job) => assert_same(&name, &job, &recorded["as_written"]),
            Err(problems) => panic!("{name}: {problems}"),
        }
    }
}

fn cut<'t>(text: &'t str, at: &[&str]) -> &'t str {
    at.iter().find_map(|mark| text.find(mark)).map_or(text, |end| &text[..end])
}

#[test]
fn broken_jobs_are_refused_as_recorded() {
    let cases = json(data("bad-jobs.json"));
    let mut wrong = Vec::new();
    for case in cases.as_array().expect("a list") {
        let name = case["name"].as_str().expect("a name");
        // An empty text never gets as far as the parser there.
        let text = case["hcl"].as_str().expect("a text");
        let mut differ = |what: &str, ours: &str, theirs: &str| {
            if ours != theirs {
                wrong.push(format!("{name}, {what}:\n  ours   {ours:?}\n  theirs {theirs:?}"));
            }
        };
        match jobspec::parse_hcl(&inputs("input.hcl", text)) {
            Err(problems) if name == "empty" => {
                differ("parse", &problems.to_string(), "<nil>: Missing job block; A job block is required");
            }
            // Which one of a circle of locals is found first is chance there.
            Err(problems) if name == "local-cycle" => {
                let ours = problems.to_string();
                differ(
                    "parse",
                    &ours[12..],
                    "12-14: Unsupported attribute; This object does not have an attribute named \"b\".",
                );
            }
            Err(problems) => {
                let theirs = case["parse"]["error"].as_str().unwrap_or("accepted");
                let ours = format!("Failed to parse job: {problems}");
                // The advice on how to set a variable is our own.
                let advice = ["; see https", "; set it with"];
                let (ours, theirs) = match name {
                    "no-job" | "missing-variable" => (cut(&ours, &advice), cut(theirs, &advice)),
                    _ => (ours.as_str(), theirs),
                };
                differ("parse", ours, theirs);
            }
            Ok(mut job) => {
                differ("parse", "200", &case["parse"]["status"].to_string());
                let answer = &case["validate_api"]["body"];
                jobspec::canonicalise(&mut job);
                jobspec::admit(&mut job, &jobspec::ServerDefaults::default());
                let found = jobspec::validate(&job, &jobspec::Limits::default());
                differ("errors", &found.error_text(), answer["Error"].as_str().unwrap_or_default());
                let theirs = answer["ValidationErrors"].as_array().map(Vec::len).unwrap_or_default();
                differ("number of errors", &found.errors.len().to_string(), &theirs.to_string());
                differ("warnings", &found.warning_text(), answer["Warnings"].as_str().unwrap_or_default());
                let answer = case["run"]["stderr"].as_str().unwrap_or_default();
                let refused =
                    answer.split_once("response code: 400 (").and_then(|(_, text)| text.split_once(')'));
                differ(
                    "refusal",
                    &jobspec::refusal(&job).unwrap_or_default(),
                    refused.map_or("", |(text, _)| text),
                );
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn canonical_form_is_reached_from_what_was_written() {
    for (name, recorded) in parsed() {
        let mut job = jobspec::normalise_json(recorded["as_written"].clone()).expect("a recorded job");
        assert_same(&name, &job, &recorded["as_written"]);
        jobspec::canonicalise(&mut job);
        assert_same(&name, &job, &recorded["canonical"]);
        let once = job.clone();
        jobspec::canonicalise(&mut job);
        assert_same(&name, &job, &once);
    }
}

#[test]
fn stored_form_is_reached_from_what_was_submitted() {
    let pairs = json(data("stored.json"));
    for pair in pairs.as_array().expect("a list") {
        let mut job = jobspec::normalise_json(pair["submitted"].clone()).expect("a recorded job");
        jobspec::admit(&mut job, &jobspec::ServerDefaults::default());
        let mut stored = pair["stored"].clone();
        for server_set in
            ["CreateIndex", "ModifyIndex", "JobModifyIndex", "SubmitTime", "Status", "Stable", "Version"]
        {
            stored[server_set] = job[server_set].clone();
        }
        assert_same(pair["submitted"]["ID"].as_str().unwrap_or("?"), &job, &stored);
        let once = job.clone();
        jobspec::admit(&mut job, &jobspec::ServerDefaults::default());
        assert_same("admitted twice", &job, &once);
    }
}

/// The counts of a recorded plan.
fn updates(annotations: &Value) -> std::collections::BTreeMap<String, jobspec::diff::GroupUpdates> {
    let groups = annotations["DesiredTGUpdates"].as_object().into_iter().flatten();
    let count = |group: &Value, key: &str| group[key].as_u64().unwrap_or_default();
    groups
        .map(|(name, group)| {
            let updates = jobspec::diff::GroupUpdates {
                ignore: count(group, "Ignore"),
                place: count(group, "Place"),
                migrate: count(group, "Migrate"),
                stop: count(group, "Stop"),
                in_place: count(group, "InPlaceUpdate"),
                destructive: count(group, "DestructiveUpdate"),
                canary: count(group, "Canary"),
                preemptions: count(group, "Preemptions"),
            };
            (name.clone(), updates)
        })
        .collect()
}

/// The real agent lists blocks of one kind in no certain order.
fn sort_objects(diff: &mut Value) {
    match diff {
        Value::Object(map) => {
            if let Some(Value::Array(objects)) = map.get_mut("Objects") {
                let first = |object: &Value| objects_key(object);
                objects.sort_by_key(first);
            }
            map.values_mut().for_each(sort_objects);
        }
        Value::Array(items) => items.iter_mut().for_each(sort_objects),
        _ => {}
    }
}

fn objects_key(object: &Value) -> String {
    format!("{}{}", object["Name"], object["Fields"])
}

#[test]
fn plans_show_the_recorded_differences() {
    for case in json(data("diffs.json")).as_array().expect("a list") {
        let note = case["note"].as_str().unwrap_or("?");
        let mut new = jobspec::normalise_json(case["new"].clone()).expect("a recorded job");
        jobspec::admit(&mut new, &jobspec::ServerDefaults::default());
        let old = Some(&case["old"]).filter(|old| !old.is_null());
        let mut diff = jobspec::diff(old, Some(&new), true);
        if !case["annotations"].is_null() {
            jobspec::annotate(&mut diff, &updates(&case["annotations"]));
        }
        let text = serde_json::to_string(&diff).expect("a diff is plain data");
        let again: jobspec::JobDiff = serde_json::from_str(&text).expect("it reads what it writes");
        assert_eq!(again, diff);
        let (mut ours, mut theirs) = (serde_json::to_value(&diff).expect("plain data"), case["diff"].clone());
        sort_objects(&mut ours);
        sort_objects(&mut theirs);
        assert_same(note, &ours, &theirs);
        assert_eq!(
            ours.as_object().map(|o| o.keys().collect::<Vec<_>>()),
            theirs.as_object().map(|o| o.keys().collect())
        );
    }
}

#[test]
fn reference_is_up_to_date() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/job-specification.md");
    let rendered = jobspec::reference::render();
    if std::env::var_os("RENDER_DOCS").is_some() {
        fs::write(&path, &rendered).expect("a writable checkout");
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(written, rendered, "run this test with RENDER_DOCS=1 to render the page again");
}

#[test]
fn cron_expressions_are_told_apart_as_recorded() {
    let pairs = json(data("stored.json"));
    let periodic = pairs.as_array().expect("a list").iter().find(|pair| pair["submitted"]["ID"] == "per");
    let job = &periodic.expect("the recorded periodic job")["submitted"];
    for case in json(data("cron.json")).as_array().expect("a list") {
        let mut job = job.clone();
        job["Periodic"]["Spec"] = case["spec"].clone();
        let mut job = jobspec::normalise_json(job).expect("a recorded job");
        jobspec::admit(&mut job, &jobspec::ServerDefaults::default());
        let found = jobspec::validate(&job, &jobspec::Limits::default());
        let recorded = case["next"].as_str().filter(|_| case["status"] != 200).unwrap_or_default();
        assert_eq!(found.error_text().trim_end(), recorded, "{}", case["spec"]);
    }
}

#[test]
fn declared_order_is_that_of_job_run_output() {
    let recorded = json(data("declared-order.json"));
    let job = jobspec::normalise_json(recorded["Job"].clone()).expect("a recorded job");
    assert_ne!(job.to_string(), recorded["Job"].to_string());
    assert_eq!(jobspec::in_declared_order(&job).to_string(), recorded["Job"].to_string());
}

#[test]
fn problems_of_json_text_have_their_place() {
    let text = r#"{"job": {"x": {"group": {"g": {
  "count": "many",
  "tusk": {}
}}}}}"#;
    let problems = jobspec::parse_hcl(&inputs("input.hcl", text)).expect_err("it is broken").to_string();
    let expected = "input.hcl:3,3-9: Extraneous JSON object property; No argument or block type is named \"tusk\". Did you \
                    mean \"task\"?\ninput.hcl:2,12-18: Unsuitable value type; Unsuitable value: a number is required";
    assert_eq!(problems, expected);
}

#[test]
fn admitted_jobs_fit_the_model() {
    for (name, recorded) in parsed() {
        let mut job = recorded["as_written"].clone();
        jobspec::admit(&mut job, &jobspec::ServerDefaults::default());
        let spec = match model::JobSpec::from_document(&job) {
            Ok(spec) => spec,
            Err(error) => panic!("{name}: {error:?}"),
        };
        let count = |job: &Value| job["TaskGroups"].as_array().map_or(0, Vec::len);
        assert_eq!(spec.groups.len(), count(&job), "{name}");
        assert_eq!(spec.document_value(), job, "{name}");
    }
}

#[test]
fn renamed_and_reordered_blocks_are_paired() {
    let group = |services: Value, constraints: Value| {
        let job = serde_json::json!({ "ID": "j", "TaskGroups": [{ "Name": "g", "Services": services, "Constraints": constraints }] });
        let mut job = jobspec::normalise_json(job).expect("a plain job");
        jobspec::admit(&mut job, &jobspec::ServerDefaults::default());
        job
    };
    let rule = |value: &str| serde_json::json!({ "LTarget": "${meta.a}", "Operand": "=", "RTarget": value });
    let service =
        |name: &str, port: &str| serde_json::json!({ "Name": name, "PortLabel": port, "Provider": "nomad" });
    let old = group(
        serde_json::json!([service("a", "x"), service("b", "x")]),
        serde_json::json!([rule("1"), rule("2")]),
    );
    let new = group(
        serde_json::json!([service("b", "y"), service("a", "x")]),
        serde_json::json!([rule("2"), rule("3")]),
    );
    let diff = jobspec::diff(Some(&old), Some(&new), false);
    let shown: Vec<_> = diff.task_groups[0]
        .objects
        .iter()
        .map(|object| {
            let fields =
                object.fields.iter().map(|field| format!("{}:{}>{}", field.name, field.old, field.new));
            format!("{:?} {} {}", object.change, object.name, fields.collect::<Vec<_>>().join(" "))
        })
        .collect();
    let expected = [
        "Deleted Constraint LTarget:${meta.a}> Operand:=> RTarget:1>",
        "Added Constraint LTarget:>${meta.a} Operand:>= RTarget:>3",
        "Edited Service PortLabel:x>y",
    ];
    assert_eq!(shown, expected);
}

#[test]
fn api_json_given_as_a_job_file_is_refused() {
    let recorded = json(data("parsed/api-form.json.json"));
    let text = fs::read_to_string(data("jobs/api-form.json")).expect("the job file");
    let problems = jobspec::parse_hcl(&inputs("input.hcl", &text)).expect_err("it is no job file");
    assert_eq!(
        format!("Failed to parse job: {problems}"),
        recorded["canonical"].as_str().unwrap_or_default()
    );
}

#[test]
fn commands_say_what_was_recorded_and_show_the_line() {
    let mut wrong = Vec::new();
    let mut marks = 0;
    for case in json(data("bad-jobs.json")).as_array().expect("a list") {
        let (name, text) = (case["name"].as_str().expect("a name"), case["hcl"].as_str().expect("a text"));
        let file = format!("{name}.nomad.hcl");
        let Err(problems) = jobspec::parse_hcl(&inputs(&file, text)) else { continue };
        let mut sources = hcl::Sources::default();
        sources.add(&file, text);
        let shown = problems.render(&sources);
        marks += shown.lines().filter(|line| line.starts_with("      | ") && line.ends_with('^')).count();
        // The line itself, the mark below it and the advice are ours.
        let ours: Vec<_> = shown.lines().filter(|line| !line.starts_with("  ")).collect();
        let said = case["validate"]["stderr"].as_str().unwrap_or_default();
        let theirs: Vec<_> = said.lines().skip(1).collect();
        let same = match name {
            // Which one of a circle of locals is found first is chance there.
            "local-cycle" => ours.len() == theirs.len(),
            // The advice on how to set a variable is our own.
            "no-job" | "missing-variable" => {
                let cut = |lines: &[&str]| {
                    lines.iter().map(|l| l.rsplit_once("; ").map(|(l, _)| l.to_owned())).collect::<Vec<_>>()
                };
                cut(&ours) == cut(&theirs)
            }
            _ => ours == theirs,
        };
        if !same {
            wrong.push(format!("{name}:\n  ours   {ours:?}\n  theirs {theirs:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(marks > 20, "{marks}");
}
