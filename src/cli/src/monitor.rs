//! Follows an evaluation, and then its deployment, until nothing more comes of them.

use std::{collections::BTreeMap, time::Duration};

use sdk::{
    Client, Query,
    types::{AllocMetric, AllocStub, Deployment, Evaluation},
};

use crate::{
    command::{Context, Failure, OrFail, Outcome, short_id},
    deployment::status_text,
    format,
};

/// First wait between two looks; it doubles up to the last one. Most evaluations are over at the first look or two.
const LOOK_AGAIN_FIRST: Duration = Duration::from_millis(20);

/// Longest wait between two looks.
const LOOK_AGAIN_LAST: Duration = Duration::from_secs(1);

/// Looks for a new evaluation that are answered "not found" before it counts as gone: a follower may lag behind.
const NOT_FOUND_MAX: u32 = 10;

/// Exit code when something could not be placed.
const EXIT_PLACEMENT: i32 = 2;

/// Follows an evaluation to its end and returns the exit code: 0 done, 2 placement failed, 1 the deployment failed.
///
/// # Errors
///
/// When the agent stops answering.
pub async fn evaluation(context: &Context, client: &Client, id: &str, namespace: &str) -> Outcome {
    let mut watch = Watch {
        context,
        client,
        query: Query::default().in_namespace(namespace),
        full: context.on("verbose"),
        seen: Seen::default(),
    };
    watch.head(&format!("Monitoring evaluation {}", watch.id(id)));
    let eval = watch.follow(id).await?;
    if eval.status == "failed" {
        watch.head(&format!("Evaluation {} finished with status \"failed\"", watch.id(id)));
        return Ok(1);
    }
    let failed = !eval.failed_tg_allocs.is_empty();
    let words = if failed { " but failed to place all allocations:" } else { "" };
    watch.head(&format!(
        "Evaluation {} finished with status {}{words}",
        watch.id(id),
        format::quoted(&eval.status)
    ));
    if failed {
        for (group, metric) in &eval.failed_tg_allocs {
            let more = metric.coalesced_failures;
            watch.line(&format!(
                "Task Group {} (failed to place {} allocation{}):",
                format::quoted(group),
                more + 1,
                if more > 0 { "s" } else { "" }
            ));
            context.console.out(&placement_failure(metric, "      ", false));
        }
        if !eval.blocked_eval.is_empty() {
            watch.line(&format!(
                "Evaluation {} waiting for additional capacity to place remainder",
                watch.id(&eval.blocked_eval)
            ));
        }
    }
    if !watch.seen.deployment.is_empty() {
        let deployment = watch.seen.deployment.clone();
        return follow_deployment(context, client, &deployment, namespace).await;
    }
    Ok(if failed { EXIT_PLACEMENT } else { 0 })
}

/// Follows a deployment to its end and returns the exit code.
///
/// # Errors
///
/// When the agent stops answering.
pub async fn follow_deployment(context: &Context, client: &Client, id: &str, namespace: &str) -> Outcome {
    let stamp = || format::time(format::now());
    let full = context.on("verbose");
    context.console.out(&format!(
        "==> {}: Monitoring deployment {}",
        stamp(),
        format::quoted(&short_id(id, full))
    ));
    let mut query = Query::default().in_namespace(namespace);
    // Deployments change by themselves until their progress deadline; each wait is one blocking query.
    let mut shown = String::new();
    loop {
        query.wait = Duration::from_secs(10);
        let (deployment, meta) =
            client.deployment(id, &query).await.or_fail("Error retrieving deployment")?;
        query.index = meta.index;
        let text = status_text(&deployment, full);
        if text != shown {
            context.console.out(&format!("    \n{}\n{text}", stamp()));
            shown = text;
        }
        match deployment.status.as_str() {
            "successful" => return Ok(0),
            "failed" => return rolled_back(context, client, &deployment, namespace).await,
            "cancelled" | "blocked" => return Ok(1),
            _ => {}
        }
    }
}

