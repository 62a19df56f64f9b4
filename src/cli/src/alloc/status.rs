use std::collections::BTreeSet;

use sdk::{
    Query,
    types::{AllocLine, AllocMetric, AllocResourceUsage, AllocStub, Allocation, TaskState},
};

use crate::{
    command::{Context, Failure, OrFail, Outcome, short_id},
    console::Style,
    format, go_api,
    monitor::placement_failure,
    resolve, template, ui,
};

/// The header of lists of allocations.
pub fn header(full: bool) -> &'static [&'static str] {
    if full {
        &[
            "ID",
            "Eval ID",
            "Node ID",
            "Node Name",
            "Task Group",
            "Version",
            "Desired",
            "Status",
            "Created",
            "Modified",
        ]
    } else {
        &["ID", "Node ID", "Task Group", "Version", "Desired", "Status", "Created", "Modified"]
    }
}

/// What a line of such a list shows.
pub struct Row<'a> {
    /// Its id.
    pub id: &'a str,
    /// The evaluation that placed it.
    pub eval_id: &'a str,
    /// Where it is.
    pub node_id: &'a str,
    /// What that is called.
    pub node_name: &'a str,
    /// Its group.
    pub group: &'a str,
    /// Its job's version.
    pub version: u64,
    /// What is wanted of it.
    pub desired: &'a str,
    /// What it does.
    pub status: &'a str,
    /// When it was made.
    pub created: i64,
    /// When it last changed.
    pub modified: i64,
}

/// Makes a line of such a list.
fn row(row: &Row<'_>, full: bool) -> Vec<String> {
    let time = |nanos| if full { format::time(nanos) } else { format::ago(nanos) };
    let mut cells = vec![short_id(row.id, full)];
    if full {
        cells.push(row.eval_id.to_owned());
    }
    cells.push(short_id(row.node_id, full));
    if full {
        cells.push(row.node_name.to_owned());
    }
    cells.extend([row.group, &row.version.to_string(), row.desired, row.status].map(str::to_owned));
    cells.extend([time(row.created), time(row.modified)]);
    cells
}

impl<'a> From<&'a AllocStub> for Row<'a> {
    fn from(alloc: &'a AllocStub) -> Self {
        Self {
            id: &alloc.id,
            eval_id: &alloc.eval_id,
            node_id: &alloc.node_id,
            node_name: &alloc.node_name,
            group: &alloc.task_group,
            version: alloc.job_version,
            desired: &alloc.desired_status,
            status: &alloc.client_status,
            created: alloc.create_time,
            modified: alloc.modify_time,
        }
    }
}

impl<'a> From<&'a AllocLine> for Row<'a> {
    fn from(alloc: &'a AllocLine) -> Self {
        Self {
            id: &alloc.id,
            eval_id: &alloc.eval_id,
            node_id: &alloc.node_id,
            node_name: &alloc.node_name,
            group: &alloc.task_group,
            version: alloc.job_version,
            desired: &alloc.desired_status,
            status: &alloc.client_status,
            created: alloc.create_time,
            modified: alloc.modify_time,
        }
    }
}

/// Makes the table of a list of allocations.
pub fn list_table<'a, A>(allocs: &'a [A], full: bool) -> String
where
    Row<'a>: From<&'a A>,
{
    let rows: Vec<_> = allocs.iter().map(|alloc| row(&Row::from(alloc), full)).collect();
    format::table(header(full), &rows)
}

/// Puts allocations made last first.
pub fn newest_first(allocs: &mut [AllocLine]) {
    allocs.sort_by_key(|alloc| std::cmp::Reverse(alloc.create_index));
}

/// `alloc status`.
pub async fn run(context: &Context) -> Outcome {
    let formatted = template::check(context)?;
    let client = context.client();
    match context.args.as_slice() {
        [] if formatted => {
            let (allocs, _) =
                client.allocations(&Query::default()).await.or_fail("Error querying allocations")?;
            template::print(context, || go_api::alloc_stubs(&allocs))?;
            Ok(0)
        }
        [prefix] => show(context, prefix).await,
        _ => Err(Failure::usage(
            "This command takes one of the following argument conditions:\n * A single <allocation>\n * No arguments, with output format specified",
        )),
    }
}

