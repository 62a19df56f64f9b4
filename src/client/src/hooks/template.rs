//! Templates of a task: Go's text templates with the functions that need nothing from outside the node.

use std::{collections::BTreeMap, path::Path};

use driver::TaskDirs;
use gotmpl::{MissingKey, TemplateError, Value};
use model::{Task, Template};

use super::{Beneath, BeneathError, PrepareError};
use crate::task_env::TaskEnv;

/// Permissions of a rendered file, unless the job says otherwise.
const MODE: u32 = 0o644;

/// Renders all templates of a task; returns the variables of those that are environment.
pub fn render_all(
    task: &Task,
    dirs: &TaskDirs,
    env: &TaskEnv,
) -> Result<Vec<(String, String)>, PrepareError> {
    let mut added = Vec::new();
    let mut seen = env.clone();
    for template in &task.templates {
        let text = source(template, dirs, &seen)?;
        let rendered = render(&text, template, seen.variables().clone())
            .map_err(|error| PrepareError::Template { message: format!("(dynamic): {error}") })?;
        write(&rendered, template, dirs, &seen)?;
        if template.envvars {
            for (name, value) in parse_env(&rendered)? {
                seen.set(name.clone(), value.clone());
                added.push((name, value));
            }
        }
    }
    Ok(added)
}

fn source(template: &Template, dirs: &TaskDirs, env: &TaskEnv) -> Result<String, PrepareError> {
    if template.source_path.is_empty() {
        return Ok(template.embedded_tmpl.clone());
    }
    let path = env.replace(&template.source_path);
    let read = || -> Result<String, BeneathError> {
        let (below, path) = locate(&path, dirs)?;
        let file = below.read(Path::new(&path))?;
        std::io::read_to_string(file).map_err(|source| BeneathError::Io { path: path.into(), source })
    };
    read().map_err(|error| PrepareError::Template { message: format!("could not read template: {error}") })
}

fn write(rendered: &str, template: &Template, dirs: &TaskDirs, env: &TaskEnv) -> Result<(), PrepareError> {
    let path = env.replace(&template.dest_path);
    let mode = u32::from_str_radix(&template.perms, 8).unwrap_or(MODE);
    locate(&path, dirs)
        .and_then(|(below, path)| below.write(path, rendered.as_bytes(), mode))
        .map_err(|error| PrepareError::Template { message: format!("could not write template: {error}") })
}

/// Finds the directory that a path of a job is below: the shared one when it begins with `alloc`, else the task's.
fn locate(path: &str, dirs: &TaskDirs) -> Result<(Beneath, String), BeneathError> {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    for (prefix, dir) in [
        (text(&dirs.alloc_shared), &dirs.alloc_shared),
        (text(&dirs.task), &dirs.task),
        ("/alloc".to_owned(), &dirs.alloc_shared),
        ("/local".to_owned(), &dirs.local),
        ("/secrets".to_owned(), &dirs.secrets),
    ] {
        if let Some(rest) = path.strip_prefix(&prefix)
            && (rest.is_empty() || rest.starts_with('/'))
        {
            return Ok((Beneath::open(dir)?, rest.to_owned()));
        }
    }
    // Secrets are a file system of their own; the kernel's check for staying below lets a mount point be crossed.
    Ok((Beneath::open(&dirs.task)?, path.to_owned()))
}

fn render(text: &str, template: &Template, env: BTreeMap<String, String>) -> Result<String, TemplateError> {
    let delim = |set: &str, usual: &str| if set.is_empty() { usual.to_owned() } else { set.to_owned() };
    let (left, right) = (delim(&template.left_delim, "{{"), delim(&template.right_delim, "}}"));
    let missing = if template.err_missing_key { MissingKey::Error } else { MissingKey::ZeroValue };
    let mut parsed = gotmpl::Template::new("").delims(&left, &right).missing_key(missing);
    let shared = std::sync::Arc::new(env);
    let seen = shared.clone();
    parsed = parsed.func("env", move |args| {
        Ok(Value::String(seen.get(&text_arg(args, 0)).cloned().unwrap_or_default().into()))
    });
    parsed = parsed.func("envOrDefault", move |args| {
        let found = shared.get(&text_arg(args, 0)).filter(|value| !value.is_empty());
        Ok(Value::String(found.cloned().unwrap_or_else(|| text_arg(args, 1)).into()))
    });
    for (name, call) in TEXT_FUNCTIONS {
        parsed = parsed.func(name, move |args| Ok(Value::String(call(args).into())));
    }
    parsed.parse(text)?.execute_to_string(&Value::Nil)
}

/// A function from texts to a text.
type TextFunction = fn(&[Value]) -> String;

/// Functions that need nothing but their arguments.
const TEXT_FUNCTIONS: [(&str, TextFunction); 4] = [
    ("toUpper", |args| text_arg(args, 0).to_uppercase()),
    ("toLower", |args| text_arg(args, 0).to_lowercase()),
    ("trimSpace", |args| text_arg(args, 0).trim().to_owned()),
    ("replaceAll", |args| text_arg(args, 2).replace(&text_arg(args, 0), &text_arg(args, 1))),
];

fn text_arg(args: &[Value], at: usize) -> String {
    args.get(at).map(ToString::to_string).unwrap_or_default()
}

/// Reads `KEY=value` lines; blank lines and lines that begin with `#` are skipped.
fn parse_env(text: &str) -> Result<Vec<(String, String)>, PrepareError> {
    let mut pairs = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Some((name, value)) = line.strip_prefix("export ").unwrap_or(line).split_once('=') else {
            let message = format!("error parsing env template: line {} has no `=`: {line:?}", at + 1);
            return Err(PrepareError::Template { message });
        };
        let value = value.trim();
        let unquoted = ["\"", "'"].iter().find_map(|quote| value.strip_prefix(quote)?.strip_suffix(quote));
        pairs.push((name.trim().to_owned(), unquoted.unwrap_or(value).to_owned()));
    }
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(text: &str) -> Result<String, TemplateError> {
        let env = BTreeMap::from([("NOMAD_ALLOC_INDEX".to_owned(), "3".to_owned())]);
        render(text, &Template::default(), env)
    }

    #[test]
    fn a_template_sees_the_environment() {
        let text = "hello {{ env \"NOMAD_ALLOC_INDEX\" }}{{ if env \"NONE\" }}x{{ else }}y{{ end }}";
        assert_eq!(rendered(text).expect("a good template"), "hello 3y");
    }

    #[test]
    fn an_unknown_function_is_an_error() {
        assert!(rendered("{{ nope }}").is_err_and(|error| error.to_string().contains("nope")));
    }

    #[test]
    fn environment_lines_are_read() {
        let pairs = parse_env("A=0\n# no\n\nexport B=\"two words\"\n").expect("good lines");
        assert_eq!(pairs, [("A".to_owned(), "0".to_owned()), ("B".to_owned(), "two words".to_owned())]);
        assert!(parse_env("nothing here").is_err());
    }
}
