//! Measures what 100,000 allocations with three task events each take: `cargo run --release -p state --example memory`.
//!
//! The figure in `docs/state.md` comes from here.

#[path = "../tests/support/mod.rs"]
mod support;

use model::ClientStatus;
use support::*;

const NODES: u128 = 1_000;
const JOBS: u32 = 100;
/// What one plan places: siblings share what they hold and how they were placed.
const PER_PLAN: u32 = 100;

fn main() {
    let mut region = Region::with_nodes(NODES);
    let roomy: Vec<_> = region
        .state()
        .nodes()
        .map(|node| {
            let mut node = model::Node::clone(node);
            node.resources.capacity.cpu_shares = 1_000_000;
            node.resources.capacity.memory_mb = 1_000_000;
            node.resources.capacity.disk_mb = 1_000_000;
            node
        })
        .collect();
    roomy.into_iter().for_each(|node| drop(region.apply(upsert_node(node))));
    for job_number in 0..JOBS {
        region.register(job(&format!("job-{job_number}"), 1_000));
    }
    region.log.clear();
    let before = resident_bytes();
    for step in 0..10 {
        for job_number in 0..JOBS {
            let node = region.node_id(((step * 7 + job_number as usize) * 13) % NODES as usize);
            region.place(&key(&format!("job-{job_number}")), node, PER_PLAN);
        }
        let last = region.store.index() + 1 - u64::from(JOBS);
        let updates: Vec<_> = region
            .state()
            .allocs()
            .rev()
            .take_while(|alloc| alloc.create_index >= last)
            .map(|alloc| update_of(alloc, ClientStatus::Running))
            .collect();
        // What came over the network shares nothing with its neighbours.
        let command =
            protocol::decode(&protocol::encode(&client_update(updates))).expect("it was just written");
        region.apply(command);
        region.log.clear();
    }
    let count = region.state().allocs().count();
    let after = resident_bytes();
    println!(
        "row {} task {} event {}",
        size_of::<model::Allocation>(),
        size_of::<model::TaskState>(),
        size_of::<model::TaskEvent>()
    );
    println!("{count} allocations, {} bytes each", (after - before) / count);
}

fn resident_bytes() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").expect("this is Linux");
    let pages: usize =
        text.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("the second field is a number");
    pages * 4096
}
