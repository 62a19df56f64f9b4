//! Commands about node pools.

use sdk::{
    Query,
    types::{NodePool, NodeStub, PoolSchedulerConfiguration},
};
use serde_json::{Value, json};

use crate::{
    command::{
        Command, Context, FILTER, Failure, JSON, OrFail, Outcome, PAGE_TOKEN, PER_PAGE, TEMPLATE, VERBOSE,
        command,
    },
    console::Style,
    flags::{Kind, flag},
    format, go_api, namespace,
    node::status::next_page,
    template,
};

/// The commands of this family.
pub const COMMANDS: &[Command] = &[
    command!(
        "node pool list",
        "[options]",
        "List node pools.",
        &[FILTER, PER_PAGE, PAGE_TOKEN, JSON, TEMPLATE],
        list
    ),
    command!("node pool info", "[options] <pool>", "Show a node pool.", &[JSON, TEMPLATE], info),
    command!(
        "node pool nodes",
        "[options] <pool>",
        "List the nodes of a pool.",
        &[FILTER, PER_PAGE, PAGE_TOKEN, VERBOSE, JSON, TEMPLATE],
        nodes
    ),
    command!(
        "node pool jobs",
        "[options] <pool>",
        "List the jobs of a pool.",
        &[FILTER, PER_PAGE, PAGE_TOKEN, JSON, TEMPLATE],
        jobs
    ),
    command!(
        "node pool apply",
        "[options] <file>",
        "Make or change a node pool.",
        &[flag("json", Kind::Bool, "The file is JSON.")],
        apply
    ),
    command!("node pool delete", "<pool>", "Delete a node pool.", &[], delete),
    command!("node pool init", "[options] [<file>]", "Write an example of a node pool file.", &[], init),
];

async fn list(context: &Context) -> Outcome {
    context.no_args()?;
    let client = context.client();
    let (pools, meta) =
        client.node_pools(&context.list_query()).await.or_fail("Error querying node pools")?;
    if template::print(context, || Value::Array(pools.iter().map(go_api::node_pool).collect()))? {
        return Ok(0);
    }
    if pools.is_empty() {
        context.console.out("No node pools");
        return Ok(0);
    }
    let rows: Vec<_> = pools.into_iter().map(|pool| vec![pool.name, pool.description]).collect();
    context.console.out(&format::table(&["Name", "Description"], &rows));
    next_page(context, &meta.next_token);
    Ok(0)
}

/// Finds the one pool whose name begins so, or is so.
async fn find(context: &Context, tried: &str) -> Result<NodePool, Failure> {
    let prefix = context.one_arg("<node-pool>")?;
    let (mut found, _) = context.client().node_pools(&Query::prefix(prefix)).await.or_fail(tried)?;
    if let Some(at) = found.iter().position(|pool| pool.name == prefix) {
        return Ok(found.swap_remove(at));
    }
    match found.len() {
        0 => Err(Failure::new(format!("{tried}: No node pool with prefix {} found", format::quoted(prefix)))),
        1 => Ok(found.swap_remove(0)),
        _ => {
            let rows: Vec<_> = found.into_iter().map(|pool| vec![pool.name, pool.description]).collect();
            Err(Failure::new(format!(
                "Prefix matched multiple node pools\n\n{}",
                format::table(&["Name", "Description"], &rows)
            )))
        }
    }
}

async fn info(context: &Context) -> Outcome {
    template::check(context)?;
    let pool = find(context, "Error retrieving node pool").await?;
    if context.on("json") {
        // Theirs has no indentation here.
        context.console.out(&go_api::node_pool(&pool).to_string());
        return Ok(0);
    }
    if template::print(context, || go_api::node_pool(&pool))? {
        return Ok(0);
    }
    let day = 86_400_000_000_000;
    let ttl = if pool.node_identity_ttl == 0 { day } else { pool.node_identity_ttl };
    let pairs = [
        ("Name", pool.name),
        ("Description", pool.description),
        ("Node Identity TTL", format::go_duration(ttl)),
    ];
    context.console.out(&format::pairs(&pairs));
    let meta = if pool.meta.is_empty() {
        "No metadata".to_owned()
    } else {
        format::pairs(&pool.meta.iter().collect::<Vec<_>>())
    };
    context.console.section("Metadata", &meta);
    let config = pool
        .scheduler_configuration
        .map_or_else(|| "No scheduler configuration".to_owned(), |config| template::json(&json!(config)));
    context.console.section("Scheduler Configuration", &config);
    Ok(0)
}

