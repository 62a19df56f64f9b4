//! From what a person types of an id to the thing itself.

use sdk::{
    Client, Query,
    types::{AllocStub, Allocation, Deployment, Evaluation, JobStub, Node},
};

use crate::{
    command::{Context, Failure, OrFail, short_id},
    format,
};

/// A job that was found, in its namespace.
pub struct FoundJob {
    /// Its id.
    pub id: String,
    /// Its namespace.
    pub namespace: String,
}

impl FoundJob {
    /// Makes a query in the job's namespace.
    pub fn query(&self) -> Query {
        Query::default().in_namespace(self.namespace.as_str())
    }
}

/// Finds the one job whose id begins so, or is so.
///
/// # Errors
///
/// When there is none, or there are several; `kind` says which jobs count, as in `No job(s) with ...`.
pub async fn job(
    client: &Client,
    prefix: &str,
    kind: &str,
    counts: impl Fn(&JobStub) -> bool,
) -> Result<FoundJob, Failure> {
    let (jobs, _) = client.jobs(&Query::prefix(prefix.trim())).await.or_fail("Error querying jobs")?;
    let mut jobs: Vec<JobStub> = jobs.into_iter().filter(|job| counts(job)).collect();
    let exact: Vec<usize> =
        jobs.iter().enumerate().filter(|(_, job)| job.id == prefix.trim()).map(|(at, _)| at).collect();
    let only = match (jobs.len(), exact.as_slice()) {
        (0, _) => {
            return Err(Failure::new(format!(
                "No {kind}(s) with prefix or ID {} found",
                format::quoted(prefix)
            )));
        }
        (1, _) => jobs.swap_remove(0),
        (_, [at]) => jobs.swap_remove(*at),
        (_, _) => {
            let across = client.config().namespace == "*";
            return Err(Failure::new(format!(
                "Prefix matched multiple jobs\n\n{}",
                crate::job::status::list_table(&jobs, across)
            )));
        }
    };
    Ok(FoundJob { id: only.id, namespace: only.namespace })
}

/// Finds any job.
///
/// # Errors
///
/// As for [`job`].
pub async fn any_job(client: &Client, prefix: &str) -> Result<FoundJob, Failure> {
    job(client, prefix, "job", |_| true).await
}

/// Cuts a prefix of an id to an even number of digits: servers look up whole bytes.
pub fn even(prefix: &str) -> String {
    let mut text = prefix.to_owned();
    if prefix.chars().filter(|c| *c != '-').count() % 2 == 1 {
        text.pop();
    }
    text
}

fn long_enough(prefix: &str) -> Result<(), Failure> {
    if prefix.chars().count() == 1 {
        Err(Failure::new("Identifier must contain at least two characters."))
    } else {
        Ok(())
    }
}

/// Finds the one allocation whose id begins so.
///
/// # Errors
///
/// When there is none, or there are several.
pub async fn alloc_stub(context: &Context, client: &Client, prefix: &str) -> Result<AllocStub, Failure> {
    long_enough(prefix)?;
    let (mut found, _) =
        client.allocations(&Query::prefix(even(prefix))).await.or_fail("Error querying allocation")?;
    found.retain(|alloc| alloc.id.starts_with(prefix));
    match found.len() {
        0 => {
            Err(Failure::new(format!("No allocation(s) with prefix or id {} found", format::quoted(prefix))))
        }
        1 => Ok(found.swap_remove(0)),
        _ => {
            let table = crate::alloc::status::list_table(&found, context.on("verbose"));
            Err(Failure::new(format!("Prefix matched multiple allocations\n\n{table}")))
        }
    }
}

/// Finds and reads the one allocation whose id begins so.
///
/// # Errors
///
/// As for [`alloc_stub`].
pub async fn alloc(context: &Context, client: &Client, prefix: &str) -> Result<Allocation, Failure> {
    let stub = alloc_stub(context, client, prefix).await?;
    let query = Query::default().in_namespace(stub.namespace.as_str());
    Ok(client.allocation(&stub.id, &query).await.or_fail("Error querying allocation")?.0)
}

/// Picks an allocation of a job: one that runs, if there is one; of a group, if one is named.
///
/// # Errors
///
/// When the job has none.
pub async fn alloc_of_job(client: &Client, prefix: &str, group: &str) -> Result<Allocation, Failure> {
    let job = any_job(client, prefix).await?;
    let (mut allocs, _) = client
        .job_allocation_lines(&job.id, false, &job.query())
        .await
        .or_fail("Error querying job allocations")?;
    allocs.retain(|alloc| group.is_empty() || alloc.task_group == group);
    allocs.sort_by_key(|alloc| (alloc.client_status != "running", std::cmp::Reverse(alloc.modify_index)));
    let Some(picked) = allocs.first() else {
        let of = if group.is_empty() {
            format!("job {}", format::quoted(&job.id))
        } else {
            format!("task group {} of job {}", format::quoted(group), format::quoted(&job.id))
        };
        return Err(Failure::new(format!("No running allocations found for {of}")));
    };
    Ok(client.allocation(&picked.id, &job.query()).await.or_fail("Error querying allocation")?.0)
}

