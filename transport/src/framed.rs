//! Length-prefixed frames on a long-lived byte stream: many small messages for the price of a few packets.
//!
//! A frame is its length (four bytes, big-endian) and its bytes. Writing gathers frames and hands them down together;
//! both directions survive being cancelled at any await.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

const PREFIX_LEN: usize = 4;
/// Frames below this are copied out of the read buffer, so that a small frame that is kept does not keep 64 KiB with
/// it; on the way out they are copied together into one write.
const COPY_MAX: usize = 4 * 1024;
/// Spare room in an idle reader: each connection of a server holds one.
const READ_IDLE: usize = 2 * 1024;
/// What a reader or writer that has become quiet may keep; a burst leaves no more behind on any connection.
const KEEP_MAX: usize = 8 * 1024;
/// The reader's buffer grows up to this ahead of what it has received, whatever length a prefix claims.
const READ_AHEAD: usize = 64 * 1024;
/// Buffers handed down in one vectored write.
const SLICES_MAX: usize = 32;

/// Reads frames.
#[derive(Debug)]
pub struct FrameReader<R> {
    io: R,
    buffer: BytesMut,
    spare: usize,
    frame_max: usize,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// Reads frames of at most `frame_max` bytes from `io`.
    pub fn new(io: R, frame_max: usize) -> Self {
        Self { io, buffer: BytesMut::new(), spare: READ_IDLE, frame_max }
    }

    /// Returns the next frame, or `None` when the peer has finished between two frames.
    ///
    /// Cancelling loses nothing.
    ///
    /// # Errors
    ///
    /// A frame over the limit is an error before its bytes are read; the reader is of no use afterwards.
    pub async fn next(&mut self) -> Result<Option<Bytes>, FrameError> {
        loop {
            if let Some(frame) = decode(&mut self.buffer, self.frame_max)? {
                return Ok(Some(frame));
            }
            if self.buffer.is_empty() && self.spare == READ_IDLE && self.buffer.capacity() > KEEP_MAX {
                self.buffer = BytesMut::new();
            }
            self.buffer.reserve(self.spare);
            let room = self.buffer.capacity() - self.buffer.len();
            let read = self.io.read_buf(&mut self.buffer).await.map_err(FrameError::Read)?;
            if read == 0 {
                return if self.buffer.is_empty() { Ok(None) } else { Err(FrameError::Truncated) };
            }
            // A full read means that more is waiting: take more at a time, and give the room back when it is quiet.
            self.spare = if read == room { (self.spare * 2).min(READ_AHEAD) } else { READ_IDLE };
        }
    }

    pub(crate) fn set_frame_max(&mut self, frame_max: usize) {
        self.frame_max = frame_max;
    }

    /// Gives back the stream. Bytes that were read ahead are lost.
    pub fn into_inner(self) -> R {
        self.io
    }
}

/// Takes one frame from the front of `buffer`, if it is complete.
fn decode(buffer: &mut BytesMut, frame_max: usize) -> Result<Option<Bytes>, FrameError> {
    let Some(prefix) = buffer.first_chunk::<PREFIX_LEN>() else {
        return Ok(None);
    };
    let len = u32::from_be_bytes(*prefix) as usize;
    if len > frame_max {
        return Err(FrameError::TooLarge { len, max: frame_max });
    }
    if buffer.len() < PREFIX_LEN + len {
        return Ok(None);
    }
    buffer.advance(PREFIX_LEN);
    let frame = if len < COPY_MAX {
        let frame = Bytes::copy_from_slice(&buffer[..len]);
        buffer.advance(len);
        frame
    } else {
        buffer.split_to(len).freeze()
    };
    Ok(Some(frame))
}

/// Writes frames.
#[derive(Debug)]
pub struct FrameWriter<W> {
    io: W,
    tail: BytesMut,
    ready: VecDeque<Bytes>,
    waiting: usize,
    frame_max: usize,
}

impl<W: AsyncWrite + Unpin> FrameWriter<W> {
    /// Writes frames of at most `frame_max` bytes to `io`.
    pub fn new(io: W, frame_max: usize) -> Self {
        Self { io, tail: BytesMut::new(), ready: VecDeque::new(), waiting: 0, frame_max }
    }

    /// Puts a frame behind those that wait. Nothing is written until [`flush`](Self::flush); the caller bounds what
    /// waits by looking at [`waiting`](Self::waiting).
    ///
    /// # Errors
    ///
    /// When the frame is over the limit; nothing was added.
    pub fn push(&mut self, frame: Bytes) -> Result<(), FrameError> {
        self.push_parts(&[], frame)
    }

