//! A copy of the state as a file: a tar archive under gzip, which any tool opens. It holds `meta.json`, which says what it
//! is, `state.bin`, the state itself, and `SHA256SUMS`, which both are checked against.

use std::{
    fs::File,
    io::{self, Read, Write},
    path::PathBuf,
};

use flate2::{Compression, read::MultiGzDecoder, write::GzEncoder};
use sha2::{Digest, Sha256};

use crate::Time;

/// The version of the layout that this build writes. It reads no other.
pub const ARCHIVE_VERSION: u64 = 1;

/// Bytes of a tar block; each header is one, and contents are filled up to whole ones.
const BLOCK: usize = 512;

/// Largest `meta.json` and `SHA256SUMS`: both are a few lines.
const SMALL_FILE_MAX: u64 = 1 << 20;

const META: &str = "meta.json";
const STATE: &str = "state.bin";
const SUMS: &str = "SHA256SUMS";

shape! {
    /// What a copy of the state is.
    SnapshotMeta {
        cluster_id "ClusterID": String,
        created "Created": Time,
        id "ID": String,
        index "Index": u64,
        region "Region": String,
        size "Size": u64,
        tables "Tables": Vec<SnapshotTable>,
        term "Term": u64,
        version "Version": u64,
        writer "Writer": String,
    }
    /// How much a copy has of one kind of thing.
    SnapshotTable {
        count "Count": u64,
        name "Name": String,
        size "Size": u64,
    }
}

/// Why a file is no copy of a state.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// It is not compressed, or damaged.
    #[error("failed to decompress snapshot: {0}")]
    Gzip(String),
    /// It can not be read, or ends too early.
    #[error("failed to read snapshot: {0}")]
    Read(#[source] io::Error),
    /// It is some other archive.
    #[error("not a snapshot: {0}")]
    Layout(String),
    /// It is of another version.
    #[error(
        "snapshot has version {0}, this build reads version {ARCHIVE_VERSION}: use the build that wrote it"
    )]
    Version(u64),
    /// It is damaged.
    #[error("failed checking integrity of snapshot: hash check failed for {0:?}")]
    Damaged(&'static str),
}

/// What is known of the state before it is written: twice the same bytes come.
#[derive(Clone, Debug)]
pub struct StateFacts {
    /// Its length.
    pub size: u64,
    /// Its SHA-256.
    pub sha256: [u8; 32],
}

/// Counts and hashes what is written to it.
#[derive(Default)]
pub struct Measure {
    size: u64,
    hash: Sha256,
}

impl Measure {
    /// Returns what was written.
    pub fn finish(self) -> StateFacts {
        StateFacts { size: self.size, sha256: self.hash.finalize().into() }
    }
}

