//! Files and logs of allocations.

use bytes::Bytes;

use crate::{
    ByteStream, Client, JsonStream, Query, RequestError,
    query::segment,
    types::{AllocFileInfo, StreamFrame},
};

type Answer<T> = Result<T, RequestError>;

/// Which of a task's outputs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LogKind {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// What an offset counts from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Origin {
    /// The beginning.
    Start,
    /// The end.
    End,
}

impl Origin {
    fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::End => "end",
        }
    }
}

/// Which part of a log is read.
#[derive(Clone, Debug)]
pub struct LogQuery {
    /// The allocation.
    pub alloc_id: String,
    /// The task.
    pub task: String,
    /// Which output.
    pub kind: LogKind,
    /// Go on when the end is reached.
    pub follow: bool,
    /// Where to begin.
    pub origin: Origin,
    /// How far from there.
    pub offset: i64,
}

/// Files and logs.
impl Client {
    /// Reads a log in frames.
    ///
    /// # Errors
    ///
    /// As for [`Client::get`], like all that follow.
    pub async fn logs(&self, log: &LogQuery, query: &Query) -> Answer<JsonStream<StreamFrame>> {
        let kind = match log.kind {
            LogKind::Stdout => "stdout",
            LogKind::Stderr => "stderr",
        };
        let query = query
            .clone()
            .with("task", log.task.as_str())
            .with("type", kind)
            .with("follow", log.follow.to_string())
            .with("origin", log.origin.name())
            .with("offset", log.offset.to_string());
        self.get_json_stream(&format!("/v1/client/fs/logs/{}", segment(&log.alloc_id)), &query).await
    }

    /// Lists a directory.
    pub async fn list_files(&self, alloc_id: &str, path: &str, query: &Query) -> Answer<Vec<AllocFileInfo>> {
        let query = query.clone().with("path", path);
        Ok(self.get(&format!("/v1/client/fs/ls/{}", segment(alloc_id)), &query).await?.0)
    }

    /// Reads what is known of a file.
    pub async fn stat_file(&self, alloc_id: &str, path: &str, query: &Query) -> Answer<AllocFileInfo> {
        let query = query.clone().with("path", path);
        Ok(self.get(&format!("/v1/client/fs/stat/{}", segment(alloc_id)), &query).await?.0)
    }

    /// Reads a file as it comes.
    pub async fn read_file(&self, alloc_id: &str, path: &str, query: &Query) -> Answer<ByteStream> {
        let query = query.clone().with("path", path);
        self.get_stream(&format!("/v1/client/fs/cat/{}", segment(alloc_id)), &query).await
    }

    /// Reads a part of a file; to its end when `limit` is 0.
    pub async fn read_file_at(
        &self,
        alloc_id: &str,
        path: &str,
        offset: i64,
        limit: i64,
        query: &Query,
    ) -> Answer<Bytes> {
        let mut query = query.clone().with("path", path).with("offset", offset.to_string());
        if limit > 0 {
            query = query.with("limit", limit.to_string());
        }
        self.get_bytes(&format!("/v1/client/fs/readat/{}", segment(alloc_id)), &query).await
    }

    /// Reads a file in frames; goes on when the end is reached if `follow`.
    pub async fn stream_file(
        &self,
        alloc_id: &str,
        path: &str,
        origin: Origin,
        offset: i64,
        follow: bool,
        query: &Query,
    ) -> Answer<JsonStream<StreamFrame>> {
        let query = query
            .clone()
            .with("path", path)
            .with("origin", origin.name())
            .with("offset", offset.to_string())
            .with("follow", follow.to_string());
        self.get_json_stream(&format!("/v1/client/fs/stream/{}", segment(alloc_id)), &query).await
    }
}
