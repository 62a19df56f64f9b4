//! Commands in tasks, over a websocket.

use futures_util::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{self, Message, client::IntoClientRequest},
};

use crate::{
    Client, Query, RequestError,
    connect::Stream,
    query::segment,
    types::{self, ExecInput, ExecOutput},
};

type Socket = WebSocketStream<Box<dyn Stream>>;

/// What is run, and where.
#[derive(Clone, Debug)]
pub struct ExecCommand {
    /// The allocation.
    pub alloc_id: String,
    /// The task.
    pub task: String,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// With a terminal.
    pub tty: bool,
}

/// A command in a task came to no end.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// The agent refused it.
    #[error("{0}")]
    Refused(String),
    /// The agent closed the connection with these words.
    #[error("websocket closed before receiving exit code: websocket: close {code}: {reason}")]
    Closed {
        /// Of the close frame.
        code: u16,
        /// The agent's words.
        reason: String,
    },
    /// The connection broke off.
    #[error("connection broke off: {0}")]
    Broken(String),
    /// It could not be asked for.
    #[error(transparent)]
    Request(#[from] RequestError),
}

/// Where a command's input goes.
pub struct ExecInputHalf(SplitSink<Socket, Message>);

/// Where a command's output comes from.
pub struct ExecOutputHalf(SplitStream<Socket>);

impl Client {
    /// Runs a command in a task.
    ///
    /// # Errors
    ///
    /// When the agent is not reached or refuses.
    pub async fn exec(&self, command: &ExecCommand) -> Result<(ExecInputHalf, ExecOutputHalf), ExecError> {
        let words = serde_json::to_string(&command.command)
            .map_err(|error| RequestError::Unsendable(error.to_string()))?;
        let query = Query::default()
            .with("task", command.task.as_str())
            .with("tty", command.tty.to_string())
            .with("command", words);
        let path = format!("/v1/client/allocation/{}/exec", segment(&command.alloc_id));
        self.websocket(&self.target(&path, &query)).await
    }

    /// Runs an action that a job offers.
    ///
    /// # Errors
    ///
    /// As for [`Client::exec`].
    pub async fn run_action(
        &self,
        job: &str,
        action: &str,
        command: &ExecCommand,
    ) -> Result<(ExecInputHalf, ExecOutputHalf), ExecError> {
        let query = Query::default()
            .with("task", command.task.as_str())
            .with("action", action)
            .with("allocID", command.alloc_id.as_str())
            .with("tty", command.tty.to_string());
        self.websocket(&self.target(&format!("/v1/job/{}/action", segment(job)), &query)).await
    }

    async fn websocket(&self, target: &str) -> Result<(ExecInputHalf, ExecOutputHalf), ExecError> {
        let url = self.url(target);
        let failed = |source| RequestError::Connect { method: "Get".to_owned(), url: url.clone(), source };
        let stream = self.connector().open().await.map_err(|error| failed(error.into()))?;
        // What is spoken over it is the same, encrypted or not.
        let (_, place) = url.split_once("://").unwrap_or(("", &url));
        let socket_url = format!("ws://{place}");
        let mut request =
            socket_url.into_client_request().map_err(|error| RequestError::Unsendable(error.to_string()))?;
        request.headers_mut().extend(self.headers()?);
        match tokio_tungstenite::client_async(request, stream).await {
            Ok((socket, _)) => {
                let (input, output) = socket.split();
                Ok((ExecInputHalf(input), ExecOutputHalf(output)))
            }
            Err(tungstenite::Error::Http(answer)) => {
                let body = answer.body().as_deref().unwrap_or_default();
                let body = String::from_utf8_lossy(body).trim_end().to_owned();
                Err(RequestError::Status { status: answer.status().as_u16(), body }.into())
            }
            Err(error) => Err(ExecError::Broken(error.to_string())),
        }
    }
}

impl ExecInputHalf {
    /// Sends a piece of input, a new size of the terminal, or a heartbeat.
    ///
    /// # Errors
    ///
    /// When the connection is gone.
    pub async fn send(&mut self, input: &ExecInput) -> Result<(), ExecError> {
        let text = serde_json::to_string(input).map_err(|error| ExecError::Broken(error.to_string()))?;
        self.0.send(Message::text(text)).await.map_err(|error| ExecError::Broken(error.to_string()))
    }
}

impl ExecOutputHalf {
    /// Returns the next piece of output; `None` when the agent closed the connection in good order. May be cancelled
    /// without loss.
    ///
    /// # Errors
    ///
    /// When the agent gives up, or the connection breaks off.
    pub async fn next(&mut self) -> Result<Option<ExecOutput>, ExecError> {
        loop {
            let bytes = match self.0.next().await {
                None => return Ok(None),
                Some(Err(error)) => return Err(ExecError::Broken(error.to_string())),
                Some(Ok(Message::Text(text))) => text.as_bytes().to_vec(),
                Some(Ok(Message::Binary(bytes))) => bytes.to_vec(),
                Some(Ok(Message::Close(Some(frame)))) if u16::from(frame.code) != 1000 => {
                    return Err(ExecError::Closed {
                        code: frame.code.into(),
                        reason: frame.reason.to_string(),
                    });
                }
                Some(Ok(Message::Close(_))) => return Ok(None),
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => continue,
            };
            return types::from_slice(&bytes).map(Some).map_err(|error| ExecError::Broken(error.to_string()));
        }
    }
}

/// Encodes bytes as base64 text with padding.
pub fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group = chunk
            .iter()
            .chain(std::iter::repeat(&0))
            .take(3)
            .fold(0_usize, |group, byte| group << 8 | usize::from(*byte));
        for at in 0..4 {
            out.push(if at <= chunk.len() { char::from(DIGITS[group >> (18 - 6 * at) & 63]) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn logins_are_encoded_with_padding() {
        assert_eq!(super::base64(b"user:pass"), "dXNlcjpwYXNz");
        assert_eq!(super::base64(b"a"), "YQ==");
        assert_eq!(super::base64(b"ab"), "YWI=");
    }
}
