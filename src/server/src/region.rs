//! What every server does about the others, leader or not: it keeps connections to the members, and names its cluster.

use std::{sync::Arc, time::Duration};

use crate::{server::Inner, start::cluster_id};

/// Time between looks at the membership; changes of the leader are looked at as they come.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Looks after the membership until the server stops.
pub(crate) async fn run(inner: Arc<Inner>) {
    let mut leadership = inner.raft.leadership();
    loop {
        take_membership(&inner);
        tokio::select! {
            biased;
            () = inner.env.shutdown().wait() => return,
            changed = leadership.changed() => if changed.is_err() { return },
            () = inner.env.sleep(LOOK_EVERY) => {}
        }
    }
}

/// Keeps connections to the members as they are, and tells the transport which cluster this is.
pub(crate) fn take_membership(inner: &Inner) {
    inner.peers.keep(&inner.raft.members().peers, inner.me.raft_id());
    if let Some(marker) = inner.raft.cluster() {
        inner.peers.transport().set_cluster(cluster_id(marker));
    }
}