/// Follows the deployment of the version that a failed one went back to, if it did.
async fn rolled_back(context: &Context, client: &Client, failed: &Deployment, namespace: &str) -> Outcome {
    let reverts = failed.task_groups.values().any(|group| group.auto_revert);
    if !reverts || !failed.status_description.contains("rolling back") {
        return Ok(1);
    }
    let query = Query::default().in_namespace(namespace);
    for _ in 0..NOT_FOUND_MAX {
        let latest = client
            .latest_deployment(&failed.job_id, &query)
            .await
            .or_fail("Error fetching rollback deployment")?;
        if let Some(latest) =
            latest.filter(|latest| latest.id != failed.id && latest.job_version > failed.job_version)
        {
            Box::pin(follow_deployment(context, client, &latest.id, namespace)).await?;
            return Ok(1);
        }
        tokio::time::sleep(LOOK_AGAIN_LAST / 4).await;
    }
    Ok(1)
}

/// What was already told.
#[derive(Default)]
struct Seen {
    status: String,
    deployment: String,
    allocs: BTreeMap<String, AllocStub>,
}

struct Watch<'a> {
    context: &'a Context,
    client: &'a Client,
    query: Query,
    full: bool,
    seen: Seen,
}

impl Watch<'_> {
    fn id(&self, id: &str) -> String {
        format::quoted(&short_id(id, self.full))
    }

    fn head(&self, text: &str) {
        self.context.console.out(&format!("==> {}: {text}", format::time(format::now())));
    }

    fn line(&self, text: &str) {
        self.context.console.out(&format!("    {}: {text}", format::time(format::now())));
    }

    async fn follow(&mut self, id: &str) -> Result<Evaluation, Failure> {
        let mut wait = LOOK_AGAIN_FIRST;
        let mut missing = 0;
        self.seen.status = "pending".to_owned();
        let mut first = true;
        loop {
            let eval = match self.client.evaluation(id, false, &self.query).await {
                Ok((eval, _)) => eval,
                Err(error) if error.is_not_found() && missing < NOT_FOUND_MAX => {
                    missing += 1;
                    tokio::time::sleep(wait).await;
                    continue;
                }
                Err(error) => {
                    return Err(Failure::new(format!(
                        "No evaluation with id {} found: {error}",
                        format::quoted(id)
                    )));
                }
            };
            let (allocs, _) = self
                .client
                .evaluation_allocations(id, &self.query)
                .await
                .or_fail("Error reading allocations")?;
            if first {
                self.triggered(&eval);
                first = false;
            }
            self.deployment(&eval);
            self.allocs(&eval, allocs);
            if eval.status != self.seen.status {
                self.line(&format!(
                    "Evaluation status changed: {} -> {}",
                    format::quoted(&self.seen.status),
                    format::quoted(&eval.status)
                ));
                self.seen.status.clone_from(&eval.status);
            }
            if matches!(eval.status.as_str(), "complete" | "failed" | "canceled") {
                return Ok(eval);
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LOOK_AGAIN_LAST);
        }
    }

    fn triggered(&self, eval: &Evaluation) {
        if !eval.node_id.is_empty() {
            self.line(&format!("Evaluation triggered by node {}", self.id(&eval.node_id)));
        } else if !eval.job_id.is_empty() {
            self.line(&format!("Evaluation triggered by job {}", format::quoted(&eval.job_id)));
        }
    }

    fn deployment(&mut self, eval: &Evaluation) {
        if !eval.deployment_id.is_empty() && self.seen.deployment.is_empty() {
            self.seen.deployment.clone_from(&eval.deployment_id);
            self.line(&format!("Evaluation within deployment: {}", self.id(&eval.deployment_id)));
        }
    }

    fn allocs(&mut self, eval: &Evaluation, allocs: Vec<AllocStub>) {
        for alloc in allocs {
            let id = self.id(&alloc.id);
            match self.seen.allocs.get(&alloc.id) {
                None if alloc.create_index < eval.create_index => {
                    self.line(&format!(
                        "Allocation {id} modified: node {}, group {}",
                        self.id(&alloc.node_id),
                        format::quoted(&alloc.task_group)
                    ));
                }
                None if alloc.desired_status == "run" => {
                    self.line(&format!(
                        "Allocation {id} created: node {}, group {}",
                        self.id(&alloc.node_id),
                        format::quoted(&alloc.task_group)
                    ));
                }
                None => {}
                Some(before) if before.client_status != alloc.client_status => {
                    let why = if alloc.client_description.is_empty() {
                        String::new()
                    } else {
                        format!(" ({})", alloc.client_description)
                    };
                    let (from, to) =
                        (format::quoted(&before.client_status), format::quoted(&alloc.client_status));
                    self.line(&format!("Allocation {id} status changed: {from} -> {to}{why}"));
                }
                Some(_) => {}
            }
            self.seen.allocs.insert(alloc.id.clone(), alloc);
        }
    }
}

