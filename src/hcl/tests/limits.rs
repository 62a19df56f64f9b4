//! No text makes the evaluator hang, overflow or panic.

mod root;

use std::sync::Arc;

use hcl::{Inputs, RootBlock, evaluate, format, parse_plain};
use proptest::prelude::*;

const JOB: RootBlock = root::job(|| hcl::Inside::Arguments);

fn evaluated(text: &str) -> Result<(), String> {
    let inputs = Inputs::of_file("input.hcl", text, &[JOB], Arc::new(|bytes: &mut [u8]| bytes.fill(7)));
    evaluate(&inputs).map(|_| ()).map_err(|d| d.to_string())
}

fn refused(text: &str, wanted: &str) {
    let error = evaluated(text).expect_err("it goes too far");
    assert!(error.contains(wanted), "{error}");
}

#[test]
fn deep_nesting_is_refused() {
    let depth = 100_000;
    refused(&format!("job \"j\" {{\n v = {}\n}}\n", "[".repeat(depth)), "Nesting too deep");
    refused(&format!("job \"j\" {{\n v = {}1\n}}\n", "(".repeat(depth)), "Nesting too deep");
    refused(&format!("job \"j\" {{\n v = {}1\n}}\n", "-".repeat(depth)), "Nesting too deep");
    refused(&format!("job \"j\" {{\n v = 1{}\n}}\n", "+1".repeat(depth)), "Nesting too deep");
    refused(&format!("job \"j\" {{\n v = a{}\n}}\n", "[b]".repeat(depth)), "Nesting too deep");
    refused(&format!("job \"j\" {{\n v = a{}\n}}\n", "[*]".repeat(depth)), "Nesting too deep");
    refused(&format!("job \"j\" {{\n v = {}\n}}\n", "true ? 1 : ".repeat(depth)), "Nesting too deep");
    refused(&format!("job \"j\" {{\n v = {}\n}}\n", "\"${".repeat(depth)), "Invalid multi-line string");
    refused(&format!("job \"j\" {{\n v = \"{}\"\n}}\n", "%{ if true }".repeat(depth)), "Nesting too deep");
    refused(&"a {\n".repeat(depth), "Nesting too deep");
    refused(&format!("{{\"job\": {}", "[".repeat(depth)), "levels deep");
    refused(&format!("job \"j\" {{\n v = jsondecode(\"{}\")\n}}\n", "[".repeat(depth)), "levels deep");
    refused(&format!("job \"j\" {{\n v = yamldecode(\"{}\")\n}}\n", "[".repeat(depth)), "failed");
}

#[test]
fn nesting_up_to_the_limit_evaluates() {
    let text =
        format!("job \"j\" {{\n v = {}1{}\n w = 1{}\n}}\n", "[".repeat(90), "]".repeat(90), "+1".repeat(90));
    assert_eq!(evaluated(&text), Ok(()));
}

#[test]
fn json_nested_up_to_the_limit_evaluates() {
    let (open, close) = ("[".repeat(110), "]".repeat(110));
    assert_eq!(
        evaluated(&format!("{{\"job\": {{\"j\": {{\"v\": {open}\"${{upper(\\\"x\\\")}}\"{close}}}}}}}")),
        Ok(())
    );
    let (open, close) = ("[".repeat(90), "]".repeat(90));
    assert_eq!(
        evaluated(&format!("job \"j\" {{ v = jsonencode(yamldecode(\"{open}1{close}\")) }}\n")),
        Ok(())
    );
}

#[test]
fn growth_is_stopped() {
    let mut text = String::from("locals {\n  a0 = \"xxxxxxxxxxxxxxxx\"\n");
    for i in 1..64 {
        let before = i - 1;
        text.push_str(&format!("  a{i} = \"${{local.a{before}}}${{local.a{before}}}\"\n"));
    }
    text.push_str("}\njob \"j\" { v = local.a63 }\n");
    refused(&text, "Evaluation limit reached");
    let loops = "[for a in range(1024) : [for b in range(1024) : [for c in range(1024) : c]]]";
    refused(&format!("job \"j\" {{ v = {loops} }}\n"), "Evaluation limit reached");
    refused(
        "job \"j\" { v = setproduct(range(1000), range(1000), range(1000)) }\n",
        "Error in function call",
    );
    refused("job \"j\" { v = format(\"%999999999d\", 1) }\n", "Error in function call");
    refused("job \"j\" { v = range(100000) }\n", "more than 1024 values");
    let laughs = "job \"j\" { v = yamldecode(\"a: &a [x,x,x,x,x,x,x,x,x]\\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\\ng: [*f,*f,*f,*f,*f,*f,*f,*f,*f]\") }\n";
    refused(laughs, "aliases make the document too large");
}