impl Write for Measure {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.size += bytes.len() as u64;
        self.hash.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes a copy. `state` writes the state and must come to what `facts` say; equal copies come to equal bytes.
///
/// # Errors
///
/// When the writer or `state` fails.
pub fn write_archive(
    out: &mut dyn Write,
    meta: &SnapshotMeta,
    facts: &StateFacts,
    state: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let meta_bytes = serde_json::to_vec_pretty(meta).map_err(io::Error::other)?;
    let sums = format!("{}  {META}\n{}  {STATE}\n", hex(&Sha256::digest(&meta_bytes)), hex(&facts.sha256));
    let mut gzip = GzEncoder::new(out, Compression::fast());
    write_tar_file(&mut gzip, META, meta_bytes.len() as u64, meta_bytes.as_slice())?;
    gzip.write_all(&header(STATE, facts.size))?;
    let mut counted = Counted { out: &mut gzip, count: 0 };
    state(&mut counted)?;
    if counted.count != facts.size {
        return Err(io::Error::other("the state came to another length than before"));
    }
    pad(&mut gzip, facts.size)?;
    write_tar_file(&mut gzip, SUMS, sums.len() as u64, sums.as_bytes())?;
    gzip.write_all(&[0; 2 * BLOCK])?;
    gzip.finish()?.flush()
}

/// Reads and checks a copy. The state goes to `out`; what was written there counts only when this succeeds.
///
/// # Errors
///
/// See [`ArchiveError`].
pub fn read_archive(input: impl Read, out: &mut dyn Write) -> Result<SnapshotMeta, ArchiveError> {
    let mut gzip = MultiGzDecoder::new(input);
    if gzip.header().is_none() {
        return Err(ArchiveError::Gzip("gzip: invalid header".to_owned()));
    }
    let (mut meta, mut state, mut sums) = (None, None, None);
    while let Some((name, size)) = read_header(&mut gzip)? {
        match name.as_str() {
            META => meta = Some(read_small(&mut gzip, size)?),
            SUMS => sums = Some(read_small(&mut gzip, size)?),
            STATE => {
                let mut measure = Measure::default();
                copy(&mut gzip, size, &mut Both(&mut measure, out))?;
                state = Some(measure.finish());
            }
            other => return Err(ArchiveError::Layout(format!("it holds {other:?}"))),
        }
        copy(&mut gzip, padding(size), &mut io::sink())?;
    }
    let missing = |name: &str| ArchiveError::Layout(format!("{name} is missing"));
    let (meta, state) = (meta.ok_or_else(|| missing(META))?, state.ok_or_else(|| missing(STATE))?);
    let sums = sums.ok_or_else(|| missing(SUMS))?;
    let sums = String::from_utf8_lossy(&sums).into_owned();
    let wanted = |name: &str| {
        sums.lines().find_map(|line| line.strip_suffix(name)?.strip_suffix("  ").map(str::to_owned))
    };
    if wanted(META) != Some(hex(&Sha256::digest(&meta))) {
        return Err(ArchiveError::Damaged(META));
    }
    if wanted(STATE) != Some(hex(&state.sha256)) {
        return Err(ArchiveError::Damaged(STATE));
    }
    let meta: SnapshotMeta =
        serde_json::from_slice(&meta).map_err(|error| ArchiveError::Layout(format!("{META}: {error}")))?;
    if meta.version != ARCHIVE_VERSION {
        return Err(ArchiveError::Version(meta.version));
    }
    Ok(meta)
}

struct Counted<'a> {
    out: &'a mut dyn Write,
    count: u64,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.count += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

struct Both<'a>(&'a mut Measure, &'a mut dyn Write);

impl Write for Both<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.1.write_all(bytes)?;
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.1.flush()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn padding(size: u64) -> u64 {
    (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64
}

fn pad(out: &mut impl Write, size: u64) -> io::Result<()> {
    let count = usize::try_from(padding(size)).expect("less than a block");
    out.write_all(&[0; BLOCK][..count])
}

/// Most bytes of a file's own name and of the folders before it, as a tar header holds them.
const TAR_NAME_MAX: usize = 100;
const TAR_FOLDERS_MAX: usize = 155;

/// Writes a compressed tar archive of files: the name that each has in it, and where it is.
///
/// # Errors
///
/// When a file can not be read, shrinks meanwhile or has too long a name, or the writer fails.
pub fn write_bundle(out: &mut dyn Write, files: &[(String, PathBuf)]) -> io::Result<()> {
    let mut gzip = GzEncoder::new(out, Compression::fast());
    for (name, path) in files {
        let file = File::open(path)?;
        let size = file.metadata()?.len();
        write_tar_file(&mut gzip, name, size, file)?;
    }
    gzip.write_all(&[0; 2 * BLOCK])?;
    gzip.finish()?.flush()
}

/// Adds a file, for its owner alone to read.
fn write_tar_file(out: &mut impl Write, name: &str, size: u64, content: impl Read) -> io::Result<()> {
    let (folders, short) = match name.rfind('/').filter(|_| name.len() > TAR_NAME_MAX) {
        Some(at) => (&name[..at], &name[at + 1..]),
        None => ("", name),
    };
    if short.len() > TAR_NAME_MAX || folders.len() > TAR_FOLDERS_MAX {
        return Err(io::Error::other(format!("the name is too long for an archive: {name}")));
    }
    let mut block = header(short, size);
    block[345..345 + folders.len()].copy_from_slice(folders.as_bytes());
    out.write_all(&summed(block))?;
    if io::copy(&mut content.take(size), out)? != size {
        return Err(io::Error::other(format!("{name} became shorter while it was read")));
    }
    pad(out, size)
}

/// Makes the header of a plain file. Nothing in it depends on when or by whom it is written.
fn header(name: &str, size: u64) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let mut put = |at: usize, text: &[u8]| block[at..at + text.len()].copy_from_slice(text);
    put(0, name.as_bytes());
    put(100, b"0000600\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    // Sizes beyond eight octal digits' gigabytes are written in base 256, as tar does.
    if size < 1 << 33 {
        put(124, format!("{size:011o}\0").as_bytes());
    } else {
        put(124, &[0x80]);
        put(128, &size.to_be_bytes());
    }
    put(136, b"00000000000\0");
    put(156, b"0");
    put(257, b"ustar\x0000");
    summed(block)
}

/// Puts the checksum into a header.
fn summed(mut block: [u8; BLOCK]) -> [u8; BLOCK] {
    // It counts as blanks while it is added up.
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

/// Reads the next header: the name and the size; none at the end of the archive.
fn read_header(input: &mut impl Read) -> Result<Option<(String, u64)>, ArchiveError> {
    let mut block = [0; BLOCK];
    input.read_exact(&mut block).map_err(ArchiveError::Read)?;
    if block == [0; BLOCK] {
        // What follows the end is read as well, so that a cut file is noticed.
        io::copy(input, &mut io::sink()).map_err(ArchiveError::Read)?;
        return Ok(None);
    }
    let wrong = || ArchiveError::Layout("its table of contents can not be read".to_owned());
    let octal = |bytes: &[u8]| {
        let text = std::str::from_utf8(bytes).ok()?;
        u64::from_str_radix(text.trim_matches(['\0', ' ']), 8).ok()
    };
    let sum = octal(&block[148..156]).ok_or_else(wrong)?;
    let found: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
    let own: u64 = block[148..156].iter().map(|byte| u64::from(*byte)).sum();
    if sum != found - own + 8 * u64::from(b' ') {
        return Err(wrong());
    }
    let size = if block[124] == 0x80 {
        u64::from_be_bytes(block[128..136].try_into().expect("eight bytes"))
    } else {
        octal(&block[124..136]).ok_or_else(wrong)?
    };
    let name = block[..100].split(|byte| *byte == 0).next().unwrap_or_default();
    Ok(Some((String::from_utf8_lossy(name).into_owned(), size)))
}

fn read_small(input: &mut impl Read, size: u64) -> Result<Vec<u8>, ArchiveError> {
    if size > SMALL_FILE_MAX {
        return Err(ArchiveError::Layout("its description is too long".to_owned()));
    }
    let mut bytes = Vec::new();
    copy(input, size, &mut bytes)?;
    Ok(bytes)
}

fn copy(input: &mut impl Read, size: u64, out: &mut dyn Write) -> Result<(), ArchiveError> {
    let count = io::copy(&mut input.by_ref().take(size), &mut Dynamic(out)).map_err(ArchiveError::Read)?;
    if count < size { Err(ArchiveError::Read(io::ErrorKind::UnexpectedEof.into())) } else { Ok(()) }
}

struct Dynamic<'a>(&'a mut dyn Write);

impl Write for Dynamic<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(state: &[u8]) -> Vec<u8> {
        let mut measure = Measure::default();
        measure.write_all(state).expect("nothing fails");
        let facts = measure.finish();
        let meta = SnapshotMeta { version: 1, index: 7, size: facts.size, ..SnapshotMeta::default() };
        let mut out = Vec::new();
        write_archive(&mut out, &meta, &facts, |out| out.write_all(state))
            .expect("a vector takes everything");
        out
    }

    fn read(bytes: &[u8]) -> Result<(SnapshotMeta, Vec<u8>), ArchiveError> {
        let mut state = Vec::new();
        read_archive(bytes, &mut state).map(|meta| (meta, state))
    }

    #[test]
    fn a_copy_is_read_as_it_was_written_and_equal_ones_are_equal() {
        for length in [0, 1, 511, 512, 513, 70_000] {
            let state: Vec<u8> = (0..length).map(|n| u8::try_from(n % 251).expect("less than 251")).collect();
            let (meta, found) = read(&sample(&state)).expect("it was just written");
            assert_eq!((meta.index, meta.size, found == state), (7, length, true));
            assert_eq!(sample(&state), sample(&state));
        }
    }

    #[test]
    fn a_bundle_holds_every_file_under_its_name() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("one");
        std::fs::write(&path, b"text").expect("it can be written");
        let long = format!("{}/{}", "f".repeat(90), "n".repeat(90));
        let mut out = Vec::new();
        write_bundle(&mut out, &[("a/b.json".to_owned(), path.clone()), (long, path.clone())])
            .expect("a bundle");
        let mut tar = Vec::new();
        MultiGzDecoder::new(out.as_slice()).read_to_end(&mut tar).expect("it is gzip");
        assert_eq!(tar.len(), 6 * BLOCK);
        assert_eq!((&tar[..9], &tar[BLOCK..BLOCK + 5]), (&b"a/b.json\0"[..], &b"text\0"[..]));
        let second = &tar[2 * BLOCK..3 * BLOCK];
        assert_eq!((second[89], second[90], second[345], second[345 + 90]), (b'n', 0, b'f', 0));
        let sum: u32 = second
            .iter()
            .enumerate()
            .map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) })
            .sum();
        assert_eq!(&second[148..154], format!("{sum:06o}").as_bytes());
        let too_long = [("n".repeat(101), path)];
        assert!(write_bundle(&mut Vec::new(), &too_long).is_err());
    }

    #[test]
    fn damage_and_other_files_are_told_apart() {
        let whole = sample(&vec![7; 5_000]);
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x21;
            // A few bits of a gzip stream mean nothing; what was in it has to be the same then.
            if let Ok((meta, state)) = read(&damaged) {
                assert_eq!((meta.index, state), (7, vec![7; 5_000]), "byte {at} changed unseen");
            }
        }
        for end in 0..whole.len() - 1 {
            assert!(read(&whole[..end]).is_err(), "cut at {end}");
        }
        let text = read(b"job \"x\" {}").expect_err("a text").to_string();
        assert_eq!(text, "failed to decompress snapshot: gzip: invalid header");
        let mut other = Vec::new();
        let mut gzip = GzEncoder::new(&mut other, Compression::fast());
        write_tar_file(&mut gzip, "readme", 5, b"hello".as_slice()).expect("a vector takes everything");
        gzip.finish().expect("a vector takes everything");
        assert!(matches!(read(&other), Err(ArchiveError::Layout(_))));
    }
}
