use std::io::{self, Read, Write};

use crate::{types::LogPoint, wire::WireMeta};

/// The version of the file that this build writes.
pub const SNAPSHOT_VERSION: u16 = 1;

const MAGIC: [u8; 4] = *b"WFRS";
const COMPRESSION_ZSTD: u8 = 1;
/// Fast, and four times smaller for what a cluster's state looks like.
const ZSTD_LEVEL: i32 = 1;
/// Bytes compressed together: large enough to compress well, small enough to buffer.
const BLOCK_BYTES: usize = 256 << 10;
/// No block that this code writes is larger, compressed or not; a greater length is damage.
const STORED_BYTES_MAX: usize = BLOCK_BYTES + (16 << 10);
const META_BYTES_MAX: usize = 1 << 20;
const HEAD_LEN: usize = 16;
const BLOCK_HEAD_LEN: usize = 12;

/// Why a snapshot can not be used.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// It could not be read; an early end counts too.
    #[error("the snapshot can not be read")]
    Io(#[from] io::Error),
    /// It is not a snapshot, or by a version of Wayfarer that this one does not know.
    #[error("not a snapshot of version {SNAPSHOT_VERSION}: {reason}")]
    Format {
        /// What is wrong.
        reason: String,
    },
    /// It changed since it was written.
    #[error("the snapshot is damaged: {reason}")]
    Damaged {
        /// What is wrong.
        reason: String,
    },
}

impl From<SnapshotError> for io::Error {
    fn from(error: SnapshotError) -> Self {
        match error {
            SnapshotError::Io(error) => error,
            error => io::Error::new(io::ErrorKind::InvalidData, error),
        }
    }
}

/// Reads a snapshot to its end, checking all of it, and tells up to where it reaches.
///
/// # Errors
///
/// See [`SnapshotError`].
pub fn check_snapshot(source: impl Read) -> Result<Option<LogPoint>, SnapshotError> {
    check(source).map(|meta| meta.last)
}

pub(crate) fn check(source: impl Read) -> Result<WireMeta, SnapshotError> {
    let (mut blocks, meta) = BlockReader::open(source)?;
    // The checksums cover the compressed bytes, so there is no need to unpack them.
    while blocks.next_stored()?.is_some() {}
    Ok(meta)
}

/// Writes a snapshot.
///
/// The layout, little-endian. Head: magic (4), version (2), compression (1), zero (1), length of the meta (4), crc32 of
/// the meta (4), meta. Blocks: stored length (4), raw length (4), crc32 of the block's number and stored bytes (4),
/// stored bytes. A block of raw length zero, with the raw length of all others in 8 bytes, ends it.
pub(crate) struct BlockWriter<W> {
    sink: W,
    buffer: Vec<u8>,
    number: u32,
    total: u64,
}

impl<W: Write> BlockWriter<W> {
    pub(crate) fn new(mut sink: W, meta: &WireMeta) -> io::Result<Self> {
        let meta = postcard::to_stdvec(meta).map_err(io::Error::other)?;
        let length = u32::try_from(meta.len()).map_err(io::Error::other)?;
        sink.write_all(&MAGIC)?;
        sink.write_all(&SNAPSHOT_VERSION.to_le_bytes())?;
        sink.write_all(&[COMPRESSION_ZSTD, 0])?;
        sink.write_all(&length.to_le_bytes())?;
        sink.write_all(&crc32fast::hash(&meta).to_le_bytes())?;
        sink.write_all(&meta)?;
        Ok(Self { sink, buffer: Vec::with_capacity(BLOCK_BYTES), number: 0, total: 0 })
    }

    /// Writes the last block and the end, and hands back the sink.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.write_buffer()?;
        let total = self.total.to_le_bytes();
        self.write_block(0, &total)?;
        self.sink.flush()?;
        Ok(self.sink)
    }

    fn write_buffer(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let raw = std::mem::take(&mut self.buffer);
        let stored = zstd::bulk::compress(&raw, ZSTD_LEVEL)?;
        self.total += raw.len() as u64;
        self.write_block(u32::try_from(raw.len()).map_err(io::Error::other)?, &stored)?;
        self.buffer = raw;
        self.buffer.clear();
        Ok(())
    }

    fn write_block(&mut self, raw_length: u32, stored: &[u8]) -> io::Result<()> {
        let length = u32::try_from(stored.len()).map_err(io::Error::other)?;
        self.sink.write_all(&length.to_le_bytes())?;
        self.sink.write_all(&raw_length.to_le_bytes())?;
        self.sink.write_all(&block_checksum(self.number, raw_length, stored).to_le_bytes())?;
        self.sink.write_all(stored)?;
        self.number += 1;
        Ok(())
    }
}

impl<W: Write> Write for BlockWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let take = bytes.len().min(BLOCK_BYTES - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..take]);
        if self.buffer.len() == BLOCK_BYTES {
            self.write_buffer()?;
        }
        Ok(take)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn block_checksum(number: u32, raw_length: u32, stored: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&number.to_le_bytes());
    hasher.update(&raw_length.to_le_bytes());
    hasher.update(stored);
    hasher.finalize()
}

