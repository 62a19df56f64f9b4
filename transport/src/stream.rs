use std::{
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{
    connection::Handle,
    link::{BoxRead, BoxWrite},
};

/// A byte stream within a connection, both ways. Opened by either side with a header that says what it is for.
///
/// Flow control is the stream's own: a slow reader here delays nobody elsewhere. Whoever writes ends with
/// `shutdown`; a stream that is dropped without it is seen as broken by the other end, never as complete. An open
/// stream keeps its connection open.
pub struct Stream {
    header: Bytes,
    reader: StreamReader,
    writer: StreamWriter,
}

/// The readable half of a [`Stream`].
pub struct StreamReader {
    io: BoxRead,
    _alive: Arc<Handle>,
}

/// The writable half of a [`Stream`].
pub struct StreamWriter {
    io: BoxWrite,
    _alive: Arc<Handle>,
}

impl Stream {
    pub(crate) fn new(header: Bytes, io: (BoxRead, BoxWrite), alive: Arc<Handle>) -> Self {
        let reader = StreamReader { io: io.0, _alive: alive.clone() };
        let writer = StreamWriter { io: io.1, _alive: alive };
        Self { header, reader, writer }
    }

    /// What the opener said about the stream.
    pub fn header(&self) -> &Bytes {
        &self.header
    }

    /// Parts the stream into halves that different tasks may own.
    pub fn into_split(self) -> (StreamReader, StreamWriter) {
        (self.reader, self.writer)
    }
}

impl AsyncRead for StreamReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl AsyncWrite for StreamWriter {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.reader).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.writer).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_shutdown(cx)
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("header_len", &self.header.len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for StreamReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StreamReader")
    }
}

impl fmt::Debug for StreamWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StreamWriter")
    }
}