/// Shows one allocation.
pub async fn show(context: &Context, prefix: &str) -> Outcome {
    let client = context.client();
    let alloc = resolve::alloc(context, &client, prefix).await?;
    if template::print(context, || go_api::allocation(&alloc))? {
        return Ok(0);
    }
    let query = Query::default().in_namespace(alloc.namespace.as_str());
    let short = context.on("short");
    let console = &context.console;
    console.out(&basics(context, &alloc));
    if short {
        console.section("Tasks", &short_tasks(&alloc));
    } else {
        addresses(context, &alloc);
        // What is in use is only known while the node answers.
        let usage = client.allocation_stats(&alloc.id, &query).await.ok();
        tasks(context, &alloc, usage.as_ref());
        if context.on("verbose") {
            placement(context, &alloc);
        }
    }
    ui::hint(context, "View allocation details", &format!("allocations/{}", alloc.id));
    Ok(0)
}

fn basics(context: &Context, alloc: &Allocation) -> String {
    let full = context.on("verbose");
    let time = |nanos| if full { format::time(nanos) } else { format::ago(nanos) };
    if context.on("short") {
        return format::pairs(&[
            ("ID", alloc.id.clone()),
            ("Name", alloc.name.clone()),
            ("Created", time(alloc.create_time)),
            ("Modified", time(alloc.modify_time)),
        ]);
    }
    let version = alloc.job.as_ref().map(|job| job["Version"].to_string()).unwrap_or_default();
    let mut pairs = vec![
        ("ID", alloc.id.clone()),
        ("Eval ID", context.id(&alloc.eval_id)),
        ("Name", alloc.name.clone()),
        ("Node ID", context.id(&alloc.node_id)),
        ("Node Name", alloc.node_name.clone()),
        ("Job ID", alloc.job_id.clone()),
        ("Job Version", version),
        ("Client Status", alloc.client_status.clone()),
        ("Client Description", alloc.client_description.clone()),
        ("Desired Status", alloc.desired_status.clone()),
        ("Desired Description", alloc.desired_description.clone()),
        ("Created", time(alloc.create_time)),
        ("Modified", time(alloc.modify_time)),
    ];
    let health = alloc.deployment_status.as_ref();
    // Scripts know the deployment only from jobs that have canaries in it.
    if let Some(health) = health.filter(|health| health.canary) {
        pairs.push(("Deployment ID", context.id(&alloc.deployment_id)));
        let words = match health.healthy {
            Some(true) => "healthy",
            Some(false) => "unhealthy",
            None => "unset",
        };
        pairs.push(("Deployment Health", words.to_owned()));
        pairs.push(("Canary", "true".to_owned()));
    }
    for (name, id) in [("Replacement Alloc ID", &alloc.next_allocation)] {
        if !id.is_empty() {
            pairs.push((name, context.id(id)));
        }
    }
    if !alloc.preempted_by_allocation.is_empty() {
        pairs.push(("Preempted By Alloc ID", context.id(&alloc.preempted_by_allocation)));
    }
    if !alloc.preempted_allocations.is_empty() {
        let ids: Vec<String> = alloc.preempted_allocations.iter().map(|id| context.id(id)).collect();
        pairs.push(("Preempted Alloc IDs", ids.join(", ")));
    }
    if !alloc.followup_eval_id.is_empty() {
        pairs.push(("Followup Eval ID", context.id(&alloc.followup_eval_id)));
    }
    if let Some(tracker) = alloc.reschedule_tracker.as_ref().filter(|tracker| !tracker.events.is_empty()) {
        pairs.push(("Reschedule Attempts", tracker.events.len().to_string()));
    }
    if let Some(metrics) = alloc.metrics.as_ref().filter(|_| full) {
        pairs.extend([
            ("Evaluated Nodes", metrics.nodes_evaluated.to_string()),
            ("Filtered Nodes", metrics.nodes_filtered.to_string()),
            ("Exhausted Nodes", metrics.nodes_exhausted.to_string()),
            ("Allocation Time", format::go_duration(metrics.allocation_time)),
            ("Failures", metrics.coalesced_failures.to_string()),
        ]);
    }
    format::pairs(&pairs)
}