/// Picks the task that is meant: the named one, or the only one.
///
/// # Errors
///
/// When there is none of that name, or none is named and there are several.
pub fn task(alloc: &Allocation, named: &str) -> Result<String, Failure> {
    let mut tasks: Vec<&str> =
        alloc.allocated_resources.iter().flat_map(|held| held.tasks.keys()).map(String::as_str).collect();
    tasks.sort_unstable();
    if !named.is_empty() {
        if tasks.contains(&named) {
            return Ok(named.to_owned());
        }
        return Err(Failure::new(format!(
            "Could not find task named: {named}, found:\n{}",
            tasks.join("\n")
        )));
    }
    match tasks.as_slice() {
        [] => Err(Failure::new(format!("Task group {} has no tasks", format::quoted(&alloc.task_group)))),
        [only] => Ok((*only).to_owned()),
        _ => {
            let list = tasks.iter().map(|task| format!("  * {task}")).collect::<Vec<_>>().join("\n");
            let short = short_id(&alloc.id, false);
            Err(Failure::new(format!(
                "Allocation {} is running the following tasks:\n{list}\n\nPlease specify the task.",
                format::quoted(&short)
            )))
        }
    }
}

/// Finds and reads the one node whose id begins so.
///
/// # Errors
///
/// When there is none, or there are several.
pub async fn node(context: &Context, client: &Client, prefix: &str) -> Result<Node, Failure> {
    long_enough(prefix)?;
    let (mut found, _) =
        client.nodes(&Query::prefix(even(prefix))).await.or_fail("Error querying node info")?;
    found.retain(|node| node.id.starts_with(prefix));
    match found.len() {
        0 => {
            return Err(Failure::new(format!(
                "No node(s) with prefix or id {} found",
                format::quoted(prefix)
            )));
        }
        1 => {}
        _ => {
            let table = crate::node::status::list_table(context, &found, &[]);
            return Err(Failure::new(format!("Prefix matched multiple nodes\n\n{table}")));
        }
    }
    Ok(client.node(&found[0].id, &Query::default()).await.or_fail("Error querying node info")?.0)
}

/// Returns the id of the node that the agent itself is.
///
/// # Errors
///
/// When the agent is not a client.
pub async fn own_node(client: &Client) -> Result<String, Failure> {
    let about = client.agent_self().await.or_fail("Error querying agent info")?;
    let id = about.stats.get("client").and_then(|stats| stats.get("node_id")).cloned().unwrap_or_default();
    if id.is_empty() { Err(Failure::new("The agent is no client: it has no node")) } else { Ok(id) }
}

/// Finds the node that the arguments mean: the agent's own with `-self`, else the one whose id begins so.
///
/// # Errors
///
/// As for [`node`].
pub async fn node_of_args(context: &Context, client: &Client) -> Result<Node, Failure> {
    if context.on("self") {
        let id = own_node(client).await?;
        return Ok(client.node(&id, &Query::default()).await.or_fail("Error querying node info")?.0);
    }
    node(context, client, context.one_arg("<node>")?).await
}

/// Finds the one evaluation whose id begins so.
///
/// # Errors
///
/// When there is none, or there are several.
pub async fn eval(context: &Context, client: &Client, prefix: &str) -> Result<Evaluation, Failure> {
    long_enough(prefix)?;
    let (mut found, _) =
        client.evaluations(&Query::prefix(even(prefix))).await.or_fail("Error querying evaluation")?;
    found.retain(|eval| eval.id.starts_with(prefix));
    match found.len() {
        0 => {
            Err(Failure::new(format!("No evaluation(s) with prefix or id {} found", format::quoted(prefix))))
        }
        1 => {
            let query = Query::default().in_namespace(found[0].namespace.as_str());
            Ok(client.evaluation(&found[0].id, true, &query).await.or_fail("Error querying evaluation")?.0)
        }
        _ => {
            let table = crate::eval::list_table(&found, context.on("verbose"));
            Err(Failure::new(format!("Prefix matched multiple evaluations\n\n{table}")))
        }
    }
}

/// Finds the one deployment whose id begins so.
///
/// # Errors
///
/// When there is none, or there are several.
pub async fn deployment(context: &Context, client: &Client, prefix: &str) -> Result<Deployment, Failure> {
    let failed = "Error retrieving deployment";
    let (mut found, _) = client.deployments(&Query::prefix(even(prefix))).await.or_fail(failed)?;
    found.retain(|deployment| deployment.id.starts_with(prefix));
    match found.len() {
        0 => Err(Failure::new(format!(
            "{failed}: Deployment ID {} matched no deployments",
            format::quoted(prefix)
        ))),
        1 => Ok(found.swap_remove(0)),
        _ => {
            let table = crate::deployment::list_table(&found, context.on("verbose"));
            Err(Failure::new(format!("Prefix matched multiple deployments\n\n{table}")))
        }
    }
}
