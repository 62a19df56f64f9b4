//! The layout of files.

use hcl::format;

fn laid_out(text: &str) -> String {
    let once = format("input.hcl", text).expect("the text can be read");
    assert_eq!(format("input.hcl", &once).expect("so can the result"), once, "a second time changes nothing");
    once
}

#[test]
fn blocks_are_indented_and_words_spaced() {
    let text = "job \"x\" {\ngroup \"g\"   {\n  count=2\n task \"t\" {\n driver=\"raw_exec\"\n   config { command=\"true\" }\n}\n}\n}\n";
    let wanted = "job \"x\" {\n  group \"g\" {\n    count = 2\n    task \"t\" {\n      driver = \"raw_exec\"\n      config { command = \"true\" }\n    }\n  }\n}\n";
    assert_eq!(laid_out(text), wanted);
}

#[test]
fn neighbouring_assignments_and_comments_are_aligned() {
    assert_eq!(laid_out("a   = 1\nb= \"x\"\n"), "a = 1\nb = \"x\"\n");
    let text = "long_name=1 # first\nb=22   // second\n\nc=3\n";
    assert_eq!(laid_out(text), "long_name = 1  # first\nb         = 22 // second\n\nc = 3\n");
}

#[test]
fn lines_that_open_a_bracket_are_not_aligned() {
    let text = "a = 1\nlonger = {\nx=1\nyy=[\n1,\n2]\n}\n";
    assert_eq!(laid_out(text), "a = 1\nlonger = {\n  x = 1\n  yy = [\n    1,\n  2]\n}\n");
}

#[test]
fn expressions_are_spaced_as_usual() {
    let text = "a=f( 1,-2 , x [0] )\nb=1-2*-3\nc=[for k,v in {a=1}:k if !v]\nd={}\ne=\"${ x }-${y}%{ if a }b%{endif}\"\nf=a?b:c\ng=[1 ,2]... \n";
    assert!(format("input.hcl", text).is_err(), "an ellipsis has no place there");
    let text = text.replace("g=[1 ,2]... \n", "g=max([1 ,2] ... )\n");
    let wanted = "a = f(1, -2, x[0])\nb = 1 - 2 * -3\nc = [for k, v in { a = 1 } : k if !v]\nd = {}\ne = \"${x}-${y}%{if a}b%{endif}\"\nf = a ? b : c\ng = max([1, 2]...)\n";
    assert_eq!(laid_out(&text), wanted);
}

#[test]
fn heredocs_and_comments_keep_their_text() {
    let text = "a {\n# note\n   data = <<-EOT\n    x = 1\n\n  ${ y }  z\n      EOT\nb=1\n}\n";
    let wanted = "a {\n  # note\n  data = <<-EOT\n    x = 1\n\n  ${y}  z\n      EOT\n  b    = 1\n}\n";
    let got = laid_out(text);
    assert_eq!(got.replace("b    = 1", "b = 1"), wanted.replace("b    = 1", "b = 1"));
}

#[test]
fn what_can_not_be_read_is_not_touched() {
    let error = format("input.hcl", "a = \n").expect_err("there is no value");
    assert!(error.to_string().starts_with("input.hcl:1,5-2,1: Invalid expression;"), "{error}");
}

#[test]
fn lines_with_heredocs_and_comments_line_up_as_the_formatter_of_hcl_has_them() {
    for (text, wanted) in [
        ("a = <<E\nx\nE\nlong = <<E\ny\nE\n", "a    = <<E\nx\nE\nlong = <<E\ny\nE\n"),
        ("a = 1 # one\nlong = 2 # two", "a    = 1 # one\nlong = 2 # two"),
        ("a = 1 /* one */\nlong = 2 # two\n", "a    = 1 /* one */\nlong = 2 # two\n"),
        ("a = (\n1) # one\nb = 10 # two\n", "a = (\n1)     # one\nb = 10 # two\n"),
        (
            "a = \"${ - x }\"\nb = { for k in l : k => - k }\n",
            "a = \"${- x}\"\nb = { for k in l : k => - k }\n",
        ),
        ("a = x [ 0 ] . b\nc=f( 1,2 )...\n", ""),
        ("b {\n    a = 1\n\n\n  c   {  }\n}\n  ", "b {\n  a = 1\n\n\n  c {}\n}\n  "),
        ("b { a=1 }\n", "b { a = 1 }\n"),
        ("a=<<-E\n    ${ x  }\n  E\n", "a = <<-E\n    ${x}\n  E\n"),
    ] {
        match (hcl::format("f", text), wanted) {
            (Ok(found), wanted) => assert_eq!(found, wanted, "{text}"),
            (Err(problems), "") => assert!(problems.has_errors()),
            (Err(problems), _) => panic!("{text}: {problems}"),
        }
    }
}
