use super::*;

const ALICE: Sender = [1; 16];
const BOB: Sender = [2; 16];

fn key(text: u8) -> GossipKey {
    GossipKey::from_bytes(&[text; 32]).expect("32 bytes")
}

fn seal(sender: Sender, region: &str) -> Seal {
    Seal::new(PoolKind::Region, Scope::new(PoolKind::Region, region, None), sender, 1, 0x1234_5678_9abc_def0)
}

fn sealed(seal: &mut Seal, ring: &KeyRing, payload: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    seal.seal(ring, payload, &mut packet);
    packet
}

fn refusal(seal: &mut Seal, ring: &KeyRing, packet: &[u8]) -> Refusal {
    seal.open(ring, &mut packet.to_vec(), Instant::now()).expect_err("must be refused")
}

#[test]
fn what_is_sealed_is_opened_and_says_who_sealed_it() {
    let ring = KeyRing::new(key(1));
    let (mut alice, mut bob) = (seal(ALICE, "global"), seal(BOB, "global"));
    for payload in [&b"hello"[..], b"", &[7; 1_000]] {
        let mut packet = sealed(&mut alice, &ring, payload);
        assert_eq!(packet.len(), payload.len() + OVERHEAD);
        assert!(payload.is_empty() || !packet.windows(payload.len()).any(|part| part == payload));
        let opened = bob.open(&ring, &mut packet, Instant::now()).expect("opens");
        assert_eq!((opened.sender, opened.payload, opened.key), (ALICE, payload, key(1).id()));
    }
}

#[test]
fn a_changed_bit_anywhere_is_refused() {
    let ring = KeyRing::new(key(1));
    let (mut alice, mut bob) = (seal(ALICE, "global"), seal(BOB, "global"));
    let packet = sealed(&mut alice, &ring, b"membership");
    for bit in 0..packet.len() * 8 {
        let mut changed = packet.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        refusal(&mut bob, &ring, &changed);
    }
    for len in 0..packet.len() {
        refusal(&mut bob, &ring, &packet[..len]);
    }
    // None of it kept the true packet out.
    assert!(bob.open(&ring, &mut packet.clone(), Instant::now()).is_ok());
}

#[test]
fn each_reason_to_refuse_is_told_apart() {
    let ring = KeyRing::new(key(1));
    let (mut alice, mut bob) = (seal(ALICE, "global"), seal(BOB, "global"));
    let packet = sealed(&mut alice, &ring, b"x");
    assert_eq!(refusal(&mut bob, &KeyRing::new(key(2)), &packet), Refusal::UnknownKey);
    assert_eq!(refusal(&mut seal(BOB, "europe"), &ring, &packet), Refusal::Region);
    assert_eq!(refusal(&mut seal(ALICE, "global"), &ring, &packet), Refusal::Own);
    assert_eq!(refusal(&mut bob, &ring, b"GET / HTTP/1.1"), Refusal::Foreign);
    let mut later = seal(ALICE, "global");
    later.boot = 2;
    assert_eq!(refusal(&mut later, &ring, &packet), Refusal::Own);
    later.boot = 0;
    assert!(later.open(&ring, &mut packet.clone(), Instant::now()).is_ok(), "another agent with our id");
    let mut wide = Seal::new(PoolKind::Wide, Scope::new(PoolKind::Wide, "global", None), BOB, 1, 0);
    assert_eq!(refusal(&mut wide, &ring, &packet), Refusal::Pool);
    let mut forged = packet.clone();
    *forged.last_mut().expect("not empty") ^= 1;
    assert_eq!(refusal(&mut bob, &ring, &forged), Refusal::Forged);
    assert!(bob.open(&ring, &mut packet.clone(), Instant::now()).is_ok());
    assert_eq!(refusal(&mut bob, &ring, &packet), Refusal::Replayed);
}

#[test]
fn clusters_that_know_themselves_part_and_a_founding_one_listens() {
    let ring = KeyRing::new(key(1));
    let (mut alice, mut bob) = (seal(ALICE, "global"), seal(BOB, "global"));
    alice.set_cluster(Some(1));
    let from_founded = sealed(&mut alice, &ring, b"x");
    assert!(bob.open(&ring, &mut from_founded.clone(), Instant::now()).is_ok());
    bob.set_cluster(Some(2));
    let again = sealed(&mut alice, &ring, b"x");
    assert_eq!(refusal(&mut bob, &ring, &again), Refusal::Cluster);
    bob.set_cluster(Some(1));
    assert!(bob.open(&ring, &mut again.clone(), Instant::now()).is_ok());
}

