//! What a server tells the leader all the time: which nodes have a session here. The answer says where the leader's state
//! is, which is how servers notice that they differ.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use model::NodeId;
use raft::Fault;
use state::Hash;

use crate::{
    asks::{Answer, Ask, Ended, Report, Said},
    server::Inner,
};

/// A report at least so often, so that the leader knows that this server is there.
const REPORT_EVERY: Duration = Duration::from_secs(1);
/// Wait after a report that was not taken in.
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// How long the own state may take to get to where the leader's was; one that is behind is compared by the next answer.
const COMPARE_WAIT: Duration = Duration::from_millis(500);

/// Reports until the server stops.
pub(crate) async fn run(inner: Arc<Inner>) {
    let mut reporter = Reporter::new(&inner);
    let mut leadership = inner.raft.leadership();
    loop {
        leadership.mark_unchanged();
        let wait = reporter.report(&inner).await;
        tokio::select! {
            biased;
            () = inner.env.shutdown().wait() => return,
            changed = leadership.changed() => if changed.is_err() { return },
            () = inner.sessions.changed() => {}
            () = inner.env.sleep(wait) => {}
        }
    }
}

struct Reporter {
    run: u64,
    number: u64,
    /// What the leader knows; none when it has to be told everything.
    told: Option<Told>,
}

struct Told {
    leader: (u64, u64),
    sessions: BTreeMap<NodeId, u64>,
}

impl Reporter {
    fn new(inner: &Inner) -> Self {
        Self { run: inner.env.random_u64(), number: 0, told: None }
    }

    /// Says what is to be said, and returns when to speak again at the latest.
    async fn report(&mut self, inner: &Arc<Inner>) -> Duration {
        let (sessions, last_heard) = inner.sessions.take_changes();
        let Some((leader, term)) = inner.leader_and_term() else {
            self.told = None;
            return REPORT_EVERY;
        };
        let known = self.told.as_ref().filter(|told| told.leader == (leader.id, term));
        let said = match known {
            Some(told) => {
                let now = inner.env.now();
                let silence = |number| {
                    last_heard.get(&number).map_or(Duration::ZERO, |at| now.saturating_duration_since(*at))
                };
                changes(&told.sessions, &sessions, silence)
            }
            None => Said::Everything(sessions.iter().map(|(node, number)| (*node, *number)).collect()),
        };
        self.number += 1;
        let report = Report { server: inner.me.raft_id(), run: self.run, number: self.number, said };
        let answer = if leader.id == inner.me.raft_id() {
            inner.perform(Ask::Report(report)).await
        } else {
            inner.ask_leading(&leader, Ask::Report(report).encode()).await
        };
        match answer {
            Answer::Heard { taken: true, point } => {
                self.told = Some(Told { leader: (leader.id, term), sessions });
                if let Some((index, hash)) = point {
                    compare(inner, index, hash).await;
                }
                REPORT_EVERY
            }
            answer => {
                tracing::debug!(?answer, "report of sessions was not taken in");
                self.told = None;
                RETRY_PAUSE
            }
        }
    }
}

/// Says what changed between two tables of sessions. `silence` tells for how long the node of one that ended was not heard.
fn changes(
    before: &BTreeMap<NodeId, u64>,
    after: &BTreeMap<NodeId, u64>,
    silence: impl Fn(u64) -> Duration,
) -> Said {
    let missing = |from: &BTreeMap<NodeId, u64>, of: &BTreeMap<NodeId, u64>| -> Vec<(NodeId, u64)> {
        let missing = of.iter().filter(|(node, number)| from.get(*node) != Some(*number));
        missing.map(|(node, number)| (*node, *number)).collect()
    };
    let ended = |(node, number)| {
        let silent_ms = u64::try_from(silence(number).as_millis()).unwrap_or(u64::MAX);
        Ended { node, number, silent_ms }
    };
    let closed = missing(after, before).into_iter().map(ended).collect();
    Said::Changes { opened: missing(before, after), closed }
}

/// Compares the own state with the leader's. Servers that differ at one index must not go on together, and the leader's
/// state is the one that clients see: this server stops.
async fn compare(inner: &Inner, index: u64, hash: Hash) {
    let deadline = inner.env.now() + COMPARE_WAIT;
    let mut applied = inner.raft.applied();
    while inner.hub.snapshot().index() < index {
        tokio::select! {
            biased;
            changed = applied.changed() => if changed.is_err() { return },
            () = inner.env.sleep_until(deadline) => return,
        }
    }
    // An index that is too long ago, or that no command has, is compared with a later one.
    let ours = inner.raft.with_state(|machine| machine.store().chain().at(index));
    if ours.is_some_and(|ours| ours != hash && !mutants::on!("server-differs-and-goes-on")) {
        tracing::error!(index, ours = ?ours, leader = %hash, "this server's state is not the leader's; stopping");
        inner.raft.fail(Fault::Diverged { index }).await;
    }
}

