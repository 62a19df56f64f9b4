//! Commands about evaluations.

use std::collections::BTreeMap;

use sdk::{
    Query,
    types::{DesiredUpdates, EvalDeleteRequest, Evaluation, EvaluationStub},
};
use serde_json::Value;

use crate::{
    alloc,
    command::{
        Command, Context, FILTER, Failure, JSON, OrFail, Outcome, PAGE_TOKEN, PER_PAGE, TEMPLATE, VERBOSE,
        YES, command, short_id,
    },
    flags::{Kind, flag},
    format, go_api,
    monitor::placement_failure,
    node::status::next_page,
    resolve, template, ui,
};

/// The commands of this family.
pub const COMMANDS: &[Command] = &[
    command!(
        "eval list",
        "[options]",
        "List evaluations.",
        &[
            flag("job", Kind::Text, "Only those of this job."),
            flag("status", Kind::Text, "Only those of this status."),
            FILTER,
            PER_PAGE,
            PAGE_TOKEN,
            VERBOSE,
            JSON,
            TEMPLATE,
        ],
        list
    ),
    command!(
        "eval status"["eval-status"],
        "[options] <evaluation>",
        "Show an evaluation.",
        &[flag("monitor", Kind::Bool, "Follow it to its end."), VERBOSE, JSON, TEMPLATE,],
        status
    ),
    command!(
        "eval delete",
        "[options] [<evaluation>]",
        "Delete evaluations.",
        &[flag("filter", Kind::Text, "Those that this expression holds for."), YES],
        delete
    ),
];

/// Makes the table of a list of evaluations.
pub fn list_table(evals: &[Evaluation], full: bool) -> String {
    let row = |eval: &Evaluation| {
        let failures = if eval.status == "blocked" {
            "N/A - In Progress".to_owned()
        } else {
            (!eval.failed_tg_allocs.is_empty()).to_string()
        };
        vec![
            short_id(&eval.id, full),
            eval.priority.to_string(),
            eval.triggered_by.clone(),
            eval.job_id.clone(),
            eval.namespace.clone(),
            short_id(&eval.node_id, full),
            eval.status.clone(),
            failures,
        ]
    };
    let header =
        ["ID", "Priority", "Triggered By", "Job ID", "Namespace", "Node ID", "Status", "Placement Failures"];
    format::table(&header, &evals.iter().map(row).collect::<Vec<_>>())
}

async fn list(context: &Context) -> Outcome {
    context.no_args()?;
    template::check(context)?;
    let mut query = context.list_query();
    query.reverse = true;
    for name in ["job", "status"] {
        if let Some(value) = context.flags.text(name) {
            query = query.with(name, value);
        }
    }
    let (evals, meta) = context.client().evaluations(&query).await.or_fail("Error querying evaluations")?;
    if template::print(context, || Value::Array(evals.iter().map(go_api::evaluation).collect()))? {
        return Ok(0);
    }
    if evals.is_empty() {
        context.console.out("No evals found");
        return Ok(0);
    }
    context.console.out(&list_table(&evals, context.on("verbose")));
    next_page(context, &meta.next_token);
    ui::hint(context, "View evaluations", "evaluations");
    Ok(0)
}

async fn status(context: &Context) -> Outcome {
    template::check(context)?;
    let client = context.client();
    let eval = resolve::eval(context, &client, context.one_arg("<evaluation>")?).await?;
    if context.on("monitor") {
        return crate::monitor::evaluation(context, &client, &eval.id, &eval.namespace).await;
    }
    if template::print(context, || go_api::evaluation(&eval))? {
        return Ok(0);
    }
    show(context, &eval).await
}

/// Shows one evaluation.
pub async fn show(context: &Context, eval: &Evaluation) -> Outcome {
    let (console, full) = (&context.console, context.on("verbose"));
    console.out(&basics(context, eval));
    if !eval.related_evals.is_empty() {
        console.section("Related Evaluations", &related(&eval.related_evals, full));
    }
    let updates = eval
        .plan_annotations
        .as_ref()
        .map(|plan| &plan.desired_tg_updates)
        .filter(|updates| !updates.is_empty());
    if let Some(updates) = updates {
        console.section("Plan Annotations", &annotations(updates, full));
    }
    let query = Query::default().in_namespace(eval.namespace.as_str());
    let (mut placed, _) = context
        .client()
        .evaluation_allocations(&eval.id, &query)
        .await
        .or_fail("Error querying related allocations")?;
    if !placed.is_empty() {
        placed.sort_by_key(|stub| std::cmp::Reverse(stub.create_index));
        let row = |stub: &sdk::types::AllocStub| {
            let mut row = vec![
                short_id(&stub.id, full),
                short_id(&stub.node_id, full),
                stub.task_group.clone(),
                stub.job_version.to_string(),
            ];
            row.extend([
                stub.desired_status.clone(),
                stub.client_status.clone(),
                format::ago(stub.create_time),
                format::ago(stub.modify_time),
            ]);
            row
        };
        console.section(
            "Placed Allocations",
            &format::table(alloc::status::header(false), &placed.iter().map(row).collect::<Vec<_>>()),
        );
    }
    if !eval.failed_tg_allocs.is_empty() {
        let texts: Vec<String> = eval
            .failed_tg_allocs
            .iter()
            .map(|(group, metric)| {
                let count = metric.coalesced_failures + 1;
                let plural = if count > 1 { "s" } else { "" };
                format!(
                    "Task Group {} (failed to place {count} allocation{plural}):\n{}",
                    format::quoted(group),
                    placement_failure(metric, "  ", full)
                )
            })
            .collect();
        console.section("Failed Placements", &texts.join("\n\n"));
        if !eval.blocked_eval.is_empty() {
            console.out(&format!(
                "\nEvaluation {} waiting for additional capacity to place remainder",
                format::quoted(&context.id(&eval.blocked_eval))
            ));
        }
    }
    ui::hint(context, "View evaluation details", &format!("evaluations?currentEval={}", eval.id));
    Ok(0)
}