fn short_tasks(alloc: &Allocation) -> String {
    let lifecycles = alloc.allocated_resources.as_ref().map(|held| &held.task_lifecycles);
    let row = |(name, state): (&String, &TaskState)| {
        let last = state.events.last();
        let lifecycle = lifecycles.and_then(|all| all.get(name)).and_then(Option::as_ref);
        let lifecycle = lifecycle.map_or("main".to_owned(), |cycle| {
            if cycle.sidecar { format!("{}-sidecar", cycle.hook) } else { cycle.hook.clone() }
        });
        vec![
            name.clone(),
            state.state.clone(),
            last.map(|event| event.kind.clone()).unwrap_or_default(),
            last.map(|event| format::time(event.time)).unwrap_or_default(),
            lifecycle,
        ]
    };
    format::table(
        &["Name", "State", "Last Event", "Time", "Lifecycle"],
        &alloc.task_states.iter().map(row).collect::<Vec<_>>(),
    )
}

fn addresses(context: &Context, alloc: &Allocation) {
    let Some(shared) = alloc.allocated_resources.as_ref().map(|held| &held.shared) else { return };
    if shared.ports.is_empty() {
        return;
    }
    let mode = shared.networks.first().map(|network| network.mode.as_str()).unwrap_or_default();
    let reserved: BTreeSet<&str> = shared
        .networks
        .iter()
        .flat_map(|network| &network.reserved_ports)
        .map(|port| port.label.as_str())
        .collect();
    let row = |port: &sdk::types::AllocatedPort| {
        let to = if port.to > 0 { format!(" -> {}", port.to) } else { String::new() };
        let dynamic = if reserved.contains(port.label.as_str()) { "" } else { "yes" };
        vec![format!("*{}", port.label), dynamic.to_owned(), format!("{}:{}{to}", port.host_ip, port.value)]
    };
    let mode = if mode.is_empty() || mode == "host" {
        String::new()
    } else {
        format!(" (mode = {})", format::quoted(mode))
    };
    let table = format::plain_table(
        &["Label", "Dynamic", "Address"],
        &shared.ports.iter().map(row).collect::<Vec<_>>(),
    );
    context.console.section(&format!("Allocation Addresses{mode}:"), &table);
}

fn tasks(context: &Context, alloc: &Allocation, usage: Option<&AllocResourceUsage>) {
    let lifecycles =
        alloc.allocated_resources.as_ref().map(|held| held.task_lifecycles.clone()).unwrap_or_default();
    for (name, state) in &alloc.task_states {
        let cycle = lifecycles.get(name).and_then(Option::as_ref);
        let cycle = cycle
            .map(|cycle| format!(" ({}{})", cycle.hook, if cycle.sidecar { " sidecar" } else { "" }))
            .unwrap_or_default();
        let head = format!("Task {}{cycle} is {}", format::quoted(name), format::quoted(&state.state));
        context.console.out(&format!("\n{}", context.console.paint(Style::Bold, &head)));
        resources(context, alloc, name, usage);
        let time = |at: sdk::types::Time| format::time(at.nanos());
        let pairs = [
            ("Started At", time(state.started_at)),
            ("Finished At", time(state.finished_at)),
            ("Total Restarts", state.restarts.to_string()),
            ("Last Restart", time(state.last_restart)),
        ];
        context.console.out(&format!("Task Events:\n{}\n", format::pairs(&pairs)));
        let row = |event: &sdk::types::TaskEvent| {
            vec![format::time(event.time), event.kind.clone(), event.display_message.replace('\n', " ")]
        };
        let rows: Vec<_> = state.events.iter().rev().map(row).collect();
        context.console.out(&format!(
            "Recent Events:\n{}",
            format::plain_table(&["Time", "Type", "Description"], &rows)
        ));
    }
}

