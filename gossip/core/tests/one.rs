//! One member, and what it does with what it is given.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use gossip_core::{
    Config, Digest, Event, Gossip, Incarnation, Input, Me, MemberId, NewGossipError, Output, Status,
};
use proptest::prelude::*;

const PACKET_BYTES: usize = 1_352;

#[test]
fn the_next_life_is_written_down_before_anything_is_sent() {
    let mut gossip = member(1, 41);
    assert_eq!(gossip.incarnation(), Incarnation(42));
    gossip.step(Duration::ZERO, Input::Join(vec![addr(2)]));
    let outputs = outputs(&mut gossip);
    let Some(Output::Persist(reserved)) = outputs.first() else { panic!("{outputs:?}") };
    assert!(*reserved > Incarnation(42));
    assert!(matches!(outputs.get(1), Some(Output::Send { to, .. }) if *to == addr(2)));
}

#[test]
fn a_life_that_others_hold_for_over_is_ended_at_once() {
    let (mut left, mut right) = acquainted();
    for second in 1..=60 {
        right.step(Duration::from_secs(second), Input::Tick);
        outputs(&mut right);
    }
    let mut now = Duration::from_secs(60);
    let mut quarter = || {
        now += Duration::from_millis(250);
        now
    };
    while left.member(&id(2)).is_some_and(|member| member.status != Status::Failed) {
        left.step(quarter(), Input::Tick);
        outputs(&mut left);
    }
    let former = right.incarnation();
    let mut at = quarter();
    // The knock says that the former life is over, and the answer speaks from the next.
    for _ in 0..20 {
        left.step(at, Input::Tick);
        carry(&mut left, &mut right, at);
        carry(&mut right, &mut left, at);
        at = quarter();
    }
    assert_eq!(right.incarnation(), Incarnation(former.0 + 1));
    assert_eq!(left.member(&id(2)).map(|member| member.status), Some(Status::Alive));
}

#[test]
fn a_flood_from_one_peer_is_cut_off() {
    let (mut left, mut right) = acquainted();
    let now = Duration::from_secs(5);
    right.step(now, Input::Tick);
    let packets: Vec<Bytes> = sends(&mut right).into_iter().map(|(_, bytes)| bytes).collect();
    let ping = packets.first().expect("it probes").clone();
    left.step(now, Input::Tick);
    outputs(&mut left);
    for _ in 0..10_000 {
        left.step(now, Input::Packet { from: addr(2), sender: id(2), bytes: ping.clone() });
    }
    let answers = sends(&mut left).len();
    assert!((1..=40).contains(&answers), "{answers} answers to ten thousand packets");
    assert!(left.counters().capped >= 9_900);
}

#[test]
fn nobody_speaks_for_another() {
    let (mut left, mut right) = acquainted();
    let now = Duration::from_secs(5);
    right.step(now, Input::Tick);
    let refused = left.counters().refused;
    let packets = sends(&mut right);
    let many = packets.len() as u64;
    assert!(many > 0);
    for (_, bytes) in packets {
        left.step(now, Input::Packet { from: addr(3), sender: id(3), bytes });
    }
    assert_eq!(left.counters().refused, refused + many);
    assert!(left.member(&id(3)).is_none());
}

#[test]
fn pools_that_share_a_key_stay_apart() {
    let mut left = member(1, 0);
    let other = Config { pool: 2, ..config() };
    let mut right = Gossip::new(other, me(2, 0), Duration::ZERO).expect("it is configured well");
    right.step(Duration::ZERO, Input::Join(vec![addr(1)]));
    for (_, bytes) in sends(&mut right) {
        left.step(Duration::ZERO, Input::Packet { from: addr(2), sender: id(2), bytes });
    }
    assert_eq!(left.alive(), 1);
    assert_eq!(left.counters().refused, 1);
    assert!(right.sync_answer(&left.sync_request()).is_err());
}

#[test]
fn two_agents_with_one_id_are_noticed() {
    let mut left = member(1, 0);
    let mut twin =
        Gossip::new(config(), Me { addr: addr(9), ..me(1, 0) }, Duration::ZERO).expect("it starts");
    twin.step(Duration::ZERO, Input::Join(vec![addr(1)]));
    let packets = sends(&mut twin);
    outputs(&mut left);
    for (_, bytes) in packets {
        left.step(Duration::ZERO, Input::Packet { from: addr(9), sender: id(1), bytes });
    }
    let said = outputs(&mut left);
    assert!(
        said.iter()
            .any(|output| matches!(output, Output::Event(Event::Doubled { addr: at }) if *at == addr(9))),
        "{said:?}"
    );
}