async fn nodes(context: &Context) -> Outcome {
    template::check(context)?;
    let pool = find(context, "Error retrieving node pool").await?;
    let (nodes, meta) = context
        .client()
        .node_pool_nodes(&pool.name, &context.list_query())
        .await
        .or_fail("Error querying nodes")?;
    if template::print(context, || json!(nodes))? {
        return Ok(0);
    }
    if nodes.is_empty() {
        context.console.out("No nodes");
        return Ok(0);
    }
    let row = |node: &NodeStub| {
        let mut row =
            vec![context.id(&node.id), node.datacenter.clone(), node.name.clone(), node.node_class.clone()];
        row.extend([node.drain.to_string(), node.scheduling_eligibility.clone(), node.status.clone()]);
        row
    };
    let header = ["ID", "DC", "Name", "Class", "Drain", "Eligibility", "Status"];
    context.console.out(&format::table(&header, &nodes.iter().map(row).collect::<Vec<_>>()));
    next_page(context, &meta.next_token);
    Ok(0)
}

async fn jobs(context: &Context) -> Outcome {
    template::check(context)?;
    let pool = find(context, "Error retrieving node pool").await?;
    let (jobs, meta) = context
        .client()
        .node_pool_jobs(&pool.name, &context.list_query())
        .await
        .or_fail("Error querying jobs")?;
    if template::print(context, || json!(jobs))? {
        return Ok(0);
    }
    if jobs.is_empty() {
        context.console.out("No jobs");
        return Ok(0);
    }
    context.console.out(&crate::job::status::list_table(&jobs, context.globals.config.namespace == "*"));
    next_page(context, &meta.next_token);
    Ok(0)
}

async fn apply(context: &Context) -> Outcome {
    let path = context.one_arg("<input>")?;
    let body = namespace::read_spec(path, context.on("json"), "node_pool")?;
    let pool = NodePool {
        name: namespace::text(&body, "name"),
        description: namespace::text(&body, "description"),
        meta: namespace::map(&body, "meta"),
        scheduler_configuration: scheduler_config(&body),
        ..NodePool::default()
    };
    if pool.name.is_empty() {
        return Err(Failure::new(format!("{path}: a node pool needs a name: node_pool \"name\" {{ ... }}")));
    }
    context.client().apply_node_pool(&pool).await.or_fail("Error applying node pool")?;
    context.console.out(&format!("Successfully applied node pool {}!", format::quoted(&pool.name)));
    Ok(0)
}

/// Reads how the pool's jobs are to be scheduled: a block of a file, or the object that the API shows.
fn scheduler_config(body: &Value) -> Option<PoolSchedulerConfiguration> {
    let config = ["scheduler_config", "schedulerconfiguration"].iter().find_map(|name| body.get(name))?;
    let config = config.as_array().map_or(Some(config), |blocks| blocks.first())?;
    let either = |names: [&str; 2]| names.iter().find_map(|name| config.get(name)).cloned();
    let oversubscription = either(["memory_oversubscription_enabled", "memoryoversubscriptionenabled"]);
    let algorithm = either(["scheduler_algorithm", "scheduleralgorithm"]);
    Some(PoolSchedulerConfiguration {
        memory_oversubscription_enabled: oversubscription.and_then(|value| value.as_bool()),
        scheduler_algorithm: algorithm
            .and_then(|value| value.as_str().map(str::to_owned))
            .unwrap_or_default(),
    })
}

async fn delete(context: &Context) -> Outcome {
    let name = context.one_arg("<node-pool>")?;
    context.client().delete_node_pool(name).await.or_fail("Error deleting node pool")?;
    context.console.out(&format!("Successfully deleted node pool {}!", format::quoted(name)));
    Ok(0)
}

async fn init(context: &Context) -> Outcome {
    let text = "# A node pool is a named set of nodes. A client joins one by `node_pool` in its configuration,\n\
                # a job asks for one by `node_pool`.\nnode_pool \"example\" {\n  description = \"Example node pool\"\n\n  meta {\n    environment = \"prod\"\n  }\n}\n";
    let file = context.args.first().map_or("pool.nomad.hcl", String::as_str);
    let written = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(file)
        .and_then(|mut open| std::io::Write::write_all(&mut open, text.as_bytes()));
    written.map_err(|error| Failure::new(format!("Failed to write {file:?}: {error}")))?;
    context.console.out(
        &context.console.paint(Style::Bold, &format!("Example node pool specification written to {file}")),
    );
    Ok(0)
}
