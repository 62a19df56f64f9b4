//! Puts job files into their usual form; and what functions in them may see of the disk.

use std::{
    io::Read,
    path::{Path, PathBuf},
};

use crate::{
    command::{Command, Context, Failure, Outcome, command},
    flags::{Kind, flag},
};

/// The commands of this file.
pub const COMMANDS: &[Command] = &[command!(
    "fmt",
    "[options] [<path>...]",
    "Put job files into their usual form.",
    &[
        flag("check", Kind::Bool, "Change nothing; fail when a file is not in its usual form."),
        flag("list", Kind::Bool, "Name the files that are not; true unless set."),
        flag("write", Kind::Bool, "Write them; true unless set."),
        flag("recursive", Kind::Bool, "Look into folders below, too."),
    ],
    fmt
)];

async fn fmt(context: &Context) -> Outcome {
    let check = context.on("check");
    let write = context.flags.truth("write").unwrap_or(true) && !check;
    let list = context.flags.truth("list").unwrap_or(true);
    if context.args.iter().any(|arg| arg == "-") {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .map_err(|error| Failure::new(format!("Failed to read stdin: {error}")))?;
        let formatted = formatted("<stdin>", &text)?;
        context.console.raw(formatted.as_bytes());
        return Ok(i32::from(check && formatted != text));
    }
    let mut files = Vec::new();
    let here = [".".to_owned()];
    for path in if context.args.is_empty() { &here[..] } else { &context.args } {
        collect(Path::new(path), true, context.on("recursive"), &mut files)?;
    }
    let mut changed = false;
    for file in files {
        let name = file.display().to_string();
        let text = std::fs::read_to_string(&file)
            .map_err(|error| Failure::new(format!("Failed to read {name}: {error}")))?;
        let after = formatted(&name, &text)?;
        if after == text {
            continue;
        }
        changed = true;
        if list {
            context.console.out(&name);
        }
        if write {
            std::fs::write(&file, after)
                .map_err(|error| Failure::new(format!("Failed to write {name}: {error}")))?;
        }
    }
    Ok(i32::from(check && changed))
}

fn formatted(name: &str, text: &str) -> Result<String, Failure> {
    hcl::format(name, text).map_err(|problems| {
        let mut sources = hcl::Sources::default();
        sources.add(name, text);
        Failure::new(problems.render(&sources).trim_end().to_owned())
    })
}

/// Lists the job files of a path: itself, or those in the folder.
fn collect(path: &Path, named: bool, recursive: bool, files: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        Failure::new(format!("Error while processing path {}: {error}", path.display()))
    };
    if std::fs::metadata(path).map_err(failed)?.is_dir() {
        let mut entries =
            std::fs::read_dir(path).map_err(failed)?.collect::<Result<Vec<_>, _>>().map_err(failed)?;
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let inner = entry.path();
            let is_dir = entry.file_type().map_err(failed)?.is_dir();
            if !is_dir || recursive {
                collect(&inner, false, recursive, files)?;
            }
        }
    } else if named || is_job_file(path) {
        files.push(path.to_owned());
    }
    Ok(())
}

fn is_job_file(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "nomad" || extension == "hcl")
}

/// The disk, for functions such as `file`; paths are relative to the job file's folder.
pub struct LocalFiles {
    /// That folder.
    pub folder: PathBuf,
}

impl LocalFiles {
    fn path(&self, path: &str) -> PathBuf {
        // An absolute path replaces the folder.
        self.folder.join(path)
    }
}

impl hcl::Files for LocalFiles {
    fn read(&self, path: &str) -> Result<Vec<u8>, String> {
        std::fs::read(self.path(path)).map_err(|error| error.to_string())
    }

    fn exists(&self, path: &str) -> Result<bool, String> {
        match std::fs::metadata(self.path(path)) {
            Ok(found) if found.is_file() => Ok(true),
            Ok(_) => Err(format!("{path} is not a regular file")),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error.to_string()),
        }
    }

    fn list(&self, folder: &str) -> Result<Vec<String>, String> {
        let root = self.path(folder);
        let mut found = Vec::new();
        let mut open = vec![root.clone()];
        while let Some(next) = open.pop() {
            for entry in std::fs::read_dir(&next).map_err(|error| error.to_string())? {
                let entry = entry.map_err(|error| error.to_string())?;
                let kind = entry.file_type().map_err(|error| error.to_string())?;
                if kind.is_dir() {
                    open.push(entry.path());
                } else if kind.is_file() {
                    let path = entry.path();
                    let relative = path.strip_prefix(&root).map_err(|error| error.to_string())?;
                    found.push(relative.to_string_lossy().into_owned());
                }
            }
        }
        Ok(found)
    }

    fn absolute(&self, path: &str) -> Result<String, String> {
        std::path::absolute(self.path(path))
            .map(|path| path.to_string_lossy().into_owned())
            .map_err(|error| error.to_string())
    }

    fn home(&self) -> Option<String> {
        std::env::var("HOME").ok()
    }
}
