use std::time::Duration;

use model::JobKey;
use proptest::prelude::*;

use super::{HistoryError, STEPS_MAX, check_history, register::Register};
use crate::{Action, History, JobSeen, Operation, Outcome, Reply};

fn key() -> JobKey {
    JobKey::new("default", "web")
}

fn at(start: u64, end: u64, action: Action, outcome: Outcome) -> Operation {
    let moment = Duration::from_millis;
    Operation { user: 0, key: key(), action, start: moment(start), end: moment(end), outcome }
}

fn register(marker: u64, check_index: Option<u64>) -> Action {
    Action::Register { marker, count: 1, check_index }
}

fn wrote(job_index: u64) -> Outcome {
    Outcome::Done(Reply { job_index: Some(job_index), seen: None })
}

fn saw(job_index: u64, marker: u64) -> Outcome {
    let seen = JobSeen { job_index, marker, count: 1, stopped: false };
    Outcome::Done(Reply { job_index: None, seen: Some(seen) })
}

fn nothing() -> Outcome {
    Outcome::Done(Reply::default())
}

fn check(operations: Vec<Operation>) -> Result<(), HistoryError> {
    check_history(&History { operations, stale_reads: Vec::new() }, STEPS_MAX)
}

fn holds(operations: Vec<Operation>) {
    assert_eq!(check(operations), Ok(()));
}

fn breaks(operations: Vec<Operation>) {
    let found = check(operations);
    assert!(matches!(found, Err(HistoryError::NotLinearizable { .. })), "{found:?}");
}

#[test]
fn one_after_the_other_holds() {
    holds(vec![
        at(0, 1, Action::Read, nothing()),
        at(2, 3, register(7, Some(0)), wrote(10)),
        at(4, 5, Action::Read, saw(10, 7)),
        at(6, 7, register(8, Some(10)), wrote(12)),
        at(8, 9, register(9, Some(10)), Outcome::Refused),
        at(10, 11, Action::Deregister { purge: true }, nothing()),
        at(12, 13, Action::Read, nothing()),
    ]);
}

#[test]
fn an_acknowledged_write_that_is_gone_breaks_it() {
    breaks(vec![at(0, 1, register(7, None), wrote(10)), at(2, 3, Action::Read, nothing())]);
}

#[test]
fn a_read_of_what_was_overwritten_breaks_it() {
    breaks(vec![
        at(0, 1, register(7, None), wrote(10)),
        at(2, 3, register(8, None), wrote(11)),
        at(4, 5, Action::Read, saw(10, 7)),
    ]);
}

#[test]
fn two_readers_beside_a_write_see_it_in_one_order() {
    let write = at(10, 90, register(8, None), wrote(11));
    let before = at(0, 1, register(7, None), wrote(10));
    let old_then_new = vec![at(20, 30, Action::Read, saw(10, 7)), at(40, 50, Action::Read, saw(11, 8))];
    let new_then_old = vec![at(20, 30, Action::Read, saw(11, 8)), at(40, 50, Action::Read, saw(10, 7))];
    holds([vec![before.clone(), write.clone()], old_then_new].concat());
    breaks([vec![before, write], new_then_old].concat());
}

#[test]
fn two_can_not_both_pass_one_check() {
    let first = at(0, 1, register(1, None), wrote(5));
    let one = at(2, 9, register(2, Some(5)), wrote(6));
    breaks(vec![first.clone(), one.clone(), at(2, 9, register(3, Some(5)), wrote(7))]);
    holds(vec![first, one, at(2, 9, register(3, Some(5)), Outcome::Refused)]);
}

#[test]
fn a_refusal_without_a_reason_breaks_it() {
    breaks(vec![at(0, 1, register(1, None), wrote(5)), at(2, 3, register(2, Some(5)), Outcome::Refused)]);
    breaks(vec![at(0, 1, register(1, Some(0)), Outcome::Refused)]);
}

#[test]
fn an_unknown_write_may_have_happened_late_or_never() {
    let first = at(0, 1, register(1, None), wrote(5));
    let lost = at(2, 3, register(2, None), Outcome::Unknown);
    let late = at(100, 101, Action::Read, saw(9, 2));
    let before = at(50, 51, Action::Read, saw(5, 1));
    holds(vec![first.clone(), lost.clone(), before.clone()]);
    holds(vec![first.clone(), lost.clone(), before.clone(), late.clone()]);
    // Once seen, it can not be unseen.
    breaks(vec![first.clone(), lost.clone(), late.clone(), at(110, 111, Action::Read, saw(5, 1))]);
    // It never happened before it was asked for.
    breaks(vec![at(0, 1, Action::Read, saw(9, 2)), lost]);
}

