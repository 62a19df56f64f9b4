//! `/v1/client/allocation/:id/exec`: a command beside a task, over a websocket.

use std::time::Duration;

use api_types::{ExecBytes, ExecInput as InputFrame, ExecOutput as OutputFrame, ExecResult};
use axum::extract::{
    FromRequestParts,
    ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade},
};
use bytes::Bytes;
use client::exec::{Exec, ExecError, ExecInput, ExecOutput, TermSize};
use futures_util::{SinkExt, StreamExt};

use super::client::find_alloc;
use crate::{Api, Call, HttpError, Reply};

/// Largest message of a user: input comes in pieces far smaller than this.
const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// Most text that fits into a close frame.
const REASON_BYTES_MAX: usize = 123;

/// Time for a browser to say who it is.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the last words of a user are read who does not close: our own and Nomad's commands do at once.
const LAST_READS: Duration = Duration::from_secs(1);

/// Codes of a websocket that ends early: the agent failed, or the request can not be served.
const INTERNAL: u16 = 1011;
const REFUSED: u16 = 1008;

/// What a user wants run.
struct Wish {
    alloc: String,
    task: String,
    command: Vec<String>,
    tty: bool,
    handshake: bool,
}

/// Why a websocket ends early.
struct Refusal {
    code: u16,
    reason: String,
}

/// Takes over the connection; what is wrong with the request is told in the close frame.
pub(super) async fn answer(api: &Api, call: Call, id: &str) -> Result<Reply, HttpError> {
    let task = call.query.text("task").unwrap_or_default().to_owned();
    let command = call.query.text("command").unwrap_or("[]");
    let command: Vec<String> = serde_json::from_str(command)
        .map_err(|error| HttpError::bad_request(format!("command must be a JSON array of texts: {error}")))?;
    let tty = call.query.switch("tty")?.unwrap_or(false);
    let handshake = call.query.switch("ws_handshake")?.unwrap_or(false);
    let wish = Wish { alloc: id.to_owned(), task, command, tty, handshake };
    let mut parts = call.parts;
    let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, &()).await.map_err(|rejection| {
        HttpError::new(
            rejection.status().as_u16(),
            format!("a websocket is wanted here: {}", rejection.body_text()),
        )
    })?;
    let api = api.clone();
    let upgrade = upgrade.max_message_size(MESSAGE_BYTES_MAX).max_frame_size(MESSAGE_BYTES_MAX);
    Ok(Reply::Raw(upgrade.on_upgrade(move |socket| serve(api, wish, socket))))
}

async fn serve(api: Api, wish: Wish, mut socket: WebSocket) {
    if wish.handshake {
        let env = api.agent().env.clone();
        // Tokens are not checked by this agent; the message is taken so that it is not read as input.
        tokio::select! {
            biased;
            _ = socket.recv() => {}
            () = env.sleep(HANDSHAKE_TIMEOUT) => return,
        }
    }
    match begin(&api, &wish) {
        Ok(exec) => relay(exec, wish.tty, &mut socket).await,
        // The other side may have gone already.
        Err(refusal) => drop(socket.send(Message::Close(Some(refusal.into_frame()))).await),
    }
    // A connection that is dropped with bytes that nobody read is reset, and takes the exit code or the refusal with it on its
    // way: what the user says meanwhile, such as the end of the input, is read until the user closes.
    tokio::select! {
        () = read_out(&mut socket) => {}
        () = api.agent().env.sleep(LAST_READS) => {}
    }
}

/// Reads until the user has closed, and keeps nothing.
async fn read_out(socket: &mut WebSocket) {
    while let Some(Ok(_)) = socket.recv().await {}
}

fn begin(api: &Api, wish: &Wish) -> Result<Exec, Refusal> {
    let refused = |reason: String| Refusal { code: REFUSED, reason };
    if wish.task.is_empty() {
        return Err(refused("task name is not present".to_owned()));
    }
    if wish.command.is_empty() {
        return Err(refused("command is not present".to_owned()));
    }
    let (client, id, _) = find_alloc(api, &wish.alloc).map_err(|error| refused(error.message))?;
    client.exec(id, &wish.task, wish.command.clone(), wish.tty).map_err(|error| refusal(&error))
}

fn refusal(error: &ExecError) -> Refusal {
    let code = match error {
        ExecError::NoSuchAlloc { .. } => REFUSED,
        ExecError::NoSuchTask | ExecError::NotRunning { .. } | ExecError::Driver(_) => INTERNAL,
    };
    Refusal { code, reason: error.to_string() }
}

impl Refusal {
    fn into_frame(mut self) -> CloseFrame {
        while self.reason.len() > REASON_BYTES_MAX {
            self.reason.pop();
        }
        CloseFrame { code: self.code, reason: self.reason.into() }
    }
}