/// Lists why something could not be placed, each line after `indent`; `full` adds how many nodes were looked at, by how
/// much the nearest one missed, and scores.
pub fn placement_failure(metric: &AllocMetric, indent: &str, full: bool) -> String {
    let mut lines = Vec::new();
    let mut add = |text: String| lines.push(format!("{indent}* {text}"));
    if metric.nodes_evaluated == 0 {
        add("No nodes were eligible for evaluation".to_owned());
    }
    for (datacenter, available) in &metric.nodes_available {
        if *available == 0 {
            add(format!("No nodes are available in datacenter {}", format::quoted(datacenter)));
        }
    }
    for (class, count) in &metric.class_filtered {
        add(format!("Class {}: {count} nodes excluded by filter", format::quoted(class)));
    }
    for (constraint, count) in &metric.constraint_filtered {
        add(format!("Constraint {}: {count} nodes excluded by filter", format::quoted(constraint)));
    }
    if metric.nodes_exhausted > 0 {
        add(format!("Resources exhausted on {} nodes", metric.nodes_exhausted));
    }
    for (class, count) in &metric.class_exhausted {
        add(format!("Class {} exhausted on {count} nodes", format::quoted(class)));
    }
    for (dimension, count) in &metric.dimension_exhausted {
        add(format!("Dimension {} exhausted on {count} nodes", format::quoted(dimension)));
    }
    for dimension in &metric.quota_exhausted {
        add(format!("Quota limit hit {}", format::quoted(dimension)));
    }
    if full {
        add(format!(
            "{} nodes evaluated: {} excluded by filter, {} without room",
            metric.nodes_evaluated, metric.nodes_filtered, metric.nodes_exhausted
        ));
        for miss in nearest_misses(metric) {
            add(format!("Nearest miss: {miss}"));
        }
        for score in &metric.score_meta_data {
            for (name, value) in &score.scores {
                add(format!("Score {} = {value:.6}", format::quoted(&format!("{}.{name}", score.node_id))));
            }
        }
    }
    lines.join("\n")
}

/// Says by how much the nearest node missed, for each dimension that was short.
pub fn nearest_misses(metric: &AllocMetric) -> Vec<String> {
    let unit = |dimension: &str| match dimension {
        "cpu" => "MHz",
        "memory" | "disk" => "MiB",
        _ => "",
    };
    let miss = |(dimension, by): (&String, &u64)| {
        format!("{} short by {by} {}", format::quoted(dimension), unit(dimension)).trim_end().to_owned()
    };
    metric.nearest_miss.iter().map(miss).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_account_says_how_near_it_was() {
        let metric: AllocMetric = sdk::types::from_slice(
            br#"{"NodesEvaluated": 3, "NodesFiltered": 1, "NodesExhausted": 2, "DimensionExhausted": {"memory": 2},
                "NearestMiss": {"memory": 120}}"#,
        )
        .expect("a metric");
        let wanted = "* Resources exhausted on 2 nodes\n* Dimension \"memory\" exhausted on 2 nodes\n\
            * 3 nodes evaluated: 1 excluded by filter, 2 without room\n* Nearest miss: \"memory\" short by 120 MiB";
        assert_eq!(placement_failure(&metric, "", true), wanted);
    }

    #[test]
    fn failures_to_place_read_as_scripts_know_them() {
        let metric: AllocMetric = sdk::types::from_slice(
            br#"{"NodesEvaluated": 1, "NodesExhausted": 1, "ClassExhausted": {"c1": 1}, "DimensionExhausted": {"memory": 1}}"#,
        )
        .expect("a metric");
        let wanted = "  * Resources exhausted on 1 nodes\n  * Class \"c1\" exhausted on 1 nodes\n  * Dimension \"memory\" exhausted on 1 nodes";
        assert_eq!(placement_failure(&metric, "  ", false), wanted);
        let filtered: AllocMetric = sdk::types::from_slice(
            br#"{"NodesEvaluated": 1, "ClassFiltered": {"c1": 1}, "ConstraintFiltered": {"${meta.gpu} = yes": 1}}"#,
        )
        .expect("a metric");
        let wanted = "* Class \"c1\": 1 nodes excluded by filter\n* Constraint \"${meta.gpu} = yes\": 1 nodes excluded by filter";
        assert_eq!(placement_failure(&filtered, "", false), wanted);
    }
}
