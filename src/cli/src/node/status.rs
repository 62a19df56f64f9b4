use std::collections::BTreeMap;

use sdk::{
    Client, Query,
    types::{AllocLine, HostDiskStats, HostStats, Node, NodeStub},
};
use serde_json::json;

use crate::{
    command::{Context, Failure, OrFail, Outcome},
    format, go_api, resolve, template, ui,
};

/// `node status`.
pub async fn run(context: &Context) -> Outcome {
    template::check(context)?;
    match context.args.as_slice() {
        [] if context.on("self") => show(context, &resolve::own_node(&context.client()).await?).await,
        [] => list(context).await,
        [prefix] => show(context, prefix).await,
        _ => Err(Failure::usage("This command takes either one or no arguments")),
    }
}

async fn list(context: &Context) -> Outcome {
    let client = context.client();
    let mut query = context.list_query();
    if context.on("os") {
        query = query.with("os", "true");
    }
    let (nodes, meta) = client.nodes(&query).await.or_fail("Error querying node status")?;
    if template::print(context, || json!(nodes))? {
        return Ok(0);
    }
    if context.on("quiet") {
        let ids: Vec<&str> = nodes.iter().map(|node| node.id.as_str()).collect();
        context.console.out(&ids.join("\n"));
        return Ok(0);
    }
    if nodes.is_empty() {
        context.console.out("No nodes registered");
        return Ok(0);
    }
    let mut running = Vec::new();
    if context.on("allocs") {
        for node in &nodes {
            let (allocs, _) =
                client.node_allocation_lines(&node.id).await.or_fail("Error querying node allocations")?;
            running.push(allocs.iter().filter(|alloc| alloc.client_status == "running").count());
        }
    }
    context.console.out(&list_table(context, &nodes, &running));
    next_page(context, &meta.next_token);
    ui::hint(context, "View and manage Nomad clients", "clients");
    Ok(0)
}

/// Says how to get the next page, if there is one.
pub fn next_page(context: &Context, token: &str) {
    if token.is_empty() {
        return;
    }
    let mut words: Vec<String> = Vec::new();
    let mut skip = false;
    for word in std::env::args().skip(1) {
        if skip || word.trim_start_matches('-').starts_with("page-token=") {
            skip = false;
            continue;
        }
        if word.trim_start_matches('-') == "page-token" {
            skip = true;
            continue;
        }
        words.push(word);
    }
    let command = words.join(" ");
    context.console.out(&format!(
        "\nResults have been paginated. To get the next page run:\n\n{} {command} -page-token {token}",
        context.program
    ));
}

/// Makes the table of a list of nodes; `running` counts their allocations, or is empty.
pub fn list_table(context: &Context, nodes: &[NodeStub], running: &[usize]) -> String {
    let (full, os) = (context.on("verbose"), context.on("os"));
    let mut header = vec!["ID", "Node Pool", "DC", "Name", "Class"];
    if os {
        header.push("OS");
    }
    if full {
        header.extend(["Address", "Version"]);
    }
    header.extend(["Drain", "Eligibility", "Status"]);
    if !running.is_empty() {
        header.push("Running Allocs");
    }
    let row = |(at, node): (usize, &NodeStub)| {
        let mut row = vec![
            context.id(&node.id),
            node.node_pool.clone(),
            node.datacenter.clone(),
            node.name.clone(),
            node.node_class.clone(),
        ];
        if os {
            row.push(
                node.attributes.as_ref().and_then(|facts| facts.get("os.name")).cloned().unwrap_or_default(),
            );
        }
        if full {
            row.extend([node.address.clone(), node.version.clone()]);
        }
        row.extend([node.drain.to_string(), node.scheduling_eligibility.clone(), node.status.clone()]);
        row.extend(running.get(at).map(ToString::to_string));
        row
    };
    format::table(&header, &nodes.iter().enumerate().map(row).collect::<Vec<_>>())
}

