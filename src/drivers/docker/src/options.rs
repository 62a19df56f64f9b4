use std::collections::BTreeMap;

use driver::schema::{ConfigErrors, Kind, Schema};
use serde::Deserialize;
use serde_json::Value;

/// A task's `config` block, checked.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Options {
    pub image: String,
    pub command: Option<String>,
    #[serde(default)]
    pub args: Vec<String>,
    #[serde(default)]
    pub entrypoint: Vec<String>,
    #[serde(default)]
    pub ports: Vec<String>,
    #[serde(default)]
    pub port_map: BTreeMap<String, u16>,
    #[serde(default)]
    pub network_mode: String,
    #[serde(default)]
    pub hostname: String,
    #[serde(default)]
    pub volumes: Vec<String>,
    #[serde(default)]
    pub mount: Vec<MountOption>,
    #[serde(default)]
    pub mounts: Vec<MountOption>,
    #[serde(default)]
    pub volume_driver: String,
    pub auth: Option<Auth>,
    #[serde(default)]
    pub auth_soft_fail: bool,
    #[serde(default)]
    pub force_pull: bool,
    pub image_pull_timeout: Option<String>,
    #[serde(default)]
    pub load: String,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    pub logging: Option<Logging>,
    #[serde(default)]
    pub privileged: bool,
    #[serde(default)]
    pub cap_add: Vec<String>,
    #[serde(default)]
    pub cap_drop: Vec<String>,
    #[serde(default)]
    pub security_opt: Vec<String>,
    #[serde(default)]
    pub devices: Vec<DeviceOption>,
    #[serde(default)]
    pub sysctl: BTreeMap<String, String>,
    #[serde(default)]
    pub ulimit: BTreeMap<String, String>,
    #[serde(default)]
    pub shm_size: i64,
    #[serde(default)]
    pub memory_hard_limit: i64,
    #[serde(default)]
    pub cpu_hard_limit: bool,
    #[serde(default)]
    pub cpu_cfs_period: i64,
    #[serde(default)]
    pub cpuset_cpus: String,
    #[serde(default)]
    pub cgroupns: String,
    #[serde(default)]
    pub pids_limit: i64,
    #[serde(default)]
    pub pid_mode: String,
    #[serde(default)]
    pub ipc_mode: String,
    #[serde(default)]
    pub uts_mode: String,
    #[serde(default)]
    pub userns_mode: String,
    #[serde(default)]
    pub dns_servers: Vec<String>,
    #[serde(default)]
    pub dns_search_domains: Vec<String>,
    #[serde(default)]
    pub dns_options: Vec<String>,
    #[serde(default)]
    pub extra_hosts: Vec<String>,
    #[serde(default)]
    pub network_aliases: Vec<String>,
    #[serde(default)]
    pub ipv4_address: String,
    #[serde(default)]
    pub ipv6_address: String,
    #[serde(default)]
    pub mac_address: String,
    #[serde(default)]
    pub advertise_ipv6_address: bool,
    #[serde(default)]
    pub init: bool,
    #[serde(default)]
    pub interactive: bool,
    #[serde(default)]
    pub tty: bool,
    #[serde(default)]
    pub readonly_rootfs: bool,
    #[serde(default)]
    pub work_dir: String,
    #[serde(default)]
    pub runtime: String,
    #[serde(default)]
    pub storage_opt: BTreeMap<String, String>,
    #[serde(default)]
    pub group_add: Vec<String>,
    pub oom_score_adj: Option<i64>,
    #[serde(default)]
    pub healthchecks: Healthchecks,
    #[serde(default)]
    pub isolation: String,
    pub container_exists_attempts: Option<u32>,
}

/// Credentials for the image's registry.
#[derive(Clone, Deserialize)]
pub(crate) struct Auth {
    #[serde(default)]
    pub username: String,
    #[serde(default)]
    pub password: String,
    #[serde(default)]
    pub email: String,
    #[serde(default)]
    pub server_address: String,
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Auth {{ username: {:?}, .. }}", self.username)
    }
}