fn basics(context: &Context, eval: &Evaluation) -> String {
    let full = context.on("verbose");
    let time = |nanos| if full { format::time(nanos) } else { format::ago(nanos) };
    let failures = if eval.status == "blocked" {
        "N/A - In Progress".to_owned()
    } else {
        (!eval.failed_tg_allocs.is_empty()).to_string()
    };
    let description =
        if eval.status_description.is_empty() { &eval.status } else { &eval.status_description };
    let mut pairs = vec![
        ("ID", context.id(&eval.id)),
        ("Create Time", time(eval.create_time)),
        ("Modify Time", time(eval.modify_time)),
        ("Status", eval.status.clone()),
        ("Status Description", description.clone()),
        ("Type", eval.kind.clone()),
        ("TriggeredBy", eval.triggered_by.clone()),
        ("Job ID", eval.job_id.clone()),
        ("Namespace", eval.namespace.clone()),
    ];
    if !eval.node_id.is_empty() {
        pairs.push(("Node ID", context.id(&eval.node_id)));
    }
    pairs.extend([("Priority", eval.priority.to_string()), ("Placement Failures", failures)]);
    pairs.extend(
        [
            ("Previous Eval", &eval.previous_eval),
            ("Next Eval", &eval.next_eval),
            ("Blocked Eval", &eval.blocked_eval),
        ]
        .map(|(name, id)| (name, context.id(id))),
    );
    if !eval.wait_until.is_zero() {
        pairs.push(("Wait Until", format::time(eval.wait_until.nanos())));
    }
    if !eval.quota_limit_reached.is_empty() {
        pairs.push(("Quota Limit Reached", eval.quota_limit_reached.clone()));
    }
    format::pairs(&pairs)
}

fn related(evals: &[EvaluationStub], full: bool) -> String {
    let row = |eval: &EvaluationStub| {
        let mut row = vec![
            short_id(&eval.id, full),
            eval.priority.to_string(),
            eval.triggered_by.clone(),
            short_id(&eval.node_id, full),
        ];
        row.extend([eval.status.clone(), eval.status_description.clone()]);
        row
    };
    format::table(
        &["ID", "Priority", "Triggered By", "Node ID", "Status", "Description"],
        &evals.iter().map(row).collect::<Vec<_>>(),
    )
}

fn annotations(updates: &BTreeMap<String, DesiredUpdates>, full: bool) -> String {
    let mut header = vec!["Task Group", "Ignore", "Place", "Stop", "InPlace", "Destructive"];
    if full {
        header.extend([
            "Migrate",
            "Canary",
            "Preemptions",
            "Reschedule Now",
            "Reschedule Later",
            "Disconnect",
            "Reconnect",
        ]);
    }
    let row = |(group, counts): (&String, &DesiredUpdates)| {
        let mut row = vec![group.clone()];
        let short =
            [counts.ignore, counts.place, counts.stop, counts.in_place_update, counts.destructive_update];
        row.extend(short.map(|count| count.to_string()));
        if full {
            let more = [
                counts.migrate,
                counts.canary,
                counts.preemptions,
                counts.reschedule_now,
                counts.reschedule_later,
                counts.disconnect,
                counts.reconnect,
            ];
            row.extend(more.map(|count| count.to_string()));
        }
        row
    };
    format::table(&header, &updates.iter().map(row).collect::<Vec<_>>())
}

async fn delete(context: &Context) -> Outcome {
    let request = match (context.args.as_slice(), context.text("filter")) {
        ([id], "") => EvalDeleteRequest { eval_ids: vec![id.clone()], filter: String::new() },
        ([], filter) if !filter.is_empty() => {
            EvalDeleteRequest { eval_ids: Vec::new(), filter: filter.to_owned() }
        }
        _ => return Err(Failure::usage("This command takes either one evaluation or the -filter flag")),
    };
    if !context.on("yes") && !request.filter.is_empty() {
        let answer = context
            .console
            .ask("Are you sure you want to delete these evaluations? [y/N]")
            .map_err(|why| Failure::new(format!("Failed to parse answer: {why}")))?;
        if answer != "y" {
            context.console.out("Cancelling eval deletion");
            return Ok(0);
        }
    }
    let answer = context.client().delete_evaluations(&request).await.or_fail("Error deleting evaluations")?;
    let count = answer.count.max(request.eval_ids.len() as u64);
    context
        .console
        .out(&format!("Successfully deleted {count} evaluation{}", if count == 1 { "" } else { "s" }));
    Ok(0)
}
