use std::error::Error;

/// A request got no good answer. `Display` gives the words that commands print.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// Nobody was reached; nothing happened.
    #[error("{}", connect_words(method, url, source.as_ref()))]
    Connect {
        /// What was asked, e.g. `Get`.
        method: String,
        /// Of where.
        url: String,
        /// Why not.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The agent refused, or failed.
    #[error("Unexpected response code: {status} ({body})")]
    Status {
        /// The HTTP status.
        status: u16,
        /// The agent's words.
        body: String,
    },
    /// The answer broke off, or was too long in coming. Whether the request took effect is unknown.
    #[error("{method} \"{url}\": {source}")]
    Body {
        /// What was asked.
        method: String,
        /// Of where.
        url: String,
        /// What went wrong.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The answer has another shape than it must.
    #[error("could not read the answer of {url}: {source}")]
    Decode {
        /// Of where it came.
        url: String,
        /// What is wrong with it.
        source: types::BodyError,
    },
    /// A path, header or body can not be sent.
    #[error("{0}")]
    Unsendable(String),
}

use crate::types;

impl RequestError {
    /// Returns the HTTP status, when there was an answer.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Status { status, .. } => Some(*status),
            Self::Connect { .. } | Self::Body { .. } | Self::Decode { .. } | Self::Unsendable(_) => None,
        }
    }

    /// Returns the agent's words, when there was an answer.
    pub fn body(&self) -> Option<&str> {
        match self {
            Self::Status { body, .. } => Some(body),
            Self::Connect { .. } | Self::Body { .. } | Self::Decode { .. } | Self::Unsendable(_) => None,
        }
    }

    /// Tells whether what was asked for is not there.
    pub fn is_not_found(&self) -> bool {
        self.status() == Some(404)
    }
}

/// Finds the innermost cause: the layers between say only that something went wrong.
fn connect_words(method: &str, url: &str, source: &(dyn Error + 'static)) -> String {
    let mut innermost: &(dyn Error + 'static) = source;
    while let Some(inner) = innermost.source() {
        innermost = inner;
    }
    let reason = match innermost.downcast_ref::<std::io::Error>().map(std::io::Error::kind) {
        Some(std::io::ErrorKind::ConnectionRefused) => "connect: connection refused".to_owned(),
        Some(std::io::ErrorKind::NotFound) => "connect: no such file or directory".to_owned(),
        _ => innermost.to_string(),
    };
    // Someone answered, and one of the two ends did not like the other.
    if ["tls: ", "remote error: tls: ", "http: "].iter().any(|start| reason.starts_with(start)) {
        return format!("{method} \"{url}\": {reason}");
    }
    let host = url.split_once("://").map_or(url, |(_, rest)| rest.split(['/', '?']).next().unwrap_or(rest));
    format!("{method} \"{url}\": dial tcp {host}: {reason}")
}
