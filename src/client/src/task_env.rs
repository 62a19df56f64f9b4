//! A task's environment and the replacement of `${...}` in what a user wrote: pure.

use std::collections::BTreeMap;

use model::{AllocRecord, AssignedPort, Job, Node, Task, TaskGroup};
use serde_json::Value;

/// Variables of the agent's own environment that tasks never see: they are secrets of the machine.
const HOST_ENV_DENIED: [&str; 10] = [
    "CONSUL_TOKEN",
    "CONSUL_HTTP_TOKEN",
    "CONSUL_HTTP_TOKEN_FILE",
    "NOMAD_TOKEN",
    "NOMAD_LICENSE",
    "VAULT_TOKEN",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "GOOGLE_APPLICATION_CREDENTIALS",
];

/// The paths of an allocation as a task sees them.
#[derive(Clone, Debug, Default)]
pub struct SeenPaths {
    /// The shared directory.
    pub alloc: String,
    /// The task's own `local`.
    pub local: String,
    /// The task's own `secrets`.
    pub secrets: String,
}

/// What an environment is made from.
pub struct Sources<'a> {
    /// The node.
    pub node: &'a Node,
    /// The region.
    pub region: &'a str,
    /// The job.
    pub job: &'a Job,
    /// The allocation.
    pub alloc: &'a AllocRecord,
    /// Its group.
    pub group: &'a TaskGroup,
    /// The task.
    pub task: &'a Task,
    /// Paths as the task sees them.
    pub paths: &'a SeenPaths,
    /// The agent's own environment; none for tasks that bring an image.
    pub host_env: Option<&'a BTreeMap<String, String>>,
    /// Whether tasks may use more memory than they reserved.
    pub oversubscription: bool,
}

/// A task's environment, and what `${...}` may name beside it.
#[derive(Clone, Debug, Default)]
pub struct TaskEnv {
    variables: BTreeMap<String, String>,
    node: BTreeMap<String, String>,
}

impl TaskEnv {
    /// Builds the environment: Nomad's variables, meta, the host's (where nothing else is set), the task's own.
    pub fn build(sources: &Sources<'_>) -> Self {
        let mut env = Self { variables: BTreeMap::new(), node: node_values(sources.node, sources.region) };
        env.add_identity(sources);
        env.add_resources(sources);
        for port in &sources.alloc.resources.ports {
            env.add_port(port);
        }
        env.add_siblings(sources);
        env.add_meta(sources);
        if let Some(host) = sources.host_env {
            for (name, value) in host.iter().filter(|(name, _)| !HOST_ENV_DENIED.contains(&name.as_str())) {
                env.variables.entry(name.clone()).or_insert_with(|| value.clone());
            }
        }
        for (name, value) in &sources.task.env {
            let (name, value) = (env.replace(name), env.replace(value));
            env.variables.insert(name, value);
        }
        env
    }

    /// Returns the variables.
    pub fn variables(&self) -> &BTreeMap<String, String> {
        &self.variables
    }

