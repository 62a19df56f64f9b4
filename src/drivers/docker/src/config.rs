use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use driver::schema::{ConfigErrors, Kind, Schema};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{AuthConfig, capabilities};

/// Where the engine listens when nobody says otherwise.
const DEFAULT_ENDPOINT: &str = "unix:///var/run/docker.sock";

/// The plugin's configuration, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the engine listens.
    pub endpoint: Endpoint,
    /// Where credentials for registries come from when a task has none.
    pub auth: AuthConfig,
    /// Labels that containers get, by short name such as `job_name`; `*` stands for any letters.
    pub extra_labels: Vec<String>,
    /// The engine's own log driver for containers of tasks that name none.
    pub logging: LogDriver,
    /// What is removed once it is no longer used.
    pub gc: Garbage,
    /// Whether tasks may mount host paths outside their allocation, and use volume drivers.
    pub volumes_enabled: bool,
    /// Appended to binds, so that SELinux lets containers in: `z` or `Z`.
    pub selinux_label: String,
    /// Whether tasks may be privileged. Whoever is, owns the machine.
    pub allow_privileged: bool,
    /// Capabilities that tasks may have; `all` allows any.
    pub allow_caps: Vec<String>,
    /// Runtimes of the engine that tasks may name.
    pub allow_runtimes: Vec<String>,
    /// The runtime for tasks that got a GPU.
    pub nvidia_runtime: String,
    /// The image that holds the network of an allocation open; none means the one that the driver makes itself.
    pub infra_image: Option<String>,
    /// How long pulling that image may take.
    pub infra_image_pull_timeout: Duration,
    /// How long pulling an image may take when the task says nothing.
    pub image_pull_timeout: Duration,
    /// How long a pull may show no progress.
    pub pull_activity_timeout: Duration,
    /// How often a container is made again after its name was taken.
    pub container_exists_attempts: u32,
    /// The most processes that a task may have, and its default; zero means no bound.
    pub pids_limit: i64,
    /// The kernel's preference for ending a task that names none.
    pub oom_score_adj: i64,
    /// Whether the output of tasks stays with the engine.
    pub disable_log_collection: bool,
    /// Namespaces of others that tasks may join.
    pub allowed_modes: AllowedModes,
    /// The id of this node; with it the census sees only containers of this node's agents, which matters when several
    /// agents share an engine.
    pub node_id: Option<String>,
}

/// Where the engine listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A socket on this machine.
    Unix(PathBuf),
    /// `host:port`, in the clear.
    Tcp(String),
}

/// The engine's own log driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogDriver {
    /// Its name, such as `json-file`.
    pub driver: String,
    /// Its options.
    pub config: BTreeMap<String, String>,
}

/// What is removed once it is no longer used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Garbage {
    /// How long an image stays after its last task; none keeps images for ever.
    pub image_delay: Option<Duration>,
    /// Whether containers go when their task is destroyed.
    pub container: bool,
    /// Containers that nobody answers for.
    pub dangling: DanglingContainers,
}

/// How containers that carry this driver's mark, but belong to no task, are dealt with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DanglingContainers {
    /// Whether they are looked for.
    pub enabled: bool,
    /// How often.
    pub period: Duration,
    /// How old a container must be.
    pub creation_grace: Duration,
    /// Only say which would be removed.
    pub dry_run: bool,
}

