//! Whatever is asked, an agent and the commands answer with a status that fits and words that help, and go on.

use std::net::SocketAddr;

use tests::{Agent, Kind, http};

/// Paths under `/v1` by what their last part is: see the table of routes.
const PATHS: &[&str] = &[
    "/jobs",
    "/jobs/parse",
    "/jobs/statuses",
    "/job/ID",
    "/job/ID/plan",
    "/job/ID/allocations",
    "/job/ID/evaluations",
    "/job/ID/summary",
    "/job/ID/versions",
    "/job/ID/revert",
    "/job/ID/stable",
    "/job/ID/evaluate",
    "/job/ID/dispatch",
    "/job/ID/dispatch/payload",
    "/job/ID/periodic/force",
    "/job/ID/scale",
    "/job/ID/deployments",
    "/job/ID/deployment",
    "/job/ID/services",
    "/job/ID/submission",
    "/job/ID/actions",
    "/job/ID/action",
    "/job/ID/versions/x/tag",
    "/validate/job",
    "/nodes",
    "/node/ID",
    "/node/ID/allocations",
    "/node/ID/drain",
    "/node/ID/eligibility",
    "/node/ID/evaluate",
    "/node/ID/purge",
    "/node/pools",
    "/node/pool/ID",
    "/node/pool/ID/nodes",
    "/node/pool/ID/jobs",
    "/client/stats",
    "/client/gc",
    "/client/metadata",
    "/client/identity",
    "/client/identity/renew",
    "/client/allocation/ID/stats",
    "/client/allocation/ID/restart",
    "/client/allocation/ID/signal",
    "/client/allocation/ID/gc",
    "/client/allocation/ID/exec",
    "/client/allocation/ID/checks",
    "/client/allocation/ID/pause",
    "/client/allocation/ID/snapshot",
    "/client/fs/ls/ID",
    "/client/fs/stat/ID",
    "/client/fs/cat/ID",
    "/client/fs/readat/ID",
    "/client/fs/stream/ID",
    "/client/fs/logs/ID",
    "/allocations",
    "/allocation/ID",
    "/allocation/ID/stop",
    "/allocation/ID/services",
    "/allocation/ID/checks",
    "/evaluations",
    "/evaluations/count",
    "/evaluation/ID",
    "/evaluation/ID/allocations",
    "/deployments",
    "/deployment/ID",
    "/deployment/allocations/ID",
    "/deployment/promote/ID",
    "/deployment/fail/ID",
    "/deployment/pause/ID",
    "/deployment/unblock/ID",
    "/deployment/allocation-health/ID",
    "/volumes",
    "/volumes/external",
    "/volumes/snapshot",
    "/volumes/claims",
    "/volumes/claim/ID",
    "/volume/csi/ID",
    "/volume/csi/ID/create",
    "/volume/csi/ID/detach",
    "/volume/host/create",
    "/volume/host/ID",
    "/plugins",
    "/plugin/csi/ID",
    "/acl/bootstrap",
    "/acl/policies",
    "/acl/policy/ID",
    "/acl/tokens",
    "/acl/token",
    "/acl/token/self",
    "/acl/token/ID",
    "/acl/roles",
    "/acl/auth-methods",
    "/acl/binding-rules",
    "/agent/self",
    "/agent/members",
    "/agent/health",
    "/agent/servers",
    "/agent/join",
    "/agent/force-leave",
    "/agent/host",
    "/agent/schedulers",
    "/agent/schedulers/config",
    "/agent/pprof/cmdline",
    "/agent/keyring/list",
    "/agent/keyring/install",
    "/agent/keyring/use",
    "/agent/keyring/remove",
    "/agent/join-token",
    "/agent/join-tokens",
    "/agent/join-token/ID",
    "/agent/join-settings",
    "/metrics",
    "/regions",
    "/status/leader",
    "/status/peers",
    "/operator/raft/configuration",
    "/operator/raft/peer",
    "/operator/raft/transfer-leadership",
    "/operator/autopilot/configuration",
    "/operator/autopilot/health",
    "/operator/scheduler/configuration",
    "/operator/snapshot",
    "/operator/keyring/keys",
    "/operator/keyring/rotate",
    "/operator/keyring/key/ID",
    "/operator/license",
    "/operator/utilization",
    "/operator/upgrade-check/vault-workload-identity",
    "/search",
    "/search/fuzzy",
    "/scaling/policies",
    "/scaling/policy/ID",
    "/namespaces",
    "/namespace",
    "/namespace/ID",
    "/vars",
    "/var/ID",
    "/services",
    "/service/ID",
    "/service/ID/x",
    "/quotas",
    "/sentinel/policies",
    "/recommendations",
    "/nope",
];