fn resources(context: &Context, alloc: &Allocation, task: &str, usage: Option<&AllocResourceUsage>) {
    let Some(held) = alloc.allocated_resources.as_ref() else { return };
    let Some(wanted) = held.tasks.get(task) else { return };
    let used = usage.and_then(|usage| usage.tasks.get(task)).map(|usage| &usage.resource_usage);
    let signed = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let (cpu, memory) = match used {
        Some(used) => {
            let memory =
                if used.memory_stats.rss > 0 { used.memory_stats.rss } else { used.memory_stats.usage };
            (
                format!("{:.0}/{}", used.cpu_stats.total_ticks, wanted.cpu.cpu_shares),
                format!("{}/", format::bytes(memory)),
            )
        }
        None => (wanted.cpu.cpu_shares.to_string(), String::new()),
    };
    let row = vec![
        format!("{cpu} MHz"),
        format!("{memory}{}", format::mib(signed(wanted.memory.memory_mb))),
        format::mib(signed(held.shared.disk_mb)),
        String::new(),
    ];
    let max = wanted.memory.memory_max_mb;
    let mut text = format::plain_table(&["CPU", "Memory", "Disk", "Addresses"], &[row]);
    if max > 0 {
        text.push_str(&format!("\n           Max: {}", format::mib(max)));
    }
    context.console.out(&format!("Task Resources:\n{text}\n"));
    let Some(used) = used.filter(|_| context.on("stats")) else { return };
    let measured = |name: &str| used.memory_stats.measured.iter().any(|measured| measured == name);
    let memory = &used.memory_stats;
    let parts = [
        ("Cache", memory.cache),
        ("RSS", memory.rss),
        ("Swap", memory.swap),
        ("Usage", memory.usage),
        ("Max Usage", memory.max_usage),
        ("Kernel Usage", memory.kernel_usage),
        ("Kernel Max Usage", memory.kernel_max_usage),
    ];
    let shown: Vec<_> = parts.into_iter().filter(|(name, _)| measured(name)).collect();
    let names: Vec<&str> = shown.iter().map(|(name, _)| *name).collect();
    let row = shown.iter().map(|(_, count)| format::bytes(*count)).collect();
    context.console.out(&format!("Memory Stats\n{}\n", format::plain_table(&names, &[row])));
    let cpu = &used.cpu_stats;
    let row = [cpu.percent, cpu.system_mode, cpu.user_mode].map(|percent| format!("{percent:.2}%")).to_vec();
    context.console.out(&format!(
        "CPU Stats\n{}\n",
        format::plain_table(&["Percent", "System Mode", "User Mode"], &[row])
    ));
}

fn placement(context: &Context, alloc: &Allocation) {
    let Some(metrics) = alloc.metrics.as_ref() else { return };
    if metrics.score_meta_data.is_empty() {
        return;
    }
    let names: BTreeSet<&str> =
        metrics.score_meta_data.iter().flat_map(|score| score.scores.keys()).map(String::as_str).collect();
    let names: Vec<&str> = names.into_iter().filter(|name| *name != "normalized-score").collect();
    let short = |value: f64| {
        let text = format!("{value:.3}");
        let text = if value.abs() < 0.1 && value != 0.0 { format!("{value:.4}") } else { text };
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    let row = |score: &sdk::types::NodeScore| {
        let mut row = vec![score.node_id.clone()];
        row.extend(names.iter().map(|name| short(score.scores.get(*name).copied().unwrap_or(0.0))));
        row.push(short(score.norm_score));
        row
    };
    let mut header = vec!["Node"];
    header.extend(&names);
    header.push("final score");
    context.console.section(
        "Placement Metrics",
        &format::table(&header, &metrics.score_meta_data.iter().map(row).collect::<Vec<_>>()),
    );
    if metrics.nodes_filtered + metrics.nodes_exhausted > 0 {
        let out_of_question = AllocMetric { score_meta_data: Vec::new(), ..metrics.clone() };
        context.console.section("Nodes Ruled Out", &placement_failure(&out_of_question, "", true));
    }
}
