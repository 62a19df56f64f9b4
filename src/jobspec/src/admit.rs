//! What a server makes of a submitted job before it stores it.

use crate::canonical::canonicalise;
use crate::object::{self, Object};
use crate::schema::{Block, Fallback, Field, Form, IDENTITY, JOB, Kind};
use crate::shape;
use serde_json::{Map, Value, json};

/// What a server puts where a job says nothing.
#[derive(Clone, Debug)]
pub struct ServerDefaults {
    /// Region of the server.
    pub region: String,
    /// Namespace of the request.
    pub namespace: String,
    /// Node pool of the job's namespace.
    pub node_pool: String,
    /// `job_default_priority` of the server.
    pub priority: i64,
}

impl Default for ServerDefaults {
    fn default() -> Self {
        Self {
            region: "global".into(),
            namespace: "default".into(),
            node_pool: "default".into(),
            priority: 50,
        }
    }
}

/// Turns a submitted job into the one that is stored: defaults, the stored form, names, the default workload identity, and
/// the constraints that its use of other systems implies. Doing it twice changes nothing.
pub fn admit(job: &mut Value, defaults: &ServerDefaults) {
    let Some(submitted) = job.as_object_mut() else { return };
    object::set_if_null(submitted, "Region", defaults.region.as_str());
    object::set_if_null(submitted, "Namespace", defaults.namespace.as_str());
    object::set_if_null(submitted, "Priority", defaults.priority);
    if object::text(submitted, "NodePool").is_empty() {
        object::set(submitted, "NodePool", defaults.node_pool.as_str());
    }
    for group in object::children_mut(submitted, "TaskGroups") {
        fold_old_fields(group);
    }
    canonicalise(job);
    let Value::Object(submitted) = job.take() else { return };
    let mut stored = store(&JOB, submitted);
    complete(&mut stored);
    *job = Value::Object(stored);
}

/// Moves old spellings to where the stored form has them.
fn fold_old_fields(group: &mut Object) {
    for task in object::children_mut(group, "Tasks") {
        if let Some(logs) = object::child_mut(task, "LogConfig")
            && logs.get("Enabled") == Some(&Value::Bool(false))
        {
            object::set(logs, "Disabled", true);
        }
        for service in object::children_mut(task, "Services") {
            fold_old_expose(service);
        }
    }
    for service in object::children_mut(group, "Services") {
        fold_old_expose(service);
    }
}

fn fold_old_expose(service: &mut Object) {
    let proxy = object::child_mut(service, "Connect")
        .and_then(|connect| object::child_mut(connect, "SidecarService"))
        .and_then(|sidecar| object::child_mut(sidecar, "Proxy"));
    let Some(proxy) = proxy else { return };
    let old = proxy.get("ExposeConfig").cloned().unwrap_or_default();
    object::set_if_null(proxy, "Expose", old);
    let Some(expose) = object::child_mut(proxy, "Expose") else { return };
    let old = expose.get("Path").cloned().unwrap_or_default();
    object::set_if_null(expose, "Paths", old);
}

/// The stored form of an object: what is unset is zero, what is empty is null, what only a request has is gone.
fn store(block: &'static Block, mut object: Object) -> Object {
    let mut stored = Map::with_capacity(object.len());
    for field in block.alphabetical().iter().filter(|field| field.form != Form::Submitted) {
        let value = object.get_mut(field.json).map_or(Value::Null, |value| store_value(field, value.take()));
        let value = match value {
            Value::Null if !field.nullable => shape::zero(field.kind),
            value => value,
        };
        if !(block.omit_empty && (value.is_null() || value == shape::zero(field.kind))) {
            stored.insert(field.json.to_owned(), value);
        }
    }
    stored
}

