//! `/v1/client/fs/{ls,stat,cat,readat,stream,logs}/:alloc`.

use std::{fs::File, os::unix::fs::FileExt, sync::Arc, time::Duration};

use api_types::{AllocFileInfo, StreamFrame, Time};
use axum::body::Body;
use bytes::Bytes;
use client::{
    AllocFiles, Client, FileError, FileFacts,
    logs::{self, Chunk, FileReader, LogReader, Output},
};
use http::{HeaderValue, Response};
use model::{AllocId, TaskRunState};
use runtime::Env;
use tokio::sync::mpsc;

use super::{client::find_alloc, nodes::require_read};
use crate::{
    Api, Call, HttpError, Query, Reply,
    streaming::{self, Frames, ReaderGone},
};

/// Time between two looks at a file that is followed; a line is seen by then.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(100);

/// Bytes handed to a slow reader of a whole file at a time.
const PIECE_BYTES: usize = 64 * 1024;

/// Answers what follows `/v1/client/fs/`.
pub(crate) async fn answer(api: &Api, call: &Call, rest: &str) -> Result<Reply, HttpError> {
    require_read(call)?;
    let (verb, id) = rest.split_once('/').unwrap_or((rest, ""));
    if id.is_empty() {
        return Err(HttpError::bad_request("must provide a valid alloc id"));
    }
    match verb {
        "ls" => list(api, call, id).await,
        "stat" => stat(api, call, id).await,
        "cat" => cat(api, call, id).await,
        "readat" => read_at(api, call, id).await,
        "stream" => stream(api, call, id).await,
        "logs" => log(api, call, id).await,
        _ => Err(HttpError::not_found("")),
    }
}

fn open(client: &Client, id: AllocId) -> Result<AllocFiles, HttpError> {
    client.files(id).ok_or_else(|| HttpError::not_found(format!("allocation {id} has no directory yet")))
}

fn wanted_path(query: &Query) -> Result<String, HttpError> {
    query.text("path").map(str::to_owned).ok_or_else(|| HttpError::bad_request("must provide a file name"))
}

/// Reads files away from the event loop.
async fn blocking<T: Send + 'static>(
    env: &Env,
    work: impl FnOnce() -> Result<T, FileError> + Send + 'static,
) -> Result<Result<T, FileError>, HttpError> {
    env.spawn_blocking(work).await.map_err(|error| HttpError::internal(error.to_string()))
}

fn status(error: &FileError) -> HttpError {
    match error {
        FileError::Missing { .. } => HttpError::not_found(error.to_string()),
        FileError::Escapes
        | FileError::Secret { .. }
        | FileError::Directory { .. }
        | FileError::NotRegular { .. }
        | FileError::TooMany { .. }
        | FileError::Io { .. } => HttpError::internal(error.to_string()),
    }
}

fn shape(facts: FileFacts) -> AllocFileInfo {
    AllocFileInfo {
        content_type: facts.content_type.unwrap_or_default().to_owned(),
        file_mode: facts.mode,
        is_dir: facts.is_dir,
        mod_time: Time(facts.modified),
        name: facts.name,
        size: facts.size,
    }
}

async fn list(api: &Api, call: &Call, id: &str) -> Result<Reply, HttpError> {
    let (client, id, _) = find_alloc(api, id)?;
    let files = open(client, id)?;
    let path = call.query.text("path").unwrap_or("/").to_owned();
    let found = blocking(client.env(), move || files.list(&path)).await?.map_err(|error| status(&error))?;
    Reply::json(&found.into_iter().map(shape).collect::<Vec<_>>())
}

async fn stat(api: &Api, call: &Call, id: &str) -> Result<Reply, HttpError> {
    let path = wanted_path(&call.query)?;
    let (client, id, _) = find_alloc(api, id)?;
    let files = open(client, id)?;
    let found = blocking(client.env(), move || files.stat(&path)).await?.map_err(|error| status(&error))?;
    Reply::json(&shape(found))
}

async fn cat(api: &Api, call: &Call, id: &str) -> Result<Reply, HttpError> {
    let path = wanted_path(&call.query)?;
    let (client, id, _) = find_alloc(api, id)?;
    let files = open(client, id)?;
    match whole_file(client, files, path, 0, None).await? {
        Ok(response) => Ok(Reply::Raw(response)),
        // Programs expect the reason in place of the content here.
        Err(error) => {
            Ok(Reply::Raw(streaming::typed("text/plain; charset=utf-8", Body::from(error.to_string()))))
        }
    }
}

