//! What older builds wrote must keep loading, to the same state.
//!
//! `WAYFARER_WRITE_FIXTURES=1 cargo test -p state --test fixtures` writes the fixtures of a version that is made; those
//! of a version that was released are never written again.

mod support;

use std::{fs, path::PathBuf};

use model::*;
use protocol::Command;
use state::{RestoreError, Store};
use support::*;

#[test]
fn the_first_version_of_snapshots_loads() {
    let region = sample();
    let mut bytes = Vec::new();
    region.store.capture().write(&mut bytes).expect("a vector takes everything");
    let written = fixture("snapshot-1.bin", &bytes);
    let restored = Store::restore(&mut written.as_slice()).expect("it was written by an earlier build");
    assert_eq!(restored.content_hash(), region.store.content_hash());
    assert_eq!(restored.chain().head(), region.store.chain().head());
}

#[test]
fn the_first_version_of_commands_makes_the_same_hashes() {
    let region = sample();
    let mut bytes = Vec::new();
    for command in &region.log {
        let encoded = protocol::encode(command);
        bytes.extend_from_slice(&u32::try_from(encoded.len()).expect("commands are short").to_le_bytes());
        bytes.extend_from_slice(&encoded);
    }
    let written = fixture("commands-1.bin", &bytes);
    let mut store = Store::new();
    let (mut rest, mut index) = (written.as_slice(), 0);
    while let Some((length, tail)) = rest.split_first_chunk::<4>() {
        let (encoded, tail) = tail.split_at(u32::from_le_bytes(*length) as usize);
        let command: Command = protocol::decode(encoded).expect("it was written by an earlier build");
        index += 1;
        store.apply(index, &command).expect("it was applied by an earlier build");
        rest = tail;
    }
    assert_eq!(store.content_hash(), region.store.content_hash());
}

#[test]
fn the_first_version_of_the_tables_of_joining_loads() {
    let region = sample_of_joining();
    let mut bytes = Vec::new();
    region.store.capture().write(&mut bytes).expect("a vector takes everything");
    let written = fixture("snapshot-joining-1.bin", &bytes);
    let restored = Store::restore(&mut written.as_slice()).expect("it was written by an earlier build");
    assert_eq!(restored.content_hash(), region.store.content_hash());
}

#[test]
fn damage_is_found_wherever_it_is() {
    let region = sample();
    let mut bytes = Vec::new();
    region.store.capture().write(&mut bytes).expect("a vector takes everything");
    let whole = region.store.content_hash();
    for at in (0..bytes.len()).step_by(7) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        // The rows are hashed here; the head of the file is covered by the checksum of whoever stores it.
        match Store::restore(&mut damaged.as_slice()) {
            Ok(restored) => assert_eq!(restored.content_hash(), whole, "byte {at} changed a row unseen"),
            Err(_) => continue,
        }
    }
    let cut = Store::restore(&mut &bytes[..bytes.len() / 2]);
    assert!(matches!(cut, Err(RestoreError::Read(_))));
}

#[test]
fn what_is_unknown_is_refused() {
    let mut bytes = Vec::new();
    Store::new().capture().write(&mut bytes).expect("a vector takes everything");
    let at = bytes.windows(7).position(|window| window == b"cluster").expect("the first table's name");
    let mut unknown = bytes.clone();
    unknown[at] = b'k';
    assert!(
        matches!(Store::restore(&mut unknown.as_slice()), Err(RestoreError::UnknownTable { name, .. }) if name == "kluster")
    );
    bytes[7] = 9;
    assert!(matches!(Store::restore(&mut bytes.as_slice()), Err(RestoreError::UnknownFormat)));
}

/// Reads a fixture, or writes it where it is asked for.
fn fixture(name: &str, bytes: &[u8]) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    if std::env::var_os("WAYFARER_WRITE_FIXTURES").is_some() {
        fs::write(&path, bytes).expect("the fixtures can be written");
    }
    fs::read(&path).expect("the fixture is there")
}

/// A region with a row in most tables.
fn sample() -> Region {
    let mut region = Region::with_nodes(2);
    region.apply(Command::InitCluster { cluster_id: uuid::Uuid::from_u128(7), now: now() });
    region.register(job("web", 2));
    region.register(job("web", 3));
    let mut plan = region.plan(&key("web"), region.node_id(0), 3, None);
    let id = DeploymentId::from_random(region.next_id());
    plan.deployment = Some(region.deployment(&key("web"), id));
    region.apply(apply_plan(plan));
    let updates = region.state().allocs().map(|alloc| update_of(alloc, ClientStatus::Running)).collect();
    region.apply(client_update(updates));
    region.apply(Command::NotePeriodicLaunch { key: key("web"), launch: now() });
    region.apply(Command::UpsertNamespaces {
        namespaces: vec![protocol::Named(Namespace { name: "team".into(), ..Namespace::default() })],
    });
    region
}

/// A region with a row in each table of who may join.
fn sample_of_joining() -> Region {
    let mut region = Region::with_nodes(0);
    let token = JoinToken {
        accessor: uuid::Uuid::from_u128(1),
        secret_hash: [2; 32],
        role: JoinRole::Server,
        description: "for the third server".into(),
        create_time: now(),
        expires: Timestamp(now().0 + 9),
        used: None,
        create_index: 0,
        modify_index: 0,
    };
    region.apply(Command::CreateJoinToken { token: protocol::Named(token) });
    let used = JoinTokenUse { node: uuid::Uuid::from_u128(3), key_hash: [4; 32], time: now() };
    region.apply(Command::UseJoinToken { secret_hash: [2; 32], role: JoinRole::Server, used });
    region.apply(Command::SetJoinSettings { require_token: true });
    let eu = TrustedRegion {
        name: "eu".into(),
        authorities: "a certificate".into(),
        servers: Vec::new(),
        create_index: 0,
        modify_index: 0,
    };
    region.apply(Command::TrustRegion { region: protocol::Named(eu) });
    region
}
