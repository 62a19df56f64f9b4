//! Commands about servers and the system as a whole.

use std::collections::BTreeSet;

use sdk::types::AgentMember;
use serde_json::{Value, json};

use crate::{
    command::{Command, Context, Failure, JSON, OrFail, Outcome, TEMPLATE, VERBOSE, command},
    flags::{Kind, flag},
    format, template, ui,
};

/// The commands of this family.
pub const COMMANDS: &[Command] = &[
    command!(
        "server members"["server-members"],
        "[options]",
        "List servers.",
        &[
            flag("all", Kind::Bool, "Every agent, clients too, and how each of them joined."),
            flag("detailed", Kind::Bool, "The same as -verbose."),
            VERBOSE,
            JSON,
            TEMPLATE,
        ],
        members
    ),
    command!("server join"["server-join"], "[options] <address>...", "Make a server join others.", &[], join),
    command!(
        "server force-leave"["server-force-leave"],
        "[options] <name>",
        "Count a server as gone.",
        &[flag("prune", Kind::Bool, "And forget it.")],
        force_leave
    ),
    command!("system gc", "[options]", "Collect everything that is over.", &[], collect),
    command!(
        "system reconcile summaries",
        "[options]",
        "Count the allocations of every job again.",
        &[],
        reconcile
    ),
];

async fn members(context: &Context) -> Outcome {
    context.no_args()?;
    template::check(context)?;
    let client = context.client();
    let all = context.on("all");
    let mut members = client.members_of(all).await.or_fail("Error querying servers")?.members;
    members.sort_by(|a, b| {
        (tag(a, "region"), tag(a, "dc"), &a.name).cmp(&(tag(b, "region"), tag(b, "dc"), &b.name))
    });
    // Each region has a leader of its own; one that can not be asked has none that is known.
    let regions: BTreeSet<&str> = members.iter().map(|member| tag(member, "region")).collect();
    let mut leaders = BTreeSet::new();
    for region in regions {
        if let Ok(leader) = client.leader(region).await {
            leaders.insert((region.to_owned(), leader));
        }
    }
    let leads = |member: &AgentMember| {
        leaders.contains(&(
            tag(member, "region").to_owned(),
            format!("{}:{}", tag(member, "rpc_addr"), tag(member, "port")),
        ))
    };
    if template::print(context, || {
        Value::Array(members.iter().map(|member| with_leader(member, leads(member))).collect())
    })? {
        return Ok(0);
    }
    let full = context.on("verbose") || context.on("detailed");
    if all {
        context.console.out(&agents_table(context, &members, full));
        warn_of_trust(context, &members);
        return Ok(0);
    }
    context.console.out(&members_table(&members, full, leads));
    ui::hint(context, "View and manage Nomad servers", "servers");
    Ok(0)
}

fn members_table(members: &[AgentMember], full: bool, leads: impl Fn(&AgentMember) -> bool) -> String {
    let row = |member: &AgentMember| {
        let mut row =
            vec![member.name.clone(), member.addr.clone(), member.port.to_string(), member.status.clone()];
        row.push(leads(member).to_string());
        if full {
            row.push(member.protocol_cur.to_string());
        }
        row.extend(["raft_vsn", "build", "dc", "region"].map(|name| tag(member, name).to_owned()));
        if full {
            let tags = member.tags.iter().map(|(name, value)| format!("{name}={value}"));
            row.push(tags.collect::<Vec<_>>().join(","));
        }
        row
    };
    let mut header = vec!["Name", "Address", "Port", "Status", "Leader"];
    header.extend(full.then_some("Protocol"));
    header.extend(["Raft Version", "Build", "Datacenter", "Region"]);
    header.extend(full.then_some("Tags"));
    format::table(&header, &members.iter().map(row).collect::<Vec<_>>())
}

/// Lists all agents, with what decides about trusting them.
fn agents_table(context: &Context, members: &[AgentMember], full: bool) -> String {
    let row = |member: &AgentMember| {
        let id = tag(member, "id");
        let mut row = vec![
            member.name.clone(),
            member.addr.clone(),
            member.port.to_string(),
            member.status.clone(),
            tag(member, "role").to_owned(),
            tag(member, "joined").to_owned(),
            if full { id.to_owned() } else { context.id(id) },
        ];
        row.extend(["build", "dc", "region"].map(|name| tag(member, name).to_owned()));
        row
    };
    let header = [
        "Name",
        "Address",
        "Port",
        "Status",
        "Role",
        "Joined By",
        "Node ID",
        "Build",
        "Datacenter",
        "Region",
    ];
    format::table(&header, &members.iter().map(row).collect::<Vec<_>>())
}

/// Names what nobody has authenticated.
fn warn_of_trust(context: &Context, members: &[AgentMember]) {
    let count = members.iter().filter(|member| tag(member, "joined") == "trust").count();
    if count > 0 {
        context.console.err(&format!(
            "\n{count} of these joined on trust: nothing proved who they are. `{} server token require` demands a token of whoever comes next.",
            context.program
        ));
    }
}

fn tag<'a>(member: &'a AgentMember, name: &str) -> &'a str {
    member.tags.get(name).map(String::as_str).unwrap_or_default()
}

fn with_leader(member: &AgentMember, leads: bool) -> Value {
    let mut value = json!(member);
    if tag(member, "role") == "nomad" {
        value["Tags"]["Leader"] = json!(leads.to_string());
    }
    value
}

async fn join(context: &Context) -> Outcome {
    if context.args.is_empty() {
        return Err(Failure::usage("One or more node addresses must be given as arguments"));
    }
    let answer = context.client().join(&context.args).await.or_fail("Error joining")?;
    if !answer.error.is_empty() {
        return Err(Failure::new(format!("Error joining: failed joining: {}", answer.error)));
    }
    context.console.out(&format!("Joined {} servers successfully", answer.num_joined));
    Ok(0)
}

async fn force_leave(context: &Context) -> Outcome {
    let name = context.one_arg("<node>")?;
    context
        .client()
        .force_leave(name, context.on("prune"))
        .await
        .or_fail(&format!("Error force-leaving server {name}"))?;
    Ok(0)
}

async fn collect(context: &Context) -> Outcome {
    context.no_args()?;
    context.client().collect_garbage().await.or_fail("Error running system garbage-collection")?;
    Ok(0)
}

async fn reconcile(context: &Context) -> Outcome {
    context.no_args()?;
    context.client().reconcile_summaries().await.or_fail("Error running system summary reconciliation")?;
    Ok(0)
}
