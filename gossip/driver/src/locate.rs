//! "Which port does your transport listen on?": asked of a gossip port by who has no key yet.
//!
//! Nomad's configurations name the gossip port in `retry_join`; joining happens over the transport. So a gossip port
//! answers one small question without a key. The question is longer than any answer and a source gets few answers a
//! second, so that nobody can make an agent send a third party more than was sent to it. The answer is not proof of
//! anything: whoever joins proves to each other over the transport who they are.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use gossip_core::Role;
use tokio::time::Instant;

/// First byte of questions and answers.
const MAGIC: u8 = 0xb8;
const QUESTION: u8 = 1;
const ANSWER: u8 = 2;
/// Bytes of a question, padding included. No answer is longer.
const QUESTION_BYTES: usize = 320;
/// Bytes of an answer before the region's name.
const ANSWER_HEAD: usize = 14;
/// Longest name of a region that an answer can tell: its length is one byte.
pub(crate) const REGION_MAX: usize = 255;
const _: () = assert!(ANSWER_HEAD + REGION_MAX <= QUESTION_BYTES);
/// Answers to one source within a second. A joiner asks some times a minute.
const ANSWERS_PER_SOURCE: u32 = 10;
/// Sources remembered within a second; further ones get no answer until the next.
const SOURCES_MAX: usize = 512;

/// What a gossip port says to who asks where to join.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Located {
    /// The port that the transport listens on, at the same address.
    pub rpc_port: u16,
    /// Server or client; a client names the servers that it knows.
    pub role: Role,
    /// The region's name.
    pub region: String,
}

/// Names a question, so that an answer can not be guessed by who did not see it.
pub(crate) type Token = u64;

/// What an unsealed packet says.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Message {
    Question(Token),
    Answer(Token, Located),
}

/// Whether a packet is about locating at all.
pub(crate) fn is_locate(packet: &[u8]) -> bool {
    packet.first() == Some(&MAGIC)
}

pub(crate) fn question(token: Token) -> Vec<u8> {
    let mut packet = vec![MAGIC, QUESTION];
    packet.extend(token.to_be_bytes());
    packet.resize(QUESTION_BYTES, 0);
    packet
}

pub(crate) fn answer(token: Token, located: &Located) -> Vec<u8> {
    let mut packet = vec![MAGIC, ANSWER];
    packet.extend(token.to_be_bytes());
    packet.extend(located.rpc_port.to_be_bytes());
    packet.push(match located.role {
        Role::Server => 1,
        Role::Client => 2,
    });
    // The length stands before the name, so that a later version may add something behind it.
    let name = &located.region.as_bytes()[..located.region.len().min(REGION_MAX)];
    packet.push(u8::try_from(name.len()).expect("cut to what a byte counts"));
    packet.extend(name);
    packet
}

/// Reads an unsealed packet. A question that is too short is none: its answer could be longer.
pub(crate) fn read(packet: &[u8]) -> Option<Message> {
    let (&[MAGIC, kind], rest) = packet.split_first_chunk()? else { return None };
    let (token, rest) = rest.split_first_chunk()?;
    let token = Token::from_be_bytes(*token);
    match kind {
        QUESTION if packet.len() >= QUESTION_BYTES => Some(Message::Question(token)),
        ANSWER => {
            let (&[high, low, role, len], rest) = rest.split_first_chunk()?;
            let role = match role {
                1 => Role::Server,
                2 => Role::Client,
                _ => return None,
            };
            let region = std::str::from_utf8(rest.get(..usize::from(len))?).ok()?.to_owned();
            let rpc_port = u16::from_be_bytes([high, low]);
            Some(Message::Answer(token, Located { rpc_port, role, region }))
        }
        _ => None,
    }
}

/// How many answers whom was given within the present second.
#[derive(Debug)]
pub(crate) struct Allowance {
    since: Instant,
    given: HashMap<IpAddr, u32>,
}

impl Allowance {
    pub(crate) fn new(now: Instant) -> Self {
        Self { since: now, given: HashMap::new() }
    }

    /// Whether this source may have another answer.
    pub(crate) fn permits(&mut self, from: SocketAddr, now: Instant) -> bool {
        if now.duration_since(self.since) >= Duration::from_secs(1) {
            self.since = now;
            self.given.clear();
        }
        let source = source_of(from.ip());
        if self.given.len() >= SOURCES_MAX && !self.given.contains_key(&source) {
            return false;
        }
        let given = self.given.entry(source).or_default();
        *given += 1;
        *given <= ANSWERS_PER_SOURCE
    }
}

/// One machine has all addresses of a /64 in IPv6.
fn source_of(addr: IpAddr) -> IpAddr {
    match addr {
        IpAddr::V4(_) => addr,
        IpAddr::V6(addr) => match addr.to_ipv4_mapped() {
            Some(addr) => addr.into(),
            None => IpAddr::V6((u128::from(addr) & (u128::MAX << 64)).into()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn located(region: &str) -> Located {
        Located { rpc_port: 4647, role: Role::Server, region: region.to_owned() }
    }

    #[test]
    fn a_question_is_answered_and_understood() {
        assert_eq!(read(&question(7)), Some(Message::Question(7)));
        for region in ["global", "", "zürich", &"x".repeat(255)] {
            assert_eq!(read(&answer(9, &located(region))), Some(Message::Answer(9, located(region))));
        }
    }

    #[test]
    fn no_answer_is_longer_than_its_question() {
        assert!(answer(1, &located(&"x".repeat(5_000))).len() <= question(1).len());
        let question = question(1);
        for len in 0..question.len() {
            assert_eq!(read(&question[..len]), None, "a question of {len} bytes is too short");
        }
    }

    #[test]
    fn rubbish_is_no_message() {
        let answer = answer(1, &located("global"));
        for len in 0..answer.len() {
            assert_eq!(read(&answer[..len]), None);
        }
        let mut strange = answer;
        strange[12] = 9;
        assert_eq!(read(&strange), None);
        assert_eq!(read(&[]), None);
    }

    #[test]
    fn a_source_gets_few_answers_a_second() {
        let start = Instant::now();
        let mut allowance = Allowance::new(start);
        let from: SocketAddr = "192.0.2.1:4648".parse().expect("an address");
        let given =
            |allowance: &mut Allowance, from, at| (0..100).filter(|_| allowance.permits(from, at)).count();
        assert_eq!(given(&mut allowance, from, start), 10);
        // Another port is the same source, another address is not.
        assert_eq!(given(&mut allowance, "192.0.2.1:99".parse().expect("an address"), start), 0);
        assert_eq!(given(&mut allowance, "192.0.2.2:99".parse().expect("an address"), start), 10);
        assert_eq!(given(&mut allowance, "[2001:db8::1]:9".parse().expect("an address"), start), 10);
        assert_eq!(given(&mut allowance, "[2001:db8::2]:9".parse().expect("an address"), start), 0);
        assert_eq!(given(&mut allowance, from, start + Duration::from_secs(1)), 10);
        assert!(allowance.given.len() <= SOURCES_MAX);
    }

    #[test]
    fn sources_are_bounded() {
        let start = Instant::now();
        let mut allowance = Allowance::new(start);
        let answered = (0..10_000u32)
            .filter(|n| allowance.permits(SocketAddr::new(IpAddr::V4((*n).into()), 1), start))
            .count();
        assert_eq!(answered, SOURCES_MAX);
    }
}