/// Shows one node.
pub async fn show(context: &Context, prefix: &str) -> Outcome {
    let client = context.client();
    let node = resolve::node(context, &client, prefix).await?;
    if template::print(context, || go_api::node(&node))? {
        return Ok(0);
    }
    let short = context.on("short");
    // A node that does not answer is shown without what only it knows. It takes a moment to measure itself, in which the
    // servers can be asked the rest.
    let stats = async { if short { None } else { client.node_stats_with_allocations(&node.id).await.ok() } };
    let (allocs, stats) = tokio::join!(client.node_allocation_lines(&node.id), stats);
    let (mut allocs, _) = allocs.or_fail("Error querying node allocations")?;
    context.console.out(&basics(context, &node, stats.as_ref()));
    if !short {
        details(context, &client, &node, &allocs, stats.as_ref()).await?;
    }
    crate::alloc::status::newest_first(&mut allocs);
    let body = if allocs.is_empty() {
        "No allocations placed".to_owned()
    } else {
        crate::alloc::status::list_table(&allocs, context.on("verbose"))
    };
    context.console.section("Allocations", &body);
    if context.on("verbose") && !short {
        context.console.section("Attributes", &map_text(&node.attributes));
        if !node.meta.is_empty() {
            context.console.section("Meta", &map_text(&node.meta));
        }
    }
    ui::hint(context, "View client details and metrics", &format!("clients/{}", node.id));
    Ok(0)
}

fn map_text(map: &BTreeMap<String, String>) -> String {
    format::pairs(&map.iter().collect::<Vec<_>>())
}

fn basics(context: &Context, node: &Node, stats: Option<&HostStats>) -> String {
    let (short, full) = (context.on("short"), context.on("verbose"));
    let drain = match &node.drain_strategy {
        None => node.drain.to_string(),
        Some(drain) if drain.force_deadline.is_zero() && drain.deadline < 0 => "true; force drain".to_owned(),
        Some(drain) if drain.force_deadline.is_zero() => "true; no deadline".to_owned(),
        Some(drain) => {
            let left = drain.force_deadline.nanos() - format::now();
            let words = if left > 0 {
                format!("{} remaining", format::span(left))
            } else {
                "deadline passed".to_owned()
            };
            format!("true; {words}")
        }
    };
    let mut pairs = vec![
        ("ID", node.id.clone()),
        ("Name", node.name.clone()),
        ("Node Pool", node.node_pool.clone()),
        ("Class", node.node_class.clone()),
        ("DC", node.datacenter.clone()),
        ("Drain", drain),
        ("Eligibility", node.scheduling_eligibility.clone()),
        ("Status", node.status.clone()),
        ("CSI Controllers", keys(&node.csi_controller_plugins)),
        ("CSI Drivers", keys(&node.csi_node_plugins)),
    ];
    if let Some(stats) = stats {
        let uptime =
            i64::try_from(stats.uptime).unwrap_or(i64::MAX / 1_000_000_000).saturating_mul(1_000_000_000);
        pairs.push(("Uptime", format::go_duration(uptime)));
    }
    if short || !full {
        let drivers: Vec<&str> = node
            .drivers
            .iter()
            .filter(|(_, driver)| driver.detected)
            .map(|(name, _)| name.as_str())
            .collect();
        pairs.push(("Host Volumes", keys(&node.host_volumes)));
        pairs.push(("Host Networks", keys(&node.host_networks)));
        pairs.push(("CSI Volumes", String::new()));
        let healthy = |name: &&str| {
            if node.drivers[*name].healthy { (*name).to_owned() } else { format!("{name} (unhealthy)") }
        };
        let text =
            if short { drivers.join(",") } else { drivers.iter().map(healthy).collect::<Vec<_>>().join(",") };
        pairs.push((if short { "Drivers" } else { "Driver Status" }, text));
    }
    format::pairs(&pairs)
}

