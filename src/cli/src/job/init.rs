use std::io::Write;

use crate::{
    command::{Context, Failure, Outcome},
    format,
};

/// The example with what there is to say about it.
const EXAMPLE: &str = include_str!("example.nomad.hcl");

/// The same of services in a mesh.
const CONNECT_EXAMPLE: &str = include_str!("connect.nomad.hcl");

/// Name of the file unless another is given.
const FILE: &str = "example.nomad.hcl";

/// `job init`.
pub async fn run(context: &Context) -> Outcome {
    let file = match context.args.as_slice() {
        [] => FILE,
        [file] => file,
        _ => return Err(Failure::usage("This command takes no arguments or one: <filename>")),
    };
    let example = if context.on("connect") { CONNECT_EXAMPLE } else { EXAMPLE };
    let text = if context.on("short") { without_comments(example) } else { example.to_owned() };
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