async fn read_at(api: &Api, call: &Call, id: &str) -> Result<Reply, HttpError> {
    let path = wanted_path(&call.query)?;
    let offset = call.query.number::<i64>("offset")?.unwrap_or(0);
    let limit = call.query.number::<i64>("limit")?;
    let offset = u64::try_from(offset).map_err(|_| HttpError::bad_request("offset must not be negative"))?;
    let limit = limit.and_then(|limit| u64::try_from(limit).ok());
    let (client, id, _) = find_alloc(api, id)?;
    let files = open(client, id)?;
    let response = whole_file(client, files, path, offset, limit).await?;
    response.map(Reply::Raw).map_err(|error| status(&error))
}

/// Answers with a part of a file. What a page might run in a reader's name is sent as plain text.
async fn whole_file(
    client: &Client,
    files: AllocFiles,
    path: String,
    offset: u64,
    limit: Option<u64>,
) -> Result<Result<Response<Body>, FileError>, HttpError> {
    let opened = blocking(client.env(), move || files.read(&path)).await?;
    let (file, facts) = match opened {
        Ok(opened) => opened,
        Err(error) => return Ok(Err(error)),
    };
    let size = facts.size.saturating_sub(offset).min(limit.unwrap_or(u64::MAX));
    let (out, pieces) = streaming::channel();
    client.env().spawn("file-content", send_file(client.env().clone(), file, offset, size, out));
    let mut response = streaming::response_once_known(harmless(facts.content_type), pieces).await;
    let headers = response.headers_mut();
    let policy = "default-src 'none'; style-src 'unsafe-inline'; sandbox";
    headers.insert("content-security-policy", HeaderValue::from_static(policy));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    headers.insert("x-xss-protection", HeaderValue::from_static("1; mode=block"));
    Ok(Ok(response))
}

/// Sends a part of a file piece by piece. A slow reader holds up nobody: no thread waits for it.
async fn send_file(env: Env, file: File, mut offset: u64, mut rest: u64, out: mpsc::Sender<Bytes>) {
    let file = Arc::new(file);
    while rest > 0 {
        let file = Arc::clone(&file);
        let wanted = usize::try_from(rest).unwrap_or(usize::MAX).min(PIECE_BYTES);
        let read = env.spawn_blocking(move || {
            let mut piece = vec![0; wanted];
            let count = file.read_at(&mut piece, offset)?;
            piece.truncate(count);
            Ok::<_, std::io::Error>(piece)
        });
        let piece = match read.await {
            Ok(Ok(piece)) if !piece.is_empty() => piece,
            // It is shorter than it was.
            Ok(Ok(_)) => return,
            Ok(Err(error)) => {
                tracing::debug!(%error, "file can not be read any more");
                return;
            }
            Err(error) => {
                tracing::debug!(%error, "file was not read");
                return;
            }
        };
        offset += piece.len() as u64;
        rest -= piece.len() as u64;
        if out.send(Bytes::from(piece)).await.is_err() {
            return;
        }
    }
}