#[test]
fn an_address_that_nobody_can_answer_is_refused() {
    let me = Me { addr: SocketAddr::from(([0, 0, 0, 0], 4648)), ..me(1, 0) };
    let refused = Gossip::new(config(), me, Duration::ZERO).err();
    assert!(matches!(refused, Some(NewGossipError::Unreachable(_))));
}

proptest! {
    #[test]
    fn no_bytes_make_it_fail_or_change_what_it_knows(
        packets in prop::collection::vec((0_u8..10, prop::collection::vec(any::<u8>(), 0..200)), 1..40)
    ) {
        let (mut left, _) = acquainted();
        let before = left.fingerprint();
        for (kind, body) in packets {
            let mut bytes = vec![1, kind, 0, 0, 0, 1];
            bytes.extend(body);
            let bytes = Bytes::from(bytes);
            left.step(Duration::from_secs(1), Input::Packet { from: addr(2), sender: id(2), bytes: bytes.clone() });
            left.step(Duration::from_secs(1), Input::Seed(bytes.clone()));
            let _either = left.sync_answer(&bytes);
            let _either = left.sync_return(&bytes);
        }
        prop_assert_eq!(left.fingerprint(), before);
    }

    #[test]
    fn packets_with_one_byte_changed_do_not_make_it_fail(at in any::<prop::sample::Index>(), flip in 1_u8..) {
        let (mut left, mut right) = acquainted();
        for second in 2..6 {
            let now = Duration::from_secs(second);
            right.step(now, Input::Tick);
            let mut digest = right.me().digest.clone();
            digest.tags.insert("round".into(), second.to_string());
            right.set_digest(now, digest).expect("it is small");
            for (_, bytes) in sends(&mut right) {
                let mut bytes = bytes.to_vec();
                let at = at.index(bytes.len());
                bytes[at] ^= flip;
                left.step(now, Input::Packet { from: addr(2), sender: id(2), bytes: bytes.into() });
                outputs(&mut left);
            }
            let mut request = right.sync_request().to_vec();
            let at = at.index(request.len());
            request[at] ^= flip;
            if let Ok(answer) = left.sync_answer(&request) {
                right.step(now, Input::Seed(answer));
            }
        }
        prop_assert!(left.alive() <= 8);
    }
}

/// Two that met.
fn acquainted() -> (Gossip, Gossip) {
    let (mut left, mut right) = (member(1, 0), member(2, 0));
    left.step(Duration::ZERO, Input::Join(vec![addr(2)]));
    for _ in 0..3 {
        carry(&mut left, &mut right, Duration::ZERO);
        carry(&mut right, &mut left, Duration::ZERO);
    }
    assert_eq!((left.alive(), right.alive()), (2, 2));
    (left, right)
}

fn carry(from: &mut Gossip, to: &mut Gossip, now: Duration) {
    let (sender, at) = (from.me().id, from.me().addr);
    for (_, bytes) in sends(from) {
        to.step(now, Input::Packet { from: at, sender, bytes });
    }
}

fn sends(gossip: &mut Gossip) -> Vec<(SocketAddr, Bytes)> {
    let sent = |output| match output {
        Output::Send { to, bytes } => Some((to, bytes)),
        Output::Sync { .. } | Output::Event(_) | Output::Persist(_) | Output::Departed => None,
    };
    outputs(gossip).into_iter().filter_map(sent).collect()
}

fn outputs(gossip: &mut Gossip) -> Vec<Output> {
    std::iter::from_fn(|| gossip.next_output()).collect()
}

fn member(number: u8, persisted: u64) -> Gossip {
    Gossip::new(config(), me(number, persisted), Duration::ZERO).expect("it is configured well")
}

fn config() -> Config {
    Config::local(1, PACKET_BYTES, 7)
}

fn me(number: u8, persisted: u64) -> Me {
    let digest = Digest { name: format!("member-{number}"), ..Digest::default() };
    Me { id: id(number), addr: addr(number), persisted: Incarnation(persisted), digest }
}

fn id(number: u8) -> MemberId {
    MemberId([number; 16])
}

fn addr(number: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, number], 4648))
}
