//! Commands about allocations.

mod change;
mod checks;
mod exec;
mod files;
mod logs;
pub mod status;

use crate::{
    command::{Command, DETACH, JSON, TEMPLATE, VERBOSE, command},
    flags::{Flag, Kind, flag},
};

const JOB: Flag = flag("job", Kind::Bool, "The first argument is a job: one of its allocations is picked.");
const GROUP: Flag = flag("group", Kind::Text, "With -job: the group of which one is picked.");
const TASK: Flag = flag("task", Kind::Text, "The task.");

/// The commands of this family.
pub const COMMANDS: &[Command] = &[
    command!(
        "alloc status"["alloc-status"],
        "[options] <allocation>",
        "Show an allocation.",
        &[
            flag("short", Kind::Bool, "Only what is most important."),
            flag("stats", Kind::Bool, "With what is in use in detail."),
            VERBOSE,
            JSON,
            TEMPLATE,
            crate::ui::UI,
        ],
        status::run
    ),
    command!(
        "alloc logs"["logs"],
        "[options] <allocation> [<task>]",
        "Print what a task wrote.",
        &[
            flag("stdout", Kind::Bool, "Standard output."),
            flag("stderr", Kind::Bool, "Standard error."),
            flag("f", Kind::Bool, "Go on as more is written."),
            flag("tail", Kind::Bool, "Only the end."),
            flag("n", Kind::Number, "With -tail: so many lines; 10 unless set."),
            flag("c", Kind::Number, "With -tail: so many bytes."),
            JOB,
            GROUP,
            TASK,
            VERBOSE,
        ],
        logs::run
    ),
    command!(
        "alloc fs"["fs"],
        "[options] <allocation> [<path>]",
        "Look at files of an allocation.",
        &[
            flag("H", Kind::Bool, "Sizes in bytes."),
            flag("stat", Kind::Bool, "Only what is known of the file."),
            flag("f", Kind::Bool, "Go on as more is written."),
            flag("tail", Kind::Bool, "Only the end."),
            flag("n", Kind::Number, "With -tail: so many lines; 10 unless set."),
            flag("c", Kind::Number, "With -tail: so many bytes."),
            JOB,
            GROUP,
            VERBOSE,
        ],
        files::run
    ),
    command!(
        "alloc exec"["exec"],
        "[options] <allocation> <command> [<argument>...]",
        "Run a command in a task.",
        &[
            flag("i", Kind::Bool, "Pass standard input on; true unless set."),
            flag("t", Kind::Bool, "With a terminal; true unless set, when there is one."),
            flag(
                "e",
                Kind::Text,
                "Character that begins an escape, at the beginning of a line; ~ unless set, `none` for none."
            ),
            JOB,
            GROUP,
            TASK,
        ],
        exec::run
    ),
    command!(
        "alloc stop",
        "[options] <allocation>",
        "Stop an allocation; another takes its place.",
        &[flag("no-shutdown-delay", Kind::Bool, "Without its shutdown delay."), DETACH, VERBOSE,],
        change::stop
    ),
    command!(
        "alloc restart",
        "[options] <allocation> [<task>]",
        "Restart the tasks of an allocation.",
        &[flag("all-tasks", Kind::Bool, "Tasks that ended, too."), TASK, VERBOSE,],
        change::restart
    ),
    command!(
        "alloc signal",
        "[options] <allocation> [<task>]",
        "Send a signal to tasks.",
        &[flag("s", Kind::Text, "The signal; SIGKILL unless set."), TASK, VERBOSE,],
        change::signal
    ),
    command!(
        "alloc checks",
        "[options] <allocation>",
        "Show the results of health checks.",
        &[VERBOSE, JSON, TEMPLATE],
        checks::run
    ),
    command!(
        "alloc gc",
        "<allocation>",
        "Remove what an allocation that ended left on its node.",
        &[VERBOSE],
        change::collect
    ),
];
