//! Which server to turn to: pure.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use rand::{RngExt, rngs::SmallRng};

/// A server of the client's region.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ServerAddr {
    /// Where its transport is.
    pub addr: SocketAddr,
    /// Its id, where it is known: addresses from a configuration come without.
    pub node_id: Option<transport::NodeId>,
}

/// The servers that a client may turn to, as far as the agent knows.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Servers {
    /// The servers; those that failed are left out, unless nothing would be left.
    pub list: Vec<ServerAddr>,
    /// Agents of the region: the more there are, the less often each asks its server whether it is there.
    pub members: usize,
}

impl Servers {
    /// Servers that a configuration names.
    pub fn named(addrs: impl IntoIterator<Item = SocketAddr>) -> Self {
        let list = addrs.into_iter().map(|addr| ServerAddr { addr, node_id: None }).collect();
        Self { list, members: 0 }
    }
}

/// Time between two questions whether the server is there, in a small region: with the time that an answer may take it
/// keeps a change of servers well under a second.
const PING_PERIOD_MIN: Duration = Duration::from_millis(300);

/// What each member adds to that time, so that all servers together answer at most 2,000 questions a second.
const PING_PERIOD_PER_MEMBER: Duration = Duration::from_micros(500);

/// The same where there is no other server to change to: the answer only says whether the server has a leader, and an idle
/// agent should be idle.
const PING_PERIOD_LONE: Duration = Duration::from_secs(3);

/// Returns the time between two questions whether the server is there.
pub fn ping_period(servers: &Servers) -> Duration {
    let members = u32::try_from(servers.members).unwrap_or(u32::MAX);
    let least = if servers.list.len() > 1 { PING_PERIOD_MIN } else { PING_PERIOD_LONE };
    PING_PERIOD_PER_MEMBER.saturating_mul(members).max(least)
}

/// The order in which servers are tried: drawn once, so that clients spread over the servers, and kept, so that a client
/// comes back to the server that it had. A round tries each server once.
#[derive(Debug, Default)]
pub struct Choice {
    order: Vec<ServerAddr>,
    tried: BTreeSet<SocketAddr>,
}

impl Choice {
    /// Takes a new list: servers that stay keep their place, others come in anywhere.
    pub fn update(&mut self, list: &[ServerAddr], rng: &mut SmallRng) {
        self.order.retain(|known| list.iter().any(|server| server.addr == known.addr));
        for server in list {
            match self.order.iter_mut().find(|known| known.addr == server.addr) {
                Some(known) => *known = *server,
                None => {
                    let at = rng.random_range(0..=self.order.len());
                    self.order.insert(at, *server);
                }
            }
        }
        self.tried.retain(|addr| self.order.iter().any(|known| known.addr == *addr));
    }

    /// Tells whether no server is known.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Tells whether a server is in the list, by its address or its id.
    pub fn knows(&self, server: &ServerAddr) -> bool {
        let same = |known: &ServerAddr| {
            known.addr == server.addr || (known.node_id.is_some() && known.node_id == server.node_id)
        };
        self.order.iter().any(same)
    }

    /// Lists the servers that this round has not tried, in their order.
    pub fn untried(&self) -> Vec<SocketAddr> {
        let addrs = self.order.iter().map(|server| server.addr);
        addrs.filter(|addr| !self.tried.contains(addr)).collect()
    }

    /// Lists the servers but for one, in their order.
    pub fn others(&self, than: &ServerAddr) -> Vec<SocketAddr> {
        let other = |known: &&ServerAddr| {
            known.addr != than.addr && (known.node_id.is_none() || known.node_id != than.node_id)
        };
        self.order.iter().filter(other).map(|server| server.addr).collect()
    }

    /// Notes that this round has tried a server.
    pub fn tried(&mut self, addr: SocketAddr) {
        self.tried.insert(addr);
    }

    /// Begins a round.
    pub fn begin_round(&mut self) {
        self.tried.clear();
    }

    /// Begins a round in which a server comes last: it was good and is gone.
    pub fn begin_round_without(&mut self, gone: SocketAddr) {
        self.begin_round();
        if let Some(at) = self.order.iter().position(|known| known.addr == gone) {
            let gone = self.order.remove(at);
            self.order.push(gone);
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn server(number: u8) -> ServerAddr {
        let node_id = Some(transport::NodeId([number; 16]));
        ServerAddr { addr: SocketAddr::from(([10, 0, 0, number], 4647)), node_id }
    }

    fn choice(numbers: &[u8], seed: u64) -> Choice {
        let mut choice = Choice::default();
        let list: Vec<_> = numbers.iter().copied().map(server).collect();
        choice.update(&list, &mut SmallRng::seed_from_u64(seed));
        choice
    }

    #[test]
    fn clients_spread_over_the_servers() {
        let mut first = [0; 3];
        for seed in 0..300 {
            let addr = choice(&[0, 1, 2], seed).untried()[0];
            first[usize::from(addr.to_string().as_bytes()[7] - b'0')] += 1;
        }
        assert!(first.iter().all(|count| *count > 60), "{first:?}");
    }

    #[test]
    fn a_server_that_broke_is_tried_last_and_each_once() {
        let mut choice = choice(&[0, 1, 2], 1);
        let gone = choice.untried()[0];
        choice.begin_round_without(gone);
        let round = choice.untried();
        assert_eq!(round.len(), 3);
        assert_eq!(round[2], gone);
        choice.tried(round[0]);
        assert_eq!(choice.untried(), round[1..]);
        choice.begin_round();
        assert_eq!(choice.untried(), round);
    }

    #[test]
    fn a_new_list_keeps_the_order_of_those_that_stay() {
        let mut choice = choice(&[0, 1, 2, 3], 2);
        let before = choice.untried();
        let list: Vec<_> = [1, 2, 3, 4].map(server).to_vec();
        choice.update(&list, &mut SmallRng::seed_from_u64(3));
        let stayed: Vec<_> = choice.untried().into_iter().filter(|addr| before.contains(addr)).collect();
        let wanted: Vec<_> = before.into_iter().filter(|addr| *addr != server(0).addr).collect();
        assert_eq!(stayed, wanted);
        assert!(!choice.knows(&server(0)) && choice.knows(&server(4)));
    }

    #[test]
    fn a_server_is_the_same_under_another_of_its_addresses() {
        let choice = choice(&[1, 2], 1);
        let other_way = ServerAddr { addr: SocketAddr::from(([127, 0, 0, 1], 4647)), ..server(1) };
        assert!(choice.knows(&other_way));
        assert_eq!(choice.others(&other_way), [server(2).addr]);
    }

    #[test]
    fn a_large_region_asks_less_often_and_so_does_one_server_s() {
        let list = [1, 2, 3].map(server).to_vec();
        assert_eq!(ping_period(&Servers { list: list.clone(), members: 5 }), Duration::from_millis(300));
        assert_eq!(ping_period(&Servers { list, members: 10_000 }), Duration::from_secs(5));
        assert_eq!(ping_period(&Servers { list: vec![server(1)], members: 1 }), Duration::from_secs(3));
    }
}
