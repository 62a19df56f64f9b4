use crate::Mutant;

/// Every mutant, by the part that it breaks.
pub const ALL: &[Mutant] = &[
    Mutant {
        name: "raft-trusts-short-log",
        crates: &["raft"],
        what: "a log that is shorter than its mark says is opened",
    },
    Mutant {
        name: "raft-chain-unchecked",
        crates: &["raft"],
        what: "an entry need not follow the one before it",
    },
    Mutant {
        name: "raft-vote-in-memory",
        crates: &["raft"],
        what: "a vote is answered before it is on the disk, and never gets there",
    },
    Mutant {
        name: "raft-mark-outlives-tail",
        crates: &["raft"],
        what: "a log is shortened without telling the mark first",
    },
    Mutant {
        name: "raft-entry-unchecked",
        crates: &["raft"],
        what: "the checksum of an entry is not looked at",
    },
    Mutant {
        name: "raft-snapshot-unchecked",
        crates: &["raft"],
        what: "the checksum of a block of a snapshot is not looked at",
    },
    Mutant {
        name: "state-check-index-ignored",
        crates: &["state", "server"],
        what: "a registration passes whatever index it asks for",
    },
    Mutant {
        name: "plan-without-room",
        crates: &["state"],
        what: "a plan is applied though its node has no room",
    },
    Mutant {
        name: "plan-on-a-node-that-is-down",
        crates: &["state"],
        what: "a plan is applied though its node is not ready",
    },
    Mutant {
        name: "plan-forgets-a-stop",
        crates: &["state", "scheduler"],
        what: "the first stop of a plan is not applied",
    },
    Mutant {
        name: "plan-places-twice",
        crates: &["state"],
        what: "a plan that is applied again places again",
    },
    Mutant {
        name: "port-with-two-owners",
        crates: &["state", "scheduler"],
        what: "a port that is taken is given away again",
    },
    Mutant {
        name: "chain-without-rows",
        crates: &["state", "server"],
        what: "the hash chain does not cover what a command touched",
    },
    Mutant {
        name: "refusal-leaves-traces",
        crates: &["state"],
        what: "a refused command leaves what it did before it was refused",
    },
    Mutant {
        name: "snapshot-forgets-deployments",
        crates: &["state"],
        what: "a snapshot leaves the deployments out",
    },
    Mutant { name: "join-token-twice", crates: &["state"], what: "a join token admits a second agent" },
    Mutant { name: "join-token-for-ever", crates: &["state"], what: "a join token is good after its time" },
    Mutant {
        name: "reconcile-one-too-many",
        crates: &["scheduler"],
        what: "a group gets one allocation more than its count",
    },
    Mutant {
        name: "reconcile-keeps-lost",
        crates: &["scheduler"],
        what: "what is lost is replaced and still wanted",
    },
    Mutant {
        name: "rollout-all-at-once",
        crates: &["scheduler"],
        what: "an update changes all allocations at once",
    },
    Mutant {
        name: "reconcile-stopped-runs-on",
        crates: &["scheduler"],
        what: "what a stopped job has goes on",
    },
    Mutant {
        name: "reschedule-for-ever",
        crates: &["scheduler"],
        what: "a failed allocation is replaced however often it failed",
    },
    Mutant {
        name: "liveness-session-does-not-count",
        crates: &["control"],
        what: "a node with a session is taken down all the same",
    },
    Mutant {
        name: "liveness-without-grace",
        crates: &["control"],
        what: "a node is down the moment that its session breaks",
    },
    Mutant {
        name: "broker-two-of-a-job",
        crates: &["control"],
        what: "two evaluations of a job are looked at together",
    },
    Mutant {
        name: "broker-loses-what-comes-back",
        crates: &["control"],
        what: "an evaluation that was handed back never comes again",
    },
    Mutant { name: "blocked-sleeps-on", crates: &["control"], what: "room that appears wakes nobody" },
    Mutant {
        name: "drain-all-at-once",
        crates: &["control"],
        what: "a drained node stops all of a group together",
    },
    Mutant {
        name: "deployment-promotes-the-sick",
        crates: &["control"],
        what: "canaries are promoted before they are healthy",
    },
    Mutant {
        name: "autopilot-below-quorum",
        crates: &["control"],
        what: "a voter is removed though the others have no quorum",
    },
    Mutant {
        name: "gossip-never-refutes",
        crates: &["gossip-core"],
        what: "a member that is called dead does not object",
    },
    Mutant {
        name: "gossip-suspects-for-ever",
        crates: &["gossip-core"],
        what: "hearing a suspect clears nothing",
    },
    Mutant {
        name: "gossip-believes-anyone",
        crates: &["gossip-core"],
        what: "a ping may be written in the name of another",
    },
    Mutant {
        name: "client-forgets-handle",
        crates: &["client"],
        what: "an agent that starts again does not find its tasks",
    },
    Mutant {
        name: "client-starts-unwritten",
        crates: &["client"],
        what: "a launch is not written down before it begins",
    },
    Mutant {
        name: "client-journal-unchecked",
        crates: &["client"],
        what: "a damaged record of the journal is believed",
    },
    Mutant {
        name: "client-starts-what-is-stopped",
        crates: &["client"],
        what: "an allocation that was stopped before its client heard of it is started",
    },
    Mutant {
        name: "session-closes-the-next",
        crates: &["server"],
        what: "the end of an older session forgets the later one",
    },
    Mutant { name: "session-for-any-node", crates: &["server"], what: "a node may speak for another one" },
    Mutant {
        name: "server-differs-and-goes-on",
        crates: &["server"],
        what: "a server whose state is not the leader's goes on",
    },
    Mutant {
        name: "life-begins-as-before",
        crates: &["server"],
        what: "a server that threw its log away comes back under its old number",
    },
    Mutant {
        name: "rollout-one-more",
        crates: &["scheduler"],
        what: "an update changes one more at once than it may",
    },
    Mutant {
        name: "canaries-do-not-hold-back",
        crates: &["scheduler"],
        what: "an update goes on beside canaries that nobody took over",
    },
    Mutant {
        name: "reschedule-at-once",
        crates: &["scheduler"],
        what: "a failed allocation is replaced without the delay of its policy",
    },
    Mutant {
        name: "reconnect-keeps-both",
        crates: &["scheduler"],
        what: "an allocation that came back and its replacement both stay",
    },
    Mutant {
        name: "constraint-version-off-by-one",
        crates: &["scheduler"],
        what: "`>=` of versions is read as `>`",
    },
    Mutant {
        name: "room-counted-twice",
        crates: &["scheduler"],
        what: "what is placed is taken from a node twice",
    },
    Mutant {
        name: "room-never-given-back",
        crates: &["scheduler"],
        what: "what an allocation held stays taken when it is over",
    },
    Mutant {
        name: "deployment-without-deadline",
        crates: &["control"],
        what: "a deployment that makes no progress goes on for ever",
    },
    Mutant {
        name: "drain-one-more",
        crates: &["control"],
        what: "a drain lets one more of a group go than it may",
    },
    Mutant {
        name: "drain-without-deadline",
        crates: &["control"],
        what: "a drain whose time is over waits on",
    },
    Mutant {
        name: "drain-system-first",
        crates: &["control"],
        what: "a drain stops system jobs before the others have left",
    },
    Mutant {
        name: "broker-forgets-with-the-leader",
        crates: &["control"],
        what: "a leader does not take up what waited at the one before it",
    },
    Mutant {
        name: "promotion-unchecked",
        crates: &["state"],
        what: "canaries are taken over whoever asks, healthy or not",
    },
    Mutant {
        name: "next-is-not-noted",
        crates: &["state"],
        what: "an allocation does not know the one that took its place",
    },
    Mutant {
        name: "read-without-asking",
        crates: &["server"],
        what: "a consistent read is answered by whoever takes itself for the leader",
    },
    Mutant {
        name: "watch-misses-jobs",
        crates: &["server"],
        what: "those who wait for a job's change are not woken by it",
    },
    Mutant {
        name: "session-forgets-stops",
        crates: &["server"],
        what: "a client is not told that an allocation has to stop",
    },
    Mutant {
        name: "client-restarts-once-more",
        crates: &["client"],
        what: "a task is started again once more than its policy allows",
    },
    Mutant {
        name: "client-loses-a-word",
        crates: &["client"],
        what: "the end of an allocation is not told before the next session begins",
    },
];