#[test]
fn regions_that_share_a_tag_by_chance_still_do_not_read_each_other() {
    let ring = KeyRing::new(key(1));
    let (mut alice, mut bob) = (seal(ALICE, "global"), seal(BOB, "global"));
    // As if another name's hash began with the same four bytes.
    bob.scope.region[31] ^= 1;
    let packet = sealed(&mut alice, &ring, b"x");
    assert_eq!(refusal(&mut bob, &ring, &packet), Refusal::Forged);
}

#[test]
fn a_key_is_changed_while_both_go_on_talking() {
    let (old, new) = (key(1), key(2));
    let (mut alice, mut bob) = (seal(ALICE, "global"), seal(BOB, "global"));
    let (mut of_alice, mut of_bob) = (KeyRing::new(old.clone()), KeyRing::new(old.clone()));
    let mut talk = |of_alice: &KeyRing, of_bob: &KeyRing| {
        let packet = sealed(&mut alice, of_alice, b"to bob");
        let there = bob.open(of_bob, &mut packet.clone(), Instant::now()).map(|opened| opened.key);
        let packet = sealed(&mut bob, of_bob, b"to alice");
        let back = alice.open(of_alice, &mut packet.clone(), Instant::now()).map(|opened| opened.key);
        (there, back)
    };
    let (with_old, with_new) = (Ok(old.id()), Ok(new.id()));
    assert_eq!(talk(&of_alice, &of_bob), (with_old, with_old));
    of_alice.install(new.clone()).expect("room");
    assert_eq!(talk(&of_alice, &of_bob), (with_old, with_old));
    of_bob.install(new.clone()).expect("room");
    of_alice.use_key(&new).expect("there");
    assert_eq!(talk(&of_alice, &of_bob), (with_new, with_old));
    of_bob.use_key(&new).expect("there");
    of_alice.remove(&old).expect("not primary");
    assert_eq!(talk(&of_alice, &of_bob), (with_new, with_new));
}

#[test]
fn a_ring_keeps_its_primary_and_its_bound() {
    let mut ring = KeyRing::new(key(0));
    let print = key(0).fingerprint();
    assert_eq!(ring.remove(&key(0)), Err(ChangeRingError::Primary { fingerprint: print }));
    let print = key(9).fingerprint();
    assert_eq!(ring.use_key(&key(9)), Err(ChangeRingError::NotThere { fingerprint: print.clone() }));
    assert_eq!(ring.remove(&key(9)), Err(ChangeRingError::NotThere { fingerprint: print }));
    assert_eq!(ring.install(key(0)), Ok(()));
    assert_eq!(ring.keys().len(), 1);
    let full = (1..=16).map(|n| ring.install(key(n))).collect::<Vec<_>>();
    assert_eq!(full.last(), Some(&Err(ChangeRingError::Full)));
    assert_eq!(ring.keys().len(), 16);
    ring.use_key(&key(5)).expect("there");
    assert_eq!(ring.primary(), &key(5));
}

#[test]
fn a_key_is_read_as_nomad_writes_it_and_never_shown_by_accident() {
    for (text, len) in [
        ("cg8StVXbQJ0gPvMd9o7yrg==", 16),
        ("AAECAwQFBgcICQoLDA0ODxAREhMUFRYX", 24),
        ("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", 32),
    ] {
        let key = GossipKey::parse(text).expect("a key");
        assert_eq!(key.reveal(), text);
        assert_eq!(key.fingerprint().len(), 16, "{len} bytes");
        assert!(!format!("{key:?}").contains(&text[..8]));
    }
    assert_eq!(GossipKey::parse("not base64!").err(), Some(ParseKeyError::NotBase64));
    assert_eq!(GossipKey::parse("AAEC").err(), Some(ParseKeyError::Length(3)));
    assert_eq!(GossipKey::parse("").err(), Some(ParseKeyError::Length(0)));
}

#[test]
fn rubbish_of_any_kind_is_refused() {
    let ring = KeyRing::new(key(1));
    let (mut alice, mut bob) = (seal(ALICE, "global"), seal(BOB, "global"));
    let genuine = sealed(&mut alice, &ring, b"membership");
    let mut random = 1_u64;
    for round in 0..20_000 {
        let mut packet: Vec<u8> = (0..round % 200)
            .map(|_| {
                random =
                    random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (random >> 56) as u8
            })
            .collect();
        // Half of them begin as a true one does, so that they come further.
        if round % 2 == 0 {
            let shared = packet.len().min(HEADER);
            packet[..shared].copy_from_slice(&genuine[..shared]);
        }
        refusal(&mut bob, &ring, &packet);
    }
}
