//! Variables, locals, generated blocks, files of constants.

mod root;

use std::collections::BTreeMap;
use std::sync::Arc;

use hcl::{
    Body, Diagnostics, Files, Functions, Inputs, RootBlock, Sources, evaluate, evaluate_partly, parse_plain,
};

/// Bodies that hold groups, and arguments of any name.
struct Groups;

impl hcl::Schema for Groups {
    fn has_argument(&self, _name: &str) -> bool {
        true
    }

    fn block(&self, name: &str) -> Option<hcl::Form> {
        (name == "group").then_some(hcl::Form { label: Some("name"), inside: hcl::Inside::Arguments })
    }
}

const JOB: RootBlock = root::job(|| hcl::Inside::Body(&Groups));

fn inputs(text: &str) -> Inputs {
    Inputs::of_file("input.hcl", text, &[JOB], Arc::new(|bytes: &mut [u8]| bytes.fill(7)))
}

/// The value of `v` in the job, as JSON text.
fn value_of(body: &Body) -> String {
    let job = body.blocks_of("job").next().expect("a job");
    job.body.attribute("v").expect("an attribute").value.to_json().to_string()
}

fn evaluated(text: &str) -> Result<String, String> {
    evaluate(&inputs(text)).map(|body| value_of(&body)).map_err(|d| d.to_string())
}

const DECLARED: &str =
    "variable \"x\" {\n  type    = string\n  default = \"default\"\n}\njob \"j\" { v = var.x }\n";

