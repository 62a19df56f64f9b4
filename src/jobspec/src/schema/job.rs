//! The job itself and the blocks that stand directly in it.

use super::group::{GROUP, MIGRATE, RESCHEDULE, UPDATE};
use super::task::{SECRET, TASK, VAULT};
use super::{Block, Field, Kind, Width};

/// `job`.
pub static JOB: Block = Block::new(
    "Job",
    "What to run, where, and how often. A file has exactly one.",
    &[
        Field::new("region", "Region", Kind::String, "Region that runs it.").pointer().text("global"),
        Field::new("namespace", "Namespace", Kind::String, "Namespace that it belongs to.")
            .pointer()
            .text("default"),
        Field::new("id", "ID", Kind::String, "Identity, unique in a namespace; the block's label.")
            .hidden()
            .pointer()
            .text(""),
        Field::new("name", "Name", Kind::String, "Name for people.").pointer().computed("the job's id"),
        Field::new("type", "Type", Kind::String, "`service`, `batch`, `system` or `sysbatch`.")
            .pointer()
            .text("service"),
        Field::new(
            "priority",
            "Priority",
            Kind::Int,
            "Rank from 1 to 100; the higher goes first and may preempt.",
        )
        .pointer()
        .int(50),
        Field::new("all_at_once", "AllAtOnce", Kind::Bool, "Place all of a plan or nothing of it.")
            .pointer()
            .bool(false),
        Field::new(
            "datacenters",
            "Datacenters",
            Kind::Strings,
            "Datacenters that may run it; `*` matches any run of letters.",
        ),
        Field::new(
            "node_pool",
            "NodePool",
            Kind::String,
            "Node pool that may run it; the namespace's when unset.",
        )
        .pointer()
        .text(""),
        Field::new("constraint", "Constraints", Kind::Blocks(&CONSTRAINT), "What a node must be.")
            .shown_as("Constraint"),
        Field::new("affinity", "Affinities", Kind::Blocks(&AFFINITY), "What a node should rather be.")
            .shown_as("Affinity"),
        Field::new("group", "TaskGroups", Kind::Blocks(&GROUP), "Tasks that run together on one node."),
        Field::new("update", "Update", Kind::Block(&UPDATE), "How groups without their own `update` change.")
            .hidden(),
        Field::new("multiregion", "Multiregion", Kind::Block(&MULTIREGION), "Regions to run in."),
        Field::new("spread", "Spreads", Kind::Blocks(&SPREAD), "What to spread allocations over.")
            .shown_as("Spread"),
        Field::new("periodic", "Periodic", Kind::Block(&PERIODIC), "When to launch it (batch and sysbatch)."),
        Field::new(
            "parameterized",
            "ParameterizedJob",
            Kind::Block(&PARAMETERIZED),
            "What a dispatch brings along (batch and sysbatch).",
        ),
        Field::new(
            "reschedule",
            "Reschedule",
            Kind::Block(&RESCHEDULE),
            "Base of every group's `reschedule`.",
        )
        .submitted(),
        Field::new("migrate", "Migrate", Kind::Block(&MIGRATE), "Base of every group's `migrate`.")
            .submitted(),
        Field::new("meta", "Meta", Kind::StringMap, "Names and texts that tasks see as `NOMAD_META_*`.")
            .block_or_argument(),
        Field::new("ui", "UI", Kind::Block(&UI), "What the web page shows beside the job."),
        Field::new("", "Stop", Kind::Bool, "It is stopped.").pointer().bool(false),
        Field::new("", "ParentID", Kind::String, "The periodic or parameterized job that made it.")
            .pointer()
            .text(""),
        Field::new("", "Dispatched", Kind::Bool, "It came from a dispatch."),
        Field::new("", "DispatchIdempotencyToken", Kind::String, "Token of the dispatch that made it.")
            .hidden()
            .pointer(),
        Field::new("", "Payload", Kind::Bytes, "Payload of the dispatch that made it.").hidden(),
        Field::new("consul_namespace", "ConsulNamespace", Kind::String, "Consul namespace of its services.")
            .pointer()
            .text(""),
        Field::new("vault_namespace", "VaultNamespace", Kind::String, "Vault namespace of its secrets.")
            .pointer()
            .text(""),
        Field::new("", "NomadTokenID", Kind::String, "Token that submitted it.").hidden().pointer().text(""),
        Field::new("", "Status", Kind::String, "Set by the server.").hidden().pointer().text(""),
        Field::new("", "StatusDescription", Kind::String, "Set by the server.").hidden().pointer().text(""),
        Field::new("", "Stable", Kind::Bool, "This version was deployed with success.")
            .hidden()
            .pointer()
            .bool(false),
        Field::new("", "Version", Kind::Uint, "Set by the server.").hidden().pointer().int(0),
        Field::new("", "SubmitTime", Kind::Int, "Set by the server, in nanoseconds.").hidden().pointer(),
        Field::new("", "CreateIndex", Kind::Uint, "Set by the server.").hidden().pointer().int(0),
        Field::new("", "ModifyIndex", Kind::Uint, "Set by the server.").hidden().pointer().int(0),
        Field::new("", "JobModifyIndex", Kind::Uint, "Set by the server.").hidden().pointer().int(0),
        Field::new("", "VersionTag", Kind::Block(&VERSION_TAG), "Name that keeps this version.").hidden(),
        Field::new(
            "task",
            "",
            Kind::Blocks(&TASK),
            "A task on its own: it becomes a group of the same name.",
        ),
        Field::new("vault", "", Kind::Block(&VAULT), "Base of every task's `vault`."),
        Field::new("secret", "", Kind::Blocks(&SECRET), "Secrets for every task."),
    ],
);

