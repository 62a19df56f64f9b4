//! Job files in HCL's JSON syntax: what is a block, what is evaluated, and where mistakes are told of.

use std::sync::Arc;

fn parse(text: &str) -> Result<serde_json::Value, Vec<String>> {
    let random = Arc::new(|bytes: &mut [u8]| bytes.fill(7));
    let inputs = hcl::Inputs::of_file("f", text, &jobspec::ROOT_BLOCKS, random);
    jobspec::parse_hcl(&inputs).map_err(|problems| {
        let place = |d: &hcl::Diagnostic| d.range.as_ref().map_or_else(String::new, ToString::to_string);
        problems.list.iter().map(|d| format!("{} {}", place(d), d.summary)).collect()
    })
}

fn refused(text: &str, wanted: &[&str]) {
    assert_eq!(parse(text).expect_err(text), wanted, "{text}");
}

#[test]
fn names_of_blocks_and_arguments_are_kept_and_those_of_values_evaluated() {
    let job = parse(
        r#"{"job": {"${upper(\"j\")}": {"group": {"g${1+1}": {"task": {"t": {
            "driver": "x", "config": {"labels": {"${upper(\"k\")}": "${1+1}"}}, "env": {"${upper(\"e\")}": "v"}
        }}}}}}}"#,
    )
    .expect("it is a job");
    assert_eq!(job["ID"], "${upper(\"j\")}");
    let group = &job["TaskGroups"][0];
    assert_eq!(group["Name"], "g${1+1}");
    assert_eq!(group["Tasks"][0]["Config"]["labels"]["K"], 2);
    assert_eq!(group["Tasks"][0]["Env"]["E"], "v");
    refused(r#"{"job": {"j": {"t${\"y\"}pe": "batch"}}}"#, &["f:1,16-29 Extraneous JSON object property"]);
}

#[test]
fn blocks_are_objects_and_lists_of_objects() {
    let job = parse(
        r#"{"job": [{"j": {"group": [{"a": {"count": 1}}, {"b": [{"count": 2}, {"count": 3}]}],
            "constraint": {"value": "x"}, "constraint": [{"value": "y"}], "update": null}}]}"#,
    )
    .expect("it is a job");
    let counts: Vec<_> = job["TaskGroups"].as_array().expect("groups").iter().map(|g| &g["Count"]).collect();
    assert_eq!(counts, [1, 2, 3]);
    assert_eq!(job["Constraints"].as_array().map(Vec::len), Some(2));
    refused(r#"{"job": {"j": {"constraint": "x"}}}"#, &["f:1,30-33 Incorrect JSON value type"]);
    refused(r#"{"job": {"j": {"group": {}}}}"#, &["f:1,25-26 Missing block label"]);
    refused(r#"{"job": {"j": {"type": "a", "type": "b"}}}"#, &["f:1,29-35 Duplicate argument"]);
}

#[test]
fn generated_blocks_are_what_they_are_in_native_syntax() {
    let json = r#"{"job": {"j": {"dynamic": {"group": {"for_each": {"k": "v"}, "iterator": "it",
        "labels": ["${it.key}"], "content": [{"task": {"t": {"driver": "${it.value}"}}}]}}}}}"#;
    let native = "job \"j\" {\n dynamic \"group\" {\n for_each = { k = \"v\" }\n iterator = it\n labels = [it.key]\n \
        content {\n task \"t\" {\n driver = it.value\n }\n }\n }\n}\n";
    assert_eq!(parse(json), parse(native));
    refused(
        r#"{"job": {"j": {"dynamic": {"grop": {"for_each": [], "content": {}}}}}}"#,
        &["f:1,28-34 Unsupported block type"],
    );
}

#[test]
fn broken_json_is_read_on_and_each_mistake_told_of() {
    refused(
        r#"{"job": {"j": {"datacenters": ["a",]}}}"#,
        &["f:1,35-36 Trailing comma in array", "f:1,37-38 Mismatched braces"],
    );
    refused(r#"{"job": {"j": {"name": tru}}}"#, &["f:1,24-27 Invalid JSON keyword"]);
    refused("{\"job\": {\"j\": {\n\t\"priority\": 01\n}}}", &["f:2,15-17 Invalid JSON number"]);
    refused(
        r#"{"job": {"j": {"name": "\q", "type": nil}}}"#,
        &["f:1,27-28 Invalid JSON string", "f:1,38-41 Invalid JSON keyword"],
    );
    refused(
        r#"{"job" {"j": {}}}"#,
        &["f:1,8-9 Missing property value colon", "f:1,1-2 Root value must be object"],
    );
    refused(r#"{"job": {"j": {}}} x"#, &["f:1,20-21 Extraneous data after value"]);
    refused(
        r#"{"job": {"j": "#,
        &[
            "f:1,15-15 Missing value",
            "f:1,9-10 Unclosed object",
            "f:1,1-2 Unclosed object",
            "f:1,1-2 Root value must be object",
        ],
    );
}
