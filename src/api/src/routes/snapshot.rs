//! `/v1/operator/snapshot`: copies of the whole state, out and in.

use std::io::{self, Write};

use api_types::{ARCHIVE_VERSION, ArchiveError, Measure, SnapshotMeta, SnapshotTable, write_archive};
use axum::body::Body;
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderValue, Method, Response, header};
use raft::LogPoint;
use server::RestoreError;
use sha2::{Digest, Sha256};
use state::Capture;
use tokio::sync::mpsc;

use crate::{Api, Call, HttpError, Reply};

/// Pieces of a copy that wait for a slow reader; beyond it the writer waits.
const PIECES_MAX: usize = 8;

/// Bytes of one piece.
const PIECE_BYTES: usize = 256 << 10;

/// Answers `/v1/operator/snapshot`.
pub(crate) async fn answer(api: &Api, call: &Call) -> Result<Reply, HttpError> {
    match call.method {
        Method::GET | Method::HEAD => save(api, call).await,
        Method::PUT => restore(api, call).await,
        _ => Err(HttpError::invalid_method()),
    }
}

/// Sends a copy. It is written three times from the same rows, which costs no memory: to know its length, to know the
/// archive's hash, which stands in a header, and to send it.
async fn save(api: &Api, call: &Call) -> Result<Reply, HttpError> {
    call.query.wait()?;
    let server = api.require_server()?;
    let env = server.env().clone();
    let (capture, at) = server.capture();
    let index = at.index;
    let origin = Origin { region: api.agent().region.clone(), version: api.agent().version.clone(), at };
    let created = env.wall();
    let prepared = env.spawn_blocking(move || Copy::prepare(capture, &origin, created)).await;
    let failed =
        |error: &dyn std::error::Error| HttpError::internal(format!("failed to open snapshot: {error}"));
    let copy = prepared.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?;
    let digest = format!("sha-256={}", STANDARD.encode(copy.sha256));
    let (out, pieces) = mpsc::channel::<io::Result<Bytes>>(PIECES_MAX);
    // Whoever reads notices when it ends early: the body breaks off.
    drop(env.spawn_blocking(move || {
        let mut pieces = Pieces { out, buffer: Vec::with_capacity(PIECE_BYTES) };
        if let Err(error) = copy.write(&mut pieces).and_then(|()| pieces.flush()) {
            tracing::debug!(%error, "snapshot could not be sent");
            // The reader may be the one who went away.
            let _ = pieces.out.blocking_send(Err(error));
        }
    }));
    let stream = futures_util::stream::unfold(pieces, |mut pieces| async move {
        let piece = pieces.recv().await?;
        Some((piece, pieces))
    });
    let mut response = Response::new(Body::from_stream(stream));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-gzip"));
    headers.insert("x-nomad-index", index.into());
    headers.insert("x-nomad-knownleader", HeaderValue::from_static("true"));
    headers.insert("x-nomad-lastcontact", HeaderValue::from_static("0"));
    if let Ok(digest) = HeaderValue::from_str(&digest) {
        headers.insert("digest", digest);
    }
    Ok(Reply::Raw(response))
}

/// What a copy is of.
struct Origin {
    region: String,
    version: String,
    at: LogPoint,
}

/// A copy, ready to be written.
struct Copy {
    capture: Capture,
    meta: SnapshotMeta,
    facts: api_types::StateFacts,
    sha256: [u8; 32],
}

impl Copy {
    fn prepare(capture: Capture, origin: &Origin, created: i64) -> io::Result<Self> {
        let mut measure = Measure::default();
        let tables = capture.clone().write_counted(&mut measure)?;
        let facts = measure.finish();
        let LogPoint { term, index } = origin.at;
        let meta = SnapshotMeta {
            cluster_id: capture.cluster_id().map(|id| id.to_string()).unwrap_or_default(),
            created: api_types::Time(created),
            id: format!("{term}-{index}-{}", created / 1_000_000),
            index,
            region: origin.region.clone(),
            size: facts.size,
            tables: tables
                .into_iter()
                .map(|table| SnapshotTable {
                    count: table.rows,
                    name: table.name.to_owned(),
                    size: table.bytes,
                })
                .collect(),
            term,
            version: ARCHIVE_VERSION,
            writer: format!("wayfarer {} ({})", env!("CARGO_PKG_VERSION"), origin.version),
        };
        let mut copy = Self { capture, meta, facts, sha256: [0; 32] };
        let mut hash = Hasher(Sha256::new());
        copy.write(&mut hash)?;
        copy.sha256 = hash.0.finalize().into();
        Ok(copy)
    }

    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        write_archive(out, &self.meta, &self.facts, |out| self.capture.clone().write(out))
    }
}

struct Hasher(Sha256);

impl Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Sends what is written to it, in pieces.
struct Pieces {
    out: mpsc::Sender<io::Result<Bytes>>,
    buffer: Vec<u8>,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= PIECE_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.buffer, Vec::with_capacity(PIECE_BYTES));
        self.out.blocking_send(Ok(piece.into())).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// Takes a copy in. The archive is checked as a whole before the region hears of it.
async fn restore(api: &Api, call: &Call) -> Result<Reply, HttpError> {
    let server = api.require_server()?;
    let failed = |error: &dyn std::error::Error| {
        HttpError::internal(format!("failed to restore from snapshot: {}", chain(error)))
    };
    let body = call.body.clone();
    let read = server.env().spawn_blocking(move || read(&body)).await;
    let (meta, copy) = read.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?;
    let index = match server.restore(copy.into()).await {
        Ok(index) => index,
        Err(RestoreError::Submit(error)) => return Err(error.into()),
        Err(error) => return Err(failed(&error)),
    };
    tracing::warn!(snapshot = meta.id, from_index = meta.index, index, "state was replaced by a snapshot");
    Ok(Reply::done(index))
}

fn read(body: &[u8]) -> Result<(SnapshotMeta, Vec<u8>), ArchiveError> {
    let mut copy = Vec::new();
    let meta = api_types::read_archive(body, &mut copy)?;
    Ok((meta, copy))
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