#[cfg(test)]
mod tests {
    use raft::{ClusterMarker, IoMode, MemoryDisk, RawConfig, Storage};
    use runtime::{Env, Shutdown};
    use transport::{Boot, EndpointSecret, Identity, Region, Role, TokioHost, memory};

    use super::*;
    use crate::{Heartbeats, Life, Replica, Server};

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_server_that_differs_from_the_leader_stops_itself() {
        let server = alone().await;
        let inner = &server.inner;
        let deadline = inner.env.now() + Duration::from_secs(20);
        while inner.hub.snapshot().autopilot_config().modify_index == 0 {
            assert!(inner.env.now() < deadline, "the leader has begun");
            inner.env.sleep(Duration::from_millis(5)).await;
        }
        let own = inner.raft.with_state(|machine| machine.store().chain().window().next_back());
        let (index, hash) = own.expect("a leader begins with commands");
        compare(inner, index, hash).await;
        assert_eq!(*server.fault().borrow(), None, "the same state is no fault");
        compare(inner, index, Hash([7; 32])).await;
        let fault = server.fault().borrow().clone().expect("it must not go on");
        assert_eq!((fault.exit_code(), fault), (75, Fault::Diverged { index }));
        assert!(server.submit(&protocol::Command::ReconcileSummaries).await.is_err());
    }

    /// A region of one server, which leads soon.
    async fn alone() -> Server {
        let env = Env::real(Shutdown::new());
        let links = Arc::new(memory::Switchboard::new(Duration::ZERO));
        let network = memory::Network::new(links, Arc::new(TokioHost));
        let node_id = transport::NodeId([1; 16]);
        let region = Region::new("global").expect("a name");
        let identity = Identity { role: Role::Server, region, node_id, name: "one".to_owned() };
        let addr = "127.0.0.1:0".parse().expect("an address");
        let secret = EndpointSecret::from_bytes([1; 32]);
        let config =
            transport::Config::check(addr, secret, &transport::RawConfig::default()).expect("it fits");
        let agent = memory::Agent { identity, authority: "ours".to_owned(), boot: Boot(1), config };
        let bound = network.attach(agent).erase();
        let rpc_addr = bound.transport.local_addr();
        let me = Replica { node_id, life: Life::FIRST, name: "one.global".to_owned(), rpc_addr };
        let storage = Storage::Memory(MemoryDisk::new());
        let raft = raft::Config::check(&RawConfig::default(), storage, IoMode::Thread).expect("it fits");
        let config = crate::Config {
            region: "global".to_owned(),
            name: "one".to_owned(),
            datacenter: "dc1".to_owned(),
            heartbeats: Heartbeats::default(),
            bootstrap_expect: 1,
            autopilot: model::AutopilotConfig::default(),
            thresholds: control::collection::Thresholds::EVERYTHING,
            gc_interval: Duration::from_secs(3_600),
            event_buffer: 10,
        };
        let server = Server::start(&env, config, raft, me.clone(), bound.transport).await.expect("it starts");
        server.found(&[me], ClusterMarker(1)).await.expect("it is empty");
        server
    }

    #[test]
    fn a_session_that_was_replaced_is_closed_and_opened() {
        let (left, stays, new) = (NodeId::from_random(1), NodeId::from_random(2), NodeId::from_random(3));
        let before = BTreeMap::from([(left, 1), (stays, 2)]);
        let after = BTreeMap::from([(stays, 5), (new, 6)]);
        let silence = |number| Duration::from_millis(100 * number);
        let Said::Changes { mut opened, mut closed } = changes(&before, &after, silence) else {
            panic!("it is a change")
        };
        opened.sort_unstable();
        closed.sort_unstable();
        let mut wanted = [(stays, 5), (new, 6)];
        wanted.sort_unstable();
        assert_eq!(opened, wanted);
        let mut wanted = [
            Ended { node: left, number: 1, silent_ms: 100 },
            Ended { node: stays, number: 2, silent_ms: 200 },
        ];
        wanted.sort_unstable();
        assert_eq!(closed, wanted);
    }
}
