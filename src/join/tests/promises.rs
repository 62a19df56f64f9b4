//! The rules of promises, one by one: each is what keeps two regions from sharing a server.

use std::{net::SocketAddr, time::Duration};

use join::founding::{Candidate, Founding, Input, Message, Output, Promise, Record, Status};
use transport::{ClusterId, NodeId};

const X: ClusterId = ClusterId([1; 16]);
const Y: ClusterId = ClusterId([2; 16]);
const NOW: Duration = Duration::from_secs(100);

fn candidate(number: u8, expect: u32) -> Candidate {
    let addr = SocketAddr::from(([10, 0, 0, number], 4647));
    let name = format!("s{number}");
    Candidate { node_id: NodeId([number; 16]), name, rpc: addr, gossip: addr, life: 1, expect }
}

fn id(number: u8) -> NodeId {
    NodeId([number; 16])
}

fn members(numbers: &[u8]) -> Vec<Candidate> {
    numbers.iter().map(|number| candidate(*number, 3)).collect()
}

/// Server 5, with a promise to the attempt of `founder`.
fn promised_to(founder: u8, attempt: ClusterId, others: &[u8]) -> Founding {
    let promise = Promise { attempt, founder: id(founder), members: members(others) };
    Founding::new(candidate(5, 3), Record { promise: Some(promise), ..Record::default() }, Duration::ZERO)
}

fn ask(server: &mut Founding, from: u8, message: Message) -> (Message, Vec<Record>) {
    let outputs = server.step(NOW, Input::Asked { from: id(from), message });
    let (mut answer, mut kept) = (None, Vec::new());
    for output in outputs {
        match output {
            Output::Answer(message) => answer = Some(message),
            Output::Keep(record) => {
                assert!(answer.is_none(), "written down before it is told");
                kept.push(record);
            }
            other => panic!("unexpected {other:?}"),
        }
    }
    (answer.expect("every question is answered"), kept)
}

fn promise(attempt: ClusterId, numbers: &[u8]) -> Message {
    Message::Promise { attempt, members: members(numbers) }
}

fn answered(server: &mut Founding, from: u8, message: Message) -> Vec<Output> {
    server.step(NOW, Input::Answered { from: id(from), message })
}

fn holds(server: &Founding) -> Option<ClusterId> {
    server.record().promise.as_ref().map(|promise| promise.attempt)
}

#[test]
fn a_promise_is_given_once_written_down_and_told_again() {
    let mut server = Founding::new(candidate(5, 3), Record::default(), Duration::ZERO);
    let (answer, kept) = ask(&mut server, 2, promise(X, &[2, 4, 5]));
    assert_eq!((answer, kept.len(), holds(&server)), (Message::Promised { attempt: X }, 1, Some(X)));
    let (again, kept) = ask(&mut server, 2, promise(X, &[2, 4, 5]));
    assert_eq!((again, kept.len()), (Message::Promised { attempt: X }, 0));
    let (other, _) = ask(&mut server, 1, promise(Y, &[1, 4, 5]));
    assert_eq!(other, Message::Held { attempt: X, founder: candidate(2, 3) }, "even to a lower one");
    assert_eq!(holds(&server), Some(X));
}

#[test]
fn a_founder_that_asks_for_another_attempt_is_first_asked_what_became_of_the_one_before() {
    let mut server = promised_to(2, X, &[2, 4, 5]);
    let (answer, _) = ask(&mut server, 2, promise(Y, &[2, 4, 5]));
    assert_eq!(answer, Message::Held { attempt: X, founder: candidate(2, 3) }, "it may be an old question");
    let asked = server.step(NOW, Input::Tick { draw: ClusterId([9; 16]) });
    let check = Message::Check { attempt: X, founder: id(2), refuse: false };
    let to = candidate(2, 3);
    assert!(asked.contains(&Output::Ask { to, message: check }), "{asked:?}");
    answered(&mut server, 2, Message::Void { attempt: X });
    assert_eq!(holds(&server), None);
    let (answer, _) = ask(&mut server, 2, promise(Y, &[2, 4, 5]));
    assert_eq!(answer, Message::Promised { attempt: Y });
    let stale = answered(&mut server, 2, Message::Void { attempt: X });
    assert_eq!((stale, holds(&server)), (Vec::new(), Some(Y)));
}

