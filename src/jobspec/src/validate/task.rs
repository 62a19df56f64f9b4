//! Rules of a task.

use super::{Errors, Seen, rules, service};
use crate::duration::format as duration;
use crate::object::{self, Object};
use serde_json::Value;

const CPU_MIN: i64 = 1;
const MEMORY_MIN: i64 = 10;
const IDENTITY_NAME_MAX: usize = 128;

pub(super) fn check(task: &Object, group: &Object, kind: &str) -> Errors {
    let mut errors = Errors::default();
    let name = object::text(task, "Name");
    errors.when(name.is_empty(), || "Missing task name".into());
    errors.when(name.contains(['/', '\\']), || "Task name cannot include slashes".into());
    errors.when(name.contains('\0'), || "Task name cannot include null characters".into());
    errors
        .when(name == "alloc", || "Task name cannot be \"alloc\": the allocation's directory has it".into());
    errors.when(object::text(task, "Driver").is_empty(), || "Missing task driver".into());
    let kill_timeout = object::int(task, "KillTimeout");
    errors.when(kill_timeout < 0, || "KillTimeout must be a positive value".into());
    let progress = object::child(group, "Update").map_or(0, |update| object::int(update, "ProgressDeadline"));
    errors.when(progress > 0 && kill_timeout > progress, || {
        let (timeout, progress) = (duration(kill_timeout), duration(progress));
        format!(
            "Task {name} has a kill timout ({timeout}) longer than the group's progress deadline ({progress})"
        )
    });
    errors.when(object::int(task, "ShutdownDelay") < 0, || "ShutdownDelay must be a positive value".into());
    match object::child(task, "Resources") {
        Some(resources) => errors.group(check_resources(resources)),
        None => errors.push("Missing task resources"),
    }
    match object::child(task, "LogConfig") {
        Some(logs) => check_logs(logs, group, &mut errors),
        None => errors.push("Missing Log Config"),
    }
    check_constraints(task, &mut errors);
    rules::affinities(task, kind, &mut errors);
    service::check_task(task, &mut errors);
    check_vault(task, &mut errors);
    check_templates(task, &mut errors);
    for (index, artifact) in object::children(task, "Artifacts").enumerate() {
        errors.nest(|| format!("Artifact {} validation failed", index + 1), check_artifact(artifact));
    }
    check_lifecycle(task, &mut errors);
    check_mounts(task, group, &mut errors);
    check_plugin(task, &mut errors);
    check_identities(task, &mut errors);
    errors
}

fn check_resources(resources: &Object) -> Errors {
    let mut errors = Errors::default();
    let number = |key| object::int(resources, key);
    let (cpu, cores, memory, memory_max) =
        (number("CPU"), number("Cores"), number("MemoryMB"), number("MemoryMaxMB"));
    let mut least = Errors::default();
    least.when(cores > 0 && cpu > 0, || "Task can only ask for 'cpu' or 'cores' resource, not both.".into());
    least.when(cores <= 0 && cpu < CPU_MIN, || format!("minimum CPU value is {CPU_MIN}; got {cpu}"));
    least.when(memory < MEMORY_MIN, || format!("minimum MemoryMB value is {MEMORY_MIN}; got {memory}"));
    errors.group(least);
    errors.when(cores < 0, || format!("Cores must not be negative; got {cores}"));
    for (index, device) in object::children(resources, "Devices").enumerate() {
        errors.nest(|| format!("device {} failed validation", index + 1), check_device(device));
    }
    let affinity = object::child(resources, "NUMA").map_or("none", |numa| object::text(numa, "Affinity"));
    errors.when(!matches!(affinity, "" | "none" | "prefer" | "require"), || {
        format!("numa affinity must be one of none, prefer, or require; got {affinity:?}")
    });
    errors.when(memory_max > 0 && memory_max < memory, || {
        format!("MemoryMaxMB value ({memory_max}) should be larger than MemoryMB value ({memory})")
    });
    errors
}

fn check_device(device: &Object) -> Errors {
    let mut errors = Errors::default();
    let parts = object::text(device, "Name").split('/').collect::<Vec<_>>();
    errors.when(parts.iter().any(|part| part.is_empty()), || {
        "device name must be given as one of the following: type, vendor/type, or vendor/type/name".into()
    });
    rules::constraints(device, &mut errors);
    rules::affinities(device, "", &mut errors);
    errors
}