    /// Adds a variable, over what was there.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.variables.insert(name.into(), value.into());
    }

    /// Replaces every `${name}` whose name is known, and leaves the others as they are.
    pub fn replace(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find("${") {
            let (before, from) = rest.split_at(at);
            out.push_str(before);
            let Some(end) = from.find('}') else {
                out.push_str(from);
                return out;
            };
            match self.lookup(from[2..end].trim()) {
                Some(value) => out.push_str(value),
                None => out.push_str(&from[..=end]),
            }
            rest = &from[end + 1..];
        }
        out.push_str(rest);
        out
    }

    /// Replaces `${...}` in every string of a tree.
    pub fn replace_tree(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.replace(text)),
            Value::Array(items) => items.iter().map(|item| self.replace_tree(item)).collect(),
            Value::Object(map) => {
                map.iter().map(|(key, value)| (self.replace(key), self.replace_tree(value))).collect()
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
        }
    }

    fn lookup(&self, name: &str) -> Option<&str> {
        let quoted = name.strip_prefix("env[\"").and_then(|name| name.strip_suffix("\"]"));
        let name = quoted.unwrap_or(name);
        let bracketed = name
            .strip_prefix("meta[\"")
            .and_then(|key| key.strip_suffix("\"]"))
            .map(|key| format!("meta.{key}"));
        let name = bracketed.as_deref().unwrap_or(name);
        self.variables.get(name).or_else(|| self.node.get(name)).map(String::as_str)
    }

    fn add_identity(&mut self, sources: &Sources<'_>) {
        let Sources { node, region, job, alloc, group, task, paths, .. } = sources;
        let id = alloc.id.to_string();
        self.set("NOMAD_ALLOC_DIR", &*paths.alloc);
        self.set("NOMAD_TASK_DIR", &*paths.local);
        self.set("NOMAD_SECRETS_DIR", &*paths.secrets);
        self.set("NOMAD_ALLOC_ID", &*id);
        self.set("NOMAD_SHORT_ALLOC_ID", &id[..8]);
        self.set("NOMAD_ALLOC_NAME", format!("{}.{}[{}]", job.key.id, group.name, alloc.index));
        self.set("NOMAD_ALLOC_INDEX", alloc.index.to_string());
        self.set("NOMAD_TASK_NAME", task.name.as_str());
        self.set("NOMAD_GROUP_NAME", group.name.as_str());
        self.set("NOMAD_JOB_ID", job.key.id.as_str());
        self.set("NOMAD_JOB_NAME", job.spec.name.as_str());
        if let Some(parent) = &job.parent {
            self.set("NOMAD_JOB_PARENT_ID", parent.id.as_str());
        }
        self.set("NOMAD_NAMESPACE", job.key.namespace.as_str());
        self.set("NOMAD_REGION", *region);
        self.set("NOMAD_DC", node.datacenter.as_str());
        self.set("NOMAD_PARENT_CGROUP", node.cgroup_parent.as_str());
    }

    fn add_resources(&mut self, sources: &Sources<'_>) {
        let Some(held) = sources.alloc.resources.tasks.iter().find(|held| held.name == sources.task.name)
        else {
            return;
        };
        self.set("NOMAD_CPU_LIMIT", held.cpu_shares.to_string());
        self.set("NOMAD_MEMORY_LIMIT", held.memory_mb.to_string());
        if held.memory_max_mb > 0 && sources.oversubscription {
            self.set("NOMAD_MEMORY_MAX_LIMIT", held.memory_max_mb.to_string());
        }
        // A task without cores of its own sees a blank, as programs written for Nomad expect.
        let cores = if held.cores.is_empty() { " ".to_owned() } else { core_ranges(&held.cores) };
        self.set("NOMAD_CPU_CORES", cores);
    }

    fn add_port(&mut self, port: &AssignedPort) {
        let (label, clean) = (port.label.as_str(), clean_name(&port.label));
        let (ip, value) = (port.host_ip.as_str(), port.value.to_string());
        let addr = host_port(ip, &value);
        let inside = if port.to == 0 { value.clone() } else { port.to.to_string() };
        self.set(format!("NOMAD_IP_{clean}"), ip);
        self.set(format!("NOMAD_PORT_{clean}"), &*inside);
        self.set(format!("NOMAD_ADDR_{clean}"), &*addr);
        self.set(format!("NOMAD_HOST_IP_{label}"), ip);
        self.set(format!("NOMAD_HOST_PORT_{clean}"), &*value);
        self.set(format!("NOMAD_HOST_ADDR_{label}"), &*addr);
        if port.to != 0 {
            self.set(format!("NOMAD_ALLOC_PORT_{clean}"), inside);
        }
        // Names as the job spells them can be used in `${...}` even where a shell could not hold them.
        if clean != label {
            for (kind, text) in [("IP", ip), ("ADDR", addr.as_str())] {
                self.node.insert(format!("NOMAD_{kind}_{label}"), text.to_owned());
            }
            let port = self.variables[&format!("NOMAD_PORT_{clean}")].clone();
            self.node.insert(format!("NOMAD_PORT_{label}"), port);
            self.node.insert(format!("NOMAD_HOST_PORT_{label}"), value);
        }
    }

    /// Tasks with ports in the old place see each other's by task name and label.
    fn add_siblings(&mut self, sources: &Sources<'_>) {
        for sibling in &sources.group.tasks {
            let wanted = sibling.resources.networks.iter();
            let labels: Vec<_> = wanted
                .flat_map(|net| net.reserved_ports.iter().chain(&net.dynamic_ports))
                .map(|port| &port.label)
                .collect();
            for port in sources.alloc.resources.ports.iter().filter(|port| labels.contains(&&port.label)) {
                let name = clean_name(&format!("{}_{}", sibling.name, port.label));
                let value = port.value.to_string();
                self.set(format!("NOMAD_ADDR_{name}"), host_port(&port.host_ip, &value));
                self.set(format!("NOMAD_IP_{name}"), port.host_ip.as_str());
                self.set(format!("NOMAD_PORT_{name}"), value);
            }
        }
    }

    fn add_meta(&mut self, sources: &Sources<'_>) {
        let levels = [&sources.job.spec.meta, &sources.group.meta, &sources.task.meta];
        for (key, value) in levels.into_iter().flatten() {
            let value = self.replace(value);
            self.set(format!("NOMAD_META_{}", clean_name(key)), &*value);
            self.set(format!("NOMAD_META_{}", clean_name(&key.to_uppercase())), value);
        }
    }
}

