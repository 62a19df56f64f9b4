//! Accepts connections, reads requests, hands them to their routes and compresses answers.

use std::{io, net::SocketAddr, time::Duration};

use axum::body::Body;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;

use crate::{Api, HttpError, reply::NOT_RUN_HEADER, routes};

/// Time for a client to send the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Only an empty answer is not compressed for whoever takes compressed ones: programs look for the header.
const GZIP_MIN: usize = 1;

/// Connections served at once. Beyond it new ones wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 16_384;

/// Where a request comes from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Origin {
    /// Someone outside the cluster.
    User,
    /// An agent that passes a request on; it is not passed on once more.
    Agent,
}

/// Why connections can not be accepted any more.
#[derive(Debug, thiserror::Error)]
#[error("can not accept connections on {addr}")]
pub struct ListenError {
    /// The address.
    pub addr: SocketAddr,
    /// Why.
    pub source: io::Error,
}

/// Serves the API on a listening socket until the agent stops, with TLS where it is given.
///
/// # Errors
///
/// When the socket is broken.
pub async fn serve_listener(
    api: Api,
    listener: TcpListener,
    tls: Option<tls::Acceptor>,
) -> Result<(), ListenError> {
    let addr = api.agent().http_addr;
    let env = api.agent().env.clone();
    let places = std::sync::Arc::new(tokio::sync::Semaphore::new(CONNECTIONS_MAX));
    loop {
        let place = places.clone().acquire_owned().await.expect("the semaphore is never closed");
        let accepted = tokio::select! {
            biased;
            () = env.shutdown().wait() => return Ok(()),
            accepted = listener.accept() => accepted,
        };
        let (stream, from) = match accepted {
            Ok(accepted) => accepted,
            // The other side gave up, or this process has too many files open: both pass.
            Err(error) if is_passing(&error) => {
                tracing::warn!(%error, "connection could not be accepted");
                env.sleep(Duration::from_millis(50)).await;
                continue;
            }
            Err(source) => return Err(ListenError { addr, source }),
        };
        // Answers are small and someone waits for each.
        let _ = stream.set_nodelay(true);
        let (api, tls) = (api.clone(), tls.clone());
        env.spawn("http-connection", async move {
            match tls {
                Some(tls) => match tls.accept(stream).await {
                    Ok(stream) => serve_connection(api, TokioIo::new(stream), Origin::User).await,
                    Err(error) => {
                        tracing::debug!(%from, error = tls::explain(&error), "TLS handshake error");
                    }
                },
                None => serve_connection(api, TokioIo::new(stream), Origin::User).await,
            }
            drop(place);
        });
    }
}

fn is_passing(error: &io::Error) -> bool {
    let codes = [rustix::io::Errno::MFILE, rustix::io::Errno::NFILE, rustix::io::Errno::NOMEM];
    let aborted = matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset);
    aborted || codes.iter().any(|code| error.raw_os_error() == Some(code.raw_os_error()))
}

pub(crate) async fn serve_connection<I>(api: Api, io: I, origin: Origin)
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let api = api.clone();
        async move { Ok::<_, std::convert::Infallible>(answer(api, request.map(Body::new), origin).await) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(io, service)
        .with_upgrades();
    if let Err(error) = served.await {
        tracing::debug!(%error, "HTTP connection ended early");
    }
}

async fn answer(api: Api, request: Request<Body>, origin: Origin) -> Response<Body> {
    let accepts_gzip = request
        .headers()
        .get(header::ACCEPT_ENCODING)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.contains("gzip"));
    let cors = routes::is_open_to_pages(request.uri().path());
    let begun = api.agent().env.now();
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let response = match respond(&api, request, origin).await {
        Ok(response) => response,
        Err(error) => error.into_response(),
    };
    let mut response = response;
    if origin == Origin::User {
        response.headers_mut().remove(NOT_RUN_HEADER);
        let duration = api.agent().env.now() - begun;
        api.inner.figures.note_request(&method, uri.path(), duration, api.agent().env.wall());
        let path = uri.path_and_query().map_or("", |path| path.as_str());
        tracing::debug!(target: "http", %method, path = %path, duration = %format_args!("{duration:?}"), "request complete");
    }
    finish(&api, response, accepts_gzip, cors).await
}

async fn respond(api: &Api, request: Request<Body>, origin: Origin) -> Result<Response<Body>, HttpError> {
    let path = request.uri().path().to_owned();
    let query = request.uri().query().unwrap_or_default().to_owned();
    if path == "/" {
        let target = if query.is_empty() { "/ui/".to_owned() } else { format!("/ui/?{query}") };
        return redirect(&target);
    }
    match path.strip_prefix("/v1") {
        Some(rest) => crate::relay::answer(api, request, rest, origin).await,
        None => routes::outside_v1(api, &path).map(|reply| reply.into_response(false)),
    }
}

fn redirect(target: &str) -> Result<Response<Body>, HttpError> {
    let mut response = Response::new(Body::from(format!("<a href=\"{target}\">Temporary Redirect</a>.\n\n")));
    *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    let target = HeaderValue::from_str(target).map_err(|error| HttpError::bad_request(error.to_string()))?;
    response.headers_mut().insert(header::LOCATION, target);
    Ok(response)
}

/// Adds what every answer has, and compresses those that are worth it.
async fn finish(api: &Api, mut response: Response<Body>, accepts_gzip: bool, cors: bool) -> Response<Body> {
    let vary = if cors { "Origin" } else { "Accept-Encoding" };
    response.headers_mut().entry(header::VARY).or_insert(HeaderValue::from_static(vary));
    for (name, value) in &api.agent().response_headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            response.headers_mut().insert(name, value);
        }
    }
    let exact = http_body::Body::size_hint(response.body()).exact();
    let worth = exact.is_some_and(|size| size >= GZIP_MIN as u64);
    if !accepts_gzip || !worth || response.headers().contains_key(header::CONTENT_ENCODING) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let Ok(whole) = body.collect().await else {
        return HttpError::internal("answer could not be read").into_response();
    };
    match gzip(&whole.to_bytes()) {
        Ok(small) => {
            parts.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            parts.headers.remove(header::CONTENT_LENGTH);
            Response::from_parts(parts, Body::from(small))
        }
        Err(error) => HttpError::internal(format!("answer could not be compressed: {error}")).into_response(),
    }
}

fn gzip(bytes: &[u8]) -> io::Result<Vec<u8>> {
    use std::io::Write;
    let mut encoder =
        flate2::write::GzEncoder::new(Vec::with_capacity(bytes.len() / 4), flate2::Compression::fast());
    encoder.write_all(bytes)?;
    encoder.finish()
}
