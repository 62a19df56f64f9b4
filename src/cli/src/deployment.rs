//! Commands about deployments.

use sdk::{
    Query,
    types::{Deployment, DeploymentGroup, DeploymentPromoteRequest, DeploymentUpdateResponse},
};
use serde_json::Value;

use crate::{
    command::{
        Command, Context, DETACH, FILTER, Failure, JSON, OrFail, Outcome, PAGE_TOKEN, PER_PAGE, TEMPLATE,
        VERBOSE, command, short_id,
    },
    flags::{Kind, flag},
    format, go_api, monitor,
    node::status::next_page,
    resolve, template, ui,
};

/// The commands of this family.
pub const COMMANDS: &[Command] = &[
    command!(
        "deployment list",
        "[options]",
        "List deployments.",
        &[FILTER, PER_PAGE, PAGE_TOKEN, VERBOSE, JSON, TEMPLATE],
        list
    ),
    command!(
        "deployment status",
        "[options] <deployment>",
        "Show a deployment.",
        &[
            flag("monitor", Kind::Bool, "Follow it to its end."),
            flag("wait", Kind::Duration, "Accepted and ignored."),
            VERBOSE,
            JSON,
            TEMPLATE,
        ],
        status
    ),
    command!(
        "deployment promote",
        "[options] <deployment>",
        "Take over canaries.",
        &[flag("group", Kind::List, "Only this group. May be given again and again."), DETACH, VERBOSE,],
        promote
    ),
    command!("deployment fail", "[options] <deployment>", "Give a deployment up.", &[DETACH, VERBOSE], fail),
    command!("deployment pause", "[options] <deployment>", "Stop a deployment for now.", &[VERBOSE], pause),
    command!(
        "deployment resume",
        "[options] <deployment>",
        "Let a deployment go on.",
        &[DETACH, VERBOSE],
        resume
    ),
    command!(
        "deployment unblock",
        "[options] <deployment>",
        "Release a deployment that another region holds back.",
        &[DETACH, VERBOSE],
        unblock
    ),
];

/// Makes the table of a list of deployments.
pub fn list_table(deployments: &[Deployment], full: bool) -> String {
    let row = |one: &Deployment| {
        vec![
            short_id(&one.id, full),
            one.job_id.clone(),
            one.job_version.to_string(),
            one.status.clone(),
            one.status_description.clone(),
        ]
    };
    format::table(
        &["ID", "Job ID", "Job Version", "Status", "Description"],
        &deployments.iter().map(row).collect::<Vec<_>>(),
    )
}

/// Shows a deployment and its groups.
pub fn status_text(deployment: &Deployment, full: bool) -> String {
    let pairs = [
        ("ID", short_id(&deployment.id, full)),
        ("Job ID", deployment.job_id.clone()),
        ("Job Version", deployment.job_version.to_string()),
        ("Status", deployment.status.clone()),
        ("Description", deployment.status_description.clone()),
    ];
    with_groups(format::pairs(&pairs), deployment)
}

/// Shows the latest deployment of a job.
pub fn latest_text(deployment: &Deployment, full: bool) -> String {
    let pairs = [
        ("ID", short_id(&deployment.id, full)),
        ("Status", deployment.status.clone()),
        ("Description", deployment.status_description.clone()),
    ];
    with_groups(format::pairs(&pairs), deployment)
}

fn with_groups(head: String, deployment: &Deployment) -> String {
    if deployment.task_groups.is_empty() {
        head
    } else {
        format!("{head}\n\nDeployed\n{}", groups_table(deployment))
    }
}

fn groups_table(deployment: &Deployment) -> String {
    let groups = &deployment.task_groups;
    let canaries = groups.values().any(|group| group.desired_canaries > 0);
    let reverts = groups.values().any(|group| group.auto_revert);
    let deadline = groups.values().any(|group| group.progress_deadline != 0);
    let mut header = vec!["Task Group"];
    if reverts {
        header.push("Auto Revert");
    }
    if canaries {
        header.push("Promoted");
    }
    header.push("Desired");
    if canaries {
        header.push("Canaries");
    }
    header.extend(["Placed", "Healthy", "Unhealthy"]);
    if deadline {
        header.push("Progress Deadline");
    }
    let row = |(name, group): (&String, &DeploymentGroup)| {
        let mut row = vec![name.clone()];
        if reverts {
            row.push(group.auto_revert.to_string());
        }
        if canaries {
            row.push(if group.desired_canaries > 0 { group.promoted.to_string() } else { "N/A".to_owned() });
        }
        row.push(group.desired_total.to_string());
        if canaries {
            row.push(group.desired_canaries.to_string());
        }
        row.extend(
            [group.placed_allocs, group.healthy_allocs, group.unhealthy_allocs]
                .map(|count| count.to_string()),
        );
        if deadline {
            row.push(format::time(group.require_progress_by.nanos()));
        }
        row
    };
    format::table(&header, &groups.iter().map(row).collect::<Vec<_>>())
}

fn query_of(deployment: &Deployment) -> Query {
    Query::default().in_namespace(deployment.namespace.as_str())
}