fn keys<V>(map: &BTreeMap<String, V>) -> String {
    map.keys().map(String::as_str).collect::<Vec<_>>().join(",")
}

async fn details(
    context: &Context,
    client: &Client,
    node: &Node,
    allocs: &[AllocLine],
    stats: Option<&HostStats>,
) -> Result<(), Failure> {
    let (console, full) = (&context.console, context.on("verbose"));
    if full {
        let row = |(name, driver): (&String, &sdk::types::DriverInfo)| {
            let time = format::time(driver.update_time.nanos());
            vec![
                name.clone(),
                driver.detected.to_string(),
                driver.healthy.to_string(),
                driver.health_description.clone(),
                time,
            ]
        };
        let rows: Vec<_> = node.drivers.iter().map(row).collect();
        console
            .section("Drivers", &format::table(&["Driver", "Detected", "Healthy", "Message", "Time"], &rows));
        if !node.host_volumes.is_empty() {
            let rows: Vec<_> = node
                .host_volumes
                .values()
                .map(|volume| {
                    vec![
                        volume.name.clone(),
                        volume.id.clone(),
                        volume.read_only.to_string(),
                        volume.path.clone(),
                    ]
                })
                .collect();
            console.section("Host Volumes", &format::table(&["Name", "ID", "ReadOnly", "Source"], &rows));
        }
    }
    console.section("Node Events", &events_table(node, full));
    console.section("Allocated Resources", &allocated(node, allocs));
    let Some(stats) = stats else {
        return Ok(());
    };
    let (ticks, memory) = match &stats.alloc_usage {
        Some(used) => (used.total_ticks, used.memory),
        None => usage_one_by_one(client, allocs).await,
    };
    let has = capacity(node);
    let row = vec![
        format!("{ticks:.0}/{} MHz", has.cpu),
        format!("{}/{}", format::bytes(memory), format::mib(has.memory)),
    ];
    console.section("Allocation Resource Utilization", &format::table(&["CPU", "Memory"], &[row]));
    console.section("Host Resource Utilization", &host_utilization(node, stats));
    if context.on("stats") {
        stats_sections(context, stats);
    }
    Ok(())
}

/// Adds up what allocations use, for agents that do not.
async fn usage_one_by_one(client: &Client, allocs: &[AllocLine]) -> (f64, u64) {
    let (mut ticks, mut memory) = (0.0, 0);
    for alloc in allocs.iter().filter(|alloc| alloc.client_status == "running") {
        let query = Query::default().in_namespace(alloc.namespace.as_str());
        // An allocation may end between the list and this question.
        if let Ok(usage) = client.allocation_stats(&alloc.id, &query).await {
            ticks += usage.resource_usage.cpu_stats.total_ticks;
            memory += usage.resource_usage.memory_stats.rss.max(usage.resource_usage.memory_stats.usage);
        }
    }
    (ticks, memory)
}

fn events_table(node: &Node, full: bool) -> String {
    let row = |event: &sdk::types::NodeEvent| {
        let mut row =
            vec![format::time(event.timestamp.nanos()), event.subsystem.clone(), event.message.clone()];
        if full {
            row.push(
                event
                    .details
                    .iter()
                    .map(|(key, value)| format!("{key}: {value}"))
                    .collect::<Vec<_>>()
                    .join(" "),
            );
        }
        row
    };
    let rows: Vec<_> = node.events.iter().rev().map(row).collect();
    format::table(
        if full { &["Time", "Subsystem", "Message", "Details"] } else { &["Time", "Subsystem", "Message"] },
        &rows,
    )
}

struct Capacity {
    cpu: i64,
    memory: i64,
    disk: i64,
}