static VERSION_TAG: Block = Block::new(
    "JobVersionTag",
    "Name that keeps a version of a job.",
    &[
        Field::new("", "Name", Kind::String, "The tag."),
        Field::new("", "Description", Kind::String, "Why it was tagged."),
        Field::new("", "TaggedTime", Kind::Int, "When it was tagged, in nanoseconds."),
    ],
);

/// `constraint`.
pub static CONSTRAINT: Block = Block::new(
    "Constraint",
    "A condition that a node must meet. Write `attribute`, `operator` and `value`, or one of the short forms.",
    &[
        Field::new("attribute", "LTarget", Kind::String, "What to look at, such as `${attr.kernel.name}`."),
        Field::new("value", "RTarget", Kind::String, "What to compare with."),
        Field::new("operator", "Operand", Kind::String, "`=`, `!=`, `>`, `>=`, `<`, `<=`, `regexp`, `version`, `semver`, `set_contains`, `set_contains_any`, `distinct_hosts`, `distinct_property`, `is_set`, `is_not_set`.").computed("`=`"),
        Field::new("version", "", Kind::String, "Short for the operator `version`."),
        Field::new("semver", "", Kind::String, "Short for the operator `semver`."),
        Field::new("regexp", "", Kind::String, "Short for the operator `regexp`."),
        Field::new("set_contains", "", Kind::String, "Short for the operator `set_contains`."),
        Field::new("set_contains_all", "", Kind::String, "Accepted and without effect here: use `operator`."),
        Field::new("set_contains_any", "", Kind::String, "Accepted and without effect here: use `operator`."),
        Field::new("distinct_hosts", "", Kind::Bool, "Each allocation on a node of its own."),
        Field::new("distinct_property", "", Kind::String, "At most `value` allocations for each value of this attribute."),
        Field::new("is_set", "", Kind::String, "Accepted and without effect here: use `operator`."),
        Field::new("is_not_set", "", Kind::String, "Accepted and without effect here: use `operator`."),
    ],
);

pub(super) static AFFINITY: Block = Block::new(
    "Affinity",
    "A wish about the node, with a weight.",
    &[
        Field::new("attribute", "LTarget", Kind::String, "What to look at."),
        Field::new("value", "RTarget", Kind::String, "What to compare with."),
        Field::new("operator", "Operand", Kind::String, "As in `constraint`, without the distinct ones.")
            .computed("`=`"),
        Field::new("weight", "Weight", Kind::Int, "From -100 (avoid) to 100 (prefer), not 0.")
            .width(Width::Int8)
            .pointer()
            .int(50),
        Field::new("version", "", Kind::String, "Short for the operator `version`."),
        Field::new("semver", "", Kind::String, "Short for the operator `semver`."),
        Field::new("regexp", "", Kind::String, "Short for the operator `regexp`."),
        Field::new("set_contains_any", "", Kind::String, "Short for the operator `set_contains_any`."),
        Field::new("set_contains_all", "", Kind::String, "Short for the operator `set_contains_all`."),
        Field::new("set_contains", "", Kind::String, "Short for the operator `set_contains`."),
    ],
);