fn store_value(field: &Field, value: Value) -> Value {
    let keeps_empty = matches!(field.default, Fallback::Empty);
    let objects = |value| if let Value::Object(object) = value { Some(object) } else { None };
    match (field.kind, value) {
        (Kind::Block(inner), Value::Object(object)) => store(inner, object).into(),
        (_, Value::Array(list)) if list.is_empty() && !keeps_empty => Value::Null,
        (_, Value::Object(map)) if map.is_empty() && !keeps_empty => Value::Null,
        (Kind::Blocks(inner), Value::Array(list)) => {
            list.into_iter().filter_map(objects).map(|item| store(inner, item)).collect::<Vec<_>>().into()
        }
        (Kind::BlockMap(inner), Value::Object(map)) => {
            let items = map.into_iter().filter_map(|(name, item)| Some((name, objects(item)?)));
            items.map(|(name, item)| (name, Value::Object(store(inner, item)))).collect::<Map<_, _>>().into()
        }
        (_, value) => value,
    }
}

/// What is the same for all groups of a job.
struct JobNames {
    job: String,
    id: String,
    namespace: String,
}

fn complete(job: &mut Object) {
    if object::list(job, "Datacenters").is_empty() {
        object::set(job, "Datacenters", json!(["*"]));
    }
    // Groups have their own strategy; of the job's, only what rolling system jobs read is kept.
    if let Some(update) = object::child(job, "Update") {
        let (parallel, stagger) = (object::int(update, "MaxParallel"), object::int(update, "Stagger"));
        let kept = matches!(object::text(job, "Type"), "service" | "system");
        set_update(job, if kept { parallel } else { 0 }, if kept { stagger } else { 0 });
    } else {
        set_update(job, 0, 0);
    }
    if let Some(parameterized) = object::child_mut(job, "ParameterizedJob")
        && object::text(parameterized, "Payload").is_empty()
    {
        object::set(parameterized, "Payload", "optional");
    }
    let names = JobNames {
        job: object::text(job, "Name").to_owned(),
        id: object::text(job, "ID").to_owned(),
        namespace: object::text(job, "Namespace").to_owned(),
    };
    for group in object::children_mut(job, "TaskGroups") {
        complete_group(group, &names);
    }
}

fn set_update(job: &mut Object, max_parallel: i64, stagger: i64) {
    let update = json!({
        "AutoPromote": false, "AutoRevert": false, "Canary": 0, "HealthCheck": "", "HealthyDeadline": 0,
        "MaxParallel": max_parallel, "MinHealthyTime": 0, "ProgressDeadline": 0, "Stagger": stagger,
    });
    object::set(job, "Update", update);
}

fn complete_group(group: &mut Object, job: &JobNames) {
    let group_name = object::text(group, "Name").to_owned();
    let consul_namespace =
        object::child(group, "Consul").map(|consul| object::text(consul, "Namespace").to_owned());
    let names = ServiceNames {
        job: &job.job,
        group: &group_name,
        namespace: &job.namespace,
        consul_namespace: consul_namespace.filter(|namespace| !namespace.is_empty()),
    };
    for network in object::children_mut(group, "Networks") {
        complete_ports(network);
    }
    for service in object::children_mut(group, "Services") {
        complete_service(service, &names, None);
    }
    if let Some(scaling) = object::child_mut(group, "Scaling") {
        let target = json!({ "Namespace": job.namespace, "Job": job.id, "Group": group_name });
        object::set_if_null(scaling, "Target", target);
    }
    for task in object::children_mut(group, "Tasks") {
        let task_name = object::text(task, "Name").to_owned();
        for service in object::children_mut(task, "Services") {
            complete_service(service, &names, Some(&task_name));
        }
        if let Some(resources) = object::child_mut(task, "Resources") {
            object::children_mut(resources, "Networks").for_each(complete_ports);
        }
        complete_identity(task);
    }
    add_implied_constraints(group);
}

fn complete_ports(network: &mut Object) {
    for key in ["DynamicPorts", "ReservedPorts"] {
        for port in object::children_mut(network, key) {
            if !object::text(port, "HostNetwork").is_empty() {
                continue;
            }
            // What is empty was left out, so the key has to be put into its alphabetical place.
            object::set(port, "HostNetwork", "default");
            port.sort_keys();
        }
    }
}

/// What stands for the variables in a service's name.
struct ServiceNames<'a> {
    job: &'a str,
    group: &'a str,
    namespace: &'a str,
    consul_namespace: Option<String>,
}