#[test]
fn values_of_variables_in_json_are_no_templates() {
    let json = |variables: &str| format!("{{\"job\": {{\"j\": {{\"v\": \"${{var.x}}\"}}}}, {variables}}}");
    let evaluate_json = |variables: &str| {
        let body = evaluate(&inputs(&json(variables))).map_err(|d| d.to_string())?;
        Ok::<_, String>(value_of(&body))
    };
    assert_eq!(
        evaluate_json(r#""variable": {"x": {"default": "${1}"}}, "locals": null"#),
        Ok(r#""${1}""#.into())
    );
    assert_eq!(evaluate_json(r#""variables": [{"x": "%{ if"}]"#), Ok(r#""%{ if""#.into()));
    assert_eq!(
        evaluate_json(r#""variable": {"x": {"default": [1], "type": "list(string)"}}"#),
        Ok("[\"1\"]".into())
    );
    for (variables, wanted) in [
        (r#""variable": {}"#, "Missing block label"),
        (r#""variable": {"//": "a comment is no name"}"#, "Incorrect JSON value type"),
    ] {
        assert!(evaluate_json(variables).expect_err(variables).contains(wanted), "{variables}");
    }
    let mut inputs = inputs(DECLARED);
    inputs.var_files = vec![("a.json".into(), "{\"x\": \"${1}\"}".into())];
    assert_eq!(value_of(&evaluate(&inputs).expect("valid")), "\"${1}\"");
}

#[test]
fn later_sources_of_a_value_win() {
    let mut inputs = inputs(DECLARED);
    let value = |inputs: &Inputs| value_of(&evaluate(inputs).expect("valid"));
    assert_eq!(value(&inputs), "\"default\"");
    inputs.env =
        BTreeMap::from([("NOMAD_VAR_x".into(), "env".into()), ("NOMAD_VAR_other".into(), "1".into())]);
    assert_eq!(value(&inputs), "\"env\"");
    inputs.var_files =
        vec![("a.hcl".into(), "x = \"one\"".into()), ("b.json".into(), "{\"x\": \"two\"}".into())];
    assert_eq!(value(&inputs), "\"two\"");
    inputs.var_content = "x = \"content\"\n".into();
    assert_eq!(value(&inputs), "\"content\"");
    inputs.vars = vec![("x".into(), "first".into()), ("x".into(), "flag".into())];
    assert_eq!(value(&inputs), "\"flag\"");
}

#[test]
fn texts_from_outside_become_what_the_variable_is() {
    for (kind, text, wanted) in [
        ("number", "3", "3"),
        ("bool", "true", "true"),
        ("list(string)", "[\"a\", 1]", "[\"a\",\"1\"]"),
        ("map(number)", "{ a = 1 }", "{\"a\":1}"),
        ("object({ a = string, b = number })", "{ a = 1, b = \"5\" }", "{\"a\":\"1\",\"b\":5}"),
        ("set(string)", "[\"b\", \"a\", \"b\"]", "[\"a\",\"b\"]"),
        ("tuple([string, number])", "[1, 2]", "[\"1\",2]"),
    ] {
        let mut inputs = inputs(&format!("variable \"x\" {{ type = {kind} }}\njob \"j\" {{ v = var.x }}\n"));
        inputs.vars = vec![("x".into(), text.into())];
        let body = evaluate(&inputs).unwrap_or_else(|e| panic!("{kind}: {e}"));
        assert_eq!(value_of(&body), wanted, "{kind}");
    }
}

#[test]
fn the_type_of_a_variable_is_exact() {
    for (kind, wanted) in [
        ("any", "The keyword \"any\" cannot be used in this type specification: an exact type is required."),
        (
            "list(any)",
            "The keyword \"any\" cannot be used in this type specification: an exact type is required.",
        ),
        (
            "object({ a = optional(string) })",
            "Optional attribute modifier is only for type constraints, not for exact types.",
        ),
        (
            "object({ a = optional(string, \"b\") })",
            "Optional attribute modifier is only for type constraints, not for exact types.",
        ),
        ("optional(string)", "Keyword \"optional\" is valid only as a modifier for object type attributes."),
    ] {
        let inputs = inputs(&format!(
            "variable \"x\" {{\n  type = {kind}\n  default = {{}}\n}}\njob \"j\" {{ v = var.x }}\n"
        ));
        let error = evaluate(&inputs).expect_err(kind);
        let first = &error.list[0];
        assert_eq!((first.summary.as_str(), first.detail.as_str()), ("Invalid type specification", wanted));
    }
}

#[test]
fn values_of_unknown_variables_are_errors_when_strict_and_warnings_otherwise() {
    let mut inputs = inputs(DECLARED);
    inputs.vars = vec![("y".into(), "1".into())];
    inputs.var_files = vec![("a.hcl".into(), "z = 1\n".into())];
    let error = evaluate(&inputs).expect_err("nobody declared them");
    assert_eq!(error.list.len(), 2);
    assert!(error.list[0].suggestion.is_some());
    inputs.strict = false;
    let evaluation = evaluate_partly(&inputs);
    assert!(evaluation.body.is_some() && !evaluation.diagnostics.has_errors());
    assert_eq!(evaluation.diagnostics.list.len(), 2);
}

#[test]
fn rules_are_checked_on_the_value_that_counts() {
    let text = "variable \"x\" {\n  default = 1\n  validation {\n    condition     = var.x > 0\n    error_message = \"Must be positive.\"\n  }\n}\njob \"j\" { v = var.x }\n";
    assert_eq!(evaluated(text), Ok("1".into()));
    let mut inputs = inputs(text);
    inputs.vars = vec![("x".into(), "-1".into())];
    let error = evaluate(&inputs).expect_err("it is negative").to_string();
    assert!(error.contains("Invalid value for cmd variable; Must be positive."), "{error}");
    let other = text.replace("var.x > 0", "local.y > 0");
    let error = evaluated(&other).expect_err("a rule sees its variable only");
    assert!(error.contains("Invalid reference in variable validation"), "{error}");
}

#[test]
fn locals_may_stand_in_any_order() {
    let text = "locals {\n  a = \"${local.b}!\"\n  b = upper(local.c)\n}\njob \"j\" { v = local.a }\nlocals { c = \"x\" }\n";
    assert_eq!(evaluated(text), Ok("\"X!\"".into()));
    let error =
        evaluated("locals {\n  a = local.b\n  b = local.a\n}\njob \"j\" { v = 1 }\n").expect_err("a circle");
    assert!(error.starts_with("input.hcl:2,12-14: Unsupported attribute"), "{error}");
}

#[test]
fn generated_blocks_take_labels_and_nest() {
    let text = "job \"j\" {\n  dynamic \"group\" {\n    for_each = [\"a\", \"b\"]\n    iterator = g\n    labels   = [\"g-${g.value}\"]\n    content {\n      dynamic \"task\" {\n        for_each = { x = 1 }\n        labels   = [\"${g.key}-${task.key}\"]\n        content {\n          v = \"${g.value}${task.value}${NOMAD_ALLOC_ID}\"\n        }\n      }\n    }\n  }\n}\n";
    let body = evaluate(&inputs(text)).expect("valid");
    let groups = &body.blocks[0].body.blocks;
    assert_eq!(groups.iter().map(|g| g.labels[0].0.as_str()).collect::<Vec<_>>(), ["g-a", "g-b"]);
    let task = &groups[1].body.blocks[0];
    assert_eq!((task.kind.as_str(), task.labels[0].0.as_str()), ("task", "1-x"));
    assert_eq!(task.body.attributes[0].value.as_str(), Some("b1${NOMAD_ALLOC_ID}"));
}

#[test]
fn json_has_variables_locals_and_generated_blocks() {
    let text = r#"{
        "//": "a comment",
        "variable": { "n": { "type": "list(string)", "default": ["a", "b"] } },
        "locals": { "up": "${[for x in var.n : upper(x)]}" },
        "job": { "j": { "v": "${local.up}", "run": "${node.x}", "dynamic": { "group": {
            "for_each": "${var.n}", "labels": ["g-${group.value}"], "content": { "count": "${group.key}" } } } } }
    }"#;
    let body = evaluate(&inputs(text)).expect("valid");
    let job = &body.blocks_of("job").next().expect("a job").body;
    let value = |name: &str| job.attribute(name).expect("an argument").value.to_json();
    assert_eq!(value("v"), serde_json::json!(["A", "B"]));
    assert_eq!(value("run"), "${node.x}");
    let counts = job.blocks_of("group").map(|group| (group.labels[0].0.as_str(), group));
    let counts: Vec<_> =
        counts.map(|(name, group)| (name, group.body.attributes[0].value.to_json())).collect();
    assert_eq!(counts, [("g-a", 0.into()), ("g-b", 1.into())]);
}

#[test]
fn json_errors_say_where() {
    for (text, wanted) in [
        ("{\n  \"job\": nope\n}", "input.hcl:2,10-14: Invalid JSON keyword;"),
        ("{\n  \"jobb\": {}\n}", "input.hcl:2,3-9: Extraneous JSON object property;"),
        ("{\"job\": {\"j\": {\"v\": \"a${1 +}\"}}}", "input.hcl:1,28-29: Invalid expression;"),
        ("{\"job\": {\"j\": {\"v\": \"${nofun()}\"}}}", "input.hcl:1,24-29: Call to unknown function;"),
    ] {
        let error = evaluate(&inputs(text)).expect_err(text).to_string();
        assert!(error.starts_with(wanted), "{text}: {error}");
    }
}

#[test]
fn several_mistakes_are_reported_at_once_with_excerpts() {
    let text =
        "job \"j\" {\n\ta = 1 +\n  b = upper(\n  c = \"\\q\"\n  group \"g\" {\n    d = [1 2]\n  }\n}\n";
    let error: Diagnostics = evaluate(&inputs(text)).expect_err("full of mistakes");
    let lines: Vec<u32> = error.list.iter().filter_map(|d| d.range.as_ref()).map(|r| r.start.line).collect();
    assert_eq!(lines, [2, 4, 6], "{error:?}");
    let mut sources = Sources::default();
    sources.add("input.hcl", text);
    let shown = error.render(&sources);
    let first = "input.hcl:2,9-3,1: Invalid expression; Expected the start of an expression, but found an invalid expression token.\n    2 | \ta = 1 +\n      | \t       ^\n";
    assert!(shown.starts_with(first), "{shown}");
}

#[test]
fn of_a_very_long_line_the_part_around_the_mistake_is_shown() {
    let text = format!("job \"j\" {{\n  a = [{}nope(), {}]\n}}\n", "1, ".repeat(1000), "2, ".repeat(1000));
    let error = evaluate(&inputs(&text)).expect_err("there is no such function");
    let mut sources = Sources::default();
    sources.add("input.hcl", &text);
    let shown = error.render(&sources);
    let lines: Vec<&str> = shown.lines().collect();
    assert!(lines[0].starts_with("input.hcl:2,3008-3012: Call to unknown function;"), "{shown}");
    assert!(lines[1].starts_with("    2 | ...") && lines[1].len() < 300, "{shown}");
    let mark = lines[2].find("^^^^").expect("a mark");
    assert_eq!(&lines[1][mark..mark + 4], "nope");
}

#[test]
fn several_failing_expressions_are_reported_at_once() {
    let text = "job \"j\" {\n  a = uper(\"x\")\n  b = local.nope\n  c = 1 + \"y\"\n}\n";
    let error = evaluate(&inputs(text)).expect_err("three mistakes");
    assert_eq!(error.list.len(), 3);
    assert_eq!(error.list[0].suggestion.as_deref(), Some("call \"upper\""));
}

#[test]
fn messages_point_at_the_part_of_an_expression_that_hcl_calls_its_start() {
    for (text, wanted) in [
        ("variables {\n  a = { b = c.d }\n}\n", "input.hcl:2,13-14: Variables not allowed;"),
        ("variables {\n  a = [upper(\"x\")]\n}\n", "input.hcl:2,8-18: Function calls not allowed;"),
        ("locals {\n  a = 1\n  b {}\n}\n", "input.hcl:3,3-4: Unexpected \"b\" block;"),
        ("job \"j\" {\n  a = true.b\n}\n", "input.hcl:2,11-13: Unsupported attribute;"),
    ] {
        let error = evaluate(&inputs(text)).expect_err(text).to_string();
        assert!(error.starts_with(wanted), "{text}: {error}");
    }
    for (expression, wanted) in [
        ("[1][*]", "10-13"),
        ("[1].*.a", "10-12"),
        ("([1, 2])", "8-9"),
        ("f([1])[b]", "13-14"),
        ("{ a = 1 }.a", "7-18"),
        ("%{ for x in [1] }a%{ endfor }", "8-25"),
    ] {
        let expression =
            if expression.starts_with('%') { format!("\"{expression}\"") } else { expression.to_owned() };
        let evaluation = hcl::evaluate_partly(&inputs(&format!("job \"j\" {{\n  v = {expression}\n}}\n")));
        let body = evaluation.body.expect("a readable text");
        let range = &body.blocks[0].body.attribute("v").expect("it was assigned").value_range;
        assert_eq!(format!("{range}"), format!("input.hcl:2,{wanted}"), "{expression}");
    }
}

#[test]
fn locals_are_computed_in_the_order_of_their_needs() {
    let chain: String = (0..3000).map(|i| format!("a{i} = local.a{}\n", i + 1)).collect();
    let text = format!("locals {{\n{chain}a3000 = 7\n}}\njob \"j\" {{\n v = local.a0\n}}\n");
    let body = evaluate(&inputs(&text)).expect("a chain is no circle");
    assert_eq!(body.blocks[0].body.attribute("v").expect("v").value.to_json(), 7);
    let text = "locals {\n a = local.b\n b = local.c\n c = local.b\n}\njob \"j\" {}\n";
    let error = evaluate(&inputs(text)).expect_err("a circle").to_string();
    assert!(error.starts_with("input.hcl:2,11-13: Unsupported attribute;"), "{error}");
}

#[derive(Debug)]
struct Folder;

impl Files for Folder {
    fn read(&self, path: &str) -> Result<Vec<u8>, String> {
        if path == "a.txt" { Ok(b"hello".to_vec()) } else { Err(format!("no file exists at {path}")) }
    }

    fn exists(&self, path: &str) -> Result<bool, String> {
        Ok(path == "a.txt")
    }

    fn list(&self, _: &str) -> Result<Vec<String>, String> {
        Ok(vec!["b.txt".into(), "a.txt".into(), "sub/c.txt".into(), "d.md".into()])
    }

    fn absolute(&self, path: &str) -> Result<String, String> {
        Ok(format!("/base/{path}"))
    }

    fn home(&self) -> Option<String> {
        Some("/home/me".into())
    }
}

#[test]
fn file_functions_see_what_they_are_lent() {
    for (expression, wanted) in [
        ("file(\"a.txt\")", "\"hello\""),
        ("filebase64(\"a.txt\")", "\"aGVsbG8=\""),
        ("fileexists(\"b.txt\")", "false"),
        ("fileset(\".\", \"*.txt\")", "[\"a.txt\",\"b.txt\"]"),
        ("fileset(\".\", \"**/*.{txt,md}\")", "[\"a.txt\",\"b.txt\",\"d.md\",\"sub/c.txt\"]"),
        ("pathexpand(\"~/x\")", "\"/home/me/x\""),
        ("abspath(\"x\")", "\"/base/x\""),
        ("basename(\"/a/b.txt\")", "\"b.txt\""),
        ("dirname(\"/a/../c/b.txt\")", "\"/c\""),
    ] {
        let mut inputs = inputs(&format!("job \"j\" {{ v = {expression} }}\n"));
        inputs.functions = Functions { files: Some(Arc::new(Folder)), random: inputs.functions.random };
        assert_eq!(value_of(&evaluate(&inputs).expect(expression)), wanted, "{expression}");
    }
}

#[test]
fn functions_with_chance_use_what_they_are_lent() {
    assert_eq!(
        evaluated("job \"j\" { v = uuidv4() }\n"),
        Ok("\"07070707-0707-4707-8707-070707070707\"".into())
    );
    let hash = evaluated("job \"j\" { v = bcrypt(\"password\", 4) }\n").expect("valid");
    assert!(hash.starts_with("\"$2a$04$") && hash.len() == 62, "{hash}");
    assert!(evaluated("job \"j\" { v = bcrypt(\"x\", 31) }\n").is_err());
}

#[test]
fn files_of_constants_may_be_hcl1() {
    let text = "data_dir = \"/opt/${x}\\n\"\n\"quoted\" = [1, \"a\",]\nserver { enabled = true bootstrap_expect = 3 }\nplugin \"docker\" {\n  config { allow = { a = 1, \"b.c\" = 2 } }\n}\nserver { enabled = false }\nname = \"a\"\nname = \"b\"\n";
    let body = parse_plain("agent.hcl", text).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(body.attribute("data_dir").expect("set").value.as_str(), Some("/opt/${x}\n"));
    assert_eq!(body.attribute("quoted").expect("set").value.to_json().to_string(), "[1,\"a\"]");
    assert_eq!(body.blocks_of("server").count(), 2);
    assert_eq!(body.blocks[0].body.attributes.len(), 2);
    assert_eq!(body.attributes.iter().filter(|a| a.name == "name").count(), 2);
    let json = parse_plain("agent.json", "{\"server\": {\"name\": \"${x}\"}}").expect("valid");
    assert_eq!(json.attribute("server").expect("set").value.to_json()["name"], "${x}");
    let error = parse_plain("agent.hcl", "a {\n  b = 1\n").expect_err("not closed").to_string();
    assert!(error.starts_with("agent.hcl:1,3-4: Unclosed configuration block"), "{error}");
}

#[test]
fn secrets_agree_with_other_implementations() {
    // The well-known vector for "U*U" with the salt "CCCCCCCCCCCCCCCCCCCCC.".
    let salt =
        |bytes: &mut [u8]| bytes.iter_mut().enumerate().for_each(|(i, b)| *b = [0x10, 0x41, 0x04][i % 3]);
    let text = "job \"j\" { v = bcrypt(\"U*U\", 5) }\n";
    let body = evaluate(&Inputs::of_file("input.hcl", text, &[JOB], Arc::new(salt))).expect("valid");
    assert_eq!(value_of(&body), "\"$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW\"");
    let (key, cipher) = (include_str!("data/rsa-test.pem"), include_str!("data/rsa-test.cipher"));
    let text = format!("job \"j\" {{\n  v = rsadecrypt(\"{cipher}\", <<EOT\n{key}EOT\n  )\n}}\n");
    assert_eq!(evaluated(&text), Ok("\"hello rsa\"".into()));
}

#[test]
fn numbers_convert_and_format_as_documented() {
    for (expression, wanted) in [
        ("format(\"%v\", 10000000)", "\"1e+07\""),
        ("format(\"%s\", 10000000)", "\"10000000\""),
        ("format(\"%.3f|%8.2e|%G\", 2.0005, 12345, 0.0000001)", "\"2.001|1.23e+04|1E-07\""),
        ("format(\"%#x|%+d|% d|%06d\", 255, 5, 5, -42)", "\"0xff|+5| 5|-00042\""),
        ("\"${9007199254740993}\"", "9007199254740993"),
        ("\"x${1e30}\"", "\"x1000000000000000000000000000000\""),
        ("\"x${1.5e-7}\"", "\"x0.00000015\""),
        ("\"x${0.1 * 3}\"", "\"x0.3\""),
        (
            "\"x${2 / 3}\"",
            "\"x0.6666666666666666666666666666666666666666666666666666666666666666666666666666666666666666666666666666666666666666666666666666666666666666666666666666666667\"",
        ),
        ("parseint(\"123456789012345678901234567890\", 10) == 123456789012345678901234567890", "true"),
        ("floor(-0.5)", "-1"),
        ("ceil(-0.5)", "0"),
        ("-5.5 % 2", "-1.5"),
        ("false ? { a = 1 } : { b = \"x\" }", "{\"b\":\"x\"}"),
        ("flatten([[\"a\"], []])", "[\"a\"]"),
        (
            "yamlencode({ a = [{ b = 1, c = [] }], d = {} })",
            "\"\\\"a\\\":\\n- \\\"b\\\": 1\\n  \\\"c\\\": []\\n\\\"d\\\": {}\\n\"",
        ),
        ("{ for k, v in { b = 1, a = 2 } : v => k }", "{\"1\":\"b\",\"2\":\"a\"}"),
        ("[for s in [\"a\", \"b\"] : upper(s) if s != \"a\"][0]", "\"B\""),
        ("try(local.nope, \"fallback\")", "\"fallback\""),
        (
            "\"${attr.kernel.name}-${env[\"X\"]}-${meta.a[0]}\"",
            "\"${attr.kernel.name}-${env[\\\"X\\\"]}-${meta.a[0]}\"",
        ),
    ] {
        let got = evaluated(&format!("job \"j\" {{ v = {expression} }}\n"));
        assert_eq!(got.as_deref(), Ok(wanted), "{expression}");
    }
}
