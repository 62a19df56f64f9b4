//! The task group and what shapes its life.

use super::job::{AFFINITY, CONSTRAINT, SPREAD};
use super::service::{CONSUL, SERVICE};
use super::task::{SECRET, TASK, VAULT};
use super::{Block, Field, Kind, Width};

pub(super) static GROUP: Block = Block::new(
    "TaskGroup",
    "Tasks that are placed together: one allocation on one node.",
    &[
        Field::new("name", "Name", Kind::String, "Name, unique in the job; the block's label.")
            .hidden()
            .pointer()
            .text("")
            .label(),
        Field::new("count", "Count", Kind::Int, "How many allocations.")
            .pointer()
            .computed("`scaling.min`, else 1"),
        Field::new("constraint", "Constraints", Kind::Blocks(&CONSTRAINT), "What a node must be.")
            .shown_as("Constraint"),
        Field::new("affinity", "Affinities", Kind::Blocks(&AFFINITY), "What a node should rather be.")
            .shown_as("Affinity"),
        Field::new("task", "Tasks", Kind::Blocks(&TASK), "One process or container."),
        Field::new("spread", "Spreads", Kind::Blocks(&SPREAD), "What to spread allocations over.")
            .shown_as("Spread"),
        Field::new("volume", "Volumes", Kind::BlockMap(&VOLUME), "A volume that tasks may mount.")
            .shown_as("Volume"),
        Field::new(
            "restart",
            "RestartPolicy",
            Kind::Block(&RESTART),
            "Restarts of a failed task on its node.",
        ),
        Field::new(
            "disconnect",
            "Disconnect",
            Kind::Block(&DISCONNECT),
            "What happens when the node is out of reach.",
        ),
        Field::new(
            "reschedule",
            "ReschedulePolicy",
            Kind::Block(&RESCHEDULE),
            "Replacement on another node.",
        ),
        Field::new("ephemeral_disk", "EphemeralDisk", Kind::Block(&EPHEMERAL_DISK), "The allocation's disk."),
        Field::new("update", "Update", Kind::Block(&UPDATE), "How a new version replaces the old one."),
        Field::new("migrate", "Migrate", Kind::Block(&MIGRATE), "How a drained node is left (service)."),
        Field::new(
            "network",
            "Networks",
            Kind::Blocks(&NETWORK),
            "Mode, ports and name service; at most one.",
        )
        .shown_as("Network"),
        Field::new("meta", "Meta", Kind::StringMap, "Names and texts, over the job's.").block_or_argument(),
        Field::new("service", "Services", Kind::Blocks(&SERVICE), "What to announce, and its checks.")
            .shown_as("Service"),
        Field::new(
            "shutdown_delay",
            "ShutdownDelay",
            Kind::Duration,
            "Wait between leaving the service catalogue and stopping.",
        )
        .nullable(),
        Field::new("max_run_duration", "MaxRunDuration", Kind::Duration, "Longest run (batch and sysbatch).")
            .nullable(),
        Field::new(
            "stop_after_client_disconnect",
            "StopAfterClientDisconnect",
            Kind::Duration,
            "Old form of `disconnect.stop_on_client_after`.",
        )
        .nullable(),
        Field::new(
            "max_client_disconnect",
            "MaxClientDisconnect",
            Kind::Duration,
            "Old form of `disconnect.lost_after`.",
        )
        .nullable(),
        Field::new(
            "scaling",
            "Scaling",
            Kind::Block(&SCALING),
            "Bounds of the count, and the policy of an autoscaler.",
        ),
        Field::new("consul", "Consul", Kind::Block(&CONSUL), "Consul cluster and namespace of its services."),
        Field::new(
            "prevent_reschedule_on_lost",
            "PreventRescheduleOnLost",
            Kind::Bool,
            "Old form of `disconnect.replace = false`.",
        )
        .pointer(),
        Field::new("vault", "", Kind::Block(&VAULT), "Base of every task's `vault`."),
        Field::new("secret", "", Kind::Blocks(&SECRET), "Secrets for every task."),
    ],
);

pub(crate) static RESTART: Block = Block::new(
    "RestartPolicy",
    "Restarts of a failed task on the same node.",
    &[
        Field::new("interval", "Interval", Kind::Duration, "Window in which restarts are counted.")
            .pointer()
            .computed("service and system 30m, batch and sysbatch 24h"),
        Field::new("attempts", "Attempts", Kind::Int, "Restarts within the window.")
            .pointer()
            .computed("service and system 2, batch and sysbatch 3"),
        Field::new(
            "delay",
            "Delay",
            Kind::Duration,
            "Wait before a restart; up to a quarter is added by chance.",
        )
        .pointer()
        .computed("15s"),
        Field::new(
            "mode",
            "Mode",
            Kind::String,
            "After the last attempt: `fail`, or `delay` until the window ends.",
        )
        .pointer()
        .computed("`fail`"),
        Field::new(
            "render_templates",
            "RenderTemplates",
            Kind::Bool,
            "Render templates again before a restart.",
        )
        .pointer()
        .computed("false"),
    ],
);

