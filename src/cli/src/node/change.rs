use sdk::types::{NodeEligibilityRequest, NodeMetaRequest};
use serde_json::json;

use crate::{
    command::{Context, Failure, OrFail, Outcome},
    console::Style,
    format, resolve, template,
};

/// `node eligibility`.
pub async fn eligibility(context: &Context) -> Outcome {
    let enable = context.on("enable");
    if enable == context.on("disable") {
        return Err(Failure::usage("Either the '-enable' or '-disable' flag must be set"));
    }
    let client = context.client();
    let node = resolve::node_of_args(context, &client).await?;
    let eligibility = if enable { "eligible" } else { "ineligible" };
    let request = NodeEligibilityRequest { eligibility: eligibility.to_owned(), node_id: node.id.clone() };
    client.set_node_eligibility(&request).await.or_fail("Error updating scheduling eligibility")?;
    context.console.out(&format!(
        "Node {} scheduling eligibility set: {eligibility} for scheduling",
        format::quoted(&node.id)
    ));
    Ok(0)
}

async fn node_id(context: &Context, client: &sdk::Client) -> Result<String, Failure> {
    match context.text("node-id") {
        "" => Ok(String::new()),
        prefix => Ok(resolve::node(context, client, prefix).await?.id),
    }
}

/// `node meta read`.
pub async fn meta_read(context: &Context) -> Outcome {
    context.no_args()?;
    template::check(context)?;
    let client = context.client();
    let id = node_id(context, &client).await?;
    let meta = client.node_meta(&id).await.or_fail("Error reading dynamic node metadata")?;
    if template::print(context, || json!(meta))? {
        return Ok(0);
    }
    let head = |text: &str| context.console.paint(Style::Bold, text);
    let dynamic: Vec<(&String, &str)> =
        meta.dynamic.iter().map(|(key, value)| (key, value.as_deref().unwrap_or("<unset>"))).collect();
    context.console.out(&format!(
        "{}\n{}",
        head("All Meta"),
        format::pairs(&meta.meta.iter().collect::<Vec<_>>())
    ));
    if !dynamic.is_empty() {
        context.console.out(&format!("\n{}\n{}", head("Dynamic Meta"), format::pairs(&dynamic)));
    }
    context.console.out(&format!(
        "\n{}\n{}",
        head("Static Meta"),
        format::pairs(&meta.fixed.iter().collect::<Vec<_>>())
    ));
    Ok(0)
}

/// `node meta apply`.
pub async fn meta_apply(context: &Context) -> Outcome {
    let client = context.client();
    let mut request =
        NodeMetaRequest { node_id: node_id(context, &client).await?, ..NodeMetaRequest::default() };
    for key in context.text("unset").split(',').filter(|key| !key.is_empty()) {
        request.meta.insert(key.to_owned(), None);
    }
    for pair in &context.args {
        let (key, value) = pair.split_once('=').ok_or_else(|| {
            Failure::new(format!("Error parsing metadata: {pair:?} is not of the form key=value"))
        })?;
        request.meta.insert(key.to_owned(), Some(value.to_owned()));
    }
    if request.meta.is_empty() {
        return Err(Failure::usage("No metadata to apply: give key=value pairs, or -unset"));
    }
    client.apply_node_meta(&request).await.or_fail("Error applying dynamic node metadata")?;
    Ok(0)
}

/// `node config`.
pub async fn config(context: &Context) -> Outcome {
    let client = context.client();
    if context.on("update-servers") {
        if context.args.is_empty() {
            return Err(Failure::usage(
                "If the '-update-servers' flag is set, at least one server must be given",
            ));
        }
        client.set_agent_servers(&context.args).await.or_fail("Error updating server list")?;
        return Ok(0);
    }
    if !context.on("servers") {
        return Err(Failure::usage("Either the '-servers' or the '-update-servers' flag must be set"));
    }
    for server in client.agent_servers().await.or_fail("Error querying server list")? {
        context.console.out(&server);
    }
    Ok(0)
}

/// `node purge`.
pub async fn purge(context: &Context) -> Outcome {
    let client = context.client();
    let node = resolve::node(context, &client, context.one_arg("<node>")?).await?;
    if !context.on("yes") {
        let answer = context
            .console
            .ask(&format!("Are you sure you want to purge node {}? [y/N]", format::quoted(&node.id)));
        if answer.map_err(|why| Failure::new(format!("Failed to parse answer: {why}")))? != "y" {
            context.console.out("Cancelling node purge");
            return Ok(0);
        }
    }
    client.purge_node(&node.id).await.or_fail("Error purging node")?;
    context.console.out(&format!("Node {} purged", format::quoted(&node.id)));
    Ok(0)
}

/// `node evaluate`.
pub async fn evaluate(context: &Context) -> Outcome {
    let client = context.client();
    let node = resolve::node(context, &client, context.one_arg("<node>")?).await?;
    client.evaluate_node(&node.id).await.or_fail("Error evaluating node")?;
    Ok(0)
}
