//! The little of HTTP that asking an agent takes: one request a connection, plain or chunked answers, streams.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use serde_json::Value;

/// Longest silence on a connection: above every wait that a test asks an agent for.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body as text.
    pub body: String,
}

impl Answer {
    /// A header's value.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The body as JSON.
    ///
    /// # Panics
    ///
    /// When it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body)
            .unwrap_or_else(|error| panic!("{error} in {} {:?}", self.status, self.body))
    }

    /// `X-Nomad-Index`, by which a blocking query waits.
    ///
    /// # Panics
    ///
    /// When the header is not there.
    #[must_use]
    pub fn index(&self) -> u64 {
        self.header("x-nomad-index")
            .and_then(|text| text.parse().ok())
            .expect("a query's answer has its index")
    }
}

/// Sends one request and reads its answer.
///
/// # Errors
///
/// When the agent is not there or hangs up.
pub fn request(addr: SocketAddr, method: &str, path: &str, body: Option<&str>) -> io::Result<Answer> {
    let stream = Stream::open(addr, method, path, body)?;
    let (status, headers) = (stream.status, stream.headers.clone());
    let mut bytes = Vec::new();
    let mut stream = stream;
    stream.read_to_end(&mut bytes)?;
    Ok(Answer { status, headers, body: String::from_utf8_lossy(&bytes).into_owned() })
}

/// An answer that is read as it comes.
pub struct Stream {
    reader: BufReader<TcpStream>,
    /// The status code.
    pub status: u16,
    headers: Vec<(String, String)>,
    length: Length,
}

enum Length {
    /// Bytes that are still to come.
    Known(u64),
    /// Bytes of the present chunk that are still to come; `None` before the first.
    Chunked(Option<u64>),
    /// Until the other side closes.
    Open,
    Over,
}

impl Stream {
    /// Sends one request and reads the head of its answer.
    ///
    /// # Errors
    ///
    /// When the agent is not there, hangs up, or does not speak HTTP.
    pub fn open(addr: SocketAddr, method: &str, path: &str, body: Option<&str>) -> io::Result<Self> {
        let socket = TcpStream::connect(addr)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(SILENCE_MAX))?;
        let body = body.unwrap_or_default();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        (&socket).write_all(head.as_bytes())?;
        let mut reader = BufReader::new(socket);
        let first = line(&mut reader)?;
        let status = first.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.ok_or_else(|| io::Error::other(format!("not an HTTP answer: {first:?}")))?;
        let mut headers = Vec::new();
        loop {
            let header = line(&mut reader)?;
            if header.is_empty() {
                break;
            }
            if let Some((name, value)) = header.split_once(':') {
                headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
            }
        }
        let of = |name: &str| headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let length = match (of("transfer-encoding"), of("content-length").and_then(|text| text.parse().ok()))
        {
            (Some("chunked"), _) => Length::Chunked(None),
            (_, Some(length)) => Length::Known(length),
            _ => Length::Open,
        };
        Ok(Self { reader, status, headers, length })
    }

    /// The lines of the answer, as they come; ends when the agent ends it or is gone.
    pub fn lines(self) -> impl Iterator<Item = String> {
        BufReader::new(self).lines().map_while(Result::ok)
    }

    /// Bytes that can be read without looking at a chunk's head again.
    fn available(&mut self) -> io::Result<Option<u64>> {
        let Length::Chunked(left) = &mut self.length else {
            return Ok(match self.length {
                Length::Known(left) => Some(left),
                Length::Over => Some(0),
                Length::Open | Length::Chunked(_) => None,
            });
        };
        if let Some(left) = left
            && *left > 0
        {
            return Ok(Some(*left));
        }
        if left.is_some() {
            line(&mut self.reader)?;
        }
        let head = line(&mut self.reader)?;
        let size = u64::from_str_radix(head.trim(), 16)
            .map_err(|_| io::Error::other(format!("no chunk's size: {head:?}")))?;
        self.length = if size == 0 { Length::Over } else { Length::Chunked(Some(size)) };
        Ok(Some(size))
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let max = match self.available()? {
            Some(0) => return Ok(0),
            Some(left) => buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX)),
            None => buffer.len(),
        };
        let count = self.reader.read(&mut buffer[..max])?;
        match &mut self.length {
            Length::Known(left) | Length::Chunked(Some(left)) if count > 0 => *left -= count as u64,
            Length::Known(_) | Length::Chunked(_) if count == 0 => {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            Length::Known(_) | Length::Chunked(_) | Length::Open | Length::Over => {}
        }
        Ok(count)
    }
}

fn line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut text = String::new();
    if reader.read_line(&mut text)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}