async fn list(context: &Context) -> Outcome {
    context.no_args()?;
    template::check(context)?;
    let mut query = context.list_query();
    query.reverse = true;
    let (deployments, meta) =
        context.client().deployments(&query).await.or_fail("Error retrieving deployments")?;
    if template::print(context, || Value::Array(deployments.iter().map(go_api::deployment).collect()))? {
        return Ok(0);
    }
    if deployments.is_empty() {
        context.console.out("No deployments found");
        return Ok(0);
    }
    context.console.out(&list_table(&deployments, context.on("verbose")));
    next_page(context, &meta.next_token);
    Ok(0)
}

async fn status(context: &Context) -> Outcome {
    let formatted = template::check(context)?;
    let client = context.client();
    if context.args.is_empty() && formatted {
        return list(context).await;
    }
    let deployment = resolve::deployment(context, &client, context.one_arg("<deployment>")?).await?;
    if template::print(context, || go_api::deployment(&deployment))? {
        return Ok(0);
    }
    if context.on("monitor") {
        return monitor::follow_deployment(context, &client, &deployment.id, &deployment.namespace).await;
    }
    show(context, &deployment);
    Ok(0)
}

/// Shows one deployment.
pub fn show(context: &Context, deployment: &Deployment) {
    context.console.out(&status_text(deployment, context.on("verbose")));
    let page = format!("jobs/{}/deployments", ui::escaped(&deployment.job_id));
    ui::hint(context, "View all deployments for this job", &page);
}

/// Follows what a change of a deployment caused.
async fn follow(context: &Context, deployment: &Deployment, answer: &DeploymentUpdateResponse) -> Outcome {
    if answer.eval_id.is_empty() {
        return Ok(0);
    }
    if context.on("detach") {
        context.console.out(&format!("Evaluation ID: {}", answer.eval_id));
        return Ok(0);
    }
    monitor::evaluation(context, &context.client(), &answer.eval_id, &deployment.namespace).await
}

async fn found(context: &Context) -> Result<Deployment, Failure> {
    resolve::deployment(context, &context.client(), context.one_arg("<deployment>")?).await
}

async fn promote(context: &Context) -> Outcome {
    let deployment = found(context).await?;
    let groups = context.flags.list("group").to_vec();
    let request =
        DeploymentPromoteRequest { all: groups.is_empty(), deployment_id: deployment.id.clone(), groups };
    let answer = context
        .client()
        .promote_deployment(&request, &query_of(&deployment))
        .await
        .or_fail("Error promoting deployment")?;
    follow(context, &deployment, &answer).await
}

async fn fail(context: &Context) -> Outcome {
    let deployment = found(context).await?;
    let answer = context
        .client()
        .fail_deployment(&deployment.id, &query_of(&deployment))
        .await
        .or_fail("Error failing deployment")?;
    let id = format::quoted(&deployment.id);
    match answer.reverted_job_version {
        Some(version) => {
            context.console.out(&format!("Deployment {id} failed. Auto-reverted to job version {version}.\n"))
        }
        None => context.console.out(&format!("Deployment {id} failed\n")),
    }
    follow(context, &deployment, &answer).await
}

async fn pause(context: &Context) -> Outcome {
    let deployment = found(context).await?;
    context
        .client()
        .pause_deployment(&deployment.id, true, &query_of(&deployment))
        .await
        .or_fail("Error pausing deployment")?;
    context.console.out(&format!("Deployment {} paused", format::quoted(&deployment.id)));
    Ok(0)
}

async fn resume(context: &Context) -> Outcome {
    let deployment = found(context).await?;
    let answer = context
        .client()
        .pause_deployment(&deployment.id, false, &query_of(&deployment))
        .await
        .or_fail("Error resuming deployment")?;
    context.console.out(&format!("Deployment {} resumed", format::quoted(&deployment.id)));
    follow(context, &deployment, &answer).await
}

async fn unblock(context: &Context) -> Outcome {
    let deployment = found(context).await?;
    let answer = context
        .client()
        .unblock_deployment(&deployment.id, &query_of(&deployment))
        .await
        .or_fail("Error unblocking deployment")?;
    context.console.out(&format!("Deployment {} unblocked", format::quoted(&deployment.id)));
    follow(context, &deployment, &answer).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment(canaries: u64) -> Deployment {
        let group = DeploymentGroup {
            auto_revert: canaries > 0,
            desired_canaries: canaries,
            desired_total: 2,
            placed_allocs: 1,
            progress_deadline: 1,
            ..DeploymentGroup::default()
        };
        Deployment {
            id: "a82c591c-8242-3197-2196-a7c2538c3afa".to_owned(),
            job_id: "canary".to_owned(),
            job_version: 1,
            status: "running".to_owned(),
            status_description: "Deployment is running".to_owned(),
            task_groups: [("g".to_owned(), group)].into(),
            ..Deployment::default()
        }
    }

    #[test]
    fn columns_for_canaries_and_reverts_show_only_where_there_are_some() {
        let plain = status_text(&deployment(0), false);
        assert!(plain.starts_with("ID          = a82c591c\nJob ID      = canary\n"));
        assert!(plain.ends_with(
            "Deployed\n\
             Task Group  Desired  Placed  Healthy  Unhealthy  Progress Deadline\n\
             g           2        1       0        0          N/A"
        ));
        let canary = status_text(&deployment(1), true);
        assert!(canary.contains("= a82c591c-8242-"));
        assert!(canary.ends_with(
            "Task Group  Auto Revert  Promoted  Desired  Canaries  Placed  Healthy  Unhealthy  Progress Deadline\n\
             g           true         false     2        1         1       0        0          N/A"
        ));
    }
}
