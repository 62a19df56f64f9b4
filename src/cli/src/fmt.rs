//! Puts job files into their usual form; and what functions in them may see of the disk.

use std::{
    io::Read,
    path::{Path, PathBuf},
};

use crate::{
    command::{Command, Context, Failure, Outcome, command},
    flags::{Kind, flag},
    jobfile::read_text,
};

/// Files and folders that `fileset` looks at. Who means the job's own folder has a few of them.
const ENTRIES_MAX: usize = 20_000;

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
        let text = read_text("-").map_err(|why| Failure::new(format!("Failed to read stdin: {why}")))?;
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
        let text = read_text(&name).map_err(|why| Failure::new(format!("Failed to read {name}: {why}")))?;
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
            let kind = entry.file_type().map_err(failed)?;
            // A link to a folder may lead back to this one; a pipe may never end.
            let plain = kind.is_file() || kind.is_symlink() && inner.is_file();
            if plain || kind.is_dir() && recursive {
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
        use std::os::unix::fs::OpenOptionsExt;
        let failed = |error: std::io::Error| error.to_string();
        // Without waiting: nobody may be writing into a pipe.
        let nonblock = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        let file = std::fs::OpenOptions::new().read(true).custom_flags(nonblock).open(self.path(path));
        let file = file.map_err(failed)?;
        if !file.metadata().map_err(failed)?.is_file() {
            return Err(format!("{path} is not a regular file"));
        }
        let mut bytes = Vec::new();
        file.take(hcl::FILE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
        Ok(bytes)
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
        let mut seen = 0;
        while let Some(next) = open.pop() {
            for entry in std::fs::read_dir(&next).map_err(|error| error.to_string())? {
                let entry = entry.map_err(|error| error.to_string())?;
                let kind = entry.file_type().map_err(|error| error.to_string())?;
                seen += 1;
                if seen > ENTRIES_MAX {
                    return Err(format!(
                        "there are more than {ENTRIES_MAX} files and folders below {folder}"
                    ));
                }
                let path = entry.path();
                if kind.is_dir() {
                    open.push(path);
                } else if kind.is_file() || kind.is_symlink() && path.is_file() {
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

#[cfg(test)]
mod tests {
    use super::*;
    use hcl::Files as _;

    #[test]
    fn functions_read_files_and_nothing_else() {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::write(dir.path().join("text"), "content").expect("it can be written");
        std::os::unix::fs::symlink("text", dir.path().join("link")).expect("a link");
        std::os::unix::fs::symlink(".", dir.path().join("round")).expect("a link");
        let pipe = dir.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0)
            .expect("a pipe");
        let files = LocalFiles { folder: dir.path().to_owned() };
        assert_eq!(files.read("text"), Ok(b"content".to_vec()));
        for special in ["/dev/zero", "pipe", "."] {
            assert_eq!(files.read(special), Err(format!("{special} is not a regular file")));
        }
        let mut found = files.list(".").expect("a few files");
        found.sort_unstable();
        assert_eq!(found, ["link", "text"]);
        // Links to folders lead nowhere, and pipes are no job files unless they are named.
        std::fs::rename(&pipe, dir.path().join("pipe.nomad")).expect("another name");
        std::fs::write(dir.path().join("a.hcl"), "").expect("it can be written");
        let mut files = Vec::new();
        collect(dir.path(), true, true, &mut files).expect("they can be listed");
        assert_eq!(files, [dir.path().join("a.hcl")]);
    }
}
