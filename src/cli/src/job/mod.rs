//! Commands about jobs.

mod actions;
mod change;
mod diff;
mod dispatch;
mod history;
mod init;
mod lists;
mod plan;
mod restart;
mod run;
pub mod status;
mod stop;

use crate::{
    command::{Command, DETACH, JSON, TEMPLATE, VERBOSE, YES, command},
    flags::{Flag, Kind, flag},
    jobfile::{JSON_INPUT, STRICT, VAR, VAR_FILE},
    ui::UI,
};

const VAULT_NAMESPACE: Flag =
    flag("vault-namespace", Kind::Text, "Namespace in Vault, instead of the job file's.");

/// Commands that show jobs.
pub const COMMANDS: &[Command] = &[
    Command {
        help_name: Some("status"),
        ..command!(
            "job status",
            "[options] [<job>]",
            "Show a job, or list all of them.",
            &[
                flag("short", Kind::Bool, "Only what is most important."),
                flag("evals", Kind::Bool, "With evaluations."),
                flag("all-allocs", Kind::Bool, "With allocations of earlier jobs of that name."),
                VERBOSE,
                JSON,
                TEMPLATE,
                UI,
            ],
            status::run
        )
    },
    command!(
        "job inspect"["inspect"],
        "[options] <job>",
        "Print a job as it is stored.",
        &[
            flag("version", Kind::Number, "This version of it."),
            flag("hcl", Kind::Bool, "Print the text that it came from."),
            flag("with-vars", Kind::Bool, "With the values of its variables."),
            JSON,
            TEMPLATE,
        ],
        lists::inspect
    ),
    command!(
        "job history",
        "[options] <job>",
        "List the versions of a job.",
        &[
            flag("p", Kind::Bool, "With what changed from version to version."),
            flag("full", Kind::Bool, "With the whole of each version."),
            flag("version", Kind::Text, "Only this version."),
            flag("diff-version", Kind::Number, "Compare all with this version."),
            flag("diff-tag", Kind::Text, "Compare all with the version of this name."),
            JSON,
            TEMPLATE,
        ],
        history::run
    ),
    command!(
        "job allocs",
        "[options] <job>",
        "List the allocations of a job.",
        &[flag("all", Kind::Bool, "With those of earlier jobs of that name."), VERBOSE, JSON, TEMPLATE,],
        lists::allocs
    ),
    command!(
        "job deployments",
        "[options] <job>",
        "List the deployments of a job.",
        &[
            flag("latest", Kind::Bool, "Only the latest, in full."),
            flag("all", Kind::Bool, "With those of earlier jobs of that name."),
            VERBOSE,
            JSON,
            TEMPLATE,
        ],
        lists::deployments
    ),
    command!(
        "job scaling-events",
        "[options] <job>",
        "List changes of a job's counts.",
        &[VERBOSE, JSON, TEMPLATE],
        lists::scaling_events
    ),
    command!(
        "job validate"["validate"],
        "[options] <path>",
        "Check a job file.",
        &[VAULT_NAMESPACE, JSON_INPUT, STRICT, VAR, VAR_FILE],
        run::validate
    ),
    command!(
        "job plan"["plan"],
        "[options] <path>",
        "Show what running a job file would change.",
        &[
            flag("diff", Kind::Bool, "Show what differs; true unless set."),
            flag("policy-override", Kind::Bool, "Override soft policies."),
            flag("json-output", Kind::Bool, "Print the answer as JSON."),
            TEMPLATE,
            VAULT_NAMESPACE,
            JSON_INPUT,
            STRICT,
            VAR,
            VAR_FILE,
            VERBOSE,
        ],
        plan::run
    ),
    command!(
        "job actions",
        "-job <job>",
        "List the actions that a job offers.",
        &[flag("job", Kind::Text, "The job."),],
        actions::list
    ),
];