fn complete_service(service: &mut Object, names: &ServiceNames, task: Option<&str>) {
    let name = object::text(service, "Name");
    let name = if name.contains("${") {
        let task = task.unwrap_or("group");
        let base = format!("{}-{}-{task}", names.job, names.group);
        let name = name.replace("${JOB}", names.job).replace("${TASKGROUP}", names.group);
        name.replace("${TASK}", task).replace("${BASE}", &base)
    } else {
        name.to_owned()
    };
    let namespace = match object::text(service, "Provider") {
        "nomad" => names.namespace,
        _ => names.consul_namespace.as_deref().unwrap_or("default"),
    };
    object::set(service, "Namespace", namespace);
    for check in object::children_mut(service, "Checks") {
        if object::text(check, "Name").is_empty() {
            object::set(check, "Name", format!("service: \"{name}\" check"));
        }
    }
    object::set(service, "Name", name);
}

fn complete_identity(task: &mut Object) {
    if object::is_null(task, "Identity") {
        object::set(task, "Identity", store(&IDENTITY, Map::new()));
    }
    let Some(identity) = object::child_mut(task, "Identity") else { return };
    if object::text(identity, "Name").is_empty() {
        object::set(identity, "Name", "default");
    }
    if object::list(identity, "Audience").is_empty() {
        object::set(identity, "Audience", json!(["nomadproject.io"]));
    }
}

/// Adds what a node must have because of what the group uses.
fn add_implied_constraints(group: &mut Object) {
    let mut implied = Vec::new();
    let mut add = |target: &str, operand: &str, value: &str| {
        implied.push(json!({ "LTarget": target, "Operand": operand, "RTarget": value }));
    };
    for (target, version) in vault_versions(group) {
        add(&target, "semver", version);
    }
    let signals = signals(group);
    if !signals.is_empty() {
        add("${attr.os.signals}", "set_contains", &signals);
    }
    let tasks = object::children(group, "Tasks").flat_map(|task| object::children(task, "Services"));
    let services: Vec<_> = object::children(group, "Services").chain(tasks).collect();
    let native: Vec<_> =
        services.iter().filter(|service| object::text(service, "Provider") == "nomad").collect();
    if !native.is_empty() {
        add("${attr.nomad.service_discovery}", "=", "true");
    }
    if native.iter().any(|service| !object::list(service, "Checks").is_empty()) {
        add("${attr.nomad.version}", "semver", ">= 1.4.0");
    }
    for service in services.iter().filter(|service| object::text(service, "Provider") == "consul") {
        let target = match object::text(service, "Cluster") {
            "" | "default" => "${attr.consul.version}".to_owned(),
            cluster => format!("${{attr.consul.{cluster}.version}}"),
        };
        add(&target, "semver", ">= 1.8.0");
    }
    let mut constraints = object::list(group, "Constraints").to_vec();
    for constraint in implied {
        if !constraints.contains(&constraint) {
            constraints.push(constraint);
        }
    }
    if !constraints.is_empty() {
        object::set(group, "Constraints", constraints);
    }
}

fn vault_versions(group: &Object) -> Vec<(String, &'static str)> {
    let vaults = object::children(group, "Tasks").filter_map(|task| object::child(task, "Vault"));
    vaults
        .map(|vault| match object::text(vault, "Cluster") {
            "" | "default" => ("${attr.vault.version}".to_owned(), ">= 0.6.1"),
            cluster => (format!("${{attr.vault.{cluster}.version}}"), ">= 1.11.0"),
        })
        .collect()
}

/// The signals that the group's tasks may be sent, in order and without repetition.
fn signals(group: &Object) -> String {
    let mut signals = std::collections::BTreeSet::new();
    for task in object::children(group, "Tasks") {
        signals.insert(object::text(task, "KillSignal"));
        if let Some(vault) = object::child(task, "Vault")
            && object::text(vault, "ChangeMode") == "signal"
        {
            signals.insert(object::text(vault, "ChangeSignal"));
        }
        let templates = object::children(task, "Templates");
        signals.extend(
            templates
                .filter(|template| object::text(template, "ChangeMode") == "signal")
                .map(|template| object::text(template, "ChangeSignal")),
        );
    }
    signals.remove("");
    signals.into_iter().collect::<Vec<_>>().join(",")
}
