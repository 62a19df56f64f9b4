//! Cores that are close to each other: which of a node's free cores its tasks get.

use model::{Node, NumaAffinity, Text};

use crate::ask::CoreWish;

/// NUMA nodes that are looked for on one machine; the largest ones sold have 64.
const NUMA_NODES_MAX: u32 = 256;

/// Chooses cores for each task out of the free ones, which are in order.
///
/// A task that wants closeness gets cores of one NUMA node, of the one that they fill best. The node says in
/// `numa.nodeN.cores` which cores are close; where it does not, all are.
///
/// # Errors
///
/// What is short, in the words that a user sees.
pub(crate) fn choose_cores(node: &Node, free: &[u16], wishes: &[CoreWish]) -> Result<Vec<Vec<u16>>, Text> {
    let mut free = free.to_vec();
    let mut shares: Vec<Vec<u16>> = vec![Vec::new(); wishes.len()];
    // Who demands closeness chooses before those that only like it, and these before those that do not care.
    let mut order: Vec<usize> = (0..wishes.len()).filter(|&at| wishes[at].count > 0).collect();
    order.sort_by_key(|&at| match wishes[at].affinity {
        NumaAffinity::Require => 0,
        NumaAffinity::Prefer => 1,
        NumaAffinity::None => 2,
    });
    for at in order {
        let CoreWish { count, affinity } = wishes[at];
        let count = count as usize;
        if free.len() < count {
            return Err("cores".into());
        }
        let close = match affinity {
            NumaAffinity::None => None,
            NumaAffinity::Prefer | NumaAffinity::Require => close_cores(node, &free, count),
        };
        let share = match close {
            Some(cores) => cores,
            None if affinity == NumaAffinity::Require => return Err("numa-cores".into()),
            None => free[..count].to_vec(),
        };
        free.retain(|core| !share.contains(core));
        shares[at] = share;
    }
    Ok(shares)
}

/// Finds free cores of one NUMA node: of the one that is left with the fewest.
fn close_cores(node: &Node, free: &[u16], count: usize) -> Option<Vec<u16>> {
    let groups = numa_nodes(node);
    if groups.is_empty() {
        return Some(free[..count].to_vec());
    }
    let of_group =
        |group: &Vec<u16>| free.iter().copied().filter(|core| group.contains(core)).collect::<Vec<_>>();
    let enough = groups.iter().map(of_group).filter(|cores| cores.len() >= count);
    let mut tightest = enough.min_by_key(Vec::len)?;
    tightest.truncate(count);
    Some(tightest)
}

/// Reads which cores are close to each other.
fn numa_nodes(node: &Node) -> Vec<Vec<u16>> {
    let count =
        node.attributes.get("numa.node.count").and_then(|count| count.parse::<u32>().ok()).unwrap_or(0);
    (0..count.min(NUMA_NODES_MAX))
        .filter_map(|at| node.attributes.get(format!("numa.node{at}.cores").as_str()))
        // Lists of cores are written like lists of ports.
        .map(|cores| state::parse_ports(cores).into_iter().collect())
        .collect()
}
