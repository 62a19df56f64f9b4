use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, header::HeaderValue};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::{client::legacy, rt::TokioExecutor};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    Address, ByteStream, Config, JsonStream, Query, QueryMeta, RequestError, connect::Connector, types,
};

/// Largest answer that is read as a whole: more than any list that a server can hold in memory.
const ANSWER_BYTES_MAX: usize = 2 << 30;

/// Longest wait for the whole of an answer: the longest blocking query (five minutes and a sixteenth) and some.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(400);

/// Talks to one agent. Cheap to clone; clones share their connections.
#[derive(Clone)]
pub struct Client {
    config: Arc<Config>,
    connector: Connector,
    pool: legacy::Client<Connector, Full<Bytes>>,
}

/// A request as `operator api` makes it.
#[derive(Clone, Debug)]
pub struct RawRequest {
    /// `GET`, `PUT`, ...
    pub method: Method,
    /// Path and parameters, beginning with a slash, ready to be sent.
    pub target: String,
    /// Beside those that every request carries.
    pub headers: Vec<(String, String)>,
    /// What is sent.
    pub body: Bytes,
}

/// The beginning of an answer.
pub struct RawResponse {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// What follows.
    pub body: ByteStream,
}

impl Client {
    /// Makes a client; connects when it is first used.
    pub fn new(config: Config) -> Self {
        let connector = Connector::new(&config.address, &config.tls);
        let pool = legacy::Client::builder(TokioExecutor::new()).build(connector.clone());
        Self { config: Arc::new(config), connector, pool }
    }

    /// The way to connections that are not of the pool.
    pub(crate) fn connector(&self) -> &Connector {
        &self.connector
    }

    /// Returns how the cluster is reached.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Returns the path with the parameters of a query, and the client's namespace and region where that has none.
    pub fn target(&self, path: &str, query: &Query) -> String {
        let text = query.text(&self.config.namespace, &self.config.region);
        let separator = if path.contains('?') { '&' } else { '?' };
        if text.is_empty() { path.to_owned() } else { format!("{path}{separator}{text}") }
    }

    /// Returns the full URL of a path.
    pub fn url(&self, target: &str) -> String {
        match &self.config.address {
            Address::Http { authority, base } => format!("http://{authority}{base}{target}"),
            Address::Https { authority, base } => format!("https://{authority}{base}{target}"),
            // The socket is the host; HTTP wants one nonetheless.
            Address::Unix(_) => format!("http://127.0.0.1{target}"),
        }
    }