#[test]
fn only_a_member_of_the_attempt_can_tell_that_it_is_void() {
    let mut server = promised_to(2, X, &[2, 4, 5]);
    answered(&mut server, 7, Message::Void { attempt: X });
    answered(&mut server, 7, Message::Founded { cluster: Y });
    answered(&mut server, 4, Message::Void { attempt: Y });
    assert_eq!(holds(&server), Some(X));
    let outputs = answered(&mut server, 4, Message::Founded { cluster: Y });
    assert_eq!(holds(&server), None, "a member that is part of another region never promises to this one");
    assert!(outputs.contains(&Output::Join { cluster: Y }));
}

#[test]
fn a_region_is_not_joined_while_a_promise_to_another_stands() {
    let mut server = promised_to(2, X, &[2, 4, 5]);
    assert_eq!(answered(&mut server, 7, Message::Founded { cluster: Y }), Vec::new());
    let outputs = answered(&mut server, 7, Message::Founded { cluster: X });
    assert_eq!(outputs, [Output::Join { cluster: X }], "the promise was kept");
}

#[test]
fn what_was_refused_is_refused_for_ever() {
    let mut server = Founding::new(candidate(5, 3), Record::default(), Duration::ZERO);
    let check = |refuse| Message::Check { attempt: X, founder: id(2), refuse };
    assert_eq!(ask(&mut server, 4, check(false)).0, Message::Valid { attempt: X });
    let (answer, kept) = ask(&mut server, 4, check(true));
    assert_eq!((answer, kept.len()), (Message::Void { attempt: X }, 1));
    let mut restarted = Founding::new(candidate(5, 3), kept[0].clone(), Duration::ZERO);
    for server in [&mut server, &mut restarted] {
        assert_eq!(ask(server, 2, promise(X, &[2, 4, 5])).0, Message::Void { attempt: X });
        assert_eq!(holds(server), None);
    }
    let mut promised = promised_to(2, X, &[2, 4, 5]);
    assert_eq!(ask(&mut promised, 4, check(true)).0, Message::Valid { attempt: X }, "it has promised");
}

#[test]
fn a_founder_that_has_dropped_an_attempt_says_so_and_counts_no_promise_to_it() {
    let own = Promise { attempt: X, founder: id(5), members: members(&[4, 5, 6]) };
    let record = Record { promise: Some(own), ..Record::default() };
    let mut server = Founding::new(candidate(5, 3), record, Duration::ZERO);
    let check = Message::Check { attempt: X, founder: id(5), refuse: false };
    assert_eq!(ask(&mut server, 4, check.clone()).0, Message::Valid { attempt: X });
    let (answer, kept) = ask(&mut server, 2, promise(Y, &[2, 4, 5]));
    assert_eq!(
        (answer, kept.len()),
        (Message::Promised { attempt: Y }, 1),
        "dropped and promised in one write"
    );
    assert_eq!(ask(&mut server, 4, check).0, Message::Void { attempt: X });
    for member in [4, 6] {
        answered(&mut server, member, Message::Promised { attempt: X });
    }
    assert!(server.record().founded.is_none());
}

#[test]
fn attempts_that_a_server_can_not_be_part_of_are_declined() {
    let mut server = Founding::new(candidate(5, 3), Record::default(), Duration::ZERO);
    let mut disagree = members(&[2, 4, 5]);
    disagree[0].expect = 5;
    let without_us = promise(X, &[1, 2, 4]);
    let not_the_founders = promise(X, &[1, 4, 5]);
    for message in [without_us, not_the_founders, Message::Promise { attempt: X, members: disagree }] {
        assert!(matches!(ask(&mut server, 2, message).0, Message::Declined { .. }));
    }
    let forged = Message::Know { own: candidate(3, 3), met: Vec::new(), status: Status::Searching };
    assert!(matches!(ask(&mut server, 2, forged).0, Message::Declined { .. }));
    assert_eq!(server.record(), &Record::default());
}

#[test]
fn a_server_that_is_to_found_nothing_founds_nothing() {
    let promise = Promise { attempt: X, founder: id(2), members: members(&[2, 4, 5]) };
    let record = Record { promise: Some(promise), ..Record::default() };
    let mut server = Founding::new(candidate(5, 0), record, Duration::ZERO);
    server.step(NOW, Input::Surveyed);
    answered(&mut server, 2, Message::Void { attempt: X });
    let outputs = server.step(NOW + Duration::from_secs(60), Input::Tick { draw: Y });
    assert!(outputs.is_empty() && server.record().founded.is_none(), "{outputs:?}");
}