/// The engine's log driver for this container.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Logging {
    #[serde(default, rename = "type")]
    pub kind: String,
    #[serde(default)]
    pub driver: String,
    #[serde(default)]
    pub config: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct DeviceOption {
    pub host_path: String,
    #[serde(default)]
    pub container_path: String,
    #[serde(default)]
    pub cgroup_permissions: String,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(crate) struct Healthchecks {
    #[serde(default)]
    pub disable: bool,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct MountOption {
    #[serde(default, rename = "type")]
    pub kind: String,
    pub target: String,
    #[serde(default)]
    pub source: String,
    #[serde(default)]
    pub readonly: bool,
    #[serde(default)]
    pub bind_options: BindOptions,
    #[serde(default)]
    pub tmpfs_options: TmpfsOptions,
    #[serde(default)]
    pub volume_options: VolumeOptions,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct BindOptions {
    #[serde(default)]
    pub propagation: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct TmpfsOptions {
    #[serde(default)]
    pub size: i64,
    #[serde(default)]
    pub mode: i64,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct VolumeOptions {
    #[serde(default)]
    pub no_copy: bool,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    #[serde(default)]
    pub driver_config: VolumeDriver,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct VolumeDriver {
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    pub options: BTreeMap<String, String>,
}

impl Options {
    pub fn schema() -> Schema {
        let schema = Schema::new().required("image", Kind::String);
        let schema = of_image(schema);
        let schema = of_command(schema);
        let schema = of_network(schema);
        let schema = of_storage(schema);
        let schema = of_security(schema);
        of_resources(schema)
    }

    pub fn check(schema: &Schema, config: &Value) -> Result<Self, ConfigErrors> {
        let checked = schema.check(config)?;
        // The kinds are right; what may still fail is a number out of its range.
        let options: Self = serde_json::from_value(checked)
            .map_err(|error| ConfigErrors::value("config", error.to_string()))?;
        if options.image.trim().is_empty() {
            return Err(ConfigErrors::value("image", "image name required"));
        }
        if !matches!(options.isolation.as_str(), "" | "default") {
            let reason = format!("isolation {:?} exists on Windows only", options.isolation);
            return Err(ConfigErrors::value("isolation", reason));
        }
        if !matches!(options.cgroupns.as_str(), "" | "host" | "private") {
            let reason = format!("it is host or private, not {:?}", options.cgroupns);
            return Err(ConfigErrors::value("cgroupns", reason));
        }
        if let Some(text) = &options.image_pull_timeout {
            crate::config::read_duration(text)
                .map_err(|reason| ConfigErrors::value("image_pull_timeout", reason))?;
        }
        Ok(options)
    }
}

fn of_image(schema: Schema) -> Schema {
    let auth = Schema::new()
        .optional("username", Kind::String)
        .optional("password", Kind::String)
        .optional("email", Kind::String)
        .optional("server_address", Kind::String);
    schema
        .optional("auth", Kind::Block(auth))
        .optional("auth_soft_fail", Kind::Bool)
        .optional("force_pull", Kind::Bool)
        .optional("image_pull_timeout", Kind::String)
        .optional("load", Kind::String)
}

fn of_command(schema: Schema) -> Schema {
    let logging = Schema::new()
        .optional("type", Kind::String)
        .optional("driver", Kind::String)
        .optional("config", Kind::string_map());
    schema
        .optional("command", Kind::String)
        .optional("args", Kind::strings())
        .optional("entrypoint", Kind::strings())
        .optional("work_dir", Kind::String)
        .optional("hostname", Kind::String)
        .optional("labels", Kind::string_map())
        .optional("logging", Kind::Block(logging))
        .optional("init", Kind::Bool)
        .optional("interactive", Kind::Bool)
        .optional("tty", Kind::Bool)
        .optional("healthchecks", Kind::Block(Schema::new().optional("disable", Kind::Bool)))
        .optional("isolation", Kind::String)
        .optional("runtime", Kind::String)
        .optional("container_exists_attempts", Kind::Integer)
}

fn of_network(schema: Schema) -> Schema {
    schema
        .optional("ports", Kind::strings())
        .optional("port_map", Kind::Map(Box::new(Kind::Integer)))
        .optional("network_mode", Kind::String)
        .optional("dns_servers", Kind::strings())
        .optional("dns_search_domains", Kind::strings())
        .optional("dns_options", Kind::strings())
        .optional("extra_hosts", Kind::strings())
        .optional("network_aliases", Kind::strings())
        .optional("ipv4_address", Kind::String)
        .optional("ipv6_address", Kind::String)
        .optional("mac_address", Kind::String)
        .optional("advertise_ipv6_address", Kind::Bool)
}

fn of_storage(schema: Schema) -> Schema {
    let driver = Schema::new().optional("name", Kind::String).optional("options", Kind::string_map());
    let volume = Schema::new()
        .optional("no_copy", Kind::Bool)
        .optional("labels", Kind::string_map())
        .optional("driver_config", Kind::Block(driver));
    let tmpfs = Schema::new().optional("size", Kind::Integer).optional("mode", Kind::Integer);
    let mount = Schema::new()
        .optional("type", Kind::String)
        .required("target", Kind::String)
        .optional("source", Kind::String)
        .optional("readonly", Kind::Bool)
        .optional("bind_options", Kind::Block(Schema::new().optional("propagation", Kind::String)))
        .optional("tmpfs_options", Kind::Block(tmpfs))
        .optional("volume_options", Kind::Block(volume));
    let device = Schema::new()
        .required("host_path", Kind::String)
        .optional("container_path", Kind::String)
        .optional("cgroup_permissions", Kind::String);
    schema
        .optional("volumes", Kind::strings())
        .optional("mount", Kind::Blocks(mount.clone()))
        .optional("mounts", Kind::Blocks(mount))
        .optional("volume_driver", Kind::String)
        .optional("devices", Kind::Blocks(device))
        .optional("storage_opt", Kind::string_map())
        .optional("readonly_rootfs", Kind::Bool)
        .optional("shm_size", Kind::Integer)
}

fn of_security(schema: Schema) -> Schema {
    schema
        .optional("privileged", Kind::Bool)
        .optional("cap_add", Kind::strings())
        .optional("cap_drop", Kind::strings())
        .optional("security_opt", Kind::strings())
        .optional("sysctl", Kind::string_map())
        .optional("cgroupns", Kind::String)
        .optional("pid_mode", Kind::String)
        .optional("ipc_mode", Kind::String)
        .optional("uts_mode", Kind::String)
        .optional("userns_mode", Kind::String)
        .optional("group_add", Kind::strings())
}

fn of_resources(schema: Schema) -> Schema {
    schema
        .optional("ulimit", Kind::string_map())
        .optional("memory_hard_limit", Kind::Integer)
        .optional("cpu_hard_limit", Kind::Bool)
        .optional("cpu_cfs_period", Kind::Integer)
        .optional("cpuset_cpus", Kind::String)
        .optional("pids_limit", Kind::Integer)
        .optional("oom_score_adj", Kind::Integer)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(config: Value) -> Result<Options, String> {
        Options::check(&Options::schema(), &config).map_err(|errors| errors.to_string())
    }

    #[test]
    fn an_image_is_all_that_a_task_needs() {
        let options = check(json!({"image": "redis:7"})).expect("it is right");
        assert_eq!((options.image.as_str(), options.tty, options.command), ("redis:7", false, None));
        let text = check(json!({})).expect_err("an image is required");
        assert!(text.contains("The argument \"image\" is required"), "{text}");
        assert!(check(json!({"image": " "})).is_err());
    }

    #[test]
    fn a_wrong_name_is_answered_with_the_nearest() {
        let text = check(json!({"image": "x", "comand": "a"})).expect_err("it is wrong");
        assert!(text.contains("named \"comand\". Did you mean \"command\"?"), "{text}");
        let text = check(json!({"image": "x", "nope": 1})).expect_err("it is wrong");
        assert_eq!(
            text,
            "2 errors occurred:\n\t* failed to parse config: \n\t* Invalid label: No argument or block type is named \
             \"nope\".\n\n"
        );
    }

    #[test]
    fn every_documented_option_is_known() {
        let config = json!({
            "image": "x", "command": "c", "args": ["a"], "entrypoint": ["e"], "ports": ["p"],
            "port_map": [{"p": 80}], "network_mode": "host", "hostname": "h", "volumes": ["a:/b"],
            "mount": [{"type": "bind", "target": "/t", "source": "s", "readonly": true,
                       "bind_options": [{"propagation": "rslave"}]}],
            "mounts": [{"target": "/v", "source": "v", "volume_options": [{"no_copy": true,
                        "labels": [{"a": "b"}], "driver_config": [{"name": "n", "options": [{"o": "p"}]}]}]},
                       {"type": "tmpfs", "target": "/tmp", "tmpfs_options": [{"size": 1, "mode": 511}]}],
            "volume_driver": "d", "auth": [{"username": "u", "password": "p", "email": "e", "server_address": "s"}],
            "auth_soft_fail": true, "force_pull": true, "image_pull_timeout": "1m", "load": "i.tar",
            "labels": [{"l": "1"}], "logging": [{"type": "t", "driver": "d", "config": [{"a": "b"}]}],
            "privileged": false, "cap_add": ["a"], "cap_drop": ["b"], "security_opt": ["s"],
            "devices": [{"host_path": "/dev/null", "container_path": "/dev/n", "cgroup_permissions": "r"}],
            "sysctl": [{"net.core.somaxconn": "16384"}], "ulimit": [{"nofile": "1:2"}], "shm_size": 1,
            "memory_hard_limit": 2, "cpu_hard_limit": true, "cpu_cfs_period": 3, "cpuset_cpus": "0", "cgroupns": "host",
            "pids_limit": 4, "pid_mode": "host", "ipc_mode": "host", "uts_mode": "host", "userns_mode": "host",
            "dns_servers": ["d"], "dns_search_domains": ["d"], "dns_options": ["d"], "extra_hosts": ["a:1.2.3.4"],
            "network_aliases": ["n"], "ipv4_address": "1", "ipv6_address": "2", "mac_address": "3",
            "advertise_ipv6_address": true, "init": true, "interactive": true, "tty": true, "readonly_rootfs": true,
            "work_dir": "/w", "runtime": "runc", "storage_opt": [{"size": "1G"}], "group_add": ["g"],
            "oom_score_adj": 5, "healthchecks": [{"disable": true}], "isolation": "default",
            "container_exists_attempts": 3,
        });
        let options = check(config).expect("all are known");
        assert!(options.healthchecks.disable && options.mounts[0].volume_options.no_copy);
        assert_eq!(options.port_map["p"], 80);
        assert!(!format!("{:?}", options.auth).contains("\"p\""), "a password is shown");
    }

    #[test]
    fn values_that_cannot_be_meant_are_refused() {
        for bad in [
            json!({"image": "x", "isolation": "hyperv"}),
            json!({"image": "x", "cgroupns": "mine"}),
            json!({"image": "x", "image_pull_timeout": "soon"}),
            json!({"image": "x", "port_map": {"a": 70000}}),
        ] {
            assert!(check(bad.clone()).is_err(), "{bad}");
        }
    }
}
