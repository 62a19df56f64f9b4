//! The little of HTTP that users here need: one request a connection, every wait bounded, and what is known when it fails.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use serde_json::Value;

/// How long connecting may take.
const CONNECT_MAX: Duration = Duration::from_secs(2);

/// Largest answer that is read.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// A request got no answer.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
    /// Nobody was reached: it did not happen.
    #[error("could not connect")]
    Unreached(#[source] std::io::Error),
    /// It was sent and may have happened.
    #[error("no answer")]
    Unknown(#[source] std::io::Error),
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// `X-Nomad-Index`, where there is one.
    pub index: Option<u64>,
    /// The body as text.
    pub body: String,
}

impl Answer {
    /// Whether it is a good one.
    #[must_use]
    pub fn is_fine(&self) -> bool {
        self.status == 200
    }

    /// The body as JSON; null when it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or(Value::Null)
    }
}

/// Sends one request and reads its answer.
///
/// # Errors
///
/// See [`NoAnswer`].
pub fn request(
    to: SocketAddr,
    method: &str,
    path: &str,
    body: Option<&Value>,
    patience: Duration,
) -> Result<Answer, NoAnswer> {
    let stream = TcpStream::connect_timeout(&to, CONNECT_MAX.min(patience)).map_err(NoAnswer::Unreached)?;
    exchange(&stream, to, method, path, body, patience).map_err(NoAnswer::Unknown)
}

/// Reads a value that must be there.
#[must_use]
pub fn get(to: SocketAddr, path: &str, patience: Duration) -> Option<Value> {
    let answer = request(to, "GET", path, None, patience).ok()?;
    answer.is_fine().then(|| answer.json())
}

fn exchange(
    stream: &TcpStream,
    to: SocketAddr,
    method: &str,
    path: &str,
    body: Option<&Value>,
    patience: Duration,
) -> std::io::Result<Answer> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    let body = body.map(Value::to_string).unwrap_or_default();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut writer = stream;
    writer.write_all(head.as_bytes())?;
    let mut reader = BufReader::new(stream.take(ANSWER_BYTES_MAX));
    let first = line(&mut reader)?;
    let status = first.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.ok_or_else(|| std::io::Error::other(format!("not an HTTP answer: {first:?}")))?;
    let (mut length, mut chunked, mut index) = (None, false, None);
    loop {
        let header = line(&mut reader)?.to_ascii_lowercase();
        let Some((name, value)) = header.split_once(':') else { break };
        match name {
            "content-length" => length = value.trim().parse::<u64>().ok(),
            "transfer-encoding" => chunked = value.trim() == "chunked",
            "x-nomad-index" => index = value.trim().parse().ok(),
            _ => {}
        }
    }
    let mut bytes = Vec::new();
    if chunked {
        read_chunks(&mut reader, &mut bytes)?;
    } else if let Some(length) = length {
        bytes = vec![0; usize::try_from(length.min(ANSWER_BYTES_MAX)).expect("it is bounded")];
        reader.read_exact(&mut bytes)?;
    } else {
        reader.read_to_end(&mut bytes)?;
    }
    Ok(Answer { status, index, body: String::from_utf8_lossy(&bytes).into_owned() })
}

fn read_chunks(reader: &mut impl BufRead, bytes: &mut Vec<u8>) -> std::io::Result<()> {
    loop {
        let head = line(reader)?;
        let size = u64::from_str_radix(head.trim(), 16)
            .map_err(|_| std::io::Error::other(format!("no chunk's size: {head:?}")))?;
        if reader.by_ref().take(size).read_to_end(bytes)? as u64 != size {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        line(reader)?;
        if size == 0 {
            return Ok(());
        }
    }
}

fn line(reader: &mut impl BufRead) -> std::io::Result<String> {
    let mut text = String::new();
    if reader.read_line(&mut text)? == 0 {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::clock;

    fn answered(bytes: &'static [u8]) -> Result<Answer, NoAnswer> {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let to = listener.local_addr().expect("it is bound");
        let server = clock::beside(move || {
            let (mut stream, _) = listener.accept().expect("a client comes");
            let mut asked = [0; 256];
            let count = stream.read(&mut asked).expect("it asks");
            assert!(asked[..count].starts_with(b"GET /x HTTP/1.1\r\n"));
            stream.write_all(bytes).expect("it listens");
        });
        let answer = request(to, "GET", "/x", None, Duration::from_secs(5));
        server.join().expect("the server ends");
        answer
    }

    #[test]
    fn plain_and_chunked_answers_are_read() {
        let plain =
            answered(b"HTTP/1.1 200 OK\r\nX-Nomad-Index: 7\r\nContent-Length: 2\r\n\r\n[]").expect("fine");
        assert_eq!((plain.status, plain.index, plain.body.as_str()), (200, Some(7), "[]"));
        let chunked = b"HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n";
        let chunked = answered(chunked).expect("fine");
        assert_eq!((chunked.status, chunked.body.as_str()), (500, "abcd"));
    }

    #[test]
    fn an_answer_that_breaks_off_leaves_it_unknown() {
        let cut = answered(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc");
        assert!(matches!(cut, Err(NoAnswer::Unknown(_))), "{cut:?}");
    }

    #[test]
    fn nobody_there_means_nothing_happened() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let to = listener.local_addr().expect("it is bound");
        drop(listener);
        let none = request(to, "GET", "/x", None, Duration::from_secs(1));
        assert!(matches!(none, Err(NoAnswer::Unreached(_))), "{none:?}");
    }
}