/// Namespaces of others that tasks may join, each as a list of values such as `host`. Unset means: what is the task's
/// own, and anything where privileged tasks are allowed.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
pub struct AllowedModes {
    /// For `pid_mode`.
    #[serde(default)]
    pub pid: Option<Vec<String>>,
    /// For `ipc_mode`.
    #[serde(default)]
    pub ipc: Option<Vec<String>>,
    /// For `userns_mode`.
    #[serde(default)]
    pub userns: Option<Vec<String>>,
    /// For `uts_mode`.
    #[serde(default)]
    pub uts: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Raw {
    endpoint: Option<String>,
    #[serde(default)]
    auth: RawAuth,
    #[serde(default)]
    tls: RawTls,
    extra_labels: Vec<String>,
    logging: RawLogging,
    gc: RawGc,
    volumes: RawVolumes,
    allow_privileged: bool,
    allow_caps: Vec<String>,
    allow_runtimes: Vec<String>,
    nvidia_runtime: String,
    infra_image: Option<String>,
    infra_image_pull_timeout: String,
    image_pull_timeout: String,
    pull_activity_timeout: String,
    container_exists_attempts: u32,
    pids_limit: i64,
    oom_score_adj: i64,
    disable_log_collection: bool,
    #[serde(default)]
    allowed_modes: AllowedModes,
}

#[derive(Default, Deserialize)]
struct RawAuth {
    config: Option<String>,
    helper: Option<String>,
}

#[derive(Default, Deserialize)]
struct RawTls {
    cert: Option<String>,
    key: Option<String>,
    ca: Option<String>,
}

#[derive(Deserialize)]
struct RawLogging {
    #[serde(rename = "type")]
    driver: String,
    config: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct RawGc {
    image: bool,
    image_delay: String,
    container: bool,
    dangling_containers: RawDangling,
}

#[derive(Deserialize)]
struct RawDangling {
    enabled: bool,
    dry_run: bool,
    period: String,
    creation_grace: String,
}

#[derive(Deserialize)]
struct RawVolumes {
    enabled: bool,
    selinuxlabel: String,
}

fn schema() -> Schema {
    let strings = Kind::strings;
    let dangling = Schema::new()
        .defaulted("enabled", Kind::Bool, true)
        .defaulted("dry_run", Kind::Bool, false)
        .defaulted("period", Kind::String, "5m")
        .defaulted("creation_grace", Kind::String, "5m");
    let gc = Schema::new()
        .defaulted("image", Kind::Bool, true)
        .defaulted("image_delay", Kind::String, "3m")
        .defaulted("container", Kind::Bool, true)
        .defaulted("dangling_containers", Kind::Block(dangling.clone()), filled(&dangling));
    let volumes =
        Schema::new().defaulted("enabled", Kind::Bool, false).defaulted("selinuxlabel", Kind::String, "");
    let logging =
        Schema::new().defaulted("type", Kind::String, "json-file").optional("config", Kind::string_map());
    let modes = Schema::new()
        .optional("pid", strings())
        .optional("ipc", strings())
        .optional("userns", strings())
        .optional("uts", strings());
    let auth = Schema::new().optional("config", Kind::String).optional("helper", Kind::String);
    let tls = Schema::new()
        .optional("cert", Kind::String)
        .optional("key", Kind::String)
        .optional("ca", Kind::String);
    Schema::new()
        .optional("endpoint", Kind::String)
        .optional("auth", Kind::Block(auth))
        .optional("tls", Kind::Block(tls))
        .defaulted("extra_labels", strings(), Vec::<String>::new())
        .defaulted("logging", Kind::Block(logging.clone()), filled(&logging))
        .defaulted("gc", Kind::Block(gc.clone()), filled(&gc))
        .defaulted("volumes", Kind::Block(volumes.clone()), filled(&volumes))
        .defaulted("allow_privileged", Kind::Bool, false)
        .defaulted("allow_caps", strings(), json!(capabilities::DEFAULT_ALLOWED))
        .defaulted("allow_runtimes", strings(), json!(["runc", "nvidia"]))
        .defaulted("nvidia_runtime", Kind::String, "nvidia")
        .optional("infra_image", Kind::String)
        .defaulted("infra_image_pull_timeout", Kind::String, "5m")
        .defaulted("image_pull_timeout", Kind::String, "5m")
        .defaulted("pull_activity_timeout", Kind::String, "2m")
        .defaulted("container_exists_attempts", Kind::Integer, 5)
        .defaulted("pids_limit", Kind::Integer, 0)
        .defaulted("oom_score_adj", Kind::Integer, 0)
        .defaulted("disable_log_collection", Kind::Bool, false)
        .optional("windows_allow_insecure_container_admin", Kind::Bool)
        .optional("allowed_modes", Kind::Block(modes))
}

/// A block as it is when nothing is written in it.
fn filled(schema: &Schema) -> Value {
    schema.check(&Value::Null).expect("such a block requires nothing")
}

impl Config {
    /// Checks the `config` block of `plugin "docker"`. Without an `endpoint` the variable `DOCKER_HOST` names it.
    ///
    /// # Errors
    ///
    /// Names every mistake.
    pub fn parse(value: &Value) -> Result<Self, ConfigErrors> {
        Self::parse_with(value, std::env::var("DOCKER_HOST").ok())
    }

