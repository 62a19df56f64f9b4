//! The reference of the job specification, made from the table.

use crate::duration;
use crate::schema::{self, Block, Fallback, Field, Kind};
use std::fmt::Write as _;

const OPENING: &str = "\
# Job specification

A job file is HCL2 (or the same in HCL's JSON syntax) with one `job` block. Beside it there may be `variable`, `variables` and
`locals` blocks. Arguments marked with a type of `block` are written as blocks; those that may stand several times are marked
`blocks`. Durations are texts such as `90s` or `1h30m`, or nanoseconds. In the API's JSON the same fields have the names of the
second column; durations are nanoseconds there.

This page is rendered from the table in `src/jobspec/src/schema`; a test fails when it is out of date.
";

/// Renders `docs/job-specification.md`.
pub fn render() -> String {
    let mut page = OPENING.to_owned();
    for (path, block) in schema::blocks() {
        render_block(&path, block, &mut page);
    }
    page
}

fn render_block(path: &str, block: &'static Block, page: &mut String) {
    let label = block.label().map(|label| format!(" \"<{}>\"", label.hcl)).unwrap_or_default();
    // Writing to a text cannot fail.
    let _ = write!(page, "\n## `{path}{label}`\n\n{}\n", block.doc);
    let mut fields = block.fields.iter().filter(|field| !field.hcl.is_empty() && !field.label).peekable();
    if fields.peek().is_none() {
        return;
    }
    page.push_str("\n| argument | JSON | type | default | |\n| --- | --- | --- | --- | --- |\n");
    for field in fields {
        let json = if field.json.is_empty() { String::new() } else { format!("`{}`", field.json) };
        let default = if field.required { "required".to_owned() } else { default(field) };
        let kind = kind(field.kind);
        let _ = writeln!(
            page,
            "| `{}` | {json} | {kind} | {default} | {} |",
            field.hcl,
            field.doc.replace('|', "\\|")
        );
    }
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::String | Kind::Bytes => "string",
        Kind::Int | Kind::Uint => "number",
        Kind::Bool => "bool",
        Kind::Duration => "duration",
        Kind::Strings => "list of strings",
        Kind::Ints => "list of numbers",
        Kind::StringMap => "block of strings",
        Kind::StringListMap => "block of lists of strings",
        Kind::Free => "block, free",
        Kind::Block(_) => "block",
        Kind::Blocks(_) | Kind::BlockMap(_) => "blocks",
    }
}

fn default(field: &Field) -> String {
    match field.default {
        Fallback::None | Fallback::Empty => String::new(),
        Fallback::Int(value) if matches!(field.kind, Kind::Duration) => short_duration(value),
        Fallback::Int(value) => value.to_string(),
        Fallback::Bool(value) => value.to_string(),
        Fallback::String("") => String::new(),
        Fallback::String(value) => format!("`{value}`"),
        Fallback::Computed(how) => how.to_owned(),
    }
}

/// `5m` where Go writes `5m0s`.
fn short_duration(value: i64) -> String {
    let text = duration::format(value);
    let text = if text.ends_with("m0s") { text.trim_end_matches("0s").to_owned() } else { text };
    if text.ends_with("h0m") { text.trim_end_matches("0m").to_owned() } else { text }
}
