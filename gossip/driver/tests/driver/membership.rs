use std::time::Duration;

use gossip_core::{LeavePrune, Role, Status};
use gossip_driver::{
    Departure, Dropped, Event, Handle, OpenError, PoolError, PoolKind, StartError, SyncBy, Whom,
    memory::Weather,
};
use tokio::{sync::broadcast::error::RecvError, time::sleep};

use crate::cluster::{Cluster, Disk, Start, addr, alive, alive_in, id, member, status, statuses, until};

#[tokio::test(start_paused = true)]
async fn all_learn_of_all_by_one_address() {
    let cluster = Cluster::new(1);
    let agents = cluster.of(9, Start::agent).await;
    until("all know what all say of themselves", || {
        agents.iter().all(|agent| agent.members(PoolKind::Region).iter().all(|one| one.digest.is_some()))
    })
    .await;
    let third = member(&agents[7], PoolKind::Region, 3).expect("it is there");
    assert_eq!(third.addr, addr(3));
    assert_eq!(third.digest.expect("just seen").name, "agent-3");
}

#[tokio::test(start_paused = true)]
async fn who_falls_silent_failed_and_who_says_goodbye_left() {
    let cluster = Cluster::new(2);
    let agents = cluster.of(5, Start::agent).await;
    let departure = agents[3].leave(PoolKind::Region, Duration::from_secs(30)).await;
    assert_eq!(departure, Ok(Departure::Spread));
    agents[3].stop().await;
    agents[4].stop().await;
    let stay = &agents[..3];
    until("the silent one failed", || stay.iter().all(|agent| status(agent, 5) == Some(Status::Failed)))
        .await;
    assert!(stay.iter().all(|agent| status(agent, 4) == Some(Status::Left)));
    assert!(stay.iter().all(|agent| alive(agent) == 3));
}