    fn parse_with(value: &Value, docker_host: Option<String>) -> Result<Self, ConfigErrors> {
        let checked = schema().check(value)?;
        let raw: Raw = serde_json::from_value(checked)
            .map_err(|error| ConfigErrors::value("config", error.to_string()))?;
        if raw.tls.cert.is_some() || raw.tls.key.is_some() || raw.tls.ca.is_some() {
            let reason =
                "TLS to the engine is not supported; use its unix socket, or a tunnel that ends in one";
            return Err(ConfigErrors::value("tls", reason));
        }
        let address = raw.endpoint.or(docker_host).filter(|text| !text.is_empty());
        let endpoint = Endpoint::parse(address.as_deref().unwrap_or(DEFAULT_ENDPOINT))
            .map_err(|reason| ConfigErrors::value("endpoint", reason))?;
        let image_delay = duration("gc.image_delay", &raw.gc.image_delay)?;
        let dangling = raw.gc.dangling_containers;
        Ok(Self {
            endpoint,
            auth: AuthConfig { file: raw.auth.config.map(PathBuf::from), helper: raw.auth.helper },
            extra_labels: raw.extra_labels,
            logging: LogDriver::with_defaults(raw.logging.driver, raw.logging.config),
            gc: Garbage {
                image_delay: raw.gc.image.then_some(image_delay),
                container: raw.gc.container,
                dangling: DanglingContainers {
                    enabled: dangling.enabled,
                    dry_run: dangling.dry_run,
                    period: positive("gc.dangling_containers.period", &dangling.period)?,
                    creation_grace: duration(
                        "gc.dangling_containers.creation_grace",
                        &dangling.creation_grace,
                    )?,
                },
            },
            volumes_enabled: raw.volumes.enabled,
            selinux_label: raw.volumes.selinuxlabel,
            allow_privileged: raw.allow_privileged,
            allow_caps: raw.allow_caps,
            allow_runtimes: raw.allow_runtimes,
            nvidia_runtime: raw.nvidia_runtime,
            infra_image: raw.infra_image.filter(|name| !name.is_empty()),
            infra_image_pull_timeout: positive("infra_image_pull_timeout", &raw.infra_image_pull_timeout)?,
            image_pull_timeout: positive("image_pull_timeout", &raw.image_pull_timeout)?,
            pull_activity_timeout: positive("pull_activity_timeout", &raw.pull_activity_timeout)?,
            container_exists_attempts: raw.container_exists_attempts,
            pids_limit: raw.pids_limit,
            oom_score_adj: raw.oom_score_adj,
            disable_log_collection: raw.disable_log_collection,
            allowed_modes: raw.allowed_modes,
            node_id: None,
        })
    }
}

impl Endpoint {
    fn parse(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix://").filter(|path| path.starts_with('/')) {
            return Ok(Self::Unix(PathBuf::from(path)));
        }
        if text.starts_with('/') {
            return Ok(Self::Unix(PathBuf::from(text)));
        }
        let tcp = text.strip_prefix("tcp://").or_else(|| text.strip_prefix("http://"));
        match tcp.map(|rest| rest.trim_end_matches('/')) {
            Some(host) if !host.is_empty() => Ok(Self::Tcp(host.to_owned())),
            _ => Err(format!("{text:?} is no address of an engine; write unix:///path or tcp://host:port")),
        }
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(host) => write!(f, "tcp://{host}"),
        }
    }
}

