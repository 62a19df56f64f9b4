use std::marker::PhantomData;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{RequestError, types};

/// Largest JSON value of a stream. Frames are 64 KiB; an event carries at most a whole job and its allocations.
const VALUE_BYTES_MAX: usize = 256 << 20;

/// A body as it comes.
pub struct ByteStream {
    body: Incoming,
    url: String,
}

impl ByteStream {
    pub(crate) fn new(body: Incoming, url: String) -> Self {
        Self { body, url }
    }

    pub(crate) fn into_parts(self) -> (Incoming, String) {
        (self.body, self.url)
    }

    /// Returns the next piece; `None` at the end. May be cancelled without loss.
    ///
    /// # Errors
    ///
    /// When the connection breaks off.
    pub async fn next(&mut self) -> Result<Option<Bytes>, RequestError> {
        loop {
            match self.body.frame().await {
                None => return Ok(None),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
                Some(Err(error)) => {
                    return Err(RequestError::Body {
                        method: "Read".to_owned(),
                        url: self.url.clone(),
                        source: error.into(),
                    });
                }
            }
        }
    }
}

/// JSON values one after the other, with or without space between them.
pub struct JsonStream<T> {
    bytes: ByteStream,
    rest: BytesMut,
    kind: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> JsonStream<T> {
    pub(crate) fn new(bytes: ByteStream) -> Self {
        Self { bytes, rest: BytesMut::new(), kind: PhantomData }
    }

    /// Returns the next value; `None` at the end. May be cancelled without loss.
    ///
    /// # Errors
    ///
    /// When the connection breaks off, or something else than such values comes.
    pub async fn next(&mut self) -> Result<Option<T>, RequestError> {
        loop {
            if let Some(value) = split_value(&mut self.rest).map_err(|source| self.bad(source))? {
                return types::from_value(value)
                    .map(Some)
                    .map_err(|source| RequestError::Decode { url: self.bytes.url.clone(), source });
            }
            if self.rest.len() > VALUE_BYTES_MAX {
                return Err(self.bad("a value of the stream is too long".into()));
            }
            match self.bytes.next().await? {
                None => return Ok(None),
                Some(more) => self.rest.extend_from_slice(&more),
            }
        }
    }

    fn bad(&self, source: Box<dyn std::error::Error + Send + Sync>) -> RequestError {
        RequestError::Body { method: "Read".to_owned(), url: self.bytes.url.clone(), source }
    }
}

/// Takes the first complete value off the front; `None` when there is not enough yet.
fn split_value(rest: &mut BytesMut) -> Result<Option<Value>, Box<dyn std::error::Error + Send + Sync>> {
    let mut values = serde_json::Deserializer::from_slice(rest).into_iter::<Value>();
    let first = values.next();
    let used = values.byte_offset();
    match first {
        Some(Ok(value)) => {
            let _ = rest.split_to(used); // the bytes of the value that is returned
            Ok(Some(value))
        }
        Some(Err(error)) if error.is_eof() => Ok(None),
        Some(Err(error)) => Err(error.into()),
        None => {
            rest.clear();
            Ok(None)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_split_wherever_pieces_end() {
        let mut rest = BytesMut::from(&br#"{"a":1}{}{"b":"#[..]);
        assert_eq!(split_value(&mut rest).expect("good"), Some(serde_json::json!({"a": 1})));
        assert_eq!(split_value(&mut rest).expect("good"), Some(serde_json::json!({})));
        assert_eq!(split_value(&mut rest).expect("good"), None);
        rest.extend_from_slice(b"2}\n");
        assert_eq!(split_value(&mut rest).expect("good"), Some(serde_json::json!({"b": 2})));
        assert_eq!(split_value(&mut rest).expect("good"), None);
        rest.extend_from_slice(b"nope");
        assert!(split_value(&mut rest).is_err());
    }
}
