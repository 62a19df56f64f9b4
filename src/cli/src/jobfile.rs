//! Reads job files, with the variables that flags give.

use std::{collections::BTreeMap, io::Read, path::Path, sync::Arc};

use sdk::types::JobSubmissionSource;
use serde_json::Value;

use crate::{
    command::{Context, Failure},
    flags::{Flag, Kind, flag},
};

/// Largest job file; a server takes no larger one.
const FILE_BYTES_MAX: u64 = hcl::SOURCE_BYTES_MAX as u64;

/// Flags of every command that reads a job file.
pub const VAR: Flag =
    flag("var", Kind::List, "Value of a variable, name=value. May be given again and again.");
/// A file of values.
pub const VAR_FILE: Flag =
    flag("var-file", Kind::List, "File with values of variables. May be given again and again.");
/// The file is JSON.
pub const JSON_INPUT: Flag = flag("json", Kind::Bool, "The file is the API's JSON, as -output prints it.");
/// Undeclared variables are errors.
pub const STRICT: Flag =
    flag("hcl2-strict", Kind::Bool, "Refuse values of variables that are not declared; true unless set.");

/// A job that was read, and the text that it came from.
pub struct JobFile {
    /// The job in the API's form, as it was written.
    pub job: Value,
    /// The text.
    pub submission: JobSubmissionSource,
}

/// Reads the job file that the argument names; `-` is standard input.
///
/// # Errors
///
/// When there is no such file, or it is no job; the message says where and why.
pub fn read(context: &Context, path: &str) -> Result<JobFile, Failure> {
    let failed = |why: String| Failure::new(format!("Error getting job struct: {why}"));
    let text =
        read_text(path).map_err(|why| failed(format!("Error getting jobfile from {path:?}: {why}")))?;
    if context.on("json") {
        return from_json(text).map_err(|why| failed(format!("Error parsing job file from {path}: {why}")));
    }
    let inputs = inputs(context, path, &text).map_err(failed)?;
    let job = jobspec::parse_hcl(&inputs).map_err(|problems| {
        failed(format!("Error parsing job file from {path}:\n{}", explain(&problems, &inputs)))
    })?;
    let variable_flags = inputs.vars.iter().cloned().collect();
    let variables = inputs.var_files.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>().join("\n");
    Ok(JobFile {
        job,
        submission: JobSubmissionSource {
            format: "hcl2".to_owned(),
            source: text,
            variable_flags,
            variables,
        },
    })
}

fn explain(problems: &hcl::Diagnostics, inputs: &hcl::Inputs) -> String {
    let mut sources = hcl::Sources::default();
    for (name, text) in inputs.files.iter().chain(&inputs.var_files) {
        sources.add(name, text);
    }
    problems.render(&sources).trim_end().to_owned()
}

/// Reads a text; `-` is standard input.
///
/// # Errors
///
/// Why there is none, in words.
pub fn read_text(path: &str) -> Result<String, String> {
    if path == "-" {
        return read_all(std::io::stdin()).map_err(|why| format!("could not read standard input: {why}"));
    }
    let file = std::fs::File::open(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => format!("source path error: stat {path}: no such file or directory"),
        _ => format!("could not open {path}: {error}"),
    })?;
    read_all(file).map_err(|why| format!("could not read {path}: {why}"))
}

/// Reads it all, or nothing where it is too much or no text.
fn read_all(source: impl Read) -> Result<String, String> {
    let mut bytes = Vec::new();
    source.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("it has more than the {FILE_BYTES_MAX} bytes that a job file may have"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = valid.iter().filter(|byte| **byte == b'\n').count() + 1;
        format!("line {line} is not UTF-8; job files are")
    })
}

fn from_json(text: String) -> Result<JobFile, String> {
    let value: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let job = match value {
        Value::Object(mut map) => match map.remove("Job") {
            Some(job) => job,
            None => Value::Object(map),
        },
        _ => return Err("wanted a JSON object with a job".to_owned()),
    };
    let job = jobspec::normalise_json(job).map_err(|error| error.to_string())?;
    Ok(JobFile {
        job,
        submission: JobSubmissionSource {
            format: "json".to_owned(),
            source: text,
            ..JobSubmissionSource::default()
        },
    })
}

fn inputs(context: &Context, path: &str, text: &str) -> Result<hcl::Inputs, String> {
    let name = if path == "-" { "stdin.nomad" } else { path };
    let random: hcl::Random = Arc::new(|buffer: &mut [u8]| {
        use ring::rand::SecureRandom;
        // Without randomness of the system there are no unpredictable ids; zeros are at least not half filled.
        if ring::rand::SystemRandom::new().fill(buffer).is_err() {
            buffer.fill(0);
        }
    });
    let folder = Path::new(path).parent().unwrap_or(Path::new("")).to_owned();
    let mut inputs = hcl::Inputs::of_file(name, text, &jobspec::ROOT_BLOCKS, random);
    inputs.functions.files = Some(Arc::new(crate::fmt::LocalFiles { folder }));
    inputs.strict = context.flags.truth("hcl2-strict").unwrap_or(true);
    for pair in context.flags.list("var") {
        let (name, value) =
            pair.split_once('=').ok_or_else(|| format!("-var {pair:?} is not of the form name=value"))?;
        inputs.vars.push((name.to_owned(), value.to_owned()));
    }
    for file in context.flags.list("var-file") {
        let text = read_text(file)?;
        inputs.var_files.push((file.clone(), text));
    }
    inputs.env =
        std::env::vars().filter(|(name, _)| name.starts_with("NOMAD_VAR_")).collect::<BTreeMap<_, _>>();
    for (name, value) in std::env::vars() {
        if let Some(rest) = name.strip_prefix("WAYFARER_VAR_") {
            inputs.env.insert(format!("NOMAD_VAR_{rest}"), value);
        }
    }
    Ok(inputs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_whole_or_not_at_all() {
        assert_eq!(read_all("job \"j\" {}\n".as_bytes()).as_deref(), Ok("job \"j\" {}\n"));
        let large = vec![b' '; FILE_BYTES_MAX as usize + 1];
        assert_eq!(read_all(&large[1..]).map(|text| text.len()), Ok(FILE_BYTES_MAX as usize));
        assert!(read_all(large.as_slice()).is_err_and(|why| why.contains("more than the 4194304 bytes")));
        assert!(
            read_all(&b"a = 1\nb = \"\xff\"\n"[..]).is_err_and(|why| why.contains("line 2 is not UTF-8"))
        );
    }
}
