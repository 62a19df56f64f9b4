//! Requests passed on to another agent: HTTP over a stream of the transport.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use transport::{Connection, Stream};

use crate::{Api, HttpError};

/// First bytes of a stream that carries one HTTP connection.
pub const HTTP_STREAM_HEADER: &[u8] = b"http/1";

/// Time for the other agent to take a stream.
const OPEN_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);

/// Counts the agents that a request passed, so that two that disagree about who answers do not pass it on for ever.
const HOPS_HEADER: &str = "x-wayfarer-hops";

/// How often a request was asked before, so that whoever chooses among servers chooses another one.
const ATTEMPT_HEADER: &str = "x-wayfarer-attempt";

/// Says that a server shall answer itself what is about a node, or that it can not.
const FINAL_HEADER: &str = "x-wayfarer-final";

/// What agents tell each other beside a request; not believed of users.
pub(crate) const AGENT_HEADERS: [&str; 3] = [HOPS_HEADER, ATTEMPT_HEADER, FINAL_HEADER];

/// Notes for the next agent how often a request was asked, and whether it is the last to be asked.
pub(crate) fn note_way(headers: &mut HeaderMap, attempt: u32, is_final: bool) {
    headers.insert(ATTEMPT_HEADER, attempt.into());
    if is_final {
        headers.insert(FINAL_HEADER, http::HeaderValue::from_static("1"));
    } else {
        headers.remove(FINAL_HEADER);
    }
}

/// Returns what [`note_way`] noted.
pub(crate) fn way_of(headers: &HeaderMap) -> (u32, bool) {
    let attempt = headers.get(ATTEMPT_HEADER).and_then(|value| value.to_str().ok()?.parse().ok());
    (attempt.unwrap_or(0), headers.contains_key(FINAL_HEADER))
}

/// Returns how many agents passed a request on.
pub(crate) fn hops_of(headers: &HeaderMap) -> u32 {
    headers.get(HOPS_HEADER).and_then(|value| value.to_str().ok()?.parse().ok()).unwrap_or(0)
}

/// Serves HTTP on a stream that another agent opened, until it is done.
pub async fn serve_stream(api: Api, stream: Stream) {
    crate::listen::serve_connection(api, TokioIo::new(Ended(stream)), crate::listen::Origin::Agent).await;
}

/// A stream that ends in good order when it is dropped. HTTP says itself where a message ends, and a websocket too; a stream
/// that breaks off would take with it what was written before and is still on its way, such as the last words of a command.
struct Ended(Stream);

impl Drop for Ended {
    fn drop(&mut self) {
        // The carrier takes the end at once. One that does not is broken off, as it would be without this.
        let _ = Pin::new(&mut self.0).poll_shutdown(&mut Context::from_waker(Waker::noop()));
    }
}

impl AsyncRead for Ended {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Ended {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Why a request got no answer from the agent that it was passed on to.
#[derive(Debug)]
pub(crate) enum PassError {
    /// It never left this agent.
    NotSent(String),
    /// It may have run.
    Broken(String),
}

impl PassError {
    /// What a user is told. Whatever only reads may be asked again.
    pub fn into_error(self, is_read: bool) -> HttpError {
        match self {
            Self::NotSent(why) => {
                HttpError::internal(format!("could not reach the agent in charge: {why}")).not_run()
            }
            Self::Broken(why) if is_read => {
                HttpError::internal(format!("the agent in charge went away: {why}")).not_run()
            }
            Self::Broken(why) => HttpError::internal(format!(
                "the agent in charge went away, so this may or may not have happened: {why}"
            )),
        }
    }
}

impl Api {
    /// Passes a request on over a connection to another agent, with upgrades and bodies of any length.
    pub(crate) async fn pass_on(
        &self,
        connection: &Connection,
        request: Request<Body>,
    ) -> Result<Response<Body>, PassError> {
        let env = &self.agent().env;
        let unreachable = PassError::NotSent;
        let deadline = env.now() + OPEN_TIMEOUT;
        let stream = connection.open_stream(Bytes::from_static(HTTP_STREAM_HEADER), deadline).await;
        let stream = stream.map_err(|error| unreachable(error.to_string()))?;
        let (mut sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(Ended(stream)))
            .await
            .map_err(|error| unreachable(error.to_string()))?;
        env.spawn("http-forward", async move {
            if let Err(error) = driver.with_upgrades().await {
                tracing::debug!(%error, "forwarded request ended early");
            }
        });
        let (mut parts, body) = request.into_parts();
        let hops = hops_of(&parts.headers).saturating_add(1);
        parts.headers.insert(HOPS_HEADER, hops.into());
        let own_upgrade = parts.extensions.remove::<hyper::upgrade::OnUpgrade>();
        let mut response = sender.try_send_request(Request::from_parts(parts, body)).await.map_err(
            |mut error| match error.take_message() {
                Some(_) => PassError::NotSent(error.error().to_string()),
                None => PassError::Broken(error.error().to_string()),
            },
        )?;
        if response.status() == http::StatusCode::SWITCHING_PROTOCOLS
            && let Some(own_upgrade) = own_upgrade
        {
            let theirs = hyper::upgrade::on(&mut response);
            env.spawn("http-upgrade", async move {
                let (Ok(near), Ok(far)) = (own_upgrade.await, theirs.await) else { return };
                let copied =
                    tokio::io::copy_bidirectional(&mut TokioIo::new(near), &mut TokioIo::new(far)).await;
                if let Err(error) = copied {
                    tracing::debug!(%error, "upgraded connection ended early");
                }
            });
        }
        Ok(response.map(Body::new))
    }
}
