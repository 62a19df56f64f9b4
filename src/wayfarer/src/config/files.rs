//! Configuration files and directories, read and merged.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{
    raw::RawAgent,
    section::{Problem, Reader, Section, read_section},
    tree::{Entry, entries_of},
};

/// Files of one directory. More is a wrong directory.
const FILES_MAX: usize = 1_024;

/// A file or directory given with `-config` can not be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It can not be read.
    #[error("Error loading configuration from {}: {}", given.display(), io_text(path, source))]
    Read {
        /// What was given.
        given: PathBuf,
        /// What could not be read.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What was given is not there, or can not be looked at.
    #[error("Error loading configuration from {}: {}", given.display(), io_text(given, source).replacen("open ", "stat ", 1))]
    Look {
        /// What was given.
        given: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A directory has more files than anyone writes.
    #[error("Error loading configuration from {}: more than {FILES_MAX} configuration files", given.display())]
    TooMany {
        /// The directory.
        given: PathBuf,
    },
    /// What it says makes no sense.
    #[error("Error loading configuration from {}: Error loading {}: {text}", given.display(), path.display())]
    Content {
        /// What was given.
        given: PathBuf,
        /// The file.
        path: PathBuf,
        /// What is wrong and where.
        text: String,
    },
}

/// What went wrong with a path, in the words of Go's errors, which scripts know.
pub(super) fn io_text(path: &Path, error: &io::Error) -> String {
    let why = match error.kind() {
        io::ErrorKind::NotFound => "no such file or directory".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    };
    format!("open {}: {why}", path.display())
}

/// All files together.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    pub raw: RawAgent,
    pub files: Vec<PathBuf>,
    pub warnings: Vec<String>,
}

impl Loaded {
    /// Adds a file, or the `.hcl` and `.json` files of a directory in the order of their names.
    pub fn add(&mut self, given: &Path) -> Result<(), FileError> {
        let unreadable =
            |path: &Path, source| FileError::Read { given: given.to_owned(), path: path.to_owned(), source };
        let mut paths = vec![given.to_owned()];
        if fs::metadata(given).map_err(|source| FileError::Look { given: given.to_owned(), source })?.is_dir()
        {
            paths = files_of(given).map_err(|error| unreadable(given, error))?;
        }
        if paths.len() > FILES_MAX {
            return Err(FileError::TooMany { given: given.to_owned() });
        }
        for path in paths {
            let text = fs::read_to_string(&path).map_err(|error| unreadable(&path, error))?;
            let mut reader = Reader::default();
            let file = path.display().to_string();
            let raw = read_text(&file, &text, &mut reader).map_err(|problem| {
                let text = problem.text(&file);
                FileError::Content { given: given.to_owned(), path: path.clone(), text }
            })?;
            self.raw.absorb(raw);
            self.warnings.extend(reader.warnings.into_iter().map(|warning| format!("{file}: {warning}")));
            self.files.push(path);
        }
        Ok(())
    }
}

/// Reads the text of one file.
pub(super) fn read_text(name: &str, text: &str, reader: &mut Reader) -> Result<RawAgent, Problem> {
    let body = hcl::parse_plain(name, text).map_err(|diagnostics| {
        let first = diagnostics.list.first();
        let what = first
            .map_or_else(|| diagnostics.to_string(), |first| format!("{}: {}", first.summary, first.detail));
        Problem::Syntax { at: first.and_then(|first| first.range.as_ref()).map(|range| range.start), what }
    })?;
    let entries: Vec<Entry> = entries_of(body);
    read_section(&[&entries], "", reader)
}

fn files_of(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)?.take(FILES_MAX * 16) {
        let path = entry?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let wanted = name.ends_with(".hcl") || name.ends_with(".json");
        if wanted && !is_leftover(&name) && fs::metadata(&path)?.is_file() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Tells whether an editor left the file behind.
fn is_leftover(name: &str) -> bool {
    name.ends_with('~') || name.starts_with(".#") || (name.starts_with('#') && name.ends_with('#'))
}