#[test]
fn slow_functions_use_the_limit_up() {
    refused("job \"j\" {\n v = [for i in range(100): bcrypt(\"x\", 14)]\n}\n", "Evaluation limit reached");
}

#[test]
fn generated_blocks_are_limited() {
    let text = "job \"j\" {\n  dynamic \"a\" {\n    for_each = range(1000)\n    content {\n      dynamic \"b\" {\n        for_each = range(1000)\n        content {\n          dynamic \"c\" {\n            for_each = range(1000)\n            content {}\n          }\n        }\n      }\n    }\n  }\n}\n";
    refused(text, "Evaluation limit reached");
}

#[test]
fn huge_numbers_are_infinite_or_zero() {
    for expression in
        ["1e999999999999", "1e-999999999999", "1e65000 * 1e65000", "pow(10, 1e9)", "1e99999999999999999999"]
    {
        assert_eq!(
            evaluated(&format!("job \"j\" {{ v = \"${{{expression}}}\" }}\n")),
            Ok(()),
            "{expression}"
        );
    }
}

#[test]
fn other_languages_are_refused_without_a_panic() {
    for text in [
        "\u{0}",
        "\u{feff}",
        "{",
        "}",
        "\"",
        "<<",
        "<<EOT",
        "<<EOT\n",
        "<<EOT\nx",
        "a = <<EOT\nx",
        "a = \"${",
        "a = \"%{",
        "\r",
        "a = 1e",
        "${",
        "\\",
        "a = \"\\",
        "a = \"\\u12",
        "job \"j\" { v = \"\u{300}\u{301}\" }",
    ] {
        let _either_way = evaluated(text);
        let _either_way = parse_plain("x", text);
        let _either_way = format("x", text);
    }
}

/// Pieces that mean something, so that nonsense made of them gets past the scanner.
fn piece() -> impl Strategy<Value = String> {
    let words = [
        "job \"j\" {\n",
        "}\n",
        "}",
        "{",
        "[",
        "]",
        "(",
        ")",
        "\"",
        "${",
        "%{ if ",
        "%{ for x in ",
        "%{ endif }",
        "~}",
        "\n",
        "=",
        " v = ",
        ",",
        "...",
        "for",
        " in ",
        ":",
        "=>",
        "?",
        "a.b",
        ".0",
        "[*]",
        ".*",
        "1",
        "1.5e3",
        "\"x\"",
        "upper(",
        "format(\"%",
        "try(",
        "-",
        "!",
        "&&",
        "==",
        "%",
        "<<EOT\n",
        "EOT\n",
        "<<-E\n",
        "E\n",
        "# c\n",
        "/*",
        "*/",
        "$${",
        "\\u00e9",
        "é",
        "null",
        "true",
        "dynamic \"a\" {\n",
        "for_each = [1]\n",
        "content {\n",
        "\t",
        "\r\n",
        "variable \"x\" {\n",
        "default = ",
        "type = list(",
        "locals {\n",
        "local.a",
        "var.x",
    ];
    prop_oneof![6 => prop::sample::select(words.to_vec()).prop_map(String::from), 1 => ".{0,4}"]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nonsense_never_panics(pieces in prop::collection::vec(piece(), 0..40)) {
        let text = pieces.concat();
        let _either_way = evaluated(&text);
        let _either_way = parse_plain("x", &text);
        if let Ok(once) = format("x", &text) {
            prop_assert_eq!(format("x", &once).map_err(|e| e.to_string()), Ok(once));
        }
    }

    #[test]
    fn expressions_of_nonsense_never_panic(pieces in prop::collection::vec(piece(), 0..12)) {
        let _either_way = evaluated(&format!("job \"j\" {{\n  v = {}\n}}\n", pieces.concat()));
    }
}