fn check_logs(logs: &Object, group: &Object, errors: &mut Errors) {
    if object::truth(logs, "Disabled") {
        return;
    }
    let (files, size) = (object::int(logs, "MaxFiles"), object::int(logs, "MaxFileSizeMB"));
    let mut part = Errors::default();
    part.when(files < 1, || format!("minimum number of files is 1; got {files}"));
    part.when(size < 1, || format!("minimum file size is 1MB; got {size}"));
    errors.group(part);
    if let Some(disk) = object::child(group, "EphemeralDisk") {
        let (usage, room) = (files.saturating_mul(size), object::int(disk, "SizeMB"));
        errors.when(room <= usage, || {
            format!("log storage ({usage} MB) must be less than requested disk capacity ({room} MB)")
        });
    }
}

fn check_constraints(task: &Object, errors: &mut Errors) {
    for (index, constraint) in object::children(task, "Constraints").enumerate() {
        let operand = object::text(constraint, "Operand");
        errors.nest(
            || format!("Constraint {} validation failed", index + 1),
            rules::check_constraint(constraint),
        );
        errors.when(matches!(operand, "distinct_hosts" | "distinct_property"), || {
            format!("Constraint {} has disallowed Operand at task level: {operand}", index + 1)
        });
    }
}

fn check_vault(task: &Object, errors: &mut Errors) {
    let Some(vault) = object::child(task, "Vault") else { return };
    let mut part = Errors::default();
    match object::text(vault, "ChangeMode") {
        "noop" | "restart" => {}
        "signal" => part.when(object::text(vault, "ChangeSignal").is_empty(), || {
            r#"Signal must be specified when using change mode "signal""#.into()
        }),
        other => part.push(format!("Unknown change mode {other:?}")),
    }
    part.when(object::texts(vault, "Policies").any(|policy| policy == "root"), || {
        r#"Can not specify "root" policy"#.into()
    });
    errors.nest(|| "Vault validation failed".into(), part);
}

fn check_templates(task: &Object, errors: &mut Errors) {
    let mut seen = Seen::default();
    for (index, template) in object::children(task, "Templates").enumerate() {
        errors.nest(|| format!("Template {} validation failed", index + 1), check_template(template));
        let destination = object::text(template, "DestPath");
        if let Some(first) = seen.first(destination, index) {
            errors.push(format!("Template {} has same destination as {}", index + 1, first + 1));
        }
    }
}

fn check_template(template: &Object) -> Errors {
    let mut errors = Errors::default();
    let text = |key| object::text(template, key);
    errors.when(text("SourcePath").is_empty() && text("EmbeddedTmpl").is_empty(), || {
        "Must specify a source path or have an embedded template".into()
    });
    errors.when(text("DestPath").is_empty(), || "Must specify a destination for the template".into());
    errors.when(rules::escapes_allocation(text("DestPath")), || {
        "destination escapes allocation directory".into()
    });
    match text("ChangeMode") {
        "noop" | "restart" => {}
        "signal" => {
            errors.when(text("ChangeSignal").is_empty(), || {
                "Must specify signal value when change mode is signal".into()
            });
            errors.when(object::truth(template, "Envvars"), || {
                "cannot use signals with env var templates".into()
            });
        }
        "script" => match object::child(template, "ChangeScript") {
            None => errors.push("must specify change script configuration value when change mode is script"),
            Some(script) => errors.when(object::text(script, "Command").is_empty(), || {
                "must specify script path value when change mode is script".into()
            }),
        },
        _ => errors.push("Invalid change mode. Must be one of the following: noop, signal, script, restart"),
    }
    errors.when(object::int(template, "Splay") < 0, || "Must specify positive splay value".into());
    let perms = text("Perms");
    errors.when(!perms.is_empty() && u32::from_str_radix(perms, 8).is_err(), || {
        format!("Failed to parse {perms:?} as octal: strconv.ParseUint: parsing {perms:?}: invalid syntax")
    });
    if let Some(wait) = object::child(template, "Wait") {
        let limit = |key| wait.get(key).and_then(Value::as_i64);
        if let (Some(min), Some(max)) = (limit("Min"), limit("Max")) {
            errors.when(min > max, || {
                format!("template wait min {} must be less than max {}", duration(min), duration(max))
            });
        }
    }
    errors
}

