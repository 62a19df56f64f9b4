//! Join tokens are used once, in time and for their role; who may join, which regions are trusted and which keys there are is
//! state like any other.

mod support;

use std::time::Duration;

use model::*;
use protocol::{Command, Named};
use state::{Refusal, Store, Table};
use support::*;
use uuid::Uuid;

const SECRET: [u8; 32] = [1; 32];

fn token(number: u128, role: JoinRole) -> JoinToken {
    let mut secret_hash = SECRET;
    secret_hash[..16].copy_from_slice(&number.to_be_bytes());
    JoinToken {
        accessor: Uuid::from_u128(number),
        secret_hash,
        role,
        description: String::new(),
        create_time: now(),
        expires: now().after(Duration::from_secs(3_600)),
        used: None,
        create_index: 0,
        modify_index: 0,
    }
}

fn create(token: &JoinToken) -> Command {
    Command::CreateJoinToken { token: Named(token.clone()) }
}

fn used(node: u128, key: u8, after_seconds: u64) -> JoinTokenUse {
    let time = now().after(Duration::from_secs(after_seconds));
    JoinTokenUse { node: Uuid::from_u128(node), key_hash: [key; 32], time }
}

fn take(token: &JoinToken, role: JoinRole, used: JoinTokenUse) -> Command {
    Command::UseJoinToken { secret_hash: token.secret_hash, role, used }
}

#[test]
fn a_token_is_used_once_and_by_the_same_agent_again() {
    let mut region = Region::with_nodes(0);
    let token = token(1, JoinRole::Client);
    let accessor = token.accessor;
    region.apply(create(&token));
    region.apply(take(&token, JoinRole::Client, used(7, 7, 1)));
    let index = region.store.index();
    region.apply(take(&token, JoinRole::Client, used(7, 7, 2)));
    let row = region.state().join_token(accessor).expect("it is kept");
    assert_eq!((row.modify_index, row.used.clone()), (index, Some(used(7, 7, 1))), "the first use stays");
    for other in [used(8, 7, 3), used(7, 8, 3)] {
        let refused = region.try_apply(take(&token, JoinRole::Client, other)).expect_err("it is refused");
        assert_eq!(refused, Refusal::JoinTokenUsed { accessor });
    }
}

#[test]
fn a_token_is_refused_when_expired_for_another_role_revoked_or_unknown() {
    let mut region = Region::with_nodes(0);
    let token = token(1, JoinRole::Client);
    let accessor = token.accessor;
    let unknown = region.try_apply(take(&token, JoinRole::Client, used(7, 7, 1))).expect_err("it is refused");
    assert_eq!(unknown, Refusal::JoinTokenUnknown);
    region.apply(create(&token));
    let role = region.try_apply(take(&token, JoinRole::Server, used(7, 7, 1))).expect_err("it is refused");
    assert_eq!(
        role,
        Refusal::JoinTokenRole { accessor, role: JoinRole::Client, asked: JoinRole::Server },
        "{role}"
    );
    let late =
        region.try_apply(take(&token, JoinRole::Client, used(7, 7, 3_600))).expect_err("it is refused");
    assert_eq!(late, Refusal::JoinTokenExpired { accessor });
    let again = region.try_apply(create(&token)).expect_err("it is refused");
    assert_eq!(again, Refusal::JoinTokenExists { accessor });
    assert_eq!(region.state().join_token(accessor).expect("it is there").used, None);
    region.apply(Command::RevokeJoinTokens { accessors: vec![accessor, Uuid::from_u128(99)] });
    let revoked = region.try_apply(take(&token, JoinRole::Client, used(7, 7, 1))).expect_err("it is refused");
    assert_eq!(revoked, Refusal::JoinTokenUnknown);
}

#[test]
fn expired_tokens_are_forgotten_after_a_while() {
    let mut region = Region::with_nodes(0);
    region.apply(create(&token(1, JoinRole::Client)));
    let mut later = token(2, JoinRole::Client);
    later.create_time = now().after(Duration::from_secs(72 * 3_600));
    later.expires = later.create_time.after(Duration::from_secs(3_600));
    region.apply(create(&later));
    assert_eq!(region.state().join_tokens().count(), 2, "who used it can still be seen");
    let mut last = token(3, JoinRole::Client);
    last.create_time = now().after(Duration::from_secs(73 * 3_600));
    region.apply(create(&last));
    let left: Vec<_> = region.state().join_tokens().map(|token| token.accessor.as_u128()).collect();
    assert_eq!(left, [2, 3]);
}

#[test]
fn settings_and_regions_are_kept_and_restored() {
    let mut region = Region::with_nodes(0);
    assert!(!region.state().join_settings().require_token);
    region.apply(Command::SetJoinSettings { require_token: true });
    region.apply(create(&token(1, JoinRole::Region)));
    let eu = |authorities: &str| TrustedRegion {
        name: "eu".into(),
        authorities: authorities.into(),
        servers: vec![([10, 0, 0, 1], 4647).into()],
        create_index: 0,
        modify_index: 0,
    };
    region.apply(Command::TrustRegion { region: Named(eu("one")) });
    region.apply(Command::TrustRegion { region: Named(eu("two")) });
    let row = region.state().trusted_region("eu").expect("it is trusted");
    assert_eq!((row.authorities.as_str(), row.modify_index - row.create_index), ("two", 1));
    assert_eq!(region.state().table_index(Table::Regions), region.store.index());

    let mut bytes = Vec::new();
    region.store.capture().write(&mut bytes).expect("a vector takes everything");
    let restored = Store::restore(&mut bytes.as_slice()).expect("it was just written");
    assert_eq!(restored.content_hash(), region.store.content_hash());
    assert!(restored.state().join_settings().require_token);
    assert_eq!(restored.state().join_tokens().count(), 1);

    region.apply(Command::ForgetRegion { name: "eu".into() });
    let gone = region.try_apply(Command::ForgetRegion { name: "eu".into() }).expect_err("it is refused");
    assert_eq!(gone, Refusal::RegionNotFound { name: "eu".into() });
    assert_ne!(restored.content_hash(), region.store.content_hash());
}

#[test]
fn one_key_is_in_use_and_only_the_others_can_go() {
    let mut region = Region::with_nodes(0);
    let key = |id| model::RootKey {
        id: uuid::Uuid::from_u128(id),
        secret: model::RootSecret([1; 32]),
        active: true,
        create_time: now(),
        create_index: 0,
        modify_index: 0,
    };
    let add = |id, first| Command::AddRootKey { key: Named(key(id)), first };
    region.apply(add(1, true));
    // Another leader that found none meanwhile.
    region.apply(add(2, true));
    region.apply(add(3, false));
    let keys: Vec<_> =
        region.store.snapshot().root_keys().map(|key| (key.id.as_u128(), key.active)).collect();
    assert_eq!(keys, [(1, false), (3, true)]);
    let delete = |id| Command::DeleteRootKey { id: uuid::Uuid::from_u128(id) };
    assert_eq!(region.try_apply(delete(3)).err(), Some(Refusal::RootKeyActive));
    assert_eq!(region.try_apply(delete(2)).err(), Some(Refusal::RootKeyNotFound));
    region.apply(delete(1));
    assert_eq!(region.store.snapshot().root_keys().count(), 1);
}
