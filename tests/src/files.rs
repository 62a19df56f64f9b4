//! The files of the checkout, as the house rules look at them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::binary::checkout;

/// What is in the checkout and not ours to judge: build results and version control.
const SKIPPED: [&str; 2] = ["target", ".git"];

/// Every file with this extension, by its path from the top, in order.
///
/// # Panics
///
/// When a directory of the checkout can not be read.
#[must_use]
pub fn with_extension(extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    collect(&checkout(), &mut found);
    found.retain(|path| path.extension().is_some_and(|ext| ext == extension));
    found.sort();
    found
}

fn collect(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("the checkout can be read").flatten() {
        let path = entry.path();
        let kind = entry.file_type().expect("an entry of a directory has a type");
        if kind.is_dir() && !SKIPPED.iter().any(|name| entry.file_name() == *name) {
            collect(&path, found);
        } else if kind.is_file() {
            found.push(path.strip_prefix(checkout()).expect("found below the top").to_owned());
        }
    }
}

/// The text of a file of the checkout.
///
/// # Panics
///
/// When it can not be read.
#[must_use]
pub fn text(path: &Path) -> String {
    fs::read_to_string(checkout().join(path))
        .unwrap_or_else(|error| panic!("could not read {}: {error}", path.display()))
}
