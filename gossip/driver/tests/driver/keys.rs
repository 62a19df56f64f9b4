use std::time::Duration;

use gossip_core::Status;
use gossip_driver::{ChangeRingError, Dropped, Event, Handle, KeyRing, PoolError, PoolKind};
use tokio::time::sleep;

use crate::cluster::{Cluster, Start, addr, alive, key, status, until};

const REGION: PoolKind = PoolKind::Region;

async fn rotate(agents: &[Handle]) {
    for agent in agents {
        agent.install_key(REGION, key(2)).await.expect("there is room");
        sleep(Duration::from_millis(700)).await;
    }
    for agent in agents {
        agent.use_key(REGION, key(2)).await.expect("it was installed");
        sleep(Duration::from_millis(700)).await;
    }
    for agent in agents {
        agent.remove_key(REGION, key(1)).await.expect("it is not used any more");
        sleep(Duration::from_millis(700)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_is_rotated_while_everyone_goes_on_talking() {
    let cluster = Cluster::new(20);
    let agents = cluster.of(5, Start::agent).await;
    let mut events: Vec<_> = agents.iter().map(Handle::subscribe).collect();
    rotate(&agents).await;
    sleep(Duration::from_secs(30)).await;
    for events in &mut events {
        while let Ok(event) = events.try_recv() {
            let lost = matches!(
                event,
                Event::Member {
                    change: gossip_core::Event::Failed(_) | gossip_core::Event::Suspected(_),
                    ..
                }
            );
            assert!(!lost, "{event:?}");
        }
    }
    for agent in &agents {
        assert_eq!(alive(agent), 5);
        assert_eq!(agent.traffic().dropped(Dropped::UnknownKey), 0);
        let keys = agent.keys(REGION).await.expect("it is open");
        let listed: Vec<_> = keys.iter().map(|one| (one.key.clone(), one.primary)).collect();
        assert_eq!(listed, [(key(2), true)]);
        assert!(keys[0].heard.is_some(), "packets were opened with it");
    }
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_was_away_while_keys_changed_finds_out_and_comes_back() {
    let cluster = Cluster::new(21);
    let agents = cluster.of(4, Start::agent).await;
    agents[3].stop().await;
    rotate(&agents[..3]).await;
    let stay = &agents[..3];
    until("it failed", || stay.iter().all(|agent| status(agent, 4) == Some(Status::Failed))).await;
    let back = cluster.start(Start::agent(4));
    let (mut events, mut of_first) = (back.subscribe(), agents[0].subscribe());
    back.join(REGION, vec![addr(1), addr(2), addr(3)]).await.expect("it is open");
    // Each side sees that the other has another key.
    for events in [&mut events, &mut of_first] {
        while !matches!(events.recv().await.expect("it runs"), Event::UnknownKey { pool: REGION, .. }) {}
    }
    assert_eq!(alive(&back), 1);
    assert!(stay.iter().all(|agent| status(agent, 4) == Some(Status::Failed)));
    back.replace_keys(REGION, KeyRing::new(key(2))).await.expect("it is open");
    until("it is back", || alive(&back) == 4 && stay.iter().all(|agent| alive(agent) == 4)).await;
}

#[tokio::test(start_paused = true)]
async fn the_primary_key_stays_and_an_unknown_one_is_not_used() {
    let cluster = Cluster::new(22);
    let agent = cluster.start(Start::agent(1));
    let fingerprint = key(1).fingerprint();
    let removed = agent.remove_key(REGION, key(1)).await;
    assert_eq!(removed, Err(PoolError::Refused(ChangeRingError::Primary { fingerprint })));
    let fingerprint = key(3).fingerprint();
    let used = agent.use_key(REGION, key(3)).await;
    assert_eq!(used, Err(PoolError::Refused(ChangeRingError::NotThere { fingerprint })));
    assert_eq!(agent.keys(REGION).await.expect("it is open").len(), 1);
}