/// What a node has, less what it holds back.
fn capacity(node: &Node) -> Capacity {
    let has = node.node_resources.clone().unwrap_or_default();
    let held = node.reserved_resources.clone().unwrap_or_default();
    let left = |has: u64, held: u64| i64::try_from(has.saturating_sub(held)).unwrap_or(i64::MAX);
    Capacity {
        cpu: left(has.cpu.cpu_shares, held.cpu.cpu_shares),
        memory: left(has.memory.memory_mb, held.memory.memory_mb),
        disk: left(has.disk.disk_mb, held.disk.disk_mb),
    }
}

fn allocated(node: &Node, allocs: &[AllocLine]) -> String {
    let has = capacity(node);
    let (mut cpu, mut memory, mut disk, mut count) = (0, 0, 0, 0);
    for alloc in
        allocs.iter().filter(|alloc| !matches!(alloc.client_status.as_str(), "complete" | "failed" | "lost"))
    {
        let Some(held) = &alloc.allocated_resources else { continue };
        cpu += held.tasks.values().map(|task| task.cpu.cpu_shares).sum::<u64>();
        memory += held.tasks.values().map(|task| task.memory.memory_mb).sum::<u64>();
        disk += held.shared.disk_mb;
        count += 1;
    }
    let mib = |count: u64| format::mib(i64::try_from(count).unwrap_or(i64::MAX));
    let row = vec![
        format!("{cpu}/{} MHz", has.cpu),
        format!("{}/{}", mib(memory), format::mib(has.memory)),
        format!("{}/{}", mib(disk), format::mib(has.disk)),
        count.to_string(),
    ];
    format::table(&["CPU", "Memory", "Disk", "Alloc Count"], &[row])
}

fn host_utilization(node: &Node, stats: &HostStats) -> String {
    let cpu = node.node_resources.as_ref().map_or(0, |has| has.cpu.cpu_shares);
    let memory = stats.memory.clone().unwrap_or_default();
    let volume = node.attributes.get("unique.storage.volume").map(String::as_str).unwrap_or_default();
    let disk = stats.disk_stats.iter().find(|disk| disk.device == volume).or(stats.alloc_dir_stats.as_ref());
    let mut row = vec![
        format!("{:.0}/{cpu} MHz", stats.cpu_ticks_consumed),
        format!("{}/{}", format::bytes(memory.used), format::bytes(memory.total)),
    ];
    let mut header = vec!["CPU", "Memory"];
    if let Some(disk) = disk {
        header.push("Disk");
        row.push(format!("{}/{}", format::bytes(disk.used), format::bytes(disk.size)));
    }
    format::table(&header, &[row])
}

fn stats_sections(context: &Context, stats: &HostStats) {
    let cpu = |cpu: &sdk::types::HostCpuStats| {
        format::pairs(&[
            ("CPU", cpu.cpu.clone()),
            ("User", format!("{:.2}%", cpu.user)),
            ("System", format!("{:.2}%", cpu.system)),
            ("Idle", format!("{:.2}%", cpu.idle)),
        ])
    };
    context.console.section("CPU Stats", &stats.cpu.iter().map(cpu).collect::<Vec<_>>().join("\n\n"));
    let memory = stats.memory.clone().unwrap_or_default();
    let pairs = [
        ("Total", format::bytes(memory.total)),
        ("Available", format::bytes(memory.available)),
        ("Used", format::bytes(memory.used)),
        ("Free", format::bytes(memory.free)),
    ];
    context.console.section("Memory Stats", &format::pairs(&pairs));
    let disk = |disk: &HostDiskStats| {
        format::pairs(&[
            ("Device", disk.device.clone()),
            ("MountPoint", disk.mountpoint.clone()),
            ("Size", format::bytes(disk.size)),
            ("Used", format::bytes(disk.used)),
            ("Available", format::bytes(disk.available)),
            ("Used Percent", format!("{:.2}%", disk.used_percent)),
            ("Inodes Percent", format!("{:.2}%", disk.inodes_used_percent)),
        ])
    };
    context
        .console
        .section("Disk Stats", &stats.disk_stats.iter().map(disk).collect::<Vec<_>>().join("\n\n"));
}
