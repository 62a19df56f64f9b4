//! Small files that are there whole or not at all, and that tell when they are damaged.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};

/// No file of ours comes near; a larger one is something else.
const FILE_LEN_MAX: u64 = 4 * 1024 * 1024;

/// Makes a directory that only its owner enters.
pub(crate) fn make_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))
}

/// Replaces a file: after a crash it has the old content or the new one, and only its owner reads it.
pub(crate) fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let dir = path.parent().ok_or_else(|| io::Error::other("a file is in a directory"))?;
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    File::open(dir)?.sync_all()
}

/// Removes a file, if it is there.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(()) => File::open(path.parent().unwrap_or(path))?.sync_all(),
    }
}

/// Reads a file, if it is there.
pub(crate) fn read(path: &Path) -> io::Result<Option<String>> {
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
        Ok(found) if found.len() > FILE_LEN_MAX => return Err(io::Error::other("the file is too large")),
        Ok(_) => {}
    }
    fs::read_to_string(path).map(Some)
}

/// Writes a record: a line with its kind and a checksum, then JSON.
pub(crate) fn write_record<T: Serialize>(path: &Path, kind: &str, record: &T) -> io::Result<()> {
    let body = serde_json::to_string_pretty(record).map_err(io::Error::other)?;
    let checksum = crc32fast::hash(body.as_bytes());
    write(path, format!("wayfarer {kind} 1 {checksum:08x}\n{body}\n").as_bytes())
}

/// Reads a record, if it is there; what is wrong with it is told in words.
pub(crate) fn read_record<T: DeserializeOwned>(
    path: &Path,
    kind: &str,
) -> io::Result<Option<Result<T, String>>> {
    let text = match read(path) {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            return Ok(Some(Err("it is not text".into())));
        }
        read => match read? {
            Some(text) => text,
            None => return Ok(None),
        },
    };
    Ok(Some(parse_record(&text, kind)))
}

fn parse_record<T: DeserializeOwned>(text: &str, kind: &str) -> Result<T, String> {
    let (head, body) = text.split_once('\n').ok_or("it is empty or cut short")?;
    let rest = head.strip_prefix("wayfarer ").ok_or("it is not a file of Wayfarer")?;
    let (found, rest) = rest.split_once(' ').ok_or("its first line is damaged")?;
    let (version, checksum) = rest.split_once(' ').ok_or("its first line is damaged")?;
    if found != kind {
        return Err(format!("it is a file of kind {found:?}, expected {kind:?}"));
    }
    if version != "1" {
        return Err(format!("it has version {version}, this build reads 1: upgrade this agent"));
    }
    let body = body.strip_suffix('\n').ok_or("it is cut short")?;
    if checksum != format!("{:08x}", crc32fast::hash(body.as_bytes())) {
        return Err("its checksum is wrong".into());
    }
    serde_json::from_str(body).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_a_directory(check: impl FnOnce(&Path)) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        check(dir.path());
    }

    #[test]
    fn a_record_reads_what_it_writes_and_is_private() {
        in_a_directory(|dir| {
            let path = dir.join("thing");
            assert!(read_record::<Vec<u8>>(&path, "thing").expect("readable").is_none());
            write_record(&path, "thing", &vec![1, 2]).expect("writable");
            write_record(&path, "thing", &vec![3]).expect("writable again");
            assert_eq!(read_record(&path, "thing").expect("readable"), Some(Ok(vec![3])));
            let mode = fs::metadata(&path).expect("it is there").permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            assert!(read_record::<Vec<u8>>(&path, "other").expect("readable").expect("there").is_err());
            remove(&path).and_then(|()| remove(&path)).expect("twice is once");
        });
    }

    #[test]
    fn damage_is_found_wherever_it_is() {
        in_a_directory(|dir| {
            let path = dir.join("thing");
            write_record(&path, "thing", &vec!["one".to_owned(), "two".to_owned()]).expect("writable");
            let whole = fs::read(&path).expect("readable");
            for at in 0..whole.len() {
                let mut damaged = whole.clone();
                damaged[at] ^= 1;
                fs::write(&path, &damaged).expect("writable");
                let read = read_record::<Vec<String>>(&path, "thing").expect("readable").expect("there");
                assert!(read.is_err(), "byte {at}");
                fs::write(&path, &whole[..at]).expect("writable");
                let read = read_record::<Vec<String>>(&path, "thing").expect("readable").expect("there");
                assert!(read.is_err(), "cut at {at}");
            }
        });
    }
}
