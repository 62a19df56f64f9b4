use std::io::Write;

use sdk::Query;
use serde_json::Value;

use crate::{
    command::{Context, Failure, OrFail, Outcome},
    format,
};

/// Where variables with templates are.
const TEMPLATES: &str = "nomad/job-templates";

/// The example with what there is to say about it.
const EXAMPLE: &str = include_str!("example.nomad.hcl");

/// The same of services in a mesh.
const CONNECT_EXAMPLE: &str = include_str!("connect.nomad.hcl");

/// Name of the file unless another is given.
const FILE: &str = "example.nomad.hcl";

/// `job init`.
pub async fn run(context: &Context) -> Outcome {
    if context.on("list-templates") {
        return list_templates(context).await;
    }
    let file = match context.args.as_slice() {
        [] => FILE,
        [file] => file,
        _ => return Err(Failure::usage("This command takes no arguments or one: <filename>")),
    };
    let example = if context.on("connect") { CONNECT_EXAMPLE } else { EXAMPLE };
    let text = match context.flags.text("template") {
        Some(name) => template(context, name).await?,
        None if context.on("short") => without_comments(example),
        None => example.to_owned(),
    };
    let written = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(file)
        .and_then(|mut open| open.write_all(text.as_bytes()));
    match written {
        Ok(()) => {
            context.console.out(&format!("Example job file written to {file}"));
            Ok(0)
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            Err(Failure::new(format!("Job '{file}' already exists")))
        }
        Err(error) => Err(Failure::new(format!("Failed to write {}: {error}", format::quoted(file)))),
    }
}

/// Names the variables that hold templates.
async fn list_templates(context: &Context) -> Outcome {
    context.no_args()?;
    let path = "/v1/vars";
    let (variables, _) = context
        .client()
        .get::<Vec<Value>>(path, &Query::prefix(TEMPLATES))
        .await
        .or_fail("Error retrieving job templates from the server; unable to read variables")?;
    let paths = variables.iter().filter_map(|variable| variable["Path"].as_str());
    let names: Vec<_> = paths.filter_map(|path| path.strip_prefix(TEMPLATES)?.strip_prefix('/')).collect();
    if names.is_empty() {
        context.console.out("No variables in the path nomad/job-templates");
        return Ok(0);
    }
    context
        .console
        .out(&format!("Use `{} job init -template=<template>` with any of these:", context.program));
    names.iter().for_each(|name| context.console.out(&format!("  {name}")));
    Ok(0)
}

/// Reads the template that a variable holds.
async fn template(context: &Context, name: &str) -> Result<String, Failure> {
    let path = format!("/v1/var/{TEMPLATES}/{name}");
    let (variable, _) = context
        .client()
        .get::<Value>(&path, &Query::default())
        .await
        .or_fail("Error retrieving job template")?;
    match variable["Items"]["template"].as_str() {
        Some(text) => Ok(text.to_owned()),
        None => Err(Failure::new(format!("The variable {TEMPLATES}/{name} has no item named template"))),
    }
}

fn without_comments(text: &str) -> String {
    let mut out = String::new();
    let mut blank = true;
    for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
        if line.trim().is_empty() && blank {
            continue;
        }
        blank = line.trim().is_empty();
        out.push_str(line);
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    #[test]
    fn all_examples_are_jobs_in_their_usual_form() {
        for (example, id) in [(super::EXAMPLE, "example"), (super::CONNECT_EXAMPLE, "countdash")] {
            for text in [example.to_owned(), super::without_comments(example)] {
                let random = Arc::new(|buffer: &mut [u8]| buffer.fill(1));
                let inputs = hcl::Inputs::of_file("example.nomad.hcl", &text, &jobspec::ROOT_BLOCKS, random);
                let mut job = jobspec::parse_hcl(&inputs).expect("the example is a job");
                assert_eq!(job["ID"], id);
                assert_eq!(hcl::format("example.nomad.hcl", &text).expect("it is a job"), text);
                jobspec::canonicalise(&mut job);
                jobspec::admit(&mut job, &jobspec::ServerDefaults::default());
                let found = jobspec::validate(&job, &jobspec::Limits::default());
                assert_eq!(found.errors, Vec::<String>::new());
            }
        }
    }
}