/// Ends when the command's result is said, or when the user closes or breaks off.
async fn relay(exec: Exec, tty: bool, socket: &mut WebSocket) {
    let Exec { input, mut output, result } = exec;
    let mut input = Some(input);
    let (mut to_user, mut from_user) = socket.split();
    // Each direction waits for itself alone: a command that is slow to read must still be heard.
    let incoming = async {
        while let Some(Ok(message)) = from_user.next().await {
            match message {
                Message::Text(words) => feed(&mut input, words.as_bytes()).await,
                Message::Binary(bytes) => feed(&mut input, &bytes).await,
                Message::Ping(_) | Message::Pong(_) => {}
                Message::Close(_) => return,
            }
        }
    };
    let outgoing = async {
        while let Some(said) = output.recv().await {
            if to_user.send(text(&output_frame(said))).await.is_err() {
                return;
            }
        }
        let ended = result.await.unwrap_or_else(|_| Err(ExecError::Driver("agent is stopping".to_owned())));
        let messages = match ended {
            Ok(exit_code) => last_frames(exit_code, tty).iter().map(text).collect(),
            Err(error) => vec![Message::Close(Some(refusal(&error).into_frame()))],
        };
        for message in messages {
            if to_user.send(message).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = outgoing => {}
        () = incoming => {}
    }
}

/// Hands a message of the user to the command. Heartbeats and what is no message change nothing.
async fn feed(input: &mut Option<tokio::sync::mpsc::Sender<ExecInput>>, message: &[u8]) {
    let Ok(frame) = serde_json::from_slice::<InputFrame>(message) else { return };
    let mut pieces = Vec::new();
    if let Some(size) = frame.tty_size {
        pieces.push(ExecInput::Resize(TermSize { height: size.height, width: size.width }));
    }
    let mut closes = false;
    if let Some(stdin) = frame.stdin {
        if !stdin.data.is_empty() {
            pieces.push(ExecInput::Stdin(Bytes::from(stdin.data)));
        }
        if stdin.close {
            pieces.push(ExecInput::CloseStdin);
            closes = true;
        }
    }
    for piece in pieces {
        if let Some(sender) = input
            && sender.send(piece).await.is_err()
        {
            // The command ended; its result is on its way.
            closes = true;
        }
    }
    // A terminal may still be resized after the end of its input.
    if closes && input.as_ref().is_some_and(tokio::sync::mpsc::Sender::is_closed) {
        *input = None;
    }
}

fn output_frame(said: ExecOutput) -> OutputFrame {
    let bytes = |data: Bytes| Some(ExecBytes { data: data.into(), close: false });
    match said {
        ExecOutput::Stdout(data) => OutputFrame { stdout: bytes(data), ..OutputFrame::default() },
        ExecOutput::Stderr(data) => OutputFrame { stderr: bytes(data), ..OutputFrame::default() },
    }
}

/// What is said at the end: outputs close, then comes the exit code. A terminal has one output.
fn last_frames(exit_code: i32, tty: bool) -> Vec<OutputFrame> {
    let closed = || Some(ExecBytes { data: Vec::new(), close: true });
    let mut frames = Vec::new();
    if !tty {
        frames.push(OutputFrame { stderr: closed(), ..OutputFrame::default() });
    }
    frames.push(OutputFrame { stdout: closed(), ..OutputFrame::default() });
    let result = Some(ExecResult { exit_code });
    frames.push(OutputFrame { exited: true, result, ..OutputFrame::default() });
    frames
}

fn text(frame: &OutputFrame) -> Message {
    let words = serde_json::to_string(frame).expect("a frame is plain data");
    Message::Text(words.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(frames: &[OutputFrame]) -> Vec<String> {
        frames.iter().map(|frame| serde_json::to_string(frame).expect("plain data")).collect()
    }

    #[test]
    fn the_end_reads_as_recorded() {
        assert_eq!(
            words(&last_frames(3, false)),
            [
                r#"{"stderr":{"close":true}}"#,
                r#"{"stdout":{"close":true}}"#,
                r#"{"exited":true,"result":{"exit_code":3}}"#
            ]
        );
        assert_eq!(
            words(&last_frames(0, true)),
            [r#"{"stdout":{"close":true}}"#, r#"{"exited":true,"result":{}}"#]
        );
        let out = output_frame(ExecOutput::Stdout(Bytes::from_static(b"out\n")));
        assert_eq!(words(&[out]), [r#"{"stdout":{"data":"b3V0Cg=="}}"#]);
    }

    #[tokio::test]
    async fn input_arrives_in_order_and_nonsense_is_left_out() {
        let (sender, mut input) = tokio::sync::mpsc::channel(8);
        let mut sender = Some(sender);
        for message in [
            "nope",
            "{}",
            r#"{"tty_size":{"height":40,"width":100}}"#,
            r#"{"stdin":{"data":"aGkK","close":true}}"#,
        ] {
            feed(&mut sender, message.as_bytes()).await;
        }
        assert_eq!(input.try_recv(), Ok(ExecInput::Resize(TermSize { height: 40, width: 100 })));
        assert_eq!(input.try_recv(), Ok(ExecInput::Stdin(Bytes::from_static(b"hi\n"))));
        assert_eq!(input.try_recv(), Ok(ExecInput::CloseStdin));
        assert!(input.try_recv().is_err());
    }
}
