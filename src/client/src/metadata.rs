//! A node's metadata: what its configuration says, and what users changed since.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use model::Text;
use parking_lot::Mutex;

use crate::Client;

/// Where changes are kept, in the client's state directory.
const FILE: &str = "dynamic-metadata.json";

/// A value, or its absence.
pub type Change = Option<String>;

/// Metadata in its parts.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Parts {
    /// What the configuration says.
    pub fixed: BTreeMap<String, String>,
    /// What was changed; no value takes away what the configuration says.
    pub dynamic: BTreeMap<String, Change>,
}

/// Why a change of metadata was not kept; nothing changed.
#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    /// A key can not be referred to.
    #[error(
        "metadata key {key:?} is invalid: it must not be empty, begin or end with a dot, or hold two in a row"
    )]
    BadKey {
        /// The key.
        key: String,
    },
    /// The disk refused.
    #[error("could not write {path}: {source}", path = path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// The client's own record of its metadata.
#[derive(Debug)]
pub(crate) struct Metadata {
    parts: Mutex<Parts>,
    file: Option<PathBuf>,
}

impl Metadata {
    /// Takes up what an earlier agent was told; a record that can not be read counts as none, and says so.
    pub(crate) fn open(fixed: &BTreeMap<Text, Text>, state_dir: Option<&Path>) -> Self {
        let fixed = fixed.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        let file = state_dir.map(|dir| dir.join(FILE));
        let dynamic = file.as_deref().map(read).unwrap_or_default();
        Self { parts: Mutex::new(Parts { fixed, dynamic }), file }
    }

    /// What the node says.
    pub(crate) fn merged(&self) -> BTreeMap<Text, Text> {
        let merged = self.parts.lock().merged();
        merged.into_iter().map(|(key, value)| (key.into(), value.into())).collect()
    }
}

impl Parts {
    /// What holds.
    pub fn merged(&self) -> BTreeMap<String, String> {
        let mut merged = self.fixed.clone();
        for (key, change) in &self.dynamic {
            match change {
                Some(value) => {
                    merged.insert(key.clone(), value.clone());
                }
                None => {
                    merged.remove(key);
                }
            }
        }
        merged
    }

    /// Adds changes. Taking away what only a change had put there forgets that change.
    fn change(&mut self, changes: BTreeMap<String, Change>) {
        for (key, change) in changes {
            if change.is_none() && !self.fixed.contains_key(&key) {
                self.dynamic.remove(&key);
            } else {
                self.dynamic.insert(key, change);
            }
        }
    }
}

impl Client {
    /// Returns the node's metadata.
    pub fn metadata(&self) -> Parts {
        self.metadata_record().parts.lock().clone()
    }

    /// Changes the node's metadata for as long as its state directory lives, and tells the servers.
    ///
    /// # Errors
    ///
    /// When a key is not one, or the change can not be written down; nothing changed.
    pub async fn change_metadata(&self, changes: BTreeMap<String, Change>) -> Result<Parts, MetadataError> {
        if let Some(key) = changes.keys().find(|key| !is_key(key)) {
            return Err(MetadataError::BadKey { key: key.clone() });
        }
        let mut parts = self.metadata();
        parts.change(changes);
        if let Some(path) = self.metadata_record().file.clone() {
            let (text, target) = (sealed(&parts.dynamic), path.clone());
            let written = self.env().spawn_blocking(move || write(&target, &text?));
            let written = written.await.unwrap_or_else(|error| Err(io::Error::other(error)));
            written.map_err(|source| MetadataError::Write { path, source })?;
        }
        *self.metadata_record().parts.lock() = parts.clone();
        let mut node = (*self.node()).clone();
        node.meta = self.metadata_record().merged();
        self.set_node(node);
        Ok(parts)
    }
}

fn is_key(key: &str) -> bool {
    !key.is_empty() && key.split('.').all(|part| !part.is_empty())
}

fn read(path: &Path) -> BTreeMap<String, Change> {
    match std::fs::read(path) {
        Ok(text) => unsealed(&text).unwrap_or_else(|error| {
            tracing::warn!(path = %path.display(), %error, "changed metadata is lost: its record can not be read");
            BTreeMap::new()
        }),
        Err(error) => {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::warn!(path = %path.display(), %error, "changed metadata is lost: its record can not be read");
            }
            BTreeMap::new()
        }
    }
}

/// The changes as JSON, and behind them a line with their checksum: a value that changed by itself would place work on the
/// wrong nodes.
fn sealed(changes: &BTreeMap<String, Change>) -> io::Result<Vec<u8>> {
    let mut text = serde_json::to_vec(changes).map_err(io::Error::other)?;
    let sum = crc32fast::hash(&text);
    text.extend_from_slice(format!("\n{sum:08x}\n").as_bytes());
    Ok(text)
}

/// Reads what [`sealed`] wrote. JSON alone is of a build before the checksum.
fn unsealed(text: &[u8]) -> Result<BTreeMap<String, Change>, String> {
    let json = |json: &[u8]| serde_json::from_slice(json).map_err(|error| error.to_string());
    let Some(at) = text.iter().position(|byte| *byte == b'\n') else {
        return if text.ends_with(b"}") { json(text) } else { Err("it is cut short".to_owned()) };
    };
    let (body, sum) = (&text[..at], &text[at + 1..]);
    if sum != format!("{:08x}\n", crc32fast::hash(body)).as_bytes() {
        return Err("its checksum is wrong".to_owned());
    }
    json(body)
}

/// Writes a file so that it is either the old one or the new one, whatever happens.
fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = std::fs::File::create(&beside)?;
    io::Write::write_all(&mut file, text)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map<V: Clone>(pairs: &[(&str, V)]) -> BTreeMap<String, V> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect()
    }

    #[test]
    fn changes_lie_over_what_the_configuration_says() {
        let mut parts =
            Parts { fixed: map(&[("rack", "r0".to_owned()), ("zone", "a".to_owned())]), ..Parts::default() };
        parts.change(map(&[("rack", Some("r1".to_owned())), ("gone", None), ("zone", None)]));
        assert_eq!(parts.dynamic, map(&[("rack", Some("r1".to_owned())), ("zone", None)]));
        assert_eq!(parts.merged(), map(&[("rack", "r1".to_owned())]));
        parts.change(map(&[("zone", Some("b".to_owned()))]));
        assert_eq!(parts.merged()["zone"], "b");
    }

    #[test]
    fn changes_are_found_again() {
        let dir = tempfile::tempdir().expect("a directory for the test");
        let changes = map(&[("rack", Some("r1".to_owned()))]);
        let text = sealed(&changes).expect("plain data");
        for bit in 0..text.len() * 8 {
            let mut bad = text.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(unsealed(&bad).is_err(), "bit {bit}");
        }
        let old = serde_json::to_vec(&changes).expect("plain data");
        assert_eq!(unsealed(&old), Ok(changes), "an older build wrote no checksum");
        write(&dir.path().join(FILE), &text).expect("room on the disk");
        let metadata = Metadata::open(&BTreeMap::new(), Some(dir.path()));
        assert_eq!(metadata.merged()["rack"], "r1");
        std::fs::write(dir.path().join(FILE), "{broken").expect("room on the disk");
        assert!(Metadata::open(&BTreeMap::new(), Some(dir.path())).merged().is_empty());
    }

    #[test]
    fn keys_are_checked() {
        assert!(is_key("connect.log_level") && is_key("rack"));
        assert!(!is_key("") && !is_key(".a") && !is_key("a..b"));
    }
}