impl LogDriver {
    /// Bounds what the engine keeps when the operator does not: the output is in the allocation's log files anyway.
    fn with_defaults(driver: String, config: Option<BTreeMap<String, String>>) -> Self {
        let config = config.unwrap_or_else(|| match driver.as_str() {
            "json-file" => [("max-file", "2"), ("max-size", "2m")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            _ => BTreeMap::new(),
        });
        Self { driver, config }
    }
}

fn duration(path: &str, text: &str) -> Result<Duration, ConfigErrors> {
    read_duration(text).map_err(|reason| ConfigErrors::value(path, reason))
}

fn positive(path: &str, text: &str) -> Result<Duration, ConfigErrors> {
    match duration(path, text)? {
        Duration::ZERO => Err(ConfigErrors::value(path, "it must be longer than nothing")),
        some => Ok(some),
    }
}

/// Reads a duration as job files write it: `1h30m`, `1.5s`, `200ms`.
pub(crate) fn read_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no duration; write one such as 30s or 1h30m");
    let mut rest = text.trim();
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(wrong());
    }
    let mut seconds = 0.0_f64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let (number, tail) = rest.split_at(digits);
        let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let scale = match unit {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(wrong()),
        };
        seconds += number.parse::<f64>().map_err(|_| wrong())? * scale;
        rest = tail;
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_block_has_the_documented_defaults() {
        let config = Config::parse_with(&json!(null), None).expect("empty is fine");
        assert_eq!(config.endpoint, Endpoint::Unix("/var/run/docker.sock".into()));
        assert_eq!(config.gc.image_delay, Some(Duration::from_secs(180)));
        assert!(config.gc.container && config.gc.dangling.enabled && !config.volumes_enabled);
        assert_eq!(config.image_pull_timeout, Duration::from_secs(300));
        assert_eq!(config.allow_caps.len(), 13);
        assert_eq!(config.logging.config["max-size"], "2m");
    }

    #[test]
    fn the_environment_names_the_engine_only_when_the_operator_does_not() {
        let host = || Some("tcp://10.0.0.1:2375".to_owned());
        let config = Config::parse_with(&json!({}), host()).expect("it is right");
        assert_eq!(config.endpoint, Endpoint::Tcp("10.0.0.1:2375".into()));
        let config = Config::parse_with(&json!({"endpoint": "unix:///x.sock"}), host()).expect("it is right");
        assert_eq!(config.endpoint, Endpoint::Unix("/x.sock".into()));
    }

    #[test]
    fn blocks_may_be_written_in_part() {
        let value = json!({
            "gc": [{"image": false, "dangling_containers": [{"period": "1m"}]}],
            "volumes": {"enabled": "true"},
            "allowed_modes": {"pid": ["host"]},
        });
        let config = Config::parse_with(&value, None).expect("it is right");
        assert_eq!(config.gc.image_delay, None);
        assert!(config.gc.container && config.volumes_enabled);
        assert_eq!(config.gc.dangling.period, Duration::from_secs(60));
        assert_eq!(config.allowed_modes.pid, Some(vec!["host".to_owned()]));
    }

    #[test]
    fn mistakes_are_named() {
        for (value, part) in [
            (json!({"alow_privileged": true}), "allow_privileged"),
            (json!({"endpoint": "ftp://x"}), "ftp://x"),
            (json!({"gc": {"image_delay": "soon"}}), "gc.image_delay"),
            (json!({"image_pull_timeout": "0s"}), "image_pull_timeout"),
            (json!({"container_exists_attempts": -1}), "config"),
            (json!({"tls": {"ca": "x"}}), "tls"),
        ] {
            let text = Config::parse_with(&value, None).expect_err("it is wrong").to_string();
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn durations_are_read_as_job_files_write_them() {
        for (text, ms) in [("1h30m", 5_400_000), ("1.5s", 1500), ("200ms", 200), ("0", 0), ("3m", 180_000)] {
            assert_eq!(read_duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "5", "-3s", "m", "3 m", "1x", "1..2s"] {
            assert!(read_duration(text).is_err(), "{text}");
        }
    }
}
