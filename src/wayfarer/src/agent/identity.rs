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
    match fs::read_to_string(path) {
        Ok(text) if !text.trim().is_empty() => return Ok(text),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(io(error)),
    }
    if let Some(dir) = path.parent() {
        make_private_dir(dir)?;
    }
    let text = make();
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
    Ok(text)
}
