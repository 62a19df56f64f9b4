//! What goes over a connection of the Raft plane.
//!
//! A request is a kind and a message; an answer is a status and what goes with it. On the stream of entries, each message
//! and each answer has a number in front, and answers come in the order of the messages.

use bytes::{BufMut, Bytes, BytesMut};
use raft::{NetworkError, RpcKind};

/// First bytes of the stream that carries entries.
pub(super) const APPEND_HEADER: &[u8] = b"raft-append/1";
/// First bytes of a stream that carries a snapshot; what it covers follows.
pub(super) const SNAPSHOT_HEADER: &[u8] = b"raft-snapshot/1";
/// Largest frame of entries: the largest command that the log takes, with room for what is around it.
pub(super) const FRAME_BYTES_MAX: usize = 80 << 20;

const OK: u8 = 0;
const FAILED: u8 = 1;
const NUMBER_LEN: usize = 8;

pub(super) fn request_body(kind: RpcKind, message: &[u8]) -> Bytes {
    let number = match kind {
        RpcKind::Append => 1,
        RpcKind::Heartbeat => 2,
        RpcKind::Vote => 3,
        RpcKind::PreVote => 4,
        RpcKind::TransferLeader => 5,
    };
    let mut body = BytesMut::with_capacity(1 + message.len());
    body.put_u8(number);
    body.put_slice(message);
    body.freeze()
}

pub(super) fn split_request(mut body: Bytes) -> Option<(RpcKind, Bytes)> {
    if body.is_empty() {
        return None;
    }
    let message = body.split_off(1);
    let kind = match body[0] {
        1 => RpcKind::Append,
        2 => RpcKind::Heartbeat,
        3 => RpcKind::Vote,
        4 => RpcKind::PreVote,
        5 => RpcKind::TransferLeader,
        _ => return None,
    };
    Some((kind, message))
}

pub(super) fn answer_body(answer: &Result<Bytes, String>) -> Bytes {
    let (status, rest): (u8, &[u8]) = match answer {
        Ok(answer) => (OK, answer),
        Err(reason) => (FAILED, reason.as_bytes()),
    };
    let mut body = BytesMut::with_capacity(1 + rest.len());
    body.put_u8(status);
    body.put_slice(rest);
    body.freeze()
}

pub(super) fn split_answer(mut body: Bytes) -> Result<Bytes, NetworkError> {
    let Some(&status) = body.first() else {
        return Err(NetworkError::Failed("the answer is empty".to_owned()));
    };
    let rest = body.split_off(1);
    match status {
        OK => Ok(rest),
        FAILED => Err(NetworkError::Failed(String::from_utf8_lossy(&rest).into_owned())),
        _ => Err(NetworkError::Failed(format!(
            "the answer has status {status}, which this build does not know"
        ))),
    }
}

/// The number in front of a message on the stream of entries.
pub(super) fn number(number: u64) -> [u8; NUMBER_LEN] {
    number.to_le_bytes()
}

/// Takes the number off a frame of the stream of entries.
pub(super) fn split_number(mut frame: Bytes) -> Option<(u64, Bytes)> {
    if frame.len() < NUMBER_LEN {
        return None;
    }
    let rest = frame.split_off(NUMBER_LEN);
    let number = frame.as_ref().try_into().expect("it was split off at this length");
    Some((u64::from_le_bytes(number), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_together_comes_apart_and_nothing_else_does() {
        let kinds =
            [RpcKind::Append, RpcKind::Heartbeat, RpcKind::Vote, RpcKind::PreVote, RpcKind::TransferLeader];
        for kind in kinds {
            let body = request_body(kind, b"message");
            assert_eq!(split_request(body), Some((kind, Bytes::from_static(b"message"))));
        }
        assert_eq!(split_request(Bytes::from_static(&[9])), None);
        assert_eq!(split_request(Bytes::new()), None);
        assert_eq!(
            split_answer(answer_body(&Ok(Bytes::from_static(b"fine")))),
            Ok(Bytes::from_static(b"fine"))
        );
        let failed = split_answer(answer_body(&Err("no".to_owned())));
        assert_eq!(failed, Err(NetworkError::Failed("no".to_owned())));
        assert!(split_answer(Bytes::new()).is_err() && split_answer(Bytes::from_static(&[7])).is_err());
        let mut frame = number(77).to_vec();
        frame.push(5);
        assert_eq!(split_number(frame.into()), Some((77, Bytes::from_static(&[5]))));
        assert_eq!(split_number(Bytes::from_static(&[1, 2])), None);
    }
}