#[test]
fn a_check_tells_the_index_of_an_unknown_write() {
    let first = at(0, 1, register(1, None), wrote(5));
    let lost = at(2, 3, register(2, None), Outcome::Unknown);
    holds(vec![first.clone(), lost.clone(), at(4, 5, register(3, Some(8)), wrote(9))]);
    breaks(vec![first.clone(), lost.clone(), at(4, 5, register(3, Some(4)), wrote(9))]);
    breaks(vec![first, lost, at(4, 5, Action::Read, saw(8, 2)), at(6, 7, register(3, Some(9)), wrote(10))]);
}

#[test]
fn indexes_of_writes_rise() {
    breaks(vec![at(0, 1, register(1, None), wrote(5)), at(2, 3, register(2, None), wrote(5))]);
}

#[test]
fn scaling_needs_a_job_that_is_not_stopped() {
    let first = at(0, 1, register(1, None), wrote(5));
    let stop = at(2, 3, Action::Deregister { purge: false }, nothing());
    let seen = |count, stopped, job_index| {
        let seen = JobSeen { job_index, marker: 1, count, stopped };
        Outcome::Done(Reply { job_index: None, seen: Some(seen) })
    };
    holds(vec![
        first.clone(),
        at(2, 3, Action::Scale { count: 3 }, wrote(6)),
        at(4, 5, Action::Read, seen(3, false, 6)),
    ]);
    breaks(vec![
        first.clone(),
        at(2, 3, Action::Scale { count: 3 }, wrote(6)),
        at(4, 5, Action::Read, seen(1, false, 5)),
    ]);
    holds(vec![
        first.clone(),
        stop.clone(),
        at(4, 5, Action::Scale { count: 3 }, Outcome::Refused),
        at(6, 7, Action::Read, seen(1, true, 6)),
    ]);
    breaks(vec![first, stop, at(4, 5, Action::Scale { count: 3 }, wrote(9))]);
    breaks(vec![at(0, 1, Action::Scale { count: 3 }, wrote(9))]);
}

#[test]
fn giving_up_is_a_failure() {
    // Writes of one moment, and a read that none of them explains: all orders have to be tried.
    let mut operations: Vec<_> = (0..24).map(|marker| at(0, 50, register(marker, None), nothing())).collect();
    operations.push(at(100, 101, Action::Read, saw(3, 99)));
    let found = check_history(&History { operations, stale_reads: Vec::new() }, 10_000);
    assert!(matches!(found, Err(HistoryError::GaveUp { steps: 10_000, .. })), "{found:?}");
}

#[test]
fn a_long_history_with_many_unknown_outcomes_is_decided() {
    let mut operations = Vec::new();
    for round in 0..1_000 {
        let now = round * 10;
        operations.push(at(now, now + 4, register(round, None), wrote(round + 1)));
        if round % 10 == 0 {
            operations.push(at(now, now + 9, register(100_000 + round, Some(0)), Outcome::Unknown));
        }
        operations.push(at(now + 5, now + 6, Action::Read, saw(round + 1, round)));
    }
    holds(operations.clone());
    operations.push(at(20_000, 20_001, Action::Read, saw(3, 2)));
    breaks(operations);
}

#[test]
fn jobs_are_apart() {
    let other = |mut operation: Operation| {
        operation.key = JobKey::new("default", "other");
        operation
    };
    holds(vec![at(0, 1, register(1, None), wrote(5)), other(at(2, 3, Action::Read, nothing()))]);
    breaks(vec![at(0, 1, register(1, None), wrote(5)), other(at(2, 3, Action::Read, saw(5, 1)))]);
}

/// Tries every order of every choice of unknown operations. What the search has to agree with.
fn brute_force(operations: &[Operation]) -> bool {
    let answered = operations.iter().filter(|operation| operation.outcome != Outcome::Unknown).count();
    extend(operations, &mut Vec::new(), Register::default(), answered)
}