/// Reads what [`BlockWriter`] wrote. Nothing is handed out before its checksum was compared.
pub(crate) struct BlockReader<R> {
    source: R,
    number: u32,
    total: u64,
    ended: bool,
    block: Vec<u8>,
    at: usize,
}

impl<R: Read> BlockReader<R> {
    pub(crate) fn open(mut source: R) -> Result<(Self, WireMeta), SnapshotError> {
        let mut head = [0; HEAD_LEN];
        source.read_exact(&mut head)?;
        if head[..4] != MAGIC {
            return Err(SnapshotError::Format { reason: "it does not begin as one".to_owned() });
        }
        let version = u16::from_le_bytes([head[4], head[5]]);
        if version != SNAPSHOT_VERSION || head[6..8] != [COMPRESSION_ZSTD, 0] {
            return Err(SnapshotError::Format {
                reason: format!("version {version}, compression {}", head[6]),
            });
        }
        let length = four(&head, 8) as usize;
        if length > META_BYTES_MAX {
            return Err(SnapshotError::Damaged { reason: format!("its head says {length} bytes of meta") });
        }
        let mut meta = vec![0; length];
        source.read_exact(&mut meta)?;
        if crc32fast::hash(&meta) != four(&head, 12) {
            return Err(SnapshotError::Damaged {
                reason: "the checksum of its head does not match".to_owned(),
            });
        }
        let meta = postcard::from_bytes(&meta).map_err(|error| SnapshotError::Format {
            reason: format!("its head can not be read: {error}"),
        })?;
        let reader = Self { source, number: 0, total: 0, ended: false, block: Vec::new(), at: 0 };
        Ok((reader, meta))
    }

    /// Reads the next block as stored; `None` after the last.
    fn next_stored(&mut self) -> Result<Option<(usize, Vec<u8>)>, SnapshotError> {
        if self.ended {
            return Ok(None);
        }
        let mut head = [0; BLOCK_HEAD_LEN];
        self.source.read_exact(&mut head)?;
        let (length, raw_length) = (four(&head, 0) as usize, four(&head, 4));
        if length > STORED_BYTES_MAX || raw_length as usize > BLOCK_BYTES {
            return Err(SnapshotError::Damaged {
                reason: format!("block {} says {length} bytes", self.number),
            });
        }
        let mut stored = vec![0; length];
        self.source.read_exact(&mut stored)?;
        if block_checksum(self.number, raw_length, &stored) != four(&head, 8)
            && !mutants::on!("raft-snapshot-unchecked")
        {
            return Err(SnapshotError::Damaged {
                reason: format!("the checksum of block {} does not match", self.number),
            });
        }
        self.number += 1;
        if raw_length == 0 {
            self.ended = true;
            if stored != self.total.to_le_bytes() {
                return Err(SnapshotError::Damaged { reason: "blocks are missing".to_owned() });
            }
            let mut rest = [0; 1];
            if self.source.read(&mut rest)? != 0 {
                return Err(SnapshotError::Damaged {
                    reason: "there is something behind its end".to_owned(),
                });
            }
            return Ok(None);
        }
        self.total += u64::from(raw_length);
        Ok(Some((raw_length as usize, stored)))
    }
}

impl<R: Read> Read for BlockReader<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.at == self.block.len() {
            let Some((raw_length, stored)) = self.next_stored()? else { return Ok(0) };
            self.block = zstd::bulk::decompress(&stored, raw_length)?;
            self.at = 0;
        }
        let take = out.len().min(self.block.len() - self.at);
        out[..take].copy_from_slice(&self.block[self.at..self.at + take]);
        self.at += take;
        Ok(take)
    }
}

fn four(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Members;

    fn meta() -> WireMeta {
        WireMeta { last: Some(LogPoint { term: 2, index: 9 }), members_at: None, members: Members::default() }
    }

    fn snapshot(body: &[u8]) -> Vec<u8> {
        let mut writer = BlockWriter::new(Vec::new(), &meta()).expect("memory takes anything");
        writer.write_all(body).expect("memory takes anything");
        writer.finish().expect("memory takes anything")
    }

    #[test]
    fn a_snapshot_of_several_blocks_reads_back() {
        let body: Vec<u8> = (0..700_000u32).map(|n| (n / 7 % 251) as u8).collect();
        let file = snapshot(&body);
        let (mut reader, head) = BlockReader::open(&file[..]).expect("it was just written");
        let mut read = Vec::new();
        reader.read_to_end(&mut read).expect("it was just written");
        assert_eq!((read == body, head), (true, meta()));
        assert!(file.len() < body.len() / 4);
    }

    #[test]
    fn every_flipped_bit_and_every_shortening_is_noticed() {
        let good = snapshot(b"jobs, nodes and allocations");
        check(&good[..]).expect("it is whole");
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(check(&bad[..]).is_err(), "bit {bit}");
        }
        for len in 0..good.len() {
            assert!(check(&good[..len]).is_err(), "length {len}");
        }
    }
}