fn harmless(content_type: Option<&'static str>) -> &'static str {
    match content_type {
        Some(kind)
            if kind.starts_with("image/")
                || kind == "application/octet-stream"
                || kind == "application/json" =>
        {
            kind
        }
        _ => "text/plain; charset=utf-8",
    }
}

fn origin(query: &Query) -> Result<logs::From, HttpError> {
    let offset = query.number::<i64>("offset")?.unwrap_or(0);
    // A negative offset means the same as none.
    let offset = u64::try_from(offset).unwrap_or(0);
    match query.text("origin") {
        None | Some("start") => Ok(logs::From::Start(offset)),
        Some("end") => Ok(logs::From::End(offset)),
        Some(_) => Err(HttpError::bad_request("origin must be start or end")),
    }
}

async fn stream(api: &Api, call: &Call, id: &str) -> Result<Reply, HttpError> {
    let path = wanted_path(&call.query)?;
    let from = origin(&call.query)?;
    let follow = call.query.switch("follow")?.unwrap_or(true);
    let (client, id, _) = find_alloc(api, id)?;
    let files = open(client, id)?;
    let opened = blocking(client.env(), move || FileReader::open(files, &path, from)).await?;
    let reader = opened.map_err(|error| HttpError::bad_request(error.to_string()))?;
    let (out, pieces) = streaming::channel();
    let frames = Frames::new(client.env(), out, false);
    let feed = Feed { client: client.clone(), id, source: Source::File(reader), frames, follow };
    client.env().spawn("file-stream", feed.run());
    // The head goes out at once, even when the file has nothing to say.
    Ok(Reply::Raw(streaming::response("text/plain; charset=utf-8", pieces)))
}

async fn log(api: &Api, call: &Call, id: &str) -> Result<Reply, HttpError> {
    let query = &call.query;
    let task = query.text("task").ok_or_else(|| HttpError::bad_request("must provide task name"))?.to_owned();
    let no_type = || HttpError::bad_request("must provide log type (stdout/stderr)");
    let output: Output = query.text("type").ok_or_else(no_type)?.parse().map_err(|()| no_type())?;
    let follow = query.switch("follow")?.unwrap_or(false);
    let plain = query.switch("plain")?.unwrap_or(false);
    let from = origin(query)?;
    let (client, id, view) = find_alloc(api, id)?;
    let known = view.assigned.load().group().tasks.iter().any(|known| known.name == task);
    if !known {
        return Err(HttpError::bad_request(format!("unknown task name {task:?}")));
    }
    let states = view.told.lock().task_states.clone();
    let started = states.iter().any(|state| {
        state.name == task && (!state.started_at.is_zero() || state.state != TaskRunState::Pending)
    });
    if !started {
        return Err(HttpError::not_found(format!("task {task:?} not started yet. No logs available")));
    }
    let files = open(client, id)?;
    let name = task.clone();
    let opened = blocking(client.env(), move || {
        let reader = LogReader::open(files, &name, output, from);
        let any = reader.has_files();
        Ok((reader, any))
    });
    let (reader, any) = opened.await?.map_err(|error| status(&error))?;
    if !any && !follow {
        let text = format!("log entry for task {task:?} and log type {:?} not found", output.as_str());
        return Err(HttpError::not_found(text));
    }
    let (out, pieces) = streaming::channel();
    let frames = Frames::new(client.env(), out, plain);
    let feed = Feed { client: client.clone(), id, source: Source::Log(reader), frames, follow };
    client.env().spawn("log-stream", feed.run());
    Ok(Reply::Raw(log_response(plain, follow, pieces).await))
}

async fn log_response(plain: bool, follow: bool, pieces: mpsc::Receiver<Bytes>) -> Response<Body> {
    let content_type = if plain { "text/plain" } else { "application/json" };
    if follow {
        streaming::response(content_type, pieces)
    } else {
        streaming::response_once_known(content_type, pieces).await
    }
}

enum Source {
    Log(LogReader),
    File(FileReader),
}

impl Source {
    fn read(&mut self) -> Result<Chunk, FileError> {
        match self {
            Self::Log(reader) => reader.read(),
            Self::File(reader) => reader.read(),
        }
    }
}

/// Reads on and on for one reader, and ends with it.
struct Feed {
    client: Client,
    id: AllocId,
    source: Source,
    frames: Frames,
    follow: bool,
}

impl Feed {
    async fn run(self) {
        let env = self.client.env().clone();
        if let Err(ReaderGone) = self.feed(&env).await {
            tracing::trace!("reader of a file or log went away");
        }
    }

    async fn feed(mut self, env: &Env) -> Result<(), ReaderGone> {
        loop {
            let mut source = self.source;
            let read = env.spawn_blocking(move || {
                let chunk = source.read();
                (source, chunk)
            });
            // A read that panicked has no source to go on with.
            let Ok((source, chunk)) = read.await else { return Ok(()) };
            self.source = source;
            match chunk {
                Ok(Chunk::Data { file, offset, data }) => {
                    let offset = i64::try_from(offset).unwrap_or(i64::MAX);
                    self.frames.send(StreamFrame { data, file, offset, ..StreamFrame::default() }).await?;
                }
                Ok(event @ Chunk::Event { .. }) => self.tell(event).await?,
                Ok(Chunk::Nothing) if self.follow && self.client.alloc(self.id).is_some() => {
                    self.frames.idle(FOLLOW_INTERVAL).await?;
                }
                Ok(Chunk::Gone) => {
                    if let Source::File(reader) = &self.source {
                        let deleted = reader.deleted();
                        self.tell(deleted).await?;
                    }
                    return Ok(());
                }
                Ok(Chunk::Nothing) => return Ok(()),
                Err(error) => {
                    tracing::debug!(alloc_id = %self.id, %error, "file or log can not be read any more");
                    return Ok(());
                }
            }
        }
    }

    async fn tell(&mut self, chunk: Chunk) -> Result<(), ReaderGone> {
        let Chunk::Event { file, event, offset } = chunk else { return Ok(()) };
        let offset = i64::try_from(offset).unwrap_or(i64::MAX);
        self.frames
            .send(StreamFrame { file, file_event: event.to_owned(), offset, ..StreamFrame::default() })
            .await
    }
}