fn check_artifact(artifact: &Object) -> Errors {
    let mut errors = Errors::default();
    errors.when(object::text(artifact, "GetterSource").is_empty(), || "source must be specified".into());
    let mode = object::text(artifact, "GetterMode");
    errors.when(!matches!(mode, "" | "any" | "file" | "dir"), || {
        format!("invalid artifact mode {mode:?}; must be one of: any, file, dir")
    });
    errors.when(rules::escapes_allocation(object::text(artifact, "RelativeDest")), || {
        "destination escapes allocation directory".into()
    });
    let checksum =
        object::child(artifact, "GetterOptions").map_or("", |options| object::text(options, "checksum"));
    if let Err(error) = check_checksum(checksum) {
        errors.push(error);
    }
    errors
}

fn check_checksum(checksum: &str) -> Result<(), String> {
    let checksum = checksum.trim();
    if checksum.is_empty() || checksum.contains("${") {
        return Ok(());
    }
    let Some((kind, value)) = checksum.split_once(':') else {
        return Err(format!("checksum must be given as \"type:value\"; got {checksum:?}"));
    };
    let length = match kind {
        "md5" => 16,
        "sha1" => 20,
        "sha256" => 32,
        "sha512" => 64,
        "file" => return Ok(()),
        other => return Err(format!("unsupported checksum type: {other:?}")),
    };
    if let Some(bad) = value.chars().find(|c| !c.is_ascii_hexdigit()) {
        return Err(format!("invalid checksum: encoding/hex: invalid byte: U+{:04X} '{bad}'", bad as u32));
    }
    if value.len() % 2 == 1 {
        return Err("invalid checksum: encoding/hex: odd length hex string".into());
    }
    if value.len() / 2 != length {
        return Err(format!("invalid {kind} checksum: {checksum}"));
    }
    Ok(())
}

fn check_lifecycle(task: &Object, errors: &mut Errors) {
    let Some(lifecycle) = object::child(task, "Lifecycle") else { return };
    match object::text(lifecycle, "Hook") {
        "prestart" | "poststart" | "poststop" => {}
        "" => errors.push("Lifecycle validation failed: no lifecycle hook provided"),
        other => errors.push(format!("Lifecycle validation failed: invalid hook: {other}")),
    }
}

fn check_mounts(task: &Object, group: &Object, errors: &mut Errors) {
    let volumes = object::child(group, "Volumes");
    for (index, mount) in object::children(task, "VolumeMounts").enumerate() {
        let name = object::text(mount, "Volume");
        let known = volumes.is_some_and(|volumes| volumes.contains_key(name));
        if name.is_empty() {
            errors.push(format!("Volume Mount ({index}) references an empty volume"));
        } else if !known {
            errors.push(format!("Volume Mount ({index}) references undefined volume {name}"));
        }
        let mode = object::text(mount, "PropagationMode");
        errors.when(!matches!(mode, "" | "private" | "host-to-task" | "bidirectional"), || {
            format!("Volume Mount ({index}) has an invalid propagation mode: {mode:?}")
        });
    }
}

fn check_plugin(task: &Object, errors: &mut Errors) {
    let Some(plugin) = object::child(task, "CSIPluginConfig") else { return };
    let kind = object::text(plugin, "Type");
    errors.when(object::text(plugin, "ID").is_empty(), || {
        "CSIPluginConfig must have a non-empty PluginID".into()
    });
    errors.when(!matches!(kind, "node" | "controller" | "monolith"), || {
        format!(
            "CSIPluginConfig PluginType must be one of 'node', 'controller', or 'monolith', got: \"{kind}\""
        )
    });
}

fn check_identities(task: &Object, errors: &mut Errors) {
    let all = object::child(task, "Identity").into_iter().chain(object::children(task, "Identities"));
    for identity in all {
        let name = object::text(identity, "Name");
        let mut part = Errors::default();
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        part.when(name.is_empty() || name.len() > IDENTITY_NAME_MAX || !name.chars().all(plain), || {
            format!("invalid name {name:?}. Must match regex ^[a-zA-Z0-9-_]{{1,{IDENTITY_NAME_MAX}}}$")
        });
        part.when(object::int(identity, "TTL") < 0, || "ttl must be >= 0".into());
        match object::text(identity, "ChangeMode") {
            "" | "noop" | "restart" => {}
            "signal" => part.when(object::text(identity, "ChangeSignal").is_empty(), || {
                "change_signal must be specified when using change_mode=signal".into()
            }),
            other => part.push(format!("invalid change_mode {other:?}")),
        }
        errors.nest(|| format!("Identity {name:?} is invalid"), part);
    }
}