/// Commands that change jobs.
pub const CHANGING: &[Command] = &[
    command!(
        "job init"["init"],
        "[options] [<file>]",
        "Write an example of a job file.",
        &[
            flag("short", Kind::Bool, "Without comments."),
            flag("connect", Kind::Bool, "Of services that speak through Consul's mesh."),
            flag(
                "template",
                Kind::Text,
                "From the item `template` of the variable nomad/job-templates/<name>."
            ),
            flag("list-templates", Kind::Bool, "Name the templates that there are."),
        ],
        init::run
    ),
    command!(
        "job run"["run"],
        "[options] <path>",
        "Run a job, or change it.",
        &[
            flag(
                "check-index",
                Kind::Number,
                "Only if the job has this modify index; 0 for a job that does not exist."
            ),
            flag("eval-priority", Kind::Number, "Priority of the evaluation."),
            flag("output", Kind::Bool, "Only print the job as JSON."),
            flag("policy-override", Kind::Bool, "Override soft policies."),
            flag("preserve-counts", Kind::Bool, "Keep the counts that the job has."),
            flag("preserve-resources", Kind::Bool, "Keep the resources that the job has."),
            flag("consul-namespace", Kind::Text, "Namespace in Consul, instead of the job file's."),
            VAULT_NAMESPACE,
            UI,
            DETACH,
            JSON_INPUT,
            STRICT,
            VAR,
            VAR_FILE,
            VERBOSE,
        ],
        run::run
    ),
    command!(
        "job stop"["stop"],
        "[options] <job>...",
        "Stop jobs.",
        &[
            flag("purge", Kind::Bool, "Forget them."),
            flag("global", Kind::Bool, "In all regions."),
            flag("eval-priority", Kind::Number, "Priority of the evaluation."),
            flag("no-shutdown-delay", Kind::Bool, "Without shutdown delays."),
            DETACH,
            YES,
            VERBOSE,
        ],
        stop::stop
    ),
    command!(
        "job start"["start"],
        "[options] <job>...",
        "Run stopped jobs again.",
        &[DETACH, VERBOSE],
        stop::start
    ),
    command!(
        "job restart",
        "[options] <job>",
        "Restart or replace the allocations of a job.",
        &[
            flag("all-tasks", Kind::Bool, "Tasks that ended, too."),
            flag("batch-size", Kind::Text, "How many at a time, a number or a percentage; 1 unless set."),
            flag("batch-wait", Kind::Text, "Time between batches, or `ask`."),
            flag("group", Kind::List, "Only this group. May be given again and again."),
            flag("task", Kind::List, "Only this task. May be given again and again."),
            flag("no-shutdown-delay", Kind::Bool, "Without shutdown delays."),
            flag("on-error", Kind::Text, "`fail` or `ask`."),
            flag("reschedule", Kind::Bool, "Replace allocations instead of restarting tasks."),
            YES,
            VERBOSE,
        ],
        restart::run
    ),
    command!(
        "job revert",
        "[options] <job> <version|tag>",
        "Go back to an earlier version.",
        &[
            flag("consul-token", Kind::Text, "Accepted and ignored."),
            flag("vault-token", Kind::Text, "Accepted and ignored."),
            DETACH,
            VERBOSE,
        ],
        change::revert
    ),
    command!(
        "job scale",
        "[options] <job> [<group>] <count>",
        "Change the count of a group.",
        &[flag("check-index", Kind::Number, "Only if the job has this modify index."), DETACH, VERBOSE,],
        change::scale
    ),
    command!(
        "job promote",
        "[options] <job>",
        "Take over the canaries of a job.",
        &[flag("group", Kind::List, "Only this group. May be given again and again."), DETACH, VERBOSE,],
        change::promote
    ),
    command!(
        "job eval",
        "[options] <job>",
        "Look at a job again.",
        &[flag("force-reschedule", Kind::Bool, "Reschedule failed allocations at once."), DETACH, VERBOSE,],
        change::eval
    ),
    command!(
        "job dispatch",
        "[options] <job> [<payload file>]",
        "Launch a parameterized job.",
        &[
            flag("meta", Kind::List, "A parameter, key=value. May be given again and again."),
            flag("id-prefix-template", Kind::Text, "Stands in the id of the launched job."),
            flag("idempotency-token", Kind::Text, "Makes a repeated dispatch harmless."),
            flag("priority", Kind::Number, "Priority of the launched job."),
            flag("wait", Kind::Bool, "Wait until the launched job is over; fails when something of it did."),
            flag("ui", Kind::Bool, "Open the web page of the launched job."),
            DETACH,
            VERBOSE,
        ],
        dispatch::dispatch
    ),
    command!(
        "job periodic force",
        "[options] <job>",
        "Launch a periodic job now.",
        &[DETACH, VERBOSE],
        dispatch::force
    ),
    command!(
        "job tag apply",
        "-name <tag> [options] <job>",
        "Name a version of a job.",
        &[
            flag("name", Kind::Text, "The name."),
            flag("description", Kind::Text, "What is said about it."),
            flag("version", Kind::Number, "The version; the latest unless set."),
        ],
        change::tag
    ),
    command!(
        "job tag unset",
        "-name <tag> <job>",
        "Take the name off a version.",
        &[flag("name", Kind::Text, "The name.")],
        change::untag
    ),
    command!(
        "job action"["action"],
        "-job <job> [options] <action>",
        "Run an action that a job offers.",
        &[
            flag("job", Kind::Text, "The job."),
            flag("group", Kind::Text, "The group."),
            flag("task", Kind::Text, "The task."),
            flag("allocation", Kind::Text, "The allocation."),
            flag("alloc", Kind::Text, "The same."),
            flag("i", Kind::Bool, "Pass standard input on; true unless set."),
            flag("t", Kind::Bool, "With a terminal; true unless set, when there is one."),
            flag("e", Kind::Text, "Character that begins an escape; `none` for none."),
        ],
        actions::run
    ),
];