pub(super) static SPREAD: Block = Block::new(
    "Spread",
    "Distributes allocations over the values of an attribute.",
    &[
        Field::new("attribute", "Attribute", Kind::String, "Attribute whose values to spread over."),
        Field::new("weight", "Weight", Kind::Int, "Importance beside other spreads, up to 100.")
            .width(Width::Int8)
            .pointer()
            .int(50),
        Field::new(
            "target",
            "SpreadTarget",
            Kind::Blocks(&SPREAD_TARGET),
            "Share of one value; evenly when there is none.",
        )
        .shown_as("SpreadTarget"),
    ],
);

static SPREAD_TARGET: Block = Block::new(
    "SpreadTarget",
    "The share of one value.",
    &[
        Field::new("value", "Value", Kind::String, "The value; the block's label.").label(),
        Field::new("percent", "Percent", Kind::Uint, "Its share, in percent.").width(Width::Uint8),
    ],
);

static PERIODIC: Block = Block::new(
    "PeriodicConfig",
    "Launches the job at given times.",
    &[
        Field::new("enabled", "Enabled", Kind::Bool, "Launch at all.").pointer().bool(true),
        Field::new("cron", "Spec", Kind::String, "One cron expression (old form of `crons`).")
            .pointer()
            .text(""),
        Field::new("crons", "Specs", Kind::Strings, "Cron expressions.").empty(),
        Field::new("", "SpecType", Kind::String, "Always `cron`.").pointer().text("cron"),
        Field::new(
            "prohibit_overlap",
            "ProhibitOverlap",
            Kind::Bool,
            "Skip a launch while the last one still runs.",
        )
        .pointer()
        .bool(false),
        Field::new("time_zone", "TimeZone", Kind::String, "Time zone of the expressions.")
            .pointer()
            .text("UTC"),
    ],
);

static PARAMETERIZED: Block = Block::new(
    "ParameterizedJobConfig",
    "Makes the job a template that is launched by dispatch.",
    &[
        Field::new("payload", "Payload", Kind::String, "`optional`, `required` or `forbidden`.")
            .computed("`optional`"),
        Field::new("meta_required", "MetaRequired", Kind::Strings, "Meta that a dispatch must bring."),
        Field::new("meta_optional", "MetaOptional", Kind::Strings, "Meta that a dispatch may bring."),
    ],
);

static MULTIREGION: Block = Block::new(
    "Multiregion",
    "Runs the job in several regions.",
    &[
        Field::new(
            "strategy",
            "Strategy",
            Kind::Block(&MULTIREGION_STRATEGY),
            "How the regions follow each other.",
        ),
        Field::new("region", "Regions", Kind::Blocks(&MULTIREGION_REGION), "One region.")
            .shown_as("Region")
            .empty(),
    ],
);

pub(crate) static MULTIREGION_STRATEGY: Block = Block::new(
    "MultiregionStrategy",
    "How the regions of a job follow each other.",
    &[
        Field::new(
            "max_parallel",
            "MaxParallel",
            Kind::Int,
            "Regions that deploy at the same time; 0 is all.",
        )
        .pointer()
        .int(0),
        Field::new("on_failure", "OnFailure", Kind::String, "`fail_all`, `fail_local` or empty.")
            .pointer()
            .text(""),
    ],
);

static MULTIREGION_REGION: Block = Block::new(
    "MultiregionRegion",
    "What differs in one region.",
    &[
        Field::new("name", "Name", Kind::String, "The region; the block's label.").label(),
        Field::new("count", "Count", Kind::Int, "Count of groups that set none.").pointer().int(1),
        Field::new("datacenters", "Datacenters", Kind::Strings, "Datacenters there.").empty(),
        Field::new("node_pool", "NodePool", Kind::String, "Node pool there."),
        Field::new("meta", "Meta", Kind::StringMap, "Meta there.").empty(),
    ],
);

static UI: Block = Block::new(
    "JobUIConfig",
    "What the web page shows beside the job.",
    &[
        Field::new("description", "Description", Kind::String, "Markdown, at most 1,000 characters."),
        Field::new("link", "Links", Kind::Blocks(&UI_LINK), "A link to somewhere else.").shown_as("Link"),
    ],
);

static UI_LINK: Block = Block::new(
    "JobUILink",
    "A link on the job's page.",
    &[
        Field::new("label", "Label", Kind::String, "Text of the link."),
        Field::new("url", "URL", Kind::String, "Where it leads."),
    ],
);