pub(crate) static RESCHEDULE: Block = Block::new(
    "ReschedulePolicy",
    "Replacement of a failed allocation on another node.",
    &[
        Field::new("attempts", "Attempts", Kind::Int, "Replacements within the interval.")
            .pointer()
            .computed("batch 1, service 0 with `unlimited`"),
        Field::new("interval", "Interval", Kind::Duration, "Window in which replacements are counted.")
            .pointer()
            .computed("batch 24h, service 0"),
        Field::new("delay", "Delay", Kind::Duration, "Wait before the first replacement, at least 5s.")
            .pointer()
            .computed("batch 5s, service 30s"),
        Field::new(
            "delay_function",
            "DelayFunction",
            Kind::String,
            "How the wait grows: `constant`, `exponential` or `fibonacci`.",
        )
        .pointer()
        .computed("batch `constant`, service `exponential`"),
        Field::new("max_delay", "MaxDelay", Kind::Duration, "Longest wait.")
            .pointer()
            .computed("batch 0, service 1h"),
        Field::new("unlimited", "Unlimited", Kind::Bool, "Replace for ever.")
            .pointer()
            .computed("batch false, service true"),
    ],
);

pub(crate) static UPDATE: Block = Block::new(
    "UpdateStrategy",
    "How a new version replaces the old one.",
    &[
        Field::new("stagger", "Stagger", Kind::Duration, "Wait between two rounds of migrations.")
            .hidden()
            .pointer()
            .seconds(30),
        Field::new(
            "max_parallel",
            "MaxParallel",
            Kind::Int,
            "Allocations that change at the same time; 0 is all at once, without a deployment.",
        )
        .pointer()
        .int(1),
        Field::new("health_check", "HealthCheck", Kind::String, "`checks`, `task_states` or `manual`.")
            .pointer()
            .text("checks"),
        Field::new(
            "min_healthy_time",
            "MinHealthyTime",
            Kind::Duration,
            "How long it must be healthy to count.",
        )
        .pointer()
        .seconds(10),
        Field::new("healthy_deadline", "HealthyDeadline", Kind::Duration, "By when it must be healthy.")
            .pointer()
            .seconds(300),
        Field::new(
            "progress_deadline",
            "ProgressDeadline",
            Kind::Duration,
            "By when the next one must be healthy; 0 fails at the first unhealthy one.",
        )
        .pointer()
        .seconds(600),
        Field::new(
            "canary",
            "Canary",
            Kind::Int,
            "Allocations of the new version that run beside the old one until promotion.",
        )
        .pointer()
        .int(0),
        Field::new("auto_revert", "AutoRevert", Kind::Bool, "Go back to the last stable version on failure.")
            .pointer()
            .bool(false),
        Field::new("auto_promote", "AutoPromote", Kind::Bool, "Promote when all canaries are healthy.")
            .pointer()
            .bool(false),
    ],
);

pub(crate) static MIGRATE: Block = Block::new(
    "MigrateStrategy",
    "How allocations leave a node that is drained (service).",
    &[
        Field::new("max_parallel", "MaxParallel", Kind::Int, "Allocations that move at the same time.")
            .pointer()
            .int(1),
        Field::new("health_check", "HealthCheck", Kind::String, "`checks` or `task_states`.")
            .pointer()
            .text("checks"),
        Field::new(
            "min_healthy_time",
            "MinHealthyTime",
            Kind::Duration,
            "How long it must be healthy to count.",
        )
        .pointer()
        .seconds(10),
        Field::new("healthy_deadline", "HealthyDeadline", Kind::Duration, "By when it must be healthy.")
            .pointer()
            .seconds(300),
    ],
);

static DISCONNECT: Block = Block::new(
    "DisconnectStrategy",
    "What happens to allocations on a node that is out of reach.",
    &[
        Field::new("lost_after", "LostAfter", Kind::Duration, "How long to keep them as unknown before they count as lost.").pointer(),
        Field::new("stop_on_client_after", "StopOnClientAfter", Kind::Duration, "The node itself stops them after this time.").nullable(),
        Field::new("replace", "Replace", Kind::Bool, "Start a replacement meanwhile.").nullable().bool(true),
        Field::new("reconcile", "Reconcile", Kind::String, "Which one stays when the node is back: `best_score`, `keep_original`, `keep_replacement` or `longest_running`.").pointer().text("best_score"),
    ],
);

pub(crate) static EPHEMERAL_DISK: Block = Block::new(
    "EphemeralDisk",
    "The disk that an allocation's tasks share.",
    &[
        Field::new(
            "sticky",
            "Sticky",
            Kind::Bool,
            "Try to place the next version on the same node and keep the data.",
        )
        .pointer()
        .bool(false),
        Field::new("size", "SizeMB", Kind::Int, "Size in MB.").pointer().int(300),
        Field::new("migrate", "Migrate", Kind::Bool, "Copy the data when the node changes.")
            .pointer()
            .bool(false),
    ],
);

