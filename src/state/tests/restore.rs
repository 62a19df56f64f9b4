//! Replacing the state by a copy: wholly or not at all, alike on every server, and with indexes that never fall.

mod support;

use protocol::{Command, RestoreStep};
use state::{Refusal, Store, Table};
use support::{Region, job, key, now};
use uuid::Uuid;

const ID: Uuid = Uuid::from_u128(77);

/// The compressed copy of a store, in parts of this many bytes.
fn parts(store: &Store, size: usize) -> Vec<Vec<u8>> {
    let mut image = Vec::new();
    store.capture().write(&mut image).expect("a vector takes everything");
    let packed = zstd::encode_all(image.as_slice(), 1).expect("a vector takes everything");
    packed.chunks(size).map(<[u8]>::to_vec).collect()
}

fn steps(parts: &[Vec<u8>]) -> Vec<Command> {
    let part = |(number, bytes): (usize, &Vec<u8>)| RestoreStep::Part {
        id: ID,
        number: u32::try_from(number).expect("few parts"),
        bytes: bytes.clone().into(),
    };
    let count = u32::try_from(parts.len()).expect("few parts");
    let mut steps = vec![RestoreStep::Begin { id: ID }];
    steps.extend(parts.iter().enumerate().map(part));
    steps.push(RestoreStep::Install { id: ID, parts: count });
    steps.into_iter().map(Command::Restore).collect()
}

/// A region whose job was registered many times, so that its index is far ahead.
fn old_region(commands: u64) -> Region {
    let mut region = Region::with_nodes(1);
    region.apply(Command::InitCluster { cluster_id: Uuid::from_u128(1), now: now() });
    for count in 1..=commands {
        region.register(job("old", u32::try_from(count).expect("few")));
    }
    region
}

#[test]
fn a_copy_replaces_what_a_region_runs_and_keeps_what_it_is() {
    let old = old_region(50);
    let mut region = Region::with_nodes(2);
    region.apply(Command::InitCluster { cluster_id: Uuid::from_u128(2), now: now() });
    region.register(job("new", 1));
    let copy = steps(&parts(&old.store, 100));
    let (last, staging) = copy.split_last().expect("there are steps");
    for step in staging {
        region.apply(step.clone());
        assert!(region.state().job(&key("new")).is_some(), "nothing changes before the last step");
    }
    let changes = region.apply(last.clone()).changes;
    let state = region.state();
    assert!(changes.replaced());
    assert!(state.job(&key("new")).is_none() && state.job(&key("old")).is_some());
    assert_eq!(state.node_count(), 1);
    assert_eq!(state.cluster_id(), Some(Uuid::from_u128(2)), "it is the region that it was");
    assert!(state.index() > old.store.index(), "an index of the copy is never ahead of the state's");
    assert_eq!(changes.index, state.index());
    assert_eq!(state.table_index(Table::Jobs), state.index(), "whoever waits on jobs wakes");
    assert_eq!(state.staged_parts(), None);
}

#[test]
fn indexes_go_on_from_the_copy_and_survive_a_snapshot() {
    let old = old_region(50);
    let mut region = Region::with_nodes(1);
    for step in steps(&parts(&old.store, 1_000)) {
        region.apply(step);
    }
    let restored = region.state().index();
    assert!(region.state().index_offset() > 0);
    region.register(job("next", 1));
    assert_eq!(region.state().index(), restored + 1);
    let mut bytes = Vec::new();
    region.store.capture().write(&mut bytes).expect("a vector takes everything");
    let again = Store::restore(&mut bytes.as_slice()).expect("it was just written");
    assert_eq!(again.content_hash(), region.store.content_hash());
    assert_eq!(again.state().index_offset(), region.state().index_offset());
}

#[test]
fn every_server_comes_to_the_same_state() {
    let old = old_region(3);
    let mut one = Region::with_nodes(1);
    let mut other = one.clone();
    for step in steps(&parts(&old.store, 300)) {
        one.apply(step.clone());
        other.apply(step);
        assert_eq!(one.store.chain().head(), other.store.chain().head());
    }
    assert_eq!(one.store.content_hash(), other.store.content_hash());
}

#[test]
fn what_is_not_whole_changes_nothing() {
    let old = old_region(3);
    let whole = parts(&old.store, 200);
    let mut region = Region::with_nodes(1);
    region.register(job("new", 1));
    let refused = |region: &mut Region, step: RestoreStep| {
        region.try_apply(Command::Restore(step)).expect_err("it is not whole")
    };
    let part = |number: u32, bytes: &[u8]| RestoreStep::Part { id: ID, number, bytes: bytes.to_vec().into() };
    assert_eq!(refused(&mut region, part(0, b"x")), Refusal::RestoreGone, "nothing began");
    region.apply(Command::Restore(RestoreStep::Begin { id: ID }));
    assert_eq!(refused(&mut region, part(1, b"x")), Refusal::RestoreGone, "a part is missing before it");
    region.apply(Command::Restore(part(0, &whole[0])));
    region.apply(Command::Restore(part(0, &whole[0])));
    assert_eq!(region.state().staged_parts(), Some((ID, 1)), "a part that comes twice counts once");
    let count = u32::try_from(whole.len()).expect("few parts");
    let install = |parts| RestoreStep::Install { id: ID, parts };
    assert_eq!(refused(&mut region, install(count)), Refusal::RestoreGone);
    assert!(matches!(refused(&mut region, install(1)), Refusal::RestoreUnreadable { .. }), "it is cut short");
    let other = Uuid::from_u128(78);
    region.apply(Command::Restore(RestoreStep::Begin { id: other }));
    assert_eq!(refused(&mut region, part(1, &whole[1])), Refusal::RestoreGone, "another one began");
    region.apply(Command::Restore(RestoreStep::Abort { id: other }));
    assert_eq!(region.state().staged_parts(), None);
    assert!(region.state().job(&key("new")).is_some());
}