const METHODS: [&str; 4] = ["GET", "PUT", "DELETE", "PATCH"];

/// Bodies that are none, none whole, of another kind, too deep, or full of numbers that fit nowhere.
fn bodies() -> Vec<String> {
    vec![
        String::new(),
        "{".to_owned(),
        "{\"Job\": {\"ID\": \"x\", \"TaskGroups\": [{".to_owned(),
        "null".to_owned(),
        "[]".to_owned(),
        "\"text\"".to_owned(),
        "{\"Job\": null, \"Count\": \"x\", \"DrainSpec\": 7, \"Key\": 1, \"Eligibility\": {}}".to_owned(),
        "{\"Count\": 99999999999999999999999, \"JobVersion\": -1, \"MinQuorum\": 1e300}".to_owned(),
        format!("{}1{}", "[".repeat(5_000), "]".repeat(5_000)),
        "\u{0}\u{1}\u{7f}".to_owned(),
    ]
}

/// Ids that are none, huge, or would lead out of where they stand.
fn ids() -> Vec<String> {
    vec![
        "nope".to_owned(),
        "9048d907-480e-d8c7-3c87-6631f0f3e18f".to_owned(),
        "9048d907-480e-d8c7-3c87-6631f0f3e18".to_owned(),
        "x".repeat(4_000),
        "%00%ff%zz".to_owned(),
        "..%2f..%2fetc".to_owned(),
        "%F0%9F%A6%80".to_owned(),
        String::new(),
    ]
}

const QUERIES: [&str; 9] = [
    "",
    "?index=x",
    "?wait=soon&index=1",
    "?per_page=-1",
    "?filter=%28%28%28",
    "?prefix=zzz",
    "?namespace=%2A&next_token=%2F%2F",
    "?region=elsewhere",
    "?stale=maybe",
];

/// The status fits what was asked, and an error says something.
fn is_fine(addr: SocketAddr, method: &str, target: &str, body: Option<&str>) -> Result<(), String> {
    let what = || format!("{method} {}", target.chars().take(120).collect::<String>());
    let answer = http::request(addr, method, target, body).map_err(|error| format!("{}: {error}", what()))?;
    let known = [200, 204, 400, 403, 404, 405, 413, 414, 415, 422, 429, 500, 501];
    if !known.contains(&answer.status) {
        return Err(format!("{}: status {}", what(), answer.status));
    }
    let silent = answer.body.trim().is_empty();
    if answer.status >= 400 && answer.status != 404 && silent {
        return Err(format!("{}: status {} without a word", what(), answer.status));
    }
    let leaks = ["panicked", "called `Option", "called `Result"];
    if let Some(leak) = leaks.iter().find(|leak| answer.body.contains(**leak)) {
        return Err(format!("{}: says {leak:?}", what()));
    }
    Ok(())
}

#[test]
fn every_path_answers_whatever_is_asked_of_it() {
    let mut agent = Agent::start(Kind::Dev);
    let addr = agent.addr();
    let (bodies, ids) = (bodies(), ids());
    let mut wrong = Vec::new();
    let mut asked = 0;
    for (number, path) in PATHS.iter().enumerate() {
        for (turn, method) in METHODS.iter().enumerate() {
            // Each path meets every body and every id; not all of their pairs.
            for round in 0..bodies.len() {
                let id = &ids[(number + turn + round) % ids.len()];
                let query = QUERIES[(number + round) % QUERIES.len()];
                let target = format!("/v1{}{query}", path.replace("ID", id));
                // Raising the state of a whole agent from a copy, or giving up its keys, is no mistake to look at.
                if *method == "GET" && round > 2 {
                    break;
                }
                let body = (*method != "GET").then(|| bodies[round].as_str());
                wrong.extend(is_fine(addr, method, &target, body).err());
                asked += 1;
            }
        }
    }
    assert!(asked > 1_000, "{asked} requests are too few to mean anything");
    assert!(wrong.is_empty(), "{} of {asked}:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(agent.ended(), None, "the agent is there after all of it");
    assert!(!agent.log().contains("panicked"), "{}", agent.log());
    assert_eq!(agent.ask("GET", "/v1/agent/health", None).status, 200);
}
