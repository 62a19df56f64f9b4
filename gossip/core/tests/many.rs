//! Many members on a bad network. Each failure prints its seed, which repeats it.

use std::{collections::BTreeSet, time::Duration};

use gossip_core::{
    Config, Incarnation, Input, LeavePrune, Role, Status,
    simulation::{Network, Simulation},
};
use rand::{RngExt, SeedableRng, rngs::SmallRng};

const SERVERS: usize = 3;
const STEP: Duration = Duration::from_millis(100);

#[test]
fn all_who_join_find_each_other() {
    for seed in 1..=2 {
        let simulation = pool(200, 0.01, seed);
        let names: BTreeSet<String> = members_of(&simulation, 7).map(|digest| digest.name.clone()).collect();
        assert_eq!(names.len(), 200, "seed {seed}");
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = |seed| {
        let mut simulation = pool(60, 0.05, seed);
        simulation.kill(10);
        simulation.starve(11, Duration::from_secs(2));
        seconds(&mut simulation, 10);
        simulation.trace()
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn a_death_is_known_to_the_servers_within_five_seconds() {
    for seed in 1..=2 {
        let mut simulation = pool(200, 0.01, seed);
        for victim in [50, 100, 150] {
            let died = simulation.now();
            simulation.kill(victim);
            seconds(&mut simulation, 8);
            let known = &simulation.findings().deaths[&victim];
            let slowest = (0..SERVERS).map(|server| known.get(&server).map(|at| *at - died)).max();
            let slowest = slowest.flatten().expect("the servers know");
            assert!(slowest < Duration::from_secs(5), "seed {seed}: {slowest:?}");
            assert_eq!(known.len(), simulation.running().count(), "seed {seed}: all know");
        }
        assert!(simulation.findings().false_deaths.is_empty(), "seed {seed}");
    }
}

#[test]
fn nobody_who_pauses_for_two_seconds_is_called_dead() {
    for (seed, loss) in [(1, 0.01), (2, 0.10)] {
        let mut simulation = pool(100, loss, seed);
        let mut rng = SmallRng::seed_from_u64(seed);
        for _ in 0..40 {
            for _ in 0..3 {
                let number = rng.random_range(0..simulation.len());
                simulation.starve(number, Duration::from_secs(2));
            }
            seconds(&mut simulation, 1);
        }
        let findings = simulation.findings();
        assert!(findings.false_deaths.is_empty(), "seed {seed}: {:?}", findings.false_deaths);
        assert!(simulation.counters().suspicions_cleared > 0, "somebody was suspected");
    }
}

#[test]
fn one_that_pauses_for_long_is_called_dead_and_comes_back_by_itself() {
    let mut simulation = pool(50, 0.0, 1);
    simulation.starve(20, Duration::from_secs(15));
    seconds(&mut simulation, 10);
    let id = simulation.id(20);
    assert_eq!(status(&simulation, 0, 20), Some(Status::Failed));
    let healed = simulation.run_until(Duration::from_secs(30), STEP, Simulation::is_converged);
    assert!(healed.is_some());
    let seen = simulation.gossip(0).and_then(|gossip| gossip.member(&id)).expect("it is known");
    assert_eq!((seen.status, seen.incarnation), (Status::Alive, Incarnation(2)));
}

#[test]
fn halves_that_lost_each_other_find_each_other() {
    let mut simulation = pool(100, 0.01, 3);
    let many = simulation.len();
    (0..many / 2).for_each(|number| simulation.set_side(number, 1));
    seconds(&mut simulation, 40);
    assert_eq!(simulation.gossip(0).map(|gossip| gossip.alive()), Some(many / 2));
    (0..many).for_each(|number| simulation.set_side(number, 0));
    let healed = simulation.run_until(Duration::from_secs(10), STEP, Simulation::is_converged);
    assert!(healed.is_some(), "{:?}", simulation.counters());
}

#[test]
fn one_that_lost_all_peers_finds_them_again() {
    let mut simulation = pool(10, 0.0, 4);
    simulation.set_side(5, 1);
    // Whoever hears nobody doubts itself first, so it takes its time with each of them.
    seconds(&mut simulation, 600);
    assert_eq!(simulation.gossip(5).map(|gossip| gossip.alive()), Some(1));
    simulation.set_side(5, 0);
    let healed = simulation.run_until(Duration::from_secs(10), STEP, Simulation::is_converged);
    assert!(healed.is_some());
}

#[test]
fn two_that_hold_each_other_for_dead_do_not_flood() {
    let mut simulation = pool(2, 0.0, 5);
    simulation.set_side(1, 1);
    seconds(&mut simulation, 60);
    assert_eq!(status(&simulation, 0, 1), Some(Status::Failed));
    assert_eq!(status(&simulation, 1, 0), Some(Status::Failed));
    simulation.clear_findings();
    simulation.set_side(1, 0);
    let healed = simulation.run_until(Duration::from_secs(5), STEP, Simulation::is_converged);
    assert!(healed.is_some());
    seconds(&mut simulation, 60);
    let packets = simulation.findings().packets;
    assert!(packets < 2 * 65 * 20, "{packets} packets in about a minute");
}

#[test]
fn one_that_leaves_is_told_from_one_that_fails() {
    let mut simulation = pool(30, 0.01, 6);
    simulation.input(10, Input::Leave);
    simulation.kill(11);
    seconds(&mut simulation, 10);
    assert!(simulation.gossip(10).is_none(), "it was let go");
    for observer in [0, 5, 29] {
        assert_eq!(status(&simulation, observer, 10), Some(Status::Left));
        assert_eq!(status(&simulation, observer, 11), Some(Status::Failed));
    }
    seconds(&mut simulation, 60);
    assert_eq!(status(&simulation, 29, 10), Some(Status::Left), "no rumour brings it back");
    simulation.start(10).expect("it ran before");
    let seed = simulation.addr(0);
    simulation.input(10, Input::Join(vec![seed]));
    seconds(&mut simulation, 5);
    assert_eq!(status(&simulation, 29, 10), Some(Status::Alive), "joining again does");
}

#[test]
fn servers_that_all_left_and_came_back_are_found_again() {
    let mut simulation = pool(10, 0.0, 11);
    for server in 0..SERVERS {
        simulation.input(server, Input::Leave);
        seconds(&mut simulation, 5);
    }
    assert_eq!(status(&simulation, 9, 0), Some(Status::Left));
    // They know of each other and of nobody else; the others have no reason to look for those who left.
    let seeds: Vec<_> = (0..SERVERS).map(|server| simulation.addr(server)).collect();
    for server in 0..SERVERS {
        simulation.start(server).expect("it ran before");
        simulation.input(server, Input::Join(seeds.clone()));
    }
    let healed = simulation.run_until(Duration::from_secs(30), STEP, Simulation::is_converged);
    assert!(healed.is_some(), "{:?}", simulation.counters());
}

#[test]
fn one_that_restarts_replaces_its_former_self_at_once() {
    let mut simulation = pool(30, 0.0, 7);
    simulation.kill(12);
    simulation.start(12).expect("it ran before");
    let seed = simulation.addr(0);
    simulation.input(12, Input::Join(vec![seed]));
    seconds(&mut simulation, 2);
    let life = simulation.gossip(12).map(|gossip| gossip.incarnation()).expect("it runs");
    assert!(life > Incarnation(30), "above all that the former life may have used: {life:?}");
    let id = simulation.id(12);
    for (observer, gossip) in simulation.running() {
        let seen = gossip.member(&id).expect("it is known");
        assert_eq!((seen.status, seen.incarnation), (Status::Alive, life), "as {observer} sees it");
    }
    assert!(simulation.findings().deaths.is_empty() && simulation.findings().false_deaths.is_empty());
}

#[test]
fn one_that_lost_its_disk_outbids_its_former_lives_in_one_step() {
    let mut simulation = pool(20, 0.0, 8);
    for _ in 0..3 {
        simulation.kill(12);
        simulation.start(12).expect("it ran before");
    }
    let seed = simulation.addr(0);
    simulation.input(12, Input::Join(vec![seed]));
    seconds(&mut simulation, 5);
    simulation.kill(12);
    seconds(&mut simulation, 8);
    simulation.wipe(12);
    simulation.start(12).expect("it ran before");
    simulation.input(12, Input::Join(vec![seed]));
    let healed = simulation.run_until(Duration::from_secs(10), STEP, Simulation::is_converged);
    assert!(healed.is_some());
    let renewals = simulation.gossip(12).map(|gossip| gossip.counters().renewals).expect("it runs");
    assert!((1..=2).contains(&renewals), "{renewals} renewals");
}

#[test]
fn an_operator_takes_a_member_off_the_list() {
    let mut simulation = pool(20, 0.0, 9);
    simulation.kill(10);
    seconds(&mut simulation, 8);
    assert_eq!(status(&simulation, 3, 10), Some(Status::Failed));
    let id = simulation.id(10);
    simulation.input(0, Input::ForceLeave { id, prune: LeavePrune::Keep });
    seconds(&mut simulation, 3);
    assert_eq!(status(&simulation, 19, 10), Some(Status::Left));
    simulation.input(0, Input::ForceLeave { id, prune: LeavePrune::Prune });
    seconds(&mut simulation, 3);
    assert_eq!(status(&simulation, 19, 10), None);
    let alive = simulation.id(11);
    simulation.input(0, Input::ForceLeave { id: alive, prune: LeavePrune::Prune });
    seconds(&mut simulation, 8);
    assert_eq!(status(&simulation, 19, 11), Some(Status::Alive), "one that lives refutes it");
}

#[test]
fn the_dead_are_forgotten_in_time() {
    let remember = Duration::from_secs(120);
    let network =
        Network { latency_min: Duration::from_micros(300), latency_max: Duration::from_millis(5), loss: 0.0 };
    let mut simulation = Simulation::new(network, 12);
    for number in 0..5 {
        let config = Config { remember, ..Config::local(1, 1_352, 0) };
        simulation.add(Role::Server, config).expect("the configuration is checked");
        let seed = simulation.addr(0);
        simulation.input(number, Input::Join(vec![seed]));
    }
    seconds(&mut simulation, 5);
    simulation.kill(4);
    seconds(&mut simulation, 30);
    assert_eq!(status(&simulation, 0, 4), Some(Status::Failed));
    seconds(&mut simulation, 240);
    assert!((0..4).all(|observer| status(&simulation, observer, 4).is_none()));
}

#[test]
fn a_digest_that_changes_is_known_to_all() {
    let mut simulation = pool(100, 0.05, 10);
    let mut digest = simulation.gossip(4).map(|gossip| gossip.me().digest.clone()).expect("it runs");
    digest.flags.draining = true;
    digest.tags.insert("raft_id".into(), "7".into());
    simulation.set_digest(4, digest.clone());
    seconds(&mut simulation, 5);
    let id = simulation.id(4);
    for (observer, gossip) in simulation.running() {
        let seen = gossip.member(&id).and_then(|member| member.digest).expect("it is known");
        assert_eq!(*seen, digest, "as {observer} sees it");
    }
}

#[test]
fn nothing_piles_up_in_peace_or_after_a_storm() {
    let mut simulation = pool(60, 0.01, 11);
    for round in 0..3 {
        for number in 30..50 {
            simulation.kill(number);
        }
        seconds(&mut simulation, 6);
        for number in 30..50 {
            simulation.start(number).expect("it ran before");
            let seed = simulation.addr(round % SERVERS);
            simulation.input(number, Input::Join(vec![seed]));
        }
        seconds(&mut simulation, 6);
    }
    let healed = simulation.run_until(Duration::from_secs(30), STEP, Simulation::is_converged);
    assert!(healed.is_some());
    seconds(&mut simulation, 60);
    let counters = simulation.counters();
    assert_eq!((counters.backlog, counters.overflowed), (0, 0));
    simulation.clear_findings();
    seconds(&mut simulation, 20);
    let per_second = simulation.findings().bytes / 60 / 20;
    assert!(per_second < 2_000, "{per_second} bytes a second for each member in peace");
}

/// Members that joined and know each other.
fn pool(members: usize, loss: f64, seed: u64) -> Simulation {
    let network =
        Network { latency_min: Duration::from_micros(300), latency_max: Duration::from_millis(5), loss };
    let mut simulation = Simulation::new(network, seed);
    let mut seeds = Vec::new();
    for number in 0..members {
        let role = if number < SERVERS { Role::Server } else { Role::Client };
        simulation.add(role, Config::local(1, 1_352, 0)).expect("the configuration is checked");
        if number < SERVERS {
            seeds.push(simulation.addr(number));
        }
        simulation.input(number, Input::Join(seeds.clone()));
    }
    let joined = simulation.run_until(Duration::from_secs(60), STEP, Simulation::is_converged);
    assert!(joined.is_some(), "seed {seed}: {:?}", simulation.counters());
    simulation
}

fn seconds(simulation: &mut Simulation, seconds: u64) {
    simulation.run_for(Duration::from_secs(seconds));
}

fn status(simulation: &Simulation, observer: usize, subject: usize) -> Option<Status> {
    Some(simulation.gossip(observer)?.member(&simulation.id(subject))?.status)
}

fn members_of(
    simulation: &Simulation,
    observer: usize,
) -> impl Iterator<Item = std::sync::Arc<gossip_core::Digest>> + '_ {
    let gossip = simulation.gossip(observer);
    gossip.into_iter().flat_map(|gossip| gossip.members()).filter_map(|member| member.digest)
}
