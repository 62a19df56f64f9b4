//! What HCL's own specification and its suite of cases demand of all that a job file can hold: comments, layout of
//! blocks, literals, heredocs, operators, numbers of any size, and where each kind of mistake is pointed at.

use std::sync::Arc;

use hcl::{Body, Count, Inputs, RootBlock, evaluate};

const ROOT: RootBlock =
    RootBlock { kind: "w", labels: &[], count: Count::Any, opaque: &[], inside: || hcl::Inside::Arguments };

fn inputs(text: &str) -> Inputs {
    Inputs::of_file("f", text, &[ROOT], Arc::new(|bytes: &mut [u8]| bytes.fill(7)))
}

fn body(inside: &str) -> Body {
    match evaluate(&inputs(&format!("w {{\n{inside}\n}}\n"))) {
        Ok(mut body) => body.blocks.remove(0).body,
        Err(problems) => panic!("{inside}:\n{problems}"),
    }
}

fn value(expression: &str) -> String {
    let body = body(&format!("v = {expression}"));
    body.attribute("v").expect("it was assigned").value.to_json().to_string()
}

/// Place and summary of the first mistake.
fn mistake(text: &str) -> String {
    let problems = evaluate(&inputs(text)).map(|_| ()).expect_err(text).to_string();
    problems.split(';').next().unwrap_or_default().to_owned()
}

#[test]
fn comments_of_all_three_kinds_mean_nothing() {
    for text in [
        "",
        "# hash\n",
        "// slash\n",
        "/*\n many\n lines */\n",
        "/**/",
        "w {} # behind\n",
        "w { /* in */ }\n",
    ] {
        assert!(evaluate(&inputs(text)).is_ok(), "{text:?}");
    }
    assert_eq!(body("a = 1 # one\n// two\nb = /* three */ 2").attributes.len(), 2);
}