    /// Lists the headers that every request carries.
    pub(crate) fn headers(&self) -> Result<HeaderMap, RequestError> {
        let mut headers = HeaderMap::new();
        let value = |text: &str| {
            HeaderValue::from_str(text)
                .map_err(|_| RequestError::Unsendable("a header can not hold this text".to_owned()))
        };
        if !self.config.token.is_empty() {
            headers.insert("x-nomad-token", value(&self.config.token)?);
        }
        if let Some(login) = &self.config.basic_auth {
            headers.insert(
                http::header::AUTHORIZATION,
                value(&format!("Basic {}", crate::exec::base64(login.as_bytes())))?,
            );
        }
        for (name, text) in &self.config.headers {
            let name = http::HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| RequestError::Unsendable(format!("{name:?} is not the name of a header")))?;
            headers.insert(name, value(text)?);
        }
        Ok(headers)
    }

    /// Sends a request and returns the beginning of its answer, whatever its status.
    ///
    /// # Errors
    ///
    /// When nobody answers.
    pub async fn request(&self, request: RawRequest) -> Result<RawResponse, RequestError> {
        let url = self.url(&request.target);
        let method = title(&request.method);
        let mut built = Request::builder()
            .method(request.method)
            .uri(&url)
            .body(Full::new(request.body))
            .map_err(|error| RequestError::Unsendable(format!("{url}: {error}")))?;
        *built.headers_mut() = self.headers()?;
        for (name, text) in &request.headers {
            let name = http::HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| RequestError::Unsendable(format!("{name:?} is not the name of a header")))?;
            let text = HeaderValue::from_str(text)
                .map_err(|_| RequestError::Unsendable(format!("header {name} can not hold {text:?}")))?;
            built.headers_mut().append(name, text);
        }
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, self.pool.request(built)).await;
        match answer {
            Ok(Ok(answer)) => {
                let (head, body) = answer.into_parts();
                Ok(RawResponse {
                    status: head.status.as_u16(),
                    headers: head.headers,
                    body: ByteStream::new(body, url),
                })
            }
            Ok(Err(error)) => Err(RequestError::Connect { method, url, source: error.into() }),
            Err(late) => Err(RequestError::Body { method, url, source: late.into() }),
        }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        query: &Query,
        body: Bytes,
    ) -> Result<RawResponse, RequestError> {
        let answer = self
            .request(RawRequest { method, target: self.target(path, query), headers: Vec::new(), body })
            .await?;
        if answer.status < 300 {
            return Ok(answer);
        }
        let status = answer.status;
        let text = answer.collect().await?;
        Err(RequestError::Status { status, body: String::from_utf8_lossy(&text).trim_end().to_owned() })
    }

    async fn value<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        query: &Query,
        body: Bytes,
    ) -> Result<(T, QueryMeta), RequestError> {
        let answer = self.send(method, path, query, body).await?;
        let meta = QueryMeta::of(&answer.headers);
        let bytes = answer.collect().await?;
        // Some writes answer with nothing at all.
        let text: &[u8] = if bytes.is_empty() { b"null" } else { &bytes };
        let value =
            types::from_slice(text).map_err(|source| RequestError::Decode { url: self.url(path), source })?;
        Ok((value, meta))
    }

    /// Reads a value.
    ///
    /// # Errors
    ///
    /// When there is no answer, or not a good one.
    pub async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &Query,
    ) -> Result<(T, QueryMeta), RequestError> {
        self.value(Method::GET, path, query, Bytes::new()).await
    }

    /// Reads a value that servers spell exactly as its type does, without a tree in between: long lists come in a
    /// fraction of the time. One that is spelt otherwise is read as [`Client::get`] does.
    ///
    /// # Errors
    ///
    /// As for [`Client::get`].
    pub(crate) async fn get_exact<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &Query,
    ) -> Result<(T, QueryMeta), RequestError> {
        let answer = self.send(Method::GET, path, query, Bytes::new()).await?;
        let meta = QueryMeta::of(&answer.headers);
        let bytes = answer.collect().await?;
        let value = serde_json::from_slice(&bytes).or_else(|_| types::from_slice(&bytes));
        Ok((value.map_err(|source| RequestError::Decode { url: self.url(path), source })?, meta))
    }

    /// Reads a body as it is.
    ///
    /// # Errors
    ///
    /// As for [`Client::get`].
    pub async fn get_bytes(&self, path: &str, query: &Query) -> Result<Bytes, RequestError> {
        self.send(Method::GET, path, query, Bytes::new()).await?.collect().await
    }

    /// Reads a body as it comes.
    ///
    /// # Errors
    ///
    /// As for [`Client::get`].
    pub async fn get_stream(&self, path: &str, query: &Query) -> Result<ByteStream, RequestError> {
        Ok(self.send(Method::GET, path, query, Bytes::new()).await?.body)
    }

    /// Reads JSON values as they come.
    ///
    /// # Errors
    ///
    /// As for [`Client::get`].
    pub async fn get_json_stream<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &Query,
    ) -> Result<JsonStream<T>, RequestError> {
        Ok(JsonStream::new(self.get_stream(path, query).await?))
    }

    /// Writes a value and reads the answer.
    ///
    /// # Errors
    ///
    /// As for [`Client::get`].
    pub async fn put<B: Serialize, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
        query: &Query,
    ) -> Result<(T, QueryMeta), RequestError> {
        let body = serde_json::to_vec(body).map_err(|error| RequestError::Unsendable(error.to_string()))?;
        self.value(Method::PUT, path, query, body.into()).await
    }

    /// Asks for something to happen, without saying more, and reads the answer.
    ///
    /// # Errors
    ///
    /// As for [`Client::get`].
    pub async fn put_empty<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &Query,
    ) -> Result<(T, QueryMeta), RequestError> {
        self.value(Method::PUT, path, query, Bytes::new()).await
    }

    /// Deletes something and reads the answer.
    ///
    /// # Errors
    ///
    /// As for [`Client::get`].
    pub async fn delete<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &Query,
    ) -> Result<(T, QueryMeta), RequestError> {
        self.value(Method::DELETE, path, query, Bytes::new()).await
    }
}

impl RawResponse {
    /// Reads the rest of the answer.
    ///
    /// # Errors
    ///
    /// When it breaks off, or takes too long.
    pub async fn collect(self) -> Result<Bytes, RequestError> {
        let (body, url): (Incoming, String) = self.body.into_parts();
        let failed = |source| RequestError::Body { method: "Read".to_owned(), url: url.clone(), source };
        match tokio::time::timeout(ANSWER_TIMEOUT, Limited::new(body, ANSWER_BYTES_MAX).collect()).await {
            Ok(Ok(collected)) => Ok(collected.to_bytes()),
            Ok(Err(error)) => Err(failed(error)),
            Err(late) => Err(failed(late.into())),
        }
    }
}

/// Writes a method the way errors name it: `Get`.
fn title(method: &Method) -> String {
    let (first, rest) = method.as_str().split_at(1);
    format!("{first}{}", rest.to_lowercase())
}
