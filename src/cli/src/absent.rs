//! Commands about parts that this version does not have, or that only Nomad's paid edition has.
//!
//! They ask the agent all the same: scripts that look whether something is there get the answer that they know, and a
//! newer agent gives a fuller one.

use sdk::Query;
use serde_json::Value;

use crate::{
    command::{Command, Context, FILTER, Failure, JSON, OrFail, Outcome, TEMPLATE, VERBOSE, command},
    flags::{Kind, flag},
    format, template,
};

/// The commands of this family.
pub const COMMANDS: &[Command] = &[
    command!("quota list", "[options]", "List quotas.", &[JSON, TEMPLATE], quotas),
    command!("license get", "[options]", "Show the license.", &[JSON, TEMPLATE], license),
    command!("sentinel list", "[options]", "List Sentinel policies.", &[], sentinel),
    command!("recommendation list", "[options]", "List recommendations.", &[JSON, TEMPLATE], recommendations),
    command!("acl policy list", "[options]", "List ACL policies.", &[JSON, TEMPLATE], policies),
    command!("acl token self", "[options]", "Show the token in use.", &[JSON, TEMPLATE], token_self),
    command!(
        "var list",
        "[options] [<prefix>]",
        "List variables.",
        &[FILTER, flag("out", Kind::Text, "`json` or `terse`.")],
        variables
    ),
    command!(
        "var get",
        "[options] <path>",
        "Show a variable.",
        &[flag("out", Kind::Text, "`json`, the only form here.")],
        variable
    ),
    command!("volume status", "[options]", "List volumes.", &[VERBOSE], volumes),
    command!("plugin status", "[options]", "List storage plugins.", &[VERBOSE], plugins),
];

async fn ask(context: &Context, path: &str, query: &Query, tried: &str) -> Result<Value, Failure> {
    context.client().get::<Value>(path, query).await.or_fail(tried).map(|(value, _)| value)
}

/// Prints what an agent that does know the part answers.
fn print(context: &Context, value: &Value) -> Outcome {
    context.console.out(&template::json(value));
    Ok(0)
}

async fn quotas(context: &Context) -> Outcome {
    let value = ask(context, "/v1/quotas", &Query::default(), "Error retrieving quotas").await?;
    print(context, &value)
}

async fn sentinel(context: &Context) -> Outcome {
    let path = "/v1/sentinel/policies";
    let value = ask(context, path, &Query::default(), "Error listing Sentinel policies").await?;
    print(context, &value)
}

async fn recommendations(context: &Context) -> Outcome {
    let path = "/v1/recommendations";
    let value = ask(context, path, &Query::default(), "Error listing recommendations").await?;
    print(context, &value)
}

async fn license(context: &Context) -> Outcome {
    let failed = "Error getting license";
    let bytes =
        context.client().get_bytes("/v1/operator/license", &Query::default()).await.or_fail(failed)?;
    // An agent without licenses answers with nothing at all.
    if bytes.is_empty() {
        return Err(Failure::new(format!("{failed}: Nomad Enterprise only endpoint")));
    }
    context.console.out(&String::from_utf8_lossy(&bytes));
    Ok(0)
}

async fn policies(context: &Context) -> Outcome {
    let value = ask(context, "/v1/acl/policies", &Query::default(), "Error listing ACL policies").await?;
    print(context, &value)
}

async fn token_self(context: &Context) -> Outcome {
    if context.globals.config.token.is_empty() {
        return Err(Failure::new("No token present in the environment or set via the CLI flag"));
    }
    let value = ask(context, "/v1/acl/token/self", &Query::default(), "Error fetching self token").await?;
    print(context, &value)
}

async fn variables(context: &Context) -> Outcome {
    let prefix = match context.args.as_slice() {
        [] => "",
        [prefix] => prefix,
        _ => return Err(Failure::usage("This command takes flags and either no arguments or one: <prefix>")),
    };
    let query = Query { filter: context.text("filter").to_owned(), ..Query::default() };
    let query = if prefix.is_empty() { query } else { query.with("prefix", prefix) };
    let value = ask(context, "/v1/vars", &query, "Error retrieving vars").await?;
    if context.text("out") != "terse" {
        return print(context, &value);
    }
    for one in value.as_array().into_iter().flatten() {
        context.console.out(one["Path"].as_str().unwrap_or_default());
    }
    Ok(0)
}

async fn variable(context: &Context) -> Outcome {
    let path = format!("/v1/var/{}", context.one_arg("<path>")?);
    match context.client().get::<Value>(&path, &Query::default()).await {
        Ok((value, _)) => print(context, &value),
        Err(error) if error.is_not_found() => Err(Failure::new("Variable not found")),
        Err(error) => Err(Failure::new(format!("Error retrieving variable: {error}"))),
    }
}

/// Lists one kind of thing under its title, or says that there is none.
async fn list(context: &Context, path: &str, kind: &str, none: &str) -> Result<(), Failure> {
    let query = Query::default().with("type", kind);
    let value =
        ask(context, path, &query, &format!("Error querying {}", path.trim_start_matches("/v1/"))).await?;
    let rows: Vec<Vec<String>> = value
        .as_array()
        .into_iter()
        .flatten()
        .map(|one| {
            let text = |name: &str| one[name].as_str().unwrap_or_default().to_owned();
            vec![context.id(&text("ID")), text("Name")]
        })
        .collect();
    if rows.is_empty() {
        context.console.err(none);
    } else {
        context.console.out(&format::table(&["ID", "Name"], &rows));
    }
    Ok(())
}

async fn volumes(context: &Context) -> Outcome {
    context.no_args()?;
    context.console.out("Dynamic Host Volumes");
    list(context, "/v1/volumes", "host", "No dynamic host volumes").await?;
    context.console.out("\nContainer Storage Interface");
    list(context, "/v1/volumes", "csi", "No CSI volumes").await?;
    Ok(0)
}

async fn plugins(context: &Context) -> Outcome {
    context.no_args()?;
    context.console.out("Container Storage Interface");
    list(context, "/v1/plugins", "csi", "No CSI plugins").await?;
    Ok(0)
}
