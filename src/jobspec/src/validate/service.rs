//! Rules of services and checks.

use super::Errors;
use crate::duration::format as duration;
use crate::object::{self, Object};

/// The shortest interval and timeout of a check.
const CHECK_TIME_MIN: i64 = 1_000_000_000;
/// The longest label in a name service.
const NAME_MAX: usize = 63;

/// Services of the group itself.
pub(super) fn check_group(group: &Object) -> Errors {
    let mut errors = Errors::default();
    for (index, service) in object::children(group, "Services").enumerate() {
        let heading = || format!("Service[{index}] {} validation failed", object::text(service, "Name"));
        errors.nest(heading, check(service));
    }
    errors
}

/// Services of one task.
pub(super) fn check_task(task: &Object, errors: &mut Errors) {
    for (index, service) in object::children(task, "Services").enumerate() {
        let name = object::text(service, "Name");
        errors.nest(|| format!("service[{index}] {name:?} validation failed"), check(service));
    }
}

/// Scripts run in a task, so a group's script checks must name one.
pub(super) fn check_scripts(group: &Object) -> Errors {
    let mut errors = Errors::default();
    let group_name = object::text(group, "Name");
    let has_task =
        |name: &str| object::children(group, "Tasks").any(|task| object::text(task, "Name") == name);
    for service in object::children(group, "Services") {
        let (name, service_task) = (object::text(service, "Name"), object::text(service, "TaskName"));
        for check in object::children(service, "Checks") {
            let is_script = matches!(object::text(check, "Type"), "script" | "grpc");
            let (check_name, check_task) = (object::text(check, "Name"), object::text(check, "TaskName"));
            let task = if check_task.is_empty() { service_task } else { check_task };
            if object::text(check, "Type") == "script" && task.is_empty() {
                errors.push(format!(
                    "Service [{group_name}]->{name} or Check {check_name} must specify task parameter"
                ));
            } else if is_script && !task.is_empty() && !has_task(task) {
                errors.push(format!("Check {check_name} invalid: refers to non-existent task {task}"));
            }
        }
    }
    errors
}

fn check(service: &Object) -> Errors {
    let mut errors = Errors::default();
    let name = object::text(service, "Name");
    errors.when(!is_dns_label(name), || {
        format!(
            "Service name must be valid per RFC 1123 and can contain only alphanumeric characters or dashes and must be \
             no longer than 63 characters: {name:?}"
        )
    });
    let mode = object::text(service, "AddressMode");
    errors.when(!matches!(mode, "" | "auto" | "host" | "driver" | "alloc" | "alloc_ipv6"), || {
        format!(
            r#"Service address_mode must be "auto", "host", "alloc", "alloc_ipv6" or "driver"; not {mode:?}"#
        )
    });
    let provider = object::text(service, "Provider");
    errors.when(!matches!(provider, "consul" | "nomad"), || {
        format!(r#"Service provider must be "consul", or "nomad"; not {provider:?}"#)
    });
    let on_update = object::text(service, "OnUpdate");
    errors.when(!matches!(on_update, "" | "require_healthy" | "ignore_warnings" | "ignore"), || {
        format!(r#"on_update must be "require_healthy", "ignore_warnings", or "ignore"; got {on_update:?}"#)
    });
    let native = provider == "nomad";
    for check in object::children(service, "Checks") {
        if let Some(error) = check_error(check, native) {
            errors.push(error);
        }
    }
    errors.when(native && object::child(service, "Connect").is_some(), || {
        "Service with provider nomad cannot include Connect blocks".into()
    });
    errors
}

/// The first thing that is wrong with a check.
fn check_error(check: &Object, native: bool) -> Option<String> {
    let kind = object::text(check, "Type").to_lowercase();
    let known: &[&str] = if native { &["tcp", "http"] } else { &["grpc", "http", "tcp", "script"] };
    if !known.contains(&kind.as_str()) {
        let shown = object::text(check, "Type");
        return Some(format!("invalid check type ({shown:?}), must be one of {}", known.join(", ")));
    }
    if kind == "http" && object::text(check, "Path").is_empty() {
        return Some("http type must have http path".into());
    }
    if kind == "script" && object::text(check, "Command").is_empty() {
        return Some("script type must have a valid script path".into());
    }
    let (interval, timeout) = (object::int(check, "Interval"), object::int(check, "Timeout"));
    let least = duration(CHECK_TIME_MIN);
    if timeout == 0 {
        return Some(format!("missing required value timeout. Timeout cannot be less than {least}"));
    }
    if timeout < CHECK_TIME_MIN {
        let timeout = duration(timeout);
        return Some(format!("timeout ({timeout}) is lower than required minimum timeout {least}"));
    }
    if interval == 0 {
        return Some(format!("missing required value interval. Interval cannot be less than {least}"));
    }
    if interval < CHECK_TIME_MIN {
        return Some(format!("interval ({}) cannot be lower than {least}", duration(interval)));
    }
    let status = object::text(check, "InitialStatus");
    if !matches!(status, "" | "passing" | "warning" | "critical") {
        return Some(format!(
            "invalid initial check state ({status}), must be one of passing, warning, critical or empty"
        ));
    }
    if object::child(check, "CheckRestart").is_some_and(|restart| object::int(restart, "Limit") < 0) {
        return Some("limit must be greater than or equal to zero".into());
    }
    None
}

/// Letters, digits and dashes, not at the ends. What is filled in on the node is taken as fitting.
fn is_dns_label(name: &str) -> bool {
    let mut plain = String::new();
    let mut rest = name;
    while let Some((before, after)) = rest.split_once("${") {
        plain.push_str(before);
        plain.push('x');
        rest = after.split_once('}').map_or("", |(_, after)| after);
    }
    plain.push_str(rest);
    let bytes = plain.as_bytes();
    let inner = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'-';
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    plain.len() <= NAME_MAX && bytes.iter().all(inner) && edge(bytes.first()) && edge(bytes.last())
}