    /// Like [`push`](Self::push), for a frame that is `head` followed by `body`.
    ///
    /// # Errors
    ///
    /// When both together are over the limit; nothing was added.
    pub fn push_parts(&mut self, head: &[u8], body: Bytes) -> Result<(), FrameError> {
        let len = head.len() + body.len();
        let prefix = match u32::try_from(len) {
            Ok(prefix) if len <= self.frame_max => prefix,
            Ok(_) | Err(_) => return Err(FrameError::TooLarge { len, max: self.frame_max }),
        };
        self.tail.put_u32(prefix);
        self.tail.put_slice(head);
        if body.len() < COPY_MAX {
            self.tail.put_slice(&body);
        } else {
            self.ready.push_back(self.tail.split().freeze());
            self.ready.push_back(body);
        }
        self.waiting += PREFIX_LEN + len;
        Ok(())
    }

    pub(crate) fn set_frame_max(&mut self, frame_max: usize) {
        self.frame_max = frame_max;
    }

    /// Bytes that wait to be written.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Writes all that waits. When cancelled, what was not written still waits.
    ///
    /// # Errors
    ///
    /// When the stream takes no more.
    pub async fn flush(&mut self) -> Result<(), FrameError> {
        if !self.tail.is_empty() {
            self.ready.push_back(self.tail.split().freeze());
        }
        while !self.ready.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let mut used = 0;
            for (slice, chunk) in slices.iter_mut().zip(&self.ready) {
                *slice = IoSlice::new(chunk);
                used += 1;
            }
            let written = self.io.write_vectored(&slices[..used]).await.map_err(FrameError::Write)?;
            if written == 0 {
                return Err(FrameError::Write(io::ErrorKind::WriteZero.into()));
            }
            self.consume(written);
        }
        if self.tail.capacity() > KEEP_MAX {
            self.tail = BytesMut::new();
        }
        self.io.flush().await.map_err(FrameError::Write)
    }

    fn consume(&mut self, mut written: usize) {
        self.waiting -= written;
        while let Some(front) = self.ready.front_mut() {
            if written < front.len() {
                front.advance(written);
                return;
            }
            written -= front.len();
            self.ready.pop_front();
        }
    }

    /// Writes one frame, after those that wait.
    ///
    /// # Errors
    ///
    /// When the frame is over the limit or the stream takes no more.
    pub async fn send(&mut self, frame: Bytes) -> Result<(), FrameError> {
        self.push(frame)?;
        self.flush().await
    }

    /// Writes all that waits and tells the peer that no frame follows.
    ///
    /// # Errors
    ///
    /// When the stream takes no more.
    pub async fn finish(&mut self) -> Result<(), FrameError> {
        self.flush().await?;
        self.io.shutdown().await.map_err(FrameError::Write)
    }
}

/// Why frames stop. The stream is of no use afterwards, except after [`TooLarge`](Self::TooLarge) when writing.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// Over the limit of this stream.
    #[error("frame of {len} bytes is over the limit of {max}")]
    TooLarge {
        /// Its length.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// The peer finished within a frame.
    #[error("the stream ended within a frame")]
    Truncated,
    /// Reading failed.
    #[error("could not read a frame")]
    Read(#[source] io::Error),
    /// Writing failed.
    #[error("could not write a frame")]
    Write(#[source] io::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_of_all_sizes_arrive_in_order() {
        let (left, right) = tokio::io::duplex(1_000);
        let sizes = [0, 1, 100, COPY_MAX - 1, COPY_MAX, 100_000, 3, 70_000, 0];
        let writer = async move {
            let mut writer = FrameWriter::new(left, 200_000);
            for (index, size) in sizes.into_iter().enumerate() {
                writer.push(Bytes::from(vec![index as u8; size])).expect("within the limit");
            }
            writer.finish().await.expect("the reader reads");
            assert_eq!(writer.waiting(), 0);
        };
        let reader = async move {
            let mut reader = FrameReader::new(right, 200_000);
            for (index, size) in sizes.into_iter().enumerate() {
                let frame = reader.next().await.expect("a good stream").expect("a frame");
                assert_eq!(frame, vec![index as u8; size]);
            }
            assert!(reader.next().await.expect("a clean end").is_none());
        };
        tokio::join!(writer, reader);
    }

    #[tokio::test]
    async fn a_frame_over_the_limit_is_refused_on_both_sides() {
        let (left, right) = tokio::io::duplex(1_000);
        let mut writer = FrameWriter::new(left, 100);
        assert!(matches!(writer.push(vec![0; 11].into()), Ok(())));
        assert!(matches!(writer.push(vec![0; 101].into()), Err(FrameError::TooLarge { len: 101, max: 100 })));
        writer.flush().await.expect("room for it");
        let mut reader = FrameReader::new(right, 10);
        assert!(matches!(reader.next().await, Err(FrameError::TooLarge { len: 11, max: 10 })));
    }

    #[tokio::test]
    async fn a_cut_frame_is_not_a_clean_end() {
        let mut reader = FrameReader::new(&[0, 0, 0, 5, 1, 2][..], 10);
        assert!(matches!(reader.next().await, Err(FrameError::Truncated)));
    }
}