#[tokio::test(start_paused = true)]
async fn leaving_alone_does_not_wait_for_ever() {
    let cluster = Cluster::new(3);
    let agents = cluster.of(2, Start::agent).await;
    cluster.network.cut(addr(1), addr(2));
    let patience = Duration::from_secs(20);
    let started = tokio::time::Instant::now();
    assert!(agents[0].leave(PoolKind::Region, patience).await.is_ok());
    assert!(started.elapsed() <= patience + Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_restarted_agent_is_back_in_a_later_life() {
    let cluster = Cluster::new(4);
    let disk = Disk::default();
    let of = |number| Start {
        disk: if number == 3 { disk.clone() } else { Disk::default() },
        ..Start::agent(number)
    };
    let mut agents = cluster.of(3, of).await;
    let before = member(&agents[0], PoolKind::Region, 3).expect("it is there").incarnation;
    agents.pop().expect("three were started").stop().await;
    // At once, before anyone missed it, and then after it was seen to fail.
    for silence in [0, 60] {
        sleep(Duration::from_secs(silence)).await;
        let again = cluster.start(of(3));
        again.join(PoolKind::Region, vec![addr(1), addr(2)]).await.expect("it is open");
        until("it is back, and later", || {
            agents.iter().all(|agent| {
                member(agent, PoolKind::Region, 3)
                    .is_some_and(|three| three.status == Status::Alive && three.incarnation > before)
            })
        })
        .await;
        until("it sees all", || alive(&again) == 3).await;
        again.stop().await;
    }
    assert!(disk.last() > before, "its lives are on disk");
}

#[tokio::test(start_paused = true)]
async fn an_agent_whose_disk_hangs_or_was_wiped_still_takes_part() {
    let cluster = Cluster::new(5);
    let agents = cluster.of(2, Start::agent).await;
    let disk = Disk { stuck: true, ..Disk::default() };
    for _life in 0..2 {
        let stuck = cluster.start(Start { disk: disk.clone(), ..Start::agent(3) });
        stuck.join(PoolKind::Region, vec![addr(1)]).await.expect("it is open");
        until("it is there", || alive(&stuck) == 3 && agents.iter().all(|agent| alive(agent) == 3)).await;
        // Long enough that the next life would wait too long to send as many packets as this one.
        sleep(Duration::from_secs(900)).await;
        stuck.stop().await;
        until("it is gone", || agents.iter().all(|agent| status(agent, 3) == Some(Status::Failed))).await;
    }
    let replayed = |agent: &Handle| agent.traffic().dropped(Dropped::Replayed);
    assert!(
        agents.iter().all(|agent| replayed(agent) == 0),
        "a life that begins at a number of old is not heard"
    );
}

#[tokio::test(start_paused = true)]
async fn loss_and_repetition_make_nobody_fail() {
    let cluster = Cluster::new(6);
    let agents = cluster.of(8, Start::agent).await;
    let delay = Duration::from_millis(1)..Duration::from_millis(60);
    cluster.network.set_weather(Weather { lost_permille: 80, doubled_permille: 50, delay });
    let mut events: Vec<_> = agents.iter().map(Handle::subscribe).collect();
    sleep(Duration::from_secs(120)).await;
    for events in &mut events {
        while let Ok(event) = events.try_recv() {
            let failed = matches!(event, Event::Member { change: gossip_core::Event::Failed(_), .. });
            assert!(!failed, "{event:?}");
        }
    }
    assert!(agents.iter().all(|agent| agent.members(PoolKind::Region).len() == 8));
}

#[tokio::test(start_paused = true)]
async fn a_split_heals() {
    let cluster = Cluster::new(7);
    let agents = cluster.of(6, Start::agent).await;
    for left in 1..=3 {
        for right in 4..=6 {
            cluster.network.cut(addr(left), addr(right));
        }
    }
    until("each side sees itself alone", || agents.iter().all(|agent| alive(agent) == 3)).await;
    cluster.network.heal();
    until("all see all", || agents.iter().all(|agent| alive(agent) == 6)).await;
}

#[tokio::test(start_paused = true)]
async fn servers_of_two_regions_share_the_wide_pool_and_nothing_else() {
    const BOTH: &[PoolKind] = &[PoolKind::Region, PoolKind::Wide];
    let cluster = Cluster::new(8);
    let of = |number: u8| {
        let region = if number <= 3 { "europe" } else { "asia" };
        let is_client = number.is_multiple_of(3);
        let (role, pools) = if is_client { (Role::Client, &BOTH[..1]) } else { (Role::Server, BOTH) };
        Start { region, role, pools, ..Start::agent(number) }
    };
    let agents: Vec<_> = (1..=6).map(|number| cluster.start(of(number))).collect();
    for agent in &agents {
        // By mistake all of them are told of a server of Europe; the region pools stay apart.
        agent.join(PoolKind::Region, vec![addr(1), addr(4)]).await.expect("it is open");
    }
    let wide = |agent: &Handle| alive_in(agent, PoolKind::Wide);
    for server in [1, 3, 4] {
        agents[server].join(PoolKind::Wide, vec![addr(1)]).await.expect("it is open");
    }
    until("regions are whole", || agents.iter().all(|agent| alive(agent) == 3)).await;
    until("servers know each other", || [0, 1, 3, 4].iter().all(|server| wide(&agents[*server]) == 4)).await;
    sleep(Duration::from_secs(60)).await;
    assert!(agents.iter().all(|agent| agent.members(PoolKind::Region).len() == 3));
    let client = agents[2].join(PoolKind::Wide, vec![addr(1)]).await;
    assert_eq!(client, Err(PoolError::NotOpen(PoolKind::Wide)));
    assert_eq!(wide(&agents[2]), 0);
}

#[tokio::test(start_paused = true)]
async fn an_agent_made_to_leave_is_off_the_list_or_stays_as_left() {
    let cluster = Cluster::new(9);
    let agents = cluster.of(5, Start::agent).await;
    agents[3].stop().await;
    agents[4].stop().await;
    let stay = &agents[..3];
    let failed = |number| stay.iter().all(|agent| status(agent, number) == Some(Status::Failed));
    until("both failed", || failed(4) && failed(5)).await;
    let force = |whom, prune| stay[0].force_leave(PoolKind::Region, whom, prune);
    assert_eq!(force(Whom::Name("agent-4.global".to_owned()), LeavePrune::Keep).await, Ok(1));
    assert_eq!(force(Whom::Id(id(5)), LeavePrune::Prune).await, Ok(1));
    assert_eq!(force(Whom::Name("agent".to_owned()), LeavePrune::Keep).await, Ok(0));
    until("all know", || {
        stay.iter().all(|agent| status(agent, 4) == Some(Status::Left) && status(agent, 5).is_none())
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_change_of_digest_is_in_the_list_when_its_event_comes() {
    let cluster = Cluster::new(10);
    let agents = cluster.of(3, Start::agent).await;
    let mut events = agents[2].subscribe();
    let mut digest =
        (*member(&agents[0], PoolKind::Region, 1).and_then(|me| me.digest).expect("ours")).clone();
    digest.flags.draining = true;
    agents[0].set_digest(PoolKind::Region, digest.clone()).await.expect("it is small");
    loop {
        let event = events.recv().await.expect("the driver runs");
        if let Event::Member { change: gossip_core::Event::Updated(one), .. } = event
            && one.id == id(1)
        {
            break;
        }
    }
    let seen = member(&agents[2], PoolKind::Region, 1).and_then(|one| one.digest).expect("it is there");
    assert_eq!(*seen, digest);
    digest.tags.insert("long".to_owned(), "x".repeat(5_000));
    assert!(matches!(agents[0].set_digest(PoolKind::Region, digest).await, Err(PoolError::Refused(_))));
}

#[tokio::test(start_paused = true)]
async fn synchronisations_go_over_the_callers_streams_when_it_wants_them() {
    let cluster = Cluster::new(11);
    let by_caller = |number| Start { sync: SyncBy::Caller, ..Start::agent(number) };
    let agents: Vec<_> = (1..=12).map(|number| cluster.start(by_caller(number))).collect();
    let carried = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    for agent in agents.clone() {
        let (all, carried) = (agents.clone(), std::sync::Arc::clone(&carried));
        let mut events = agent.subscribe();
        #[allow(clippy::disallowed_methods)]
        tokio::spawn(async move {
            loop {
                let (pool, to) = match events.recv().await {
                    Ok(Event::Sync { pool, addr, .. }) => (pool, addr),
                    Ok(_) | Err(RecvError::Lagged(_)) => continue,
                    Err(RecvError::Closed) => return,
                };
                let other = all.iter().find(|other| other.local_addr() == to).expect("it was started");
                let request = agent.sync_request(pool).await.expect("it is open");
                let answer = other.sync_answer(pool, request).await.expect("it is a request");
                let back = agent.sync_finish(pool, answer).await.expect("it is an answer");
                other.seed(pool, back).await.expect("it is open");
                carried.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
        });
    }
    for agent in &agents[1..] {
        agent.join(PoolKind::Region, vec![addr(1)]).await.expect("it is open");
    }
    until("all see all", || agents.iter().all(|agent| alive(agent) == 12)).await;
    assert!(carried.load(std::sync::atomic::Ordering::Relaxed) > 0, "at least one was asked for");
}

#[tokio::test(start_paused = true)]
async fn synchronisations_go_in_packets_when_nobody_listens() {
    let cluster = Cluster::new(14);
    let by_caller = |number| Start { sync: SyncBy::Caller, ..Start::agent(number) };
    let agents = cluster.of(40, by_caller).await;
    // So many that a welcome does not name all, and then at once.
    let newcomer = cluster.start(by_caller(41));
    newcomer.join(PoolKind::Region, vec![addr(2)]).await.expect("it is open");
    until("it has met one", || alive(&newcomer) > 1).await;
    sleep(Duration::from_secs(1)).await;
    let known = newcomer.members(PoolKind::Region);
    assert_eq!(known.iter().filter(|member| member.digest.is_some()).count(), agents.len() + 1);
}

#[tokio::test(start_paused = true)]
async fn sixty_agents_find_each_other_in_packets_alone() {
    let cluster = Cluster::new(12);
    let agents = cluster.of(60, Start::agent).await;
    let first = statuses(&agents[0]);
    assert!(agents.iter().all(|agent| statuses(agent) == first));
}

#[tokio::test(start_paused = true)]
async fn a_pool_is_opened_once_and_a_stopped_driver_says_so() {
    let cluster = Cluster::new(13);
    let agent = cluster.start(Start { pools: &[], ..Start::agent(1) });
    assert_eq!(agent.join(PoolKind::Region, vec![]).await, Err(PoolError::NotOpen(PoolKind::Region)));
    let pool = || Start::agent(1).pool(PoolKind::Region, addr(1), &*cluster.host);
    agent.open(pool()).await.expect("it is not open yet");
    until("we see ourselves", || alive(&agent) == 1).await;
    let again = agent.open(pool()).await;
    assert!(matches!(again, Err(OpenError::Start(StartError::Open(PoolKind::Region)))), "{again:?}");
    agent.stop().await;
    assert_eq!(agent.join(PoolKind::Region, vec![]).await, Err(PoolError::Stopped));
    assert!(agent.stats().await.is_err());
    until("its address is free", || cluster.network.bind(addr(1)).is_ok()).await;
}