pub(super) static NETWORK: Block = Block::new(
    "NetworkResource",
    "The network that an allocation's tasks share.",
    &[
        Field::new("mode", "Mode", Kind::String, "`host`, `bridge`, `none` or `cni/<name>`."),
        Field::new("device", "Device", Kind::String, "Set by the node.").hidden(),
        Field::new("cidr", "CIDR", Kind::String, "Set by the node.").hidden(),
        Field::new("ip", "IP", Kind::String, "Set by the node.").hidden(),
        Field::new("dns", "DNS", Kind::Block(&DNS), "Name service inside the network."),
        Field::new(
            "reserved_ports",
            "ReservedPorts",
            Kind::Blocks(&PORT),
            "Ports with a fixed number; those of `port` with `static` take their place.",
        )
        .shown_as("Static Port"),
        Field::new("port", "DynamicPorts", Kind::Blocks(&PORT), "A port, by label.").shown_as("Dynamic Port"),
        Field::new("hostname", "Hostname", Kind::String, "Host name inside the network."),
        Field::new("mbits", "MBits", Kind::Int, "Without effect.").hidden().pointer(),
        Field::new("cni", "CNI", Kind::Block(&CNI), "What a CNI plugin is given."),
    ],
)
.omitting_empty();

static PORT: Block = Block::new(
    "Port",
    "A port that tasks reach as `NOMAD_PORT_<label>`.",
    &[
        Field::new("name", "Label", Kind::String, "Name of the port; the block's label.").label(),
        Field::new("static", "Value", Kind::Int, "Fixed number on the node; chosen when unset.")
            .shown_when_present(),
        Field::new("to", "To", Kind::Int, "Port inside the network; -1 is the same as outside."),
        Field::new("host_network", "HostNetwork", Kind::String, "Which of the node's networks.")
            .computed("`default`"),
        Field::new(
            "ignore_collision",
            "IgnoreCollision",
            Kind::Bool,
            "Allow others on the same fixed number.",
        )
        .shown_when_present(),
    ],
)
.omitting_empty();

static DNS: Block = Block::new(
    "DNSConfig",
    "Name service inside the network.",
    &[
        Field::new("servers", "Servers", Kind::Strings, "Name servers."),
        Field::new("searches", "Searches", Kind::Strings, "Search domains."),
        Field::new("options", "Options", Kind::Strings, "Resolver options."),
    ],
);

static CNI: Block = Block::new(
    "CNIConfig",
    "What a CNI plugin is given.",
    &[Field::new("args", "Args", Kind::StringMap, "Names and texts for `CNI_ARGS`.").argument()],
);

static VOLUME: Block = Block::new(
    "VolumeRequest",
    "A volume that the group's tasks may mount.",
    &[
        Field::new("name", "Name", Kind::String, "Name for `volume_mount`; the block's label.").label(),
        Field::new("type", "Type", Kind::String, "`host` or `csi`."),
        Field::new("source", "Source", Kind::String, "Which volume."),
        Field::new("read_only", "ReadOnly", Kind::Bool, "Nobody may write."),
        Field::new(
            "sticky",
            "Sticky",
            Kind::Bool,
            "Later allocations get the same volume (dynamic host volumes).",
        ),
        Field::new(
            "access_mode",
            "AccessMode",
            Kind::String,
            "Who may use it at the same time, such as `single-node-writer`.",
        ),
        Field::new("attachment_mode", "AttachmentMode", Kind::String, "`file-system` or `block-device`."),
        Field::new("mount_options", "MountOptions", Kind::Block(&MOUNT_OPTIONS), "How to mount it (csi)."),
        Field::new(
            "per_alloc",
            "PerAlloc",
            Kind::Bool,
            "Each allocation has a volume of its own: `source[index]`.",
        ),
    ],
);

static MOUNT_OPTIONS: Block = Block::new(
    "CSIMountOptions",
    "How to mount a CSI volume.",
    &[
        Field::new("fs_type", "FSType", Kind::String, "File system."),
        Field::new("mount_flags", "MountFlags", Kind::Strings, "Flags of the mount."),
    ],
);

pub(super) static SCALING: Block = Block::new(
    "ScalingPolicy",
    "Bounds for scaling, and the policy of an autoscaler.",
    &[
        Field::new("", "ID", Kind::String, "Set by the server.").hidden(),
        Field::new("", "Namespace", Kind::String, "Namespace of the job.").submitted(),
        Field::new("type", "Type", Kind::String, "`horizontal` for a group.")
            .computed("`horizontal` in a group"),
        Field::new("", "Target", Kind::StringMap, "What is scaled.").hidden(),
        Field::new("policy", "Policy", Kind::Free, "For the autoscaler."),
        Field::new("min", "Min", Kind::Int, "Smallest count.")
            .width(Width::Int64)
            .pointer()
            .computed("the group's `count`"),
        Field::new("max", "Max", Kind::Int, "Largest count.").width(Width::Int64).pointer(),
        Field::new("enabled", "Enabled", Kind::Bool, "The autoscaler may act.").pointer().computed("true"),
        Field::new("", "CreateIndex", Kind::Uint, "Set by the server.").hidden(),
        Field::new("", "ModifyIndex", Kind::Uint, "Set by the server.").hidden(),
    ],
);
