//! What a route answers, and how it becomes an HTTP response.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;
use serde_json::ser::PrettyFormatter;

use crate::HttpError;

/// Says to an agent that passed a request on that nothing happened: another server has to answer. Users never see it.
pub(crate) const NOT_RUN_HEADER: &str = "x-wayfarer-not-run";

/// What reads say about the state that they were answered from.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Meta {
    /// The index of what was read.
    pub index: u64,
    /// Where the next page begins.
    pub next_token: Option<String>,
}

/// What a route answers.
pub enum Reply {
    /// A value as JSON.
    Json {
        /// The encoded value.
        body: Vec<u8>,
        /// Set on reads.
        meta: Option<Meta>,
        /// Set on writes.
        index: Option<u64>,
    },
    /// Nothing, with an index if something was written.
    Empty {
        /// The index.
        index: Option<u64>,
        /// The status code.
        code: StatusCode,
    },
    /// A response of its own making: streams, files, upgrades.
    Raw(Response<Body>),
}

impl Reply {
    /// Answers a read.
    ///
    /// # Errors
    ///
    /// When the value can not be encoded.
    pub fn read<T: Serialize>(value: &T, meta: Meta) -> Result<Self, HttpError> {
        Ok(Self::Json { body: encode(value)?, meta: Some(meta), index: None })
    }

    /// Answers a read with what is encoded already.
    pub fn read_encoded(body: Vec<u8>, meta: Meta) -> Self {
        Self::Json { body, meta: Some(meta), index: None }
    }

    /// Answers a write.
    ///
    /// # Errors
    ///
    /// When the value can not be encoded.
    pub fn written<T: Serialize>(value: &T, index: u64) -> Result<Self, HttpError> {
        Ok(Self::Json { body: encode(value)?, meta: None, index: Some(index) })
    }

    /// Answers with a value alone.
    ///
    /// # Errors
    ///
    /// When the value can not be encoded.
    pub fn json<T: Serialize>(value: &T) -> Result<Self, HttpError> {
        Ok(Self::Json { body: encode(value)?, meta: None, index: None })
    }

    /// Answers a write with nothing but its index.
    pub fn done(index: u64) -> Self {
        Self::Empty { index: Some(index), code: StatusCode::OK }
    }

    /// Answers with nothing.
    pub fn empty() -> Self {
        Self::Empty { index: None, code: StatusCode::OK }
    }

    /// Makes the response.
    pub fn into_response(self, pretty: bool) -> Response<Body> {
        match self {
            Self::Raw(response) => response,
            Self::Empty { index, code } => {
                let mut response = Response::new(Body::empty());
                *response.status_mut() = code;
                if let Some(index) = index {
                    response.headers_mut().insert("x-nomad-index", index.into());
                }
                response
            }
            Self::Json { body, meta, index } => {
                let body = if pretty { prettify(body) } else { body };
                let mut response = Response::new(Body::from(Bytes::from(body)));
                let headers = response.headers_mut();
                headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
                if let Some(index) = index {
                    headers.insert("x-nomad-index", index.into());
                }
                if let Some(meta) = meta {
                    insert_meta(headers, meta.index);
                    if let Some(token) = meta.next_token.and_then(|token| HeaderValue::from_str(&token).ok())
                    {
                        headers.insert("x-nomad-nexttoken", token);
                    }
                }
                response
            }
        }
    }
}

impl HttpError {
    /// Makes the response.
    pub fn into_response(self) -> Response<Body> {
        let bare = self.message.is_empty();
        let mut response = Response::new(Body::from(self.message));
        *response.status_mut() = self.code;
        if self.not_run {
            response.headers_mut().insert(NOT_RUN_HEADER, HeaderValue::from_static("1"));
        }
        if bare {
            return response;
        }
        let text = HeaderValue::from_static("text/plain; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, text);
        if let Some(index) = self.index {
            insert_meta(response.headers_mut(), index);
        }
        response
    }
}

/// Says of a read that a follower answered how old its state may be. Other answers stay as they are.
pub(crate) fn stamp(response: &mut Response<Body>, known_leader: bool, last_contact: Duration) {
    let headers = response.headers_mut();
    if headers.contains_key("x-nomad-lastcontact") {
        let known = HeaderValue::from_static(if known_leader { "true" } else { "false" });
        headers.insert("x-nomad-knownleader", known);
        let millis = u64::try_from(last_contact.as_millis()).unwrap_or(u64::MAX);
        headers.insert("x-nomad-lastcontact", millis.into());
    }
}

/// Says from which state a read was answered: the leader's, unless [`stamp`] says otherwise.
fn insert_meta(headers: &mut http::HeaderMap, index: u64) {
    headers.insert("x-nomad-index", index.into());
    headers.insert("x-nomad-knownleader", HeaderValue::from_static("true"));
    headers.insert("x-nomad-lastcontact", HeaderValue::from_static("0"));
}

fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, HttpError> {
    serde_json::to_vec(value)
        .map_err(|error| HttpError::internal(format!("answer can not be encoded: {error}")))
}

/// Writes JSON for people: four blanks a level, and a newline at the end.
fn prettify(body: Vec<u8>) -> Vec<u8> {
    let Ok(value) = serde_json::from_slice::<serde_json::Value>(&body) else { return body };
    let mut out = Vec::with_capacity(body.len() * 2);
    let mut serializer =
        serde_json::Serializer::with_formatter(&mut out, PrettyFormatter::with_indent(b"    "));
    if value.serialize(&mut serializer).is_err() {
        return body;
    }
    out.push(b'\n');
    out
}