/// Facts about the node by the names that jobs use.
fn node_values(node: &Node, region: &str) -> BTreeMap<String, String> {
    let mut values = BTreeMap::from([
        ("node.unique.id".to_owned(), node.id.to_string()),
        ("node.unique.name".to_owned(), node.name.to_string()),
        ("node.datacenter".to_owned(), node.datacenter.to_string()),
        ("node.region".to_owned(), region.to_owned()),
        ("node.class".to_owned(), node.node_class.to_string()),
        ("node.pool".to_owned(), node.node_pool.to_string()),
    ]);
    values.extend(node.attributes.iter().map(|(key, value)| (format!("attr.{key}"), value.to_string())));
    values.extend(node.meta.iter().map(|(key, value)| (format!("meta.{key}"), value.to_string())));
    values
}

/// Makes a name that a shell can hold.
fn clean_name(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect()
}

fn host_port(ip: &str, port: &str) -> String {
    if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
}

/// Writes cores as ranges, `0-2,5`.
fn core_ranges(cores: &[u16]) -> String {
    let mut sorted = cores.to_vec();
    sorted.sort_unstable();
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for core in sorted {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == core => *last = core,
            _ => ranges.push((core, core)),
        }
    }
    let texts: Vec<_> = ranges
        .into_iter()
        .map(|(first, last)| if first == last { first.to_string() } else { format!("{first}-{last}") })
        .collect();
    texts.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env() -> TaskEnv {
        let mut env = TaskEnv::default();
        env.set("NOMAD_PORT_http", "8080");
        env.node.insert("attr.kernel.name".to_owned(), "linux".to_owned());
        env
    }

    #[test]
    fn known_names_are_replaced_and_unknown_ones_stay() {
        let text =
            "p=${NOMAD_PORT_http} k=${ attr.kernel.name } e=${env[\"NOMAD_PORT_http\"]} u=${nope} open=${x";
        assert_eq!(env().replace(text), "p=8080 k=linux e=8080 u=${nope} open=${x");
    }

    #[test]
    fn a_port_is_known_by_all_its_names() {
        let mut env = env();
        env.add_port(&AssignedPort {
            label: "dash-ed".into(),
            value: 21508,
            to: 80,
            host_ip: "127.0.0.1".into(),
            ..AssignedPort::default()
        });
        let get = |name: &str| env.variables.get(name).map(String::as_str);
        assert_eq!(get("NOMAD_PORT_dash_ed"), Some("80"));
        assert_eq!(get("NOMAD_ADDR_dash_ed"), Some("127.0.0.1:21508"));
        assert_eq!(get("NOMAD_HOST_PORT_dash_ed"), Some("21508"));
        assert_eq!(env.replace("${NOMAD_PORT_dash-ed}"), "80");
    }

    #[test]
    fn cores_are_written_as_ranges() {
        assert_eq!(core_ranges(&[3, 0, 1, 2, 7]), "0-3,7");
    }
}