#[test]
fn literals_keep_their_value_and_texts_are_normalised() {
    for (expression, wanted) in [
        ("5", "5"),
        ("3.2", "3.2"),
        ("true", "true"),
        ("false", "false"),
        ("null", "null"),
        (r#""hello""#, r#""hello""#),
        (r#""ЖЖ""#, r#""ЖЖ""#),
        (r#""👩‍👩‍👧‍👦""#, r#""👩‍👩‍👧‍👦""#),
        ("\"an\u{303}os\"", "\"a\u{f1}os\""),
        (r#""\u00e9\U0001F600\t\"\\""#, r#""é😀\t\"\\""#),
        (r#""$${a} %%{b} $a %b $$ %%""#, r#""${a} %{b} $a %b $$ %%""#),
    ] {
        assert_eq!(value(expression), wanted, "{expression}");
    }
}

#[test]
fn words_with_a_meaning_elsewhere_are_names_on_the_left() {
    let body = body("true = 1\nnull = 2\nfor = 3\nif = 4");
    assert_eq!(
        body.attributes.iter().map(|a| a.name.as_str()).collect::<Vec<_>>(),
        ["true", "null", "for", "if"]
    );
    assert_eq!(value("{ true = 1, for = 2, null = 3 }"), r#"{"for":2,"null":3,"true":1}"#);
}

#[test]
fn operators_compute_as_specified() {
    for (expression, wanted) in [
        (r#""a" == "a""#, "true"),
        (r#""1" == 1"#, "false"),
        (r#""true" == true"#, "false"),
        (r#""1" != 1"#, "true"),
        ("[1, 2] == [1, 2]", "true"),
        ("{ a = 1 } == { a = 2 }", "false"),
        ("1 < 2", "true"),
        ("1 <= 1", "true"),
        ("2 > 1", "true"),
        ("1 >= 2", "false"),
        (r#""2" > 1"#, "true"),
        ("2 + 3.5", "5.5"),
        ("2 - 3.5", "-1.5"),
        ("2 * 4.5", "9"),
        ("1 / 10", "0.1"),
        ("11 % 5", "1"),
        ("-5 % 3", "-2"),
        ("0.1 + 0.2", "0.3"),
        ("1 + 2 * 3 - 4 / 2", "5"),
        ("-(1 + 2)", "-3"),
        ("- 3 - -4", "1"),
        ("true && false || true", "true"),
        ("!true || !false", "true"),
        (r#"true && "true""#, "true"),
        ("1 < 2 == true", "true"),
        (r#"true ? "a" : "b""#, r#""a""#),
        (r#"false ? 1 : "b""#, r#""b""#),
        (r#"true ? 1 : "b""#, r#""1""#),
        ("false ? 1 : true ? 2 : 3", "2"),
        (r#""1" + 1"#, "2"),
    ] {
        assert_eq!(value(expression), wanted, "{expression}");
    }
}

#[test]
fn big_numbers_are_exact() {
    for (expression, wanted) in [
        (
            r#""n${3.14159265358979323846264338327950288419716939937510582097494459 + 1}""#,
            "\"n4.14159265358979323846264338327950288419716939937510582097494459\"",
        ),
        (r#""n${9007199254740993 * 3}""#, "\"n27021597764222979\""),
        (r#""n${18446744073709551616 + 1}""#, "\"n18446744073709551617\""),
        (r#""n${1e30 + 1}""#, "\"n1000000000000000000000000000001\""),
        ("1e3", "1000"),
        ("1.5e-1", "0.15"),
        ("1e+2", "100"),
    ] {
        assert_eq!(value(expression), wanted, "{expression}");
    }
}

#[test]
fn heredocs_keep_or_lose_the_indentation_that_they_share() {
    let heredoc = |open: &str, lines: &str, close: &str| value(&format!("<<{open}\n{lines}\n{close}"));
    for (open, lines, close, wanted) in [
        ("EOT", "Foo\nBar", "EOT", "Foo\nBar\n"),
        ("EOT", "    Foo\n      Bar", "  EOT", "    Foo\n      Bar\n"),
        ("EOT", "Foo\n\nBar", "EOT", "Foo\n\nBar\n"),
        ("EOT", "  NOT EOT", "EOT", "  NOT EOT\n"),
        ("-EOT", "    Foo\n    Bar", "  EOT", "Foo\nBar\n"),
        ("-EOT", "    Foo\n      Bar\n    Baz", "EOT", "Foo\n  Bar\nBaz\n"),
        ("-EOT", "    Foo\n  Bar\n    Baz", "EOT", "  Foo\nBar\n  Baz\n"),
        ("-EOT", "    Foo\n      ${\"Bar\"}\n    Baz", "EOT", "Foo\n  Bar\nBaz\n"),
        ("-EOT", "    Foo\n  ${\" Bar\"}\n    Baz", "EOT", "  Foo\n Bar\n  Baz\n"),
        ("-EOT", "\tFoo\n  Bar\n  Baz", "EOT", "Foo\n Bar\n Baz\n"),
        ("-EOT", "  \u{2003}Foo\n  Bar", "EOT", "\u{2003}Foo\nBar\n"),
        ("-EOT", "    Foo\n\n    Bar", "EOT", "Foo\n\nBar\n"),
        ("EOT", r"no \n escapes, $${but} %%{these}", "EOT", "no \\n escapes, ${but} %{these}\n"),
        ("E-O_T1", "x", "E-O_T1", "x\n"),
    ] {
        assert_eq!(
            heredoc(open, lines, close),
            serde_json::Value::from(wanted).to_string(),
            "{open} {lines}"
        );
    }
}

#[test]
fn templates_have_directives_that_trim() {
    for (template, wanted) in [
        ("%{ if true }a%{ else }b%{ endif }", "a"),
        ("%{ if false }a%{ endif }", ""),
        ("%{ for x in [1, 2] }<${x}>%{ endfor }", "<1><2>"),
        ("%{ for k, v in { b = 2, a = 1 } }${k}${v}%{ endfor }", "a1b2"),
        ("a %{~ if true ~} b %{~ endif ~} c", "abc"),
        ("a ${~ \"b\" ~} c", "abc"),
        ("%{ for x in [1, 2] ~}\\n ${x}\\n%{ endfor ~}\\n", "1\n2\n"),
        ("%{ if true }%{ for x in [1] }${x}%{ endfor }%{ endif }", "1"),
    ] {
        let wanted = serde_json::Value::from(wanted).to_string();
        assert_eq!(value(&format!("\"{template}\"")), wanted, "{template}");
    }
    assert_eq!(value(r#""${5}""#), "5");
    assert_eq!(value(r#""${[1]}""#), "[1]");
    assert_eq!(value(r#""a${true}""#), "\"atrue\"");
}

#[test]
fn collections_splats_and_for_expressions_evaluate_as_specified() {
    for (expression, wanted) in [
        ("[1, 2, ]", "[1,2]"),
        ("{ a = 1, b : 2\n c = 3 }", r#"{"a":1,"b":2,"c":3}"#),
        (r#"{ "a b" = 1, ("x") = 2, 3 = 4 }"#, r#"{"3":4,"a b":1,"x":2}"#),
        ("[1, 2, 3][1]", "2"),
        (r#"[1, 2, 3]["1"]"#, "2"),
        (r#"{ a = { b = 1 } }.a["b"]"#, "1"),
        ("[[1, 2], [3]].0[1]", "2"),
        ("[{ n = 1 }, { n = 2 }][*].n", "[1,2]"),
        ("[{ n = 1 }, { n = 2 }].*.n", "[1,2]"),
        ("[{ n = [1, 2] }][*].n[0]", "[1]"),
        ("[{ n = [1, 2] }].*.n[0]", "[1,2]"),
        ("null[*]", "[]"),
        ("5[*]", "[5]"),
        ("[for x in [1, 2, 3] : x * 2 if x != 2]", "[2,6]"),
        ("[for i, x in [\"a\", \"b\"] : \"${i}${x}\"]", r#"["0a","1b"]"#),
        ("{ for k, v in { b = 1, a = 2 } : upper(k) => v }", r#"{"A":2,"B":1}"#),
        ("{ for x in [\"a\", \"bb\", \"c\"] : strlen(x) => x... }", r#"{"1":["a","c"],"2":["bb"]}"#),
        ("max([1, 5, 3]...)", "5"),
        ("try(local.missing, 2)", "2"),
        ("can([][0])", "false"),
        ("coalesce(null, 1, \"x\")", "1"),
        ("coalesce(1, \"x\")", "\"1\""),
    ] {
        assert_eq!(value(expression), wanted, "{expression}");
    }
}

#[test]
fn mistakes_in_the_layout_are_pointed_at_where_the_specification_says() {
    for (text, wanted) in [
        ("w {}\nw {\n}\n", ""),
        ("w { b = \"foo\" }\n", ""),
        ("a = \"a\", b = \"b\"\n", "f:1,8-9: Unexpected comma after argument"),
        ("w { b = 1, c = 2 }\n", "f:1,10-11: Invalid single-argument block definition"),
        ("w { b = 1\n}\n", "f:1,10-2,1: Invalid single-argument block definition"),
        ("w { d {} }\n", "f:1,5-8: Argument definition required"),
        ("w {\n", "f:1,3-4: Unclosed configuration block"),
        ("w { a = 1", "f:1,3-4: Unclosed configuration block"),
        ("w = [1\n", "f:1,5-6: Unterminated tuple constructor expression"),
        ("w = { a ", "f:1,5-6: Unterminated object constructor expression"),
        ("w = { a = 1, b }\n", "f:1,16-17: Missing key/value separator"),
        ("w = upper(\"a\"\n", "f:1,5-11: Unterminated function call"),
        ("w = \"${a\n", "f:1,6-8: Unclosed template interpolation sequence"),
        ("w = \"${a", "f:1,6-8: Unclosed template interpolation sequence"),
        ("w = \"${a\"", "f:1,6-8: Unclosed template interpolation sequence"),
        ("w = \"${a b}\"\n", "f:1,10-11: Extra characters after interpolation expression"),
        ("w = \"abc\n", "f:1,9-2,1: Invalid multi-line string"),
        ("w = \"abc", "f:1,9-9: Unterminated template string"),
        ("w = <<EOT\nabc\n", "f:3,1-1: Unterminated template string"),
        ("w = <<EOT\nabc\nEOT", "f:3,4-4: Unterminated template string"),
        ("w = \"%{ if true }\"\n", "f:1,18-19: Unexpected end of template"),
        ("w = \"%{ endif }\"\n", "f:1,6-16: Unexpected endif directive"),
        ("w = \"%{ iff x }\"\n", "f:1,9-12: Invalid template control keyword"),
        ("w = \"\\q\"\n", "f:1,6-8: Invalid escape sequence"),
        ("w = a & b\n", "f:1,7-8: Unsupported operator"),
        ("w = a ** b\n", "f:1,8-9: Invalid expression"),
        ("w = 'a'\n", "f:1,5-6: Invalid character"),
        ("w = 1;\n", "f:1,6-7: Invalid character"),
        ("w = 10.0.0.1\n", "f:1,5-13: Invalid number literal"),
        ("w = a.0.1\n", "f:1,7-10: Invalid legacy index syntax"),
        ("w = a.*.*\n", "f:1,9-10: Nested splat expression not allowed"),
        ("w = a[1\n", "f:2,1-1: Missing close bracket on index"),
        ("w = a::b\n", "f:1,9-2,1: Missing open parenthesis"),
        ("w = # nothing\n", "f:1,5-2,1: Invalid expression"),
        ("w = \n", "f:1,5-2,1: Invalid expression"),
        ("w = { for x in y : x }\n", "f:1,20-21: Invalid 'for' expression"),
        ("w = [for x in y : x => x]\n", "f:1,19-20: Invalid 'for' expression"),
        ("w = 1\nw = 2\n", "f:2,1-2: Attribute redefined"),
        ("\"w\" = 1\n", "f:1,1-2: Invalid argument name"),
        ("w \"a\n", "f:1,5-2,1: Invalid multi-line string"),
        ("w \"${a}\" {}\n", "f:1,4-6: Invalid string literal"),
        ("w\n{\n}\n", "f:1,1-2: Argument or block definition required"),
        ("w {}}\n", "f:1,5-6: Missing newline after block definition"),
        ("w\r{}\n", "f:1,2-3: Invalid character"),
        ("w = \"a\rb\"\n", "f:1,7-8: Invalid multi-line string"),
        ("w = <<E\na\rb\nE\n", "f:2,2-4,1: Invalid character"),
        ("w = <<E\n\rE\nE\n", "f:2,1-4,1: Invalid character"),
        ("/* never closed\n", "f:1,1-2: Argument or block definition required"),
    ] {
        match wanted {
            "" => assert!(evaluate(&inputs(text)).is_ok(), "{text:?}"),
            wanted => assert_eq!(mistake(text), wanted, "{text:?}"),
        }
    }
}

#[test]
fn mistakes_in_values_are_pointed_at_where_the_specification_says() {
    for (expression, wanted) in [
        ("0 / 0", "f:2,5-10: Operation failed"),
        ("null + 1", "f:2,5-13: Operation failed"),
        ("\"a\" + 1", "f:2,5-8: Invalid operand"),
        ("true ? 1 : []", "f:2,12-18: Inconsistent conditional result types"),
        ("[1][2]", "f:2,8-11: Invalid index"),
        ("{ a = 1 }.b", "f:2,14-16: Unsupported attribute"),
        ("nothing(1)", "f:2,5-12: Call to unknown function"),
        ("upper()", "f:2,11-12: Not enough function arguments"),
        ("upper(\"a\", \"b\")", "f:2,17-18: Too many function arguments"),
        ("{ a.b = 1 }", "f:2,7-10: Ambiguous attribute key"),
        ("{ for x in [1, 1] : x => x }", "f:2,25-26: Duplicate object key"),
        ("{ for x in [[]] : x => 1 }", "f:2,23-24: Invalid object key"),
        ("[for x in 5 : x]", "f:2,15-16: Iteration over non-iterable value"),
        ("5 ? 1 : 2", "f:2,5-6: Incorrect condition type"),
        ("contains([null], null)", "f:2,22-26: Invalid function argument"),
    ] {
        assert_eq!(mistake(&format!("w {{\nv = {expression}\n}}\n")), wanted, "{expression}");
    }
}

#[test]
fn yaml_of_a_single_word_ends_as_a_document() {
    for (expression, wanted) in [
        ("yamlencode(1)", "\"1\\n...\\n\""),
        ("yamlencode(null)", "\"null\\n...\\n\""),
        ("yamlencode(true)", "\"true\\n...\\n\""),
        ("yamlencode([])", "\"[]\\n\""),
        ("yamlencode(\"\")", "\"\\\"\\\"\\n\""),
        ("yamlencode([1])", "\"- 1\\n\""),
    ] {
        assert_eq!(value(expression), wanted, "{expression}");
    }
}

#[test]
fn constants_of_any_kind_may_stand_in_brackets_of_what_is_known_later() {
    for (expression, wanted) in [
        ("foo[true].x", "\"${foo[true].x}\""),
        ("foo[null]", "\"${foo[null]}\""),
        ("foo[1.5]", "\"${foo[1.5]}\""),
    ] {
        assert_eq!(value(expression), wanted, "{expression}");
    }
}