fn extend(operations: &[Operation], order: &mut Vec<usize>, register: Register, left: usize) -> bool {
    if left == 0 {
        return true;
    }
    (0..operations.len()).any(|index| {
        let operation = &operations[index];
        let overtaken = operations.iter().enumerate().any(|(other, before)| {
            other != index
                && !order.contains(&other)
                && before.outcome != Outcome::Unknown
                && before.end < operation.start
        });
        if order.contains(&index) || overtaken {
            return false;
        }
        let Some(next) = register.step(operation.action, &operation.outcome) else { return false };
        order.push(index);
        let left = left - usize::from(operation.outcome != Outcome::Unknown);
        let found = extend(operations, order, next, left);
        order.pop();
        found
    })
}

fn any_action() -> impl Strategy<Value = Action> {
    prop_oneof![
        (0..4_u64, 1..3_u32, prop::option::of(0..5_u64))
            .prop_map(|(marker, count, check_index)| Action::Register { marker, count, check_index }),
        any::<bool>().prop_map(|purge| Action::Deregister { purge }),
        (1..3_u32).prop_map(|count| Action::Scale { count }),
        Just(Action::Read),
    ]
}

/// Two users in a network that loses most answers.
fn hours_without_answers() -> Vec<Operation> {
    let mut operations = Vec::new();
    for turn in 0..70_u64 {
        let now = turn * 10;
        let count = 1 + u32::try_from(turn % 5).expect("it is small");
        let unknown = |action| at(now, now + 5, action, Outcome::Unknown);
        operations.push(unknown(Action::Scale { count }));
        operations.push(unknown(Action::Register { marker: 10_000 + turn, count, check_index: None }));
        operations.push(unknown(Action::Deregister { purge: turn % 2 == 0 }));
        if turn % 3 == 0 {
            operations.push(at(now + 6, now + 7, register(turn + 1, None), wrote(1_000 * (turn + 1))));
            operations.push(at(now + 8, now + 9, Action::Read, saw(1_000 * (turn + 1), turn + 1)));
        }
    }
    operations
}

#[test]
fn hundreds_of_unknown_outcomes_do_not_make_it_give_up() {
    holds(hours_without_answers());
    let mut impossible = hours_without_answers();
    impossible.push(at(2_000, 2_001, Action::Read, saw(1_000 * 67, 77)));
    breaks(impossible);
}

fn any_operation() -> impl Strategy<Value = Operation> {
    let seen = prop::option::of((1..6_u64, 0..4_u64, 1..3_u32, prop::bool::weighted(0.2)));
    let outcome = prop_oneof![
        5 => Just(0_u8),
        1 => Just(1_u8),
        2 => Just(2_u8),
    ];
    (any_action(), 0..12_u64, 1..8_u64, outcome, prop::option::of(1..6_u64), seen).prop_map(
        |(action, start, length, outcome, job_index, seen)| {
            let seen =
                seen.map(|(job_index, marker, count, stopped)| JobSeen { job_index, marker, count, stopped });
            let seen = seen.filter(|_| action == Action::Read);
            let outcome = match outcome {
                0 => Outcome::Done(Reply { job_index, seen }),
                1 => Outcome::Refused,
                _ => Outcome::Unknown,
            };
            at(start, start + length, action, outcome)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn the_search_agrees_with_trying_every_order(operations in prop::collection::vec(any_operation(), 0..6)) {
        prop_assert_eq!(check(operations.clone()).is_ok(), brute_force(&operations));
    }

    /// Operations that really were done one after the other, at some moment between their start and their end.
    #[test]
    fn what_really_happened_holds(
        drawn in prop::collection::vec((any_action(), 0..40_u64, 0..40_u64, prop::bool::weighted(0.2)), 0..12),
    ) {
        let (mut now, mut state, mut operations) = (100, Register::default(), Vec::new());
        let mut index = 1_000;
        for (action, before, after, silent) in drawn {
            now += 10;
            index += 1;
            let seen = state.seen(index);
            let reply = match action {
                Action::Read => Reply { job_index: None, seen },
                _ => Reply { job_index: Some(index), seen: None },
            };
            let (next, outcome) = match state.step(action, &Outcome::Done(reply)) {
                Some(next) => (next, Outcome::Done(reply)),
                None if state.step(action, &Outcome::Refused).is_some() => (state, Outcome::Refused),
                None => continue,
            };
            state = next;
            let outcome = if silent { Outcome::Unknown } else { outcome };
            operations.push(at(now - before, now + after, action, outcome));
        }
        prop_assert_eq!(check(operations), Ok(()));
    }
}
