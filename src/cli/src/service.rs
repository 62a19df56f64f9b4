//! Commands about services and scaling policies.

use std::collections::BTreeMap;

use sdk::types::ServiceRegistration;
use serde_json::json;

use crate::{
    command::{
        Command, Context, FILTER, Failure, JSON, OrFail, Outcome, PAGE_TOKEN, PER_PAGE, TEMPLATE, VERBOSE,
        command,
    },
    flags::{Kind, flag},
    format,
    node::status::next_page,
    template,
};

/// The commands of this family.
pub const COMMANDS: &[Command] = &[
    command!("service list", "[options]", "List services.", &[JSON, TEMPLATE], list),
    command!(
        "service info",
        "[options] <service>",
        "List the instances of a service.",
        &[FILTER, PER_PAGE, PAGE_TOKEN, VERBOSE, JSON, TEMPLATE],
        info
    ),
    command!("service delete", "<service> <id>", "Delete an instance of a service.", &[], delete),
    command!(
        "scaling policy list",
        "[options]",
        "List scaling policies.",
        &[
            flag("job", Kind::Text, "Only those of this job."),
            flag("type", Kind::Text, "Only those of this type."),
            VERBOSE,
            JSON,
            TEMPLATE,
        ],
        policies
    ),
    command!(
        "scaling policy info",
        "[options] <policy>",
        "Show a scaling policy.",
        &[VERBOSE, JSON, TEMPLATE],
        policy
    ),
];

fn tags(tags: &[String]) -> String {
    format!("[{}]", tags.join(","))
}

async fn list(context: &Context) -> Outcome {
    context.no_args()?;
    template::check(context)?;
    let (lists, _) = context
        .client()
        .services(&sdk::Query::default())
        .await
        .or_fail("Error listing service registrations")?;
    if lists.is_empty() {
        context.console.out("No service registrations found");
        return Ok(0);
    }
    if template::print(context, || json!(lists))? {
        return Ok(0);
    }
    let all = context.globals.config.namespace == "*";
    let mut rows = Vec::new();
    for list in &lists {
        for service in &list.services {
            let mut row = vec![service.service_name.clone()];
            if all {
                row.push(list.namespace.clone());
            }
            row.push(tags(&service.tags));
            rows.push(row);
        }
    }
    rows.sort();
    context.console.out(&format::table(
        if all { &["Service Name", "Namespace", "Tags"] } else { &["Service Name", "Tags"] },
        &rows,
    ));
    Ok(0)
}

async fn info(context: &Context) -> Outcome {
    template::check(context)?;
    let name = context.one_arg("<service>")?;
    let failed = "Error listing service registrations";
    let (found, meta) = context.client().service(name, &context.list_query()).await.or_fail(failed)?;
    if found.is_empty() {
        return Err(Failure::new(format!(
            "{failed}: No service registrations with prefix {} found",
            format::quoted(name)
        )));
    }
    if template::print(context, || json!(found))? {
        return Ok(0);
    }
    let mut by_job: BTreeMap<&str, Vec<&ServiceRegistration>> = BTreeMap::new();
    for one in &found {
        by_job.entry(one.job_id.as_str()).or_default().push(one);
    }
    let address = |one: &ServiceRegistration| {
        if one.port > 0 { format!("{}:{}", one.address, one.port) } else { one.address.clone() }
    };
    if context.on("verbose") {
        for one in by_job.values().flatten() {
            let pairs = [
                ("ID", one.id.clone()),
                ("Service Name", one.service_name.clone()),
                ("Namespace", one.namespace.clone()),
                ("Job ID", one.job_id.clone()),
                ("Alloc ID", one.alloc_id.clone()),
                ("Node ID", one.node_id.clone()),
                ("Datacenter", one.datacenter.clone()),
                ("Address", address(one)),
                ("Tags", tags(&one.tags)),
            ];
            context.console.out(&format!("{}\n", format::pairs(&pairs)));
        }
        return Ok(0);
    }
    let row = |one: &&ServiceRegistration| {
        vec![
            one.job_id.clone(),
            address(one),
            tags(&one.tags),
            context.id(&one.node_id),
            context.id(&one.alloc_id),
        ]
    };
    let rows: Vec<_> = by_job.values().flatten().map(row).collect();
    context.console.out(&format::table(&["Job ID", "Address", "Tags", "Node ID", "Alloc ID"], &rows));
    next_page(context, &meta.next_token);
    Ok(0)
}

async fn delete(context: &Context) -> Outcome {
    let [name, id] = context.args.as_slice() else {
        return Err(Failure::usage("This command takes two arguments: <service_name> and <service_id>"));
    };
    context
        .client()
        .delete_service(name, id, &sdk::Query::default())
        .await
        .or_fail("Error deleting service registration")?;
    context.console.out("Successfully deleted service registration");
    Ok(0)
}

async fn policies(context: &Context) -> Outcome {
    context.no_args()?;
    template::check(context)?;
    let mut query = sdk::Query::default();
    for name in ["job", "type"] {
        if let Some(value) = context.flags.text(name) {
            query = query.with(name, value);
        }
    }
    let (mut policies, _) =
        context.client().scaling_policies(&query).await.or_fail("Error listing scaling policies")?;
    if template::print(context, || json!(policies))? {
        return Ok(0);
    }
    if policies.is_empty() {
        context.console.out("No policies found");
        return Ok(0);
    }
    policies.sort_by(|a, b| a.id.cmp(&b.id));
    let target = |target: &BTreeMap<String, String>| {
        target.iter().map(|(name, value)| format!("{name}:{value}")).collect::<Vec<_>>().join(", ")
    };
    let rows: Vec<_> = policies
        .iter()
        .map(|policy| {
            vec![
                context.id(&policy.id),
                policy.enabled.to_string(),
                policy.kind.clone(),
                target(&policy.target),
            ]
        })
        .collect();
    context.console.out(&format::table(&["ID", "Enabled", "Type", "Target"], &rows));
    Ok(0)
}

async fn policy(context: &Context) -> Outcome {
    template::check(context)?;
    let client = context.client();
    let prefix = context.one_arg("<policy_id>")?;
    let (found, _) =
        client.scaling_policies(&sdk::Query::default()).await.or_fail("Error querying scaling policies")?;
    let ids: Vec<&str> =
        found.iter().map(|policy| policy.id.as_str()).filter(|id| id.starts_with(prefix)).collect();
    let [id] = ids.as_slice() else {
        let words = if ids.is_empty() {
            format!("No scaling policies with prefix or id {} found", format::quoted(prefix))
        } else {
            format!("Prefix matched multiple scaling policies\n\n{}", ids.join("\n"))
        };
        return Err(Failure::new(words));
    };
    let policy =
        client.scaling_policy(id, &sdk::Query::default()).await.or_fail("Error querying scaling policy")?;
    if template::print(context, || json!(policy))? {
        return Ok(0);
    }
    let rules = policy.policy.as_ref().map(template::json).unwrap_or_default();
    let pairs = [
        ("ID", policy.id.clone()),
        ("Enabled", policy.enabled.to_string()),
        ("Type", policy.kind.clone()),
        (
            "Target",
            policy
                .target
                .iter()
                .map(|(name, value)| format!("{name}:{value}"))
                .collect::<Vec<_>>()
                .join(", "),
        ),
        ("Min", policy.min.to_string()),
        ("Max", policy.max.to_string()),
    ];
    context.console.out(&format!("{}\nPolicy:\n{rules}", format::pairs(&pairs)));
    Ok(0)
}
