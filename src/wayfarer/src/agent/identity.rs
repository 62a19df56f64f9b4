//! What an agent is known by, kept in its data directory: ids, secrets, keys.

use std::{
    fs, io,
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use runtime::Env;
use transport::EndpointSecret;
use uuid::Uuid;

use crate::config::Options;

/// A file of the agent's identity can not be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The disk refused.
    #[error("could not use {path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something else is in it.
    #[error("{path} does not hold an id; move it away to get a new one", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// It is not what was written.
    #[error(
        "{path} is not what was written there: put the right id back, or remove {sum} if this one is meant",
        path = path.display(), sum = sum.display()
    )]
    Changed {
        /// The file.
        path: PathBuf,
        /// Its checksum.
        sum: PathBuf,
    },
}

/// Makes a directory that only the agent may enter.
///
/// # Errors
///
/// When the disk refuses.
pub fn make_private_dir(path: &Path) -> Result<(), IdentityError> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| IdentityError::Io { path: path.to_owned(), source })
}

/// Reads an id, or draws one and keeps it.
///
/// # Errors
///
/// When the file can not be used.
pub fn keep_id(env: &Env, path: &Path) -> Result<Uuid, IdentityError> {
    let text = keep(path, || format!("{}\n", Uuid::from_u128(env.random_u128())))?;
    Uuid::try_parse(text.trim()).map_err(|_| IdentityError::Damaged { path: path.to_owned() })
}

/// Reads the endpoint's secret, or draws one and keeps it.
///
/// # Errors
///
/// When the file can not be used.
pub fn keep_endpoint_secret(path: &Path) -> Result<EndpointSecret, IdentityError> {
    let hex = |secret: &EndpointSecret| {
        secret.expose().iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    let text = keep(path, || hex(&EndpointSecret::generate()))?;
    let damaged = || IdentityError::Damaged { path: path.to_owned() };
    let text = text.trim();
    if text.len() != 64 || !text.is_ascii() {
        return Err(damaged());
    }
    let mut bytes = [0; 32];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[at * 2..at * 2 + 2], 16).map_err(|_| damaged())?;
    }
    Ok(EndpointSecret::from_bytes(bytes))
}

/// Reads a file, or writes what `make` gives, durably and for the agent's eyes only.
///
/// # Errors
///
/// When the disk refuses.
pub fn keep(path: &Path, make: impl FnOnce() -> String) -> Result<String, IdentityError> {
    let io = |source| IdentityError::Io { path: path.to_owned(), source };
    let sum = path.with_extension("sum");
    let read = |path: &Path| match fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io(error)),
    };
    let (known, known_sum) = (read(path)?, read(&sum)?);
    let sum_of = |text: &str| format!("{:08x}\n", crc32fast::hash(text.trim().as_bytes()));
    match (known, known_sum) {
        (Some(text), Some(known_sum)) if known_sum == sum_of(&text) => Ok(text),
        // One of the two changed by itself, or a person wrote another id and left the checksum.
        (Some(_), Some(_)) => Err(IdentityError::Changed { path: path.to_owned(), sum }),
        // It is of a build before the checksum, or of a person.
        (Some(text), None) if !text.trim().is_empty() => {
            replace(&sum, &sum_of(&text))?;
            Ok(text)
        }
        // Whoever takes the file away wants another id. An empty one is of a build that was killed while it made it.
        (None, _) | (Some(_), None) => {
            let text = make();
            replace(path, &text)?;
            replace(&sum, &sum_of(&text))?;
            Ok(text)
        }
    }
}

/// Writes a file as a whole, durably and for the agent's eyes only. Whoever is killed meanwhile leaves the old one.
///
/// # Errors
///
/// When the disk refuses.
pub fn replace(path: &Path, text: &str) -> Result<(), IdentityError> {
    let io = |source| IdentityError::Io { path: path.to_owned(), source };
    if let Some(dir) = path.parent() {
        make_private_dir(dir)?;
    }
    let fresh = path.with_extension("new");
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&fresh)
        .map_err(io)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(io)?;
    fs::rename(&fresh, path).map_err(io)?;
    if let Some(dir) = path.parent() {
        fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(io)?;
    }
    Ok(())
}

/// Where an agent keeps things, and what it is known by there.
#[derive(Clone, Debug)]
pub struct Dirs {
    /// The data directory, or one that ends with the agent.
    pub root: PathBuf,
    /// Whether it ends with the agent.
    pub temporary: bool,
}

impl Dirs {
    /// Finds the directory, and makes it.
    ///
    /// # Errors
    ///
    /// When it can not be made.
    pub fn of(options: &Options, env: &Env) -> Result<Self, IdentityError> {
        let (root, temporary) = match (&options.data_dir, &options.client) {
            (Some(root), _) => (root.clone(), false),
            (None, Some(client)) => {
                let root = client.alloc_dir.parent().map(Path::to_owned);
                (root.unwrap_or_else(std::env::temp_dir), options.dev)
            }
            (None, None) => {
                let name = format!("wayfarer-{:016x}", env.random_u64());
                (std::env::temp_dir().join(name), true)
            }
        };
        make_private_dir(&root)?;
        Ok(Self { root, temporary })
    }

    /// The place of something that lasts; none where nothing does.
    pub fn lasting(&self, path: &str) -> Option<PathBuf> {
        (!self.temporary).then(|| self.root.join(path))
    }
}

/// What an agent is known by.
#[derive(Debug)]
pub struct Ids {
    /// Its node id.
    pub node: Uuid,
    /// What a node proves itself with.
    pub secret: Uuid,
    /// Tells peers of the former run that their connections are gone.
    pub endpoint: EndpointSecret,
}

impl Ids {
    /// Reads what is kept, or draws it.
    ///
    /// # Errors
    ///
    /// When a file can not be used.
    pub fn keep(env: &Env, dirs: &Dirs) -> Result<Self, IdentityError> {
        let id = |path: &str| match dirs.lasting(path) {
            Some(path) => keep_id(env, &path),
            None => Ok(Uuid::from_u128(env.random_u128())),
        };
        let endpoint = match dirs.lasting("endpoint-secret") {
            Some(path) => keep_endpoint_secret(&path)?,
            None => EndpointSecret::generate(),
        };
        Ok(Self { node: id("client/client-id")?, secret: id("client/secret-id")?, endpoint })
    }

    /// The node id as the transport has it.
    pub fn node_id(&self) -> transport::NodeId {
        transport::NodeId(*self.node.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_changed_by_itself_is_not_believed() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("client-id");
        let make = || "2f0a8f5e-3f5b-4c53-9d4c-0f6a6a3f2b11\n".to_owned();
        let good = keep(&path, make).expect("it is made");
        assert_eq!(keep(&path, || "another".to_owned()).expect("it is there"), good);
        // The line's end is the only byte that says nothing.
        for bit in 0..(good.len() - 1) * 8 {
            let mut bad = good.clone().into_bytes();
            bad[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, bad).expect("it can be written");
            assert!(keep(&path, make).is_err(), "bit {bit}");
        }
        for length in 0..good.len() - 1 {
            fs::write(&path, &good[..length]).expect("it can be written");
            assert!(keep(&path, make).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn a_person_may_take_an_id_away_or_give_one() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("client-id");
        fs::write(&path, "given\n").expect("it can be written");
        assert_eq!(keep(&path, || "made".to_owned()).expect("it is there"), "given\n");
        fs::remove_file(&path).expect("it can go");
        assert_eq!(keep(&path, || "made\n".to_owned()).expect("it is made"), "made\n");
        assert_eq!(keep(&path, String::new).expect("it is there"), "made\n");
    }
}
