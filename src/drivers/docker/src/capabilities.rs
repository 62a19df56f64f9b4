//! Which Linux capabilities a container gets.

use std::collections::BTreeSet;

/// What an operator allows who says nothing.
pub const DEFAULT_ALLOWED: [&str; 13] = [
    "audit_write",
    "chown",
    "dac_override",
    "fowner",
    "fsetid",
    "kill",
    "mknod",
    "net_bind_service",
    "setfcap",
    "setgid",
    "setpcap",
    "setuid",
    "sys_chroot",
];

/// What the engine grants on its own: the above, and raw sockets.
const ENGINE_EXTRA: &str = "NET_RAW";

/// What the engine is told, relative to what it grants on its own.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Delta {
    pub add: Vec<String>,
    pub drop: Vec<String>,
}

/// Decides a container's capabilities: those of the engine that the operator allows, and those that the task adds,
/// without those that it drops.
///
/// # Errors
///
/// The names that the task adds and the operator does not allow.
pub fn decide(allowed: &[String], add: &[String], drop: &[String]) -> Result<Delta, String> {
    let allowed: BTreeSet<String> = allowed.iter().map(|name| plain(name)).collect();
    let all_allowed = allowed.contains("ALL");
    let engine: BTreeSet<String> =
        DEFAULT_ALLOWED.iter().map(|name| plain(name)).chain([ENGINE_EXTRA.to_owned()]).collect();
    let added: BTreeSet<String> = add.iter().map(|name| plain(name)).collect();
    let dropped: BTreeSet<String> = drop.iter().map(|name| plain(name)).collect();
    let refused: Vec<String> = added
        .iter()
        .filter(|name| !all_allowed && !allowed.contains(*name))
        .map(|n| n.to_lowercase())
        .collect();
    if !refused.is_empty() {
        return Err(format!("driver does not allow the following capabilities: {}", refused.join(", ")));
    }
    if dropped.contains("ALL") {
        return Ok(Delta { add: named(added.iter()), drop: vec!["ALL".to_owned()] });
    }
    let of_engine = engine.iter().filter(|name| all_allowed || allowed.contains(*name));
    let wanted: BTreeSet<String> =
        of_engine.chain(&added).filter(|name| !dropped.contains(*name)).cloned().collect();
    if wanted.contains("ALL") {
        return Ok(Delta { add: vec!["ALL".to_owned()], drop: named(dropped.iter()) });
    }
    Ok(Delta { add: named(wanted.difference(&engine)), drop: named(engine.difference(&wanted)) })
}

fn plain(name: &str) -> String {
    let upper = name.trim().to_ascii_uppercase();
    upper.strip_prefix("CAP_").map_or_else(|| upper.clone(), str::to_owned)
}

fn named<'a>(names: impl Iterator<Item = &'a String>) -> Vec<String> {
    names.map(|name| if name == "ALL" { name.clone() } else { format!("CAP_{name}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn by_default_only_raw_sockets_are_taken_away() {
        let delta = decide(&list(&DEFAULT_ALLOWED), &[], &[]).expect("nothing is asked for");
        assert_eq!(delta, Delta { add: vec![], drop: list(&["CAP_NET_RAW"]) });
    }

    #[test]
    fn what_is_not_allowed_is_refused_by_name() {
        let text =
            decide(&list(&DEFAULT_ALLOWED), &list(&["net_admin", "CAP_CHOWN"]), &[]).expect_err("refused");
        assert_eq!(text, "driver does not allow the following capabilities: net_admin");
        let text = decide(&list(&["chown"]), &list(&["all"]), &[]).expect_err("refused");
        assert!(text.contains("all"), "{text}");
    }

    #[test]
    fn adding_and_dropping_is_relative_to_the_engine() {
        let delta = decide(&list(&["all"]), &list(&["SYS_TIME"]), &list(&["chown"])).expect("allowed");
        assert_eq!(delta, Delta { add: list(&["CAP_SYS_TIME"]), drop: list(&["CAP_CHOWN"]) });
        let delta = decide(&list(&["all"]), &list(&["chown"]), &list(&["all"])).expect("allowed");
        assert_eq!(delta, Delta { add: list(&["CAP_CHOWN"]), drop: list(&["ALL"]) });
        let delta = decide(&list(&["all"]), &list(&["all"]), &list(&["kill"])).expect("allowed");
        assert_eq!(delta, Delta { add: list(&["ALL"]), drop: list(&["CAP_KILL"]) });
    }
}
