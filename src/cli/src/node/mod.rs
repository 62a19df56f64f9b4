//! Commands about nodes.

mod change;
mod drain;
pub mod pool;
pub mod status;

use crate::{
    command::{Command, FILTER, JSON, PAGE_TOKEN, PER_PAGE, TEMPLATE, VERBOSE, YES, command},
    flags::{Kind, flag},
};

const SELF: crate::flags::Flag = flag("self", Kind::Bool, "The agent's own node.");
const NODE_ID: crate::flags::Flag = flag("node-id", Kind::Text, "The node; the agent's own unless set.");

/// The commands of this family.
pub const COMMANDS: &[Command] = &[
    command!(
        "node status"["node-status"],
        "[options] [<node>]",
        "Show a node, or list all of them.",
        &[
            flag("allocs", Kind::Bool, "With how many allocations run on each."),
            flag("os", Kind::Bool, "With the operating system."),
            flag("quiet", Kind::Bool, "Only ids."),
            flag("short", Kind::Bool, "Only what is most important."),
            flag("stats", Kind::Bool, "With what is in use in detail."),
            SELF,
            FILTER,
            PER_PAGE,
            PAGE_TOKEN,
            VERBOSE,
            JSON,
            TEMPLATE,
        ],
        status::run
    ),
    command!(
        "node eligibility",
        "[options] <node>",
        "Say whether a node takes new allocations.",
        &[flag("enable", Kind::Bool, "It does."), flag("disable", Kind::Bool, "It does not."), SELF,],
        change::eligibility
    ),
    command!(
        "node drain"["node-drain"],
        "[options] <node>",
        "Empty a node, or stop doing so.",
        &[
            flag("enable", Kind::Bool, "Empty it."),
            flag("disable", Kind::Bool, "Stop doing so."),
            flag("deadline", Kind::Duration, "Time that allocations have; an hour unless set."),
            flag("no-deadline", Kind::Bool, "Allocations have all the time that they need."),
            flag("force", Kind::Bool, "Stop everything at once."),
            flag("ignore-system", Kind::Bool, "Leave system jobs alone."),
            flag("keep-ineligible", Kind::Bool, "With -disable: take no new allocations."),
            flag("m", Kind::Text, "Why."),
            flag("meta", Kind::List, "More about it, key=value. May be given again and again."),
            flag("monitor", Kind::Bool, "Only follow a drain that goes on."),
            flag("detach", Kind::Bool, "Do not follow what happens."),
            SELF,
            YES,
        ],
        drain::run
    ),
    command!(
        "node meta read",
        "[options]",
        "Show a node's metadata.",
        &[NODE_ID, JSON, TEMPLATE],
        change::meta_read
    ),
    command!(
        "node meta apply",
        "[options] [<key>=<value>...]",
        "Change a node's metadata.",
        &[NODE_ID, flag("unset", Kind::Text, "Keys to remove, with commas between."),],
        change::meta_apply
    ),
    command!(
        "node config"["client-config"],
        "[options]",
        "Show or change a client agent's servers.",
        &[
            flag("servers", Kind::Bool, "List them."),
            flag("update-servers", Kind::Bool, "Set them to the arguments."),
        ],
        change::config
    ),
    command!("node purge", "[options] <node>", "Forget a node.", &[YES], change::purge),
    command!("node evaluate", "<node>", "Look at the jobs of a node again.", &[], change::evaluate),
];
