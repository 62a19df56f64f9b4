//! `status`: whatever the id is of.

use sdk::Query;

use crate::{
    command::{Command, Context, Failure, JSON, OrFail, Outcome, TEMPLATE, VERBOSE, command},
    deployment, eval,
    flags::{Kind, flag},
    format, job, node, resolve,
};

/// The commands of this file.
pub const COMMANDS: &[Command] = &[command!(
    "status",
    "[options] [<id>]",
    "Show the job, allocation, node, evaluation or deployment of an id; without one, list jobs.",
    &[
        flag("short", Kind::Bool, "Only what is most important."),
        flag("evals", Kind::Bool, "Of a job: with evaluations."),
        flag("all-allocs", Kind::Bool, "Of a job: with allocations of earlier jobs of that name."),
        flag("stats", Kind::Bool, "Of an allocation or node: with what is in use in detail."),
        VERBOSE,
        JSON,
        TEMPLATE,
    ],
    run
)];

/// Kinds that are looked for, in this order when the id is that of several.
const KINDS: [&str; 5] = ["jobs", "allocs", "nodes", "evals", "deployment"];

async fn run(context: &Context) -> Outcome {
    let id = match context.args.as_slice() {
        [] => return job::status::list(context).await,
        [id] => id,
        _ => return Err(Failure::usage("This command takes either no arguments or one: <id>")),
    };
    let client = context.client();
    let found = client.search(id, "all", &Query::default()).await.or_fail("Error querying search with id")?;
    let matches = |kind: &str| found.matches.get(kind).and_then(|ids| ids.as_deref()).unwrap_or_default();
    let exact = KINDS.iter().find(|kind| matches(kind).iter().any(|found| found == id));
    let some: Vec<&&str> = KINDS.iter().filter(|kind| !matches(kind).is_empty()).collect();
    let kind = match (exact, some.as_slice()) {
        (Some(kind), _) => *kind,
        (None, [only]) => **only,
        (None, []) => return Err(Failure::new(format!("Unable to resolve ID: {}", format::quoted(id)))),
        (None, several) => {
            let list = several
                .iter()
                .map(|kind| format!("{kind}:\n  {}", matches(kind).join("\n  ")))
                .collect::<Vec<_>>()
                .join("\n\n");
            return Err(Failure::new(format!(
                "Multiple matches found for id {}\n\n{list}",
                format::quoted(id)
            )));
        }
    };
    match kind {
        "jobs" => job::status::show(context, id).await,
        "allocs" => crate::alloc::status::show(context, id).await,
        "nodes" => node::status::show(context, id).await,
        "evals" => eval::show(context, &resolve::eval(context, &client, id).await?).await,
        _ => {
            deployment::show(context, &resolve::deployment(context, &client, id).await?);
            Ok(0)
        }
    }
}
