//! Commands about the agent that is asked.

use sdk::{MonitorOptions, Query};
use serde_json::json;

use crate::{
    command::{Command, Context, Failure, JSON, OrFail, Outcome, TEMPLATE, command},
    flags::{Kind, flag},
    resolve, template,
};

/// The commands of this family.
pub const COMMANDS: &[Command] = &[
    command!("agent-info", "[options]", "Show what the agent says of itself.", &[JSON, TEMPLATE], info),
    command!(
        "monitor",
        "[options]",
        "Follow an agent's log.",
        &[
            flag("log-level", Kind::Text, "trace, debug, info, warn or error; info unless set."),
            flag("node-id", Kind::Text, "The log of this client."),
            flag("server-id", Kind::Text, "The log of this server, or of the `leader`."),
            flag("log-include-location", Kind::Bool, "With the place in the source."),
            JSON,
        ],
        monitor
    ),
    command!("version", "[options]", "Print the version.", &[JSON], version),
    command!(
        "event stream",
        "[options] [<Topic[:key]>...]",
        "Follow what happens in the cluster, a line of JSON each.",
        &[flag("index", Kind::Number, "Begin here."),],
        events
    ),
];

/// The version whose commands and API this program has; agents report the same one.
const NOMAD_VERSION: &str = "2.0.6";

/// Returns the line that names the program, by the name that it was called, and its version.
pub fn version_text(program: &str) -> String {
    match program {
        // Scripts look for a version that they know.
        "nomad" => format!("Nomad v{NOMAD_VERSION}"),
        _ => format!("Wayfarer v{}", env!("CARGO_PKG_VERSION")),
    }
}

async fn version(context: &Context) -> Outcome {
    context.console.out(&version_text(&context.program));
    Ok(0)
}

async fn info(context: &Context) -> Outcome {
    context.no_args()?;
    template::check(context)?;
    let about = context.client().agent_self().await.or_fail("Error querying agent info")?;
    if template::print(context, || json!(about.stats))? {
        return Ok(0);
    }
    let mut lines = Vec::new();
    for (part, facts) in &about.stats {
        lines.push(part.clone());
        lines.extend(facts.iter().map(|(name, value)| format!("  {name} = {value}")));
    }
    context.console.out(&lines.join("\n"));
    Ok(0)
}

async fn monitor(context: &Context) -> Outcome {
    context.no_args()?;
    let client = context.client();
    let node_id = match context.text("node-id") {
        "" => String::new(),
        prefix => resolve::node(context, &client, prefix).await?.id,
    };
    let options = MonitorOptions {
        log_level: context.text("log-level").to_owned(),
        node_id,
        server_id: context.text("server-id").to_owned(),
        log_json: context.on("json"),
        include_location: context.on("log-include-location"),
    };
    let mut log = client.monitor(&options).await.or_fail("error starting monitor")?;
    while let Some(piece) = log.next().await.or_fail("error while monitoring")? {
        context.console.raw(&piece);
    }
    Ok(0)
}

async fn events(context: &Context) -> Outcome {
    let query = Query {
        index: context.flags.number("index").and_then(|index| u64::try_from(index).ok()).unwrap_or(0),
        ..Query::default()
    };
    let mut events =
        context.client().events(&context.args, &query).await.or_fail("Error following events")?;
    while let Some(batch) = events.next().await.or_fail("Error following events")? {
        for event in batch.events {
            let line = serde_json::to_string(&event).map_err(|error| Failure::new(error.to_string()))?;
            context.console.out(&line);
        }
    }
    Ok(0)
}
