use std::{collections::BTreeMap, fs, io, path::Path};

/// The files of a directory by their names from there on, as they were at one moment.
#[derive(Clone, Debug, Default)]
pub struct Files(pub BTreeMap<String, Content>);

/// What is in a file. Logs are made long in advance: what is not written yet is zeroes, which are not kept.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Content {
    /// Up to the last byte that is not zero.
    pub bytes: Vec<u8>,
    /// How long the file is.
    pub length: u64,
}

impl Files {
    /// Reads everything below a directory.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn read(dir: &Path) -> io::Result<Self> {
        let mut files = Self::default();
        files.read_below(dir, "")?;
        Ok(files)
    }

    fn read_below(&mut self, dir: &Path, prefix: &str) -> io::Result<()> {
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            if entry.file_type()?.is_dir() {
                self.read_below(&entry.path(), &format!("{name}/"))?;
                continue;
            }
            let mut bytes = fs::read(entry.path())?;
            let length = bytes.len() as u64;
            bytes.truncate(used_length(&bytes));
            self.0.insert(name, Content { bytes, length });
        }
        Ok(())
    }

    /// Writes everything below a directory that is empty.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn write(&self, dir: &Path) -> io::Result<()> {
        for (name, content) in &self.0 {
            let path = dir.join(name);
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::write(&path, &content.bytes)?;
            fs::OpenOptions::new().write(true).open(&path)?.set_len(content.length)?;
        }
        Ok(())
    }
}

/// Finds the end of what is not zero; by pages, because a test build is slow at looking at bytes one by one.
fn used_length(bytes: &[u8]) -> usize {
    const PAGE: usize = 4096;
    const ZEROES: [u8; PAGE] = [0; PAGE];
    let pages = bytes.chunks(PAGE).rposition(|page| *page != ZEROES[..page.len()]).map_or(0, |at| at + 1);
    let end = bytes.len().min(pages * PAGE);
    bytes[..end].iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1)
}
