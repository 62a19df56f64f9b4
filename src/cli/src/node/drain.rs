use std::{collections::BTreeMap, time::Duration};

use sdk::{
    Client, Query,
    types::{Allocation, DrainSpec, NodeDrainRequest},
};

use crate::{
    command::{Context, Failure, OrFail, Outcome},
    format, resolve,
};

/// Time that allocations have unless a flag says otherwise.
const DEADLINE: i64 = 3_600_000_000_000;

/// One blocking query while a drain goes on.
const WAIT: Duration = Duration::from_secs(5);

/// `node drain`.
pub async fn run(context: &Context) -> Outcome {
    let (enable, disable, monitor) = (context.on("enable"), context.on("disable"), context.on("monitor"));
    if monitor && (enable || disable) {
        return Err(Failure::usage(
            "The -monitor flag cannot be used with the '-enable' or '-disable' flags",
        ));
    }
    if !monitor && enable == disable {
        return Err(Failure::usage(
            "Either the '-enable' or '-disable' flag must be set, unless using '-monitor'",
        ));
    }
    let deadlines = [context.flags.given("deadline"), context.on("force"), context.on("no-deadline")];
    if deadlines.iter().filter(|given| **given).count() > 1 {
        return Err(Failure::usage("Only one of '-deadline', '-force' and '-no-deadline' may be given"));
    }
    let client = context.client();
    let node = resolve::node_of_args(context, &client).await?;
    if monitor {
        if node.drain_strategy.is_none() {
            return Err(Failure::new(format!(
                "Node {} does not have any drain strategy set",
                format::quoted(&node.id)
            )));
        }
        return watch(context, &client, &node.id).await;
    }
    if enable && !context.on("yes") {
        let answer = context.console.ask(&format!(
            "Are you sure you want to enable drain mode for node {}? [y/N]",
            format::quoted(&node.id)
        ));
        if answer.map_err(|why| Failure::new(format!("Failed to parse answer: {why}")))? != "y" {
            context.console.out("Canceling drain toggle");
            return Ok(0);
        }
    }
    let mut meta = BTreeMap::new();
    for pair in context.flags.list("meta") {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        meta.insert(key.to_owned(), value.to_owned());
    }
    if let Some(message) = context.flags.text("m") {
        meta.insert("message".to_owned(), message.to_owned());
    }
    let deadline = match context.flags.number("deadline") {
        Some(nanos) => nanos,
        None if context.on("force") => -1_000_000_000,
        None if context.on("no-deadline") => 0,
        None => DEADLINE,
    };
    let request = NodeDrainRequest {
        drain_spec: enable.then(|| DrainSpec { deadline, ignore_system_jobs: context.on("ignore-system") }),
        mark_eligible: disable && !context.on("keep-ineligible"),
        meta,
        node_id: node.id.clone(),
    };
    client.drain_node(&request).await.or_fail("Error updating drain specification")?;
    if !enable || context.on("detach") {
        context.console.out(&format!(
            "Node {} drain strategy {}",
            format::quoted(&node.id),
            if enable { "set" } else { "unset" }
        ));
        return Ok(0);
    }
    say(context, "Ctrl-C to stop monitoring: will not cancel the node drain");
    say(context, &format!("Node {} drain strategy set", format::quoted(&node.id)));
    watch(context, &client, &node.id).await
}

fn say(context: &Context, text: &str) {
    context.console.out(&format!("{}: {text}", format::time(format::now())));
}

/// Tells what happens to the allocations of a node until all have stopped.
async fn watch(context: &Context, client: &Client, id: &str) -> Outcome {
    let mut seen: BTreeMap<String, Allocation> = BTreeMap::new();
    let mut query = Query { wait: WAIT, ..Query::default() };
    let mut draining = true;
    loop {
        let (allocs, meta) =
            client.node_allocations(id, &query).await.or_fail("Error monitoring allocations")?;
        query.index = meta.index.max(1);
        let mut left = false;
        let ignore_system = context.on("ignore-system");
        for alloc in allocs {
            let system = alloc
                .job
                .as_ref()
                .is_some_and(|job| matches!(job["Type"].as_str(), Some("system" | "sysbatch")));
            left |=
                matches!(alloc.client_status.as_str(), "pending" | "running") && !(system && ignore_system);
            tell(context, &alloc, seen.get(&alloc.id));
            seen.insert(alloc.id.clone(), alloc);
        }
        if draining {
            let (node, _) = client.node(id, &Query::default()).await.or_fail("Error monitoring node")?;
            if node.drain_strategy.is_none() {
                say(context, &format!("Drain complete for node {id}"));
                draining = false;
            }
        }
        if !draining && !left {
            say(context, &format!("All allocations on node {} have stopped", format::quoted(id)));
            return Ok(0);
        }
    }
}

fn tell(context: &Context, alloc: &Allocation, before: Option<&Allocation>) {
    let migrates = |alloc: &Allocation| {
        alloc.desired_transition.as_ref().is_some_and(|asked| asked.migrate == Some(true))
    };
    let Some(before) = before else { return };
    let id = format::quoted(&alloc.id);
    if migrates(alloc) && !migrates(before) {
        say(context, &format!("Alloc {id} marked for migration"));
    }
    if alloc.desired_status == "stop" && before.desired_status != "stop" {
        say(context, &format!("Alloc {id} draining"));
    }
    if alloc.client_status != before.client_status {
        say(context, &format!("Alloc {id} status {} -> {}", before.client_status, alloc.client_status));
    }
}
