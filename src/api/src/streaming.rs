//! Answers without an end: bodies that are fed by a task, and the frames that files and logs come in.

use std::{convert::Infallible, time::Duration};

use api_types::StreamFrame;
use axum::body::Body;
use bytes::Bytes;
use http::{HeaderValue, Response, header};
use runtime::{Env, Instant};
use tokio::sync::mpsc;

/// Pieces of a body that wait for a slow reader; beyond it whoever feeds the body waits.
const PIECES_MAX: usize = 8;

/// Time between two signs of life while there is nothing to say.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// The reader went away; there is nobody left to work for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct ReaderGone;

/// Makes a body and the end that feeds it.
pub(crate) fn channel() -> (mpsc::Sender<Bytes>, mpsc::Receiver<Bytes>) {
    mpsc::channel(PIECES_MAX)
}

/// Makes a response of a body that is fed.
pub(crate) fn response(content_type: &'static str, pieces: mpsc::Receiver<Bytes>) -> Response<Body> {
    let stream = futures_util::stream::unfold(pieces, |mut pieces| async move {
        let piece = pieces.recv().await?;
        Some((Ok::<_, Infallible>(piece), pieces))
    });
    typed(content_type, Body::from_stream(stream))
}

/// As [`response`], but waits for the first piece: an answer that turns out to be empty says so in its head.
pub(crate) async fn response_once_known(
    content_type: &'static str,
    mut pieces: mpsc::Receiver<Bytes>,
) -> Response<Body> {
    let Some(first) = pieces.recv().await else { return typed(content_type, Body::empty()) };
    let stream = futures_util::stream::unfold((Some(first), pieces), |(first, mut pieces)| async move {
        let piece = match first {
            Some(first) => first,
            None => pieces.recv().await?,
        };
        Some((Ok::<_, Infallible>(piece), (None, pieces)))
    });
    typed(content_type, Body::from_stream(stream))
}

/// Makes a response of a type.
pub(crate) fn typed(content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Writes frames, or their bytes alone, and signs of life between them.
pub(crate) struct Frames {
    env: Env,
    out: mpsc::Sender<Bytes>,
    plain: bool,
    beat_at: Instant,
}

impl Frames {
    /// Begins to write. Plain streams have no frames and no signs of life.
    pub(crate) fn new(env: &Env, out: mpsc::Sender<Bytes>, plain: bool) -> Self {
        Self { env: env.clone(), out, plain, beat_at: env.now() + HEARTBEAT }
    }

    /// Writes a frame.
    ///
    /// # Errors
    ///
    /// When the reader went away.
    pub(crate) async fn send(&mut self, frame: StreamFrame) -> Result<(), ReaderGone> {
        let piece = if self.plain {
            if frame.data.is_empty() {
                return Ok(());
            }
            Bytes::from(frame.data)
        } else {
            encode(&frame)
        };
        self.beat_at = self.env.now() + HEARTBEAT;
        self.out.send(piece).await.map_err(|_| ReaderGone)
    }

    /// Waits, and gives signs of life meanwhile.
    ///
    /// # Errors
    ///
    /// When the reader went away, or the agent stops.
    pub(crate) async fn idle(&mut self, wait: Duration) -> Result<(), ReaderGone> {
        let until = self.env.now() + wait;
        loop {
            let next = if self.plain { until } else { until.min(self.beat_at) };
            tokio::select! {
                biased;
                () = self.out.closed() => return Err(ReaderGone),
                () = self.env.shutdown().wait() => return Err(ReaderGone),
                () = self.env.sleep_until(next) => {}
            }
            let now = self.env.now();
            if !self.plain && now >= self.beat_at {
                self.send(StreamFrame::default()).await?;
            }
            if now >= until {
                return Ok(());
            }
        }
    }
}

/// Frames follow each other without a newline; one without content is `{}`.
fn encode(frame: &StreamFrame) -> Bytes {
    serde_json::to_vec(frame).expect("a frame is plain data").into()
}

#[cfg(test)]
mod tests {
    use runtime::{Shutdown, WallClock};

    use super::*;

    #[test]
    fn frames_read_as_recorded() {
        let frame = StreamFrame {
            data: b"hello 0".to_vec(),
            file: "server/local/index.html".to_owned(),
            offset: 7,
            ..StreamFrame::default()
        };
        assert_eq!(encode(&frame), r#"{"Data":"aGVsbG8gMA==","File":"server/local/index.html","Offset":7}"#);
        assert_eq!(encode(&StreamFrame::default()), "{}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_quiet_stream_gives_signs_of_life_and_ends_with_its_reader() {
        let env = Env::with(WallClock::System, 1, Shutdown::new());
        let (out, mut pieces) = channel();
        let mut frames = Frames::new(&env, out, false);
        frames.idle(Duration::from_millis(2_500)).await.expect("the reader is there");
        assert_eq!(pieces.try_recv().expect("after a second"), "{}");
        assert_eq!(pieces.try_recv().expect("after two"), "{}");
        assert!(pieces.try_recv().is_err());
        drop(pieces);
        assert_eq!(frames.idle(Duration::from_secs(60)).await, Err(ReaderGone));
    }
}
