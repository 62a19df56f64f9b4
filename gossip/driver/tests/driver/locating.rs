use std::time::Duration;

use gossip_core::Role;
use gossip_driver::{Dropped, LocateError, Located};
use tokio::time::sleep;

use crate::cluster::{Cluster, Start, addr};

const PATIENCE: Duration = Duration::from_secs(3);

fn asker(cluster: &Cluster) -> gossip_driver::Handle {
    cluster.start(Start { pools: &[], ..Start::agent(9) })
}

#[tokio::test(start_paused = true)]
async fn an_agent_without_keys_answers_where_to_join() {
    let cluster = Cluster::new(40);
    let asker = asker(&cluster);
    let _client =
        cluster.start(Start { pools: &[], role: Role::Client, region: "europe", ..Start::agent(1) });
    let located = asker.locate(addr(1), PATIENCE).await.expect("it answers");
    assert_eq!(located, Located { rpc_port: 4647, role: Role::Client, region: "europe".to_owned() });
}

#[tokio::test(start_paused = true)]
async fn what_is_answered_can_be_changed_and_taken_back() {
    let cluster = Cluster::new(41);
    let (asker, agent) = (asker(&cluster), cluster.start(Start::agent(1)));
    let located = Located { rpc_port: 9, role: Role::Server, region: "asia".to_owned() };
    agent.set_located(Some(located.clone())).await.expect("it is short");
    assert_eq!(asker.locate(addr(1), PATIENCE).await.expect("it answers"), located);
    let long = Located { region: "x".repeat(256), ..located };
    assert!(agent.set_located(Some(long)).await.is_err());
    agent.set_located(None).await.expect("it runs");
    assert!(asker.locate(addr(1), PATIENCE).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn nobody_there_is_an_answer_too() {
    let cluster = Cluster::new(42);
    let failed = asker(&cluster).locate(addr(1), PATIENCE).await;
    assert!(matches!(failed, Err(LocateError::NoAnswer { .. })), "{failed:?}");
}

#[tokio::test(start_paused = true)]
async fn nobody_gets_more_than_they_sent() {
    let cluster = Cluster::new(43);
    let (asker, agent) = (asker(&cluster), cluster.start(Start::agent(1)));
    cluster.network.record();
    asker.locate(addr(1), PATIENCE).await.expect("it answers");
    let recorded = cluster.network.recorded();
    let question = recorded.iter().find(|sent| sent.to == addr(1)).expect("it was asked").bytes.clone();
    let answer = recorded.iter().find(|sent| sent.from == addr(1)).expect("it answered").bytes.clone();
    assert!(answer.len() <= question.len());
    let (victim, before) = (([203, 0, 113, 9], 80).into(), agent.traffic());
    for len in 0..question.len() {
        cluster.network.inject(victim, addr(1), &question[..len]);
    }
    // An answer that nobody asked for is no question.
    cluster.network.inject(victim, addr(1), &answer);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(agent.traffic().sent, before.sent, "short questions have no answer");
    for _ in 0..1_000 {
        cluster.network.inject(victim, addr(1), &question);
    }
    sleep(Duration::from_millis(500)).await;
    let after = agent.traffic();
    assert!((1..=20).contains(&(after.sent - before.sent)), "a source has a few answers a second");
    assert!(after.dropped(Dropped::Locate) >= 980);
}

#[tokio::test(start_paused = true)]
async fn an_answer_from_elsewhere_is_not_believed() {
    let cluster = Cluster::new(44);
    let (asker, _agent) = (asker(&cluster), cluster.start(Start::agent(1)));
    cluster.network.record();
    // The true answer does not arrive; the same bytes come from another address.
    cluster.network.cut_one_way(addr(1), addr(9));
    let (network, seen) = (cluster.network.clone(), asker.clone());
    let forging = async {
        loop {
            for sent in network.recorded().iter().filter(|sent| sent.from == addr(1)) {
                network.inject(addr(2), addr(9), &sent.bytes);
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        located = asker.locate(addr(1), PATIENCE) => assert!(located.is_err(), "{located:?}"),
        () = forging => {}
    }
    assert!(seen.traffic().dropped(Dropped::Locate) > 0);
}
