//! What the engine is asked for: a pure function of the task, its options and the operator's configuration.

use std::{collections::HashMap, io, path::Path};

use bollard::models::{
    ContainerCreateBody, DeviceMapping, EndpointIpamConfig, EndpointSettings, HealthConfig, HostConfig,
    HostConfigCgroupnsModeEnum as Cgroupns, HostConfigLogConfig, NetworkingConfig, PortBinding, PortMap,
    ResourcesUlimits,
};
use driver::{StartTaskError, TaskConfig, schema::ConfigErrors};

use crate::{
    Config, capabilities, labels,
    mounts::{self, RealPath},
    options::Options,
    pause,
};

/// Why the engine is not asked at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RequestError {
    /// The operator does not allow it.
    #[error("{0}")]
    Forbidden(String),
    /// It cannot be meant.
    #[error("{option}: {reason}")]
    Wrong { option: &'static str, reason: String },
}

impl RequestError {
    pub fn wrong(option: &'static str, reason: impl Into<String>) -> Self {
        Self::Wrong { option, reason: reason.into() }
    }
}

impl From<RequestError> for StartTaskError {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::Forbidden(message) => Self::Refused { message },
            RequestError::Wrong { option, reason } => Self::Config(ConfigErrors::value(option, reason)),
        }
    }
}

/// What is known about the machine and the engine.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    /// Processors of the engine's machine.
    pub processors: u64,
    /// Runtimes that the engine has.
    pub runtimes: Vec<String>,
}

/// How paths of the host are looked at.
#[derive(Clone, Copy)]
pub(crate) struct Host {
    pub real: RealPath,
    pub read: fn(&Path) -> io::Result<String>,
}

impl Host {
    /// The machine's own.
    pub fn machine() -> Self {
        Self { real: |path| path.canonicalize(), read: |path| std::fs::read_to_string(path) }
    }
}

/// A container to be made.
#[derive(Debug)]
pub(crate) struct Request {
    pub name: String,
    pub body: ContainerCreateBody,
    /// Lines of `/etc/hosts` that the engine does not write, because the network is another container's.
    pub hosts: Option<String>,
}

/// The smallest quota that the kernel takes, in microseconds.
const CPU_QUOTA_MIN: i64 = 1000;
/// The kernel's own period of processor quotas, in microseconds.
const CPU_PERIOD: i64 = 100_000;
/// The smallest weight that the kernel takes.
const CPU_SHARES_MIN: i64 = 2;

/// Decides what the engine is asked for.
pub(crate) fn build(
    task: &TaskConfig,
    options: &Options,
    config: &Config,
    facts: &Facts,
    host: Host,
) -> Result<Request, RequestError> {
    let network = network_mode(task, options)?;
    let shared = network.starts_with("container:");
    let mut host_config = host_config(task, options, config, facts, host)?;
    let published = if shared || matches!(network.as_str(), "host" | "none") {
        PortMap::default()
    } else {
        ports(task, options)?
    };
    let mut exposed: Vec<String> = published.keys().cloned().collect();
    exposed.sort_unstable();
    let group_hosts = task.network.iter().flat_map(|network| &network.hosts);
    let mut hosts = None;
    if shared {
        // The engine refuses these for a container in another's network.
        let lines = group_hosts.map(|(ip, names)| format!("{ip} {names}\n"));
        let extra = options.extra_hosts.iter().filter_map(|entry| entry.split_once(':'));
        let lines: String = lines.chain(extra.map(|(name, ip)| format!("{ip} {name}\n"))).collect();
        if !lines.is_empty() {
            hosts = Some(format!("127.0.0.1 localhost\n::1 localhost\n{lines}"));
            let file = task.dirs.task.join("hosts");
            host_config.binds.get_or_insert_default().push(format!("{}:/etc/hosts", file.display()));
        }
    } else {
        dns(task, options, &mut host_config);
        host_config.extra_hosts = listed(&options.extra_hosts);
    }
    host_config.port_bindings = (!published.is_empty()).then_some(published);
    let endpoints = endpoints(&network, options);
    host_config.network_mode = Some(network);
    let cmd = options.command.iter().chain(&options.args).cloned().collect::<Vec<_>>();
    let body = ContainerCreateBody {
        hostname: text(&options.hostname).filter(|_| !shared),
        user: task.user.clone().filter(|user| !user.is_empty()),
        exposed_ports: (!exposed.is_empty()).then_some(exposed),
        tty: options.tty.then_some(true),
        open_stdin: options.interactive.then_some(true),
        env: Some(task.env.0.iter().map(|(name, value)| format!("{name}={value}")).collect()),
        cmd: (!cmd.is_empty()).then_some(cmd),
        entrypoint: listed(&options.entrypoint),
        healthcheck: options
            .healthchecks
            .disable
            .then(|| HealthConfig { test: Some(vec!["NONE".to_owned()]), ..HealthConfig::default() }),
        image: Some(crate::image_name::ImageName::parse(&options.image).to_string()),
        working_dir: text(&options.work_dir),
        labels: Some(labels::of_task(task, &config.extra_labels, options.labels.iter())),
        host_config: Some(host_config),
        networking_config: endpoints,
        ..ContainerCreateBody::default()
    };
    Ok(Request { name: container_name(task), body, hosts })
}

/// The name that people and programs look for.
pub(crate) fn container_name(task: &TaskConfig) -> String {
    let fit = |c: char| if c.is_ascii_alphanumeric() || "_.-".contains(c) { c } else { '_' };
    let name: String = task.task().chars().map(fit).collect();
    format!("{name}-{}", task.alloc_id())
}

fn network_mode(task: &TaskConfig, options: &Options) -> Result<String, RequestError> {
    if !options.network_mode.is_empty() {
        return Ok(options.network_mode.clone());
    }
    let Some(network) = &task.network else { return Ok("default".to_owned()) };
    match network.labels.get(pause::SANDBOX_LABEL) {
        Some(container) => Ok(format!("container:{container}")),
        None => Err(RequestError::Forbidden(format!(
            "a container cannot join the network at {:?}, which the docker driver did not make",
            network.path.as_deref().unwrap_or(Path::new(""))
        ))),
    }
}

fn host_config(
    task: &TaskConfig,
    options: &Options,
    config: &Config,
    facts: &Facts,
    host: Host,
) -> Result<HostConfig, RequestError> {
    let mounts = mounts::decide(task, options, config, host.real)?;
    let mut wanted = HostConfig {
        binds: Some(mounts.binds),
        mounts: (!mounts.mounts.is_empty()).then_some(mounts.mounts),
        volume_driver: text(&options.volume_driver),
        log_config: Some(log_config(options, config)),
        readonly_rootfs: options.readonly_rootfs.then_some(true),
        init: options.init.then_some(true),
        shm_size: (options.shm_size > 0).then_some(options.shm_size),
        storage_opt: map(&options.storage_opt),
        sysctls: map(&options.sysctl),
        group_add: listed(&options.group_add),
        devices: devices(task, options),
        ulimits: ulimits(options)?,
        runtime: runtime(task, options, config, facts)?,
        cgroupns_mode: match options.cgroupns.as_str() {
            "host" => Some(Cgroupns::HOST),
            "private" => Some(Cgroupns::PRIVATE),
            _ => None,
        },
        ..HostConfig::default()
    };
    resources(task, options, config, facts, &mut wanted)?;
    security(task, options, config, host, &mut wanted)?;
    Ok(wanted)
}

fn resources(
    task: &TaskConfig,
    options: &Options,
    config: &Config,
    facts: &Facts,
    wanted: &mut HostConfig,
) -> Result<(), RequestError> {
    let cpu = &task.resources.cpu;
    let shares = i64::try_from(cpu.shares_mhz).unwrap_or(i64::MAX);
    wanted.cpu_shares = (shares > 0).then_some(shares.max(CPU_SHARES_MIN));
    if options.cpu_hard_limit && cpu.node_total_mhz > 0 {
        let period = if options.cpu_cfs_period > 0 { options.cpu_cfs_period } else { CPU_PERIOD };
        let period_all = i128::from(period) * i128::from(facts.processors.max(1));
        let quota = period_all * i128::from(cpu.shares_mhz) / i128::from(cpu.node_total_mhz);
        wanted.cpu_period = Some(period);
        wanted.cpu_quota = Some(i64::try_from(quota).unwrap_or(i64::MAX).max(CPU_QUOTA_MIN));
    }
    wanted.cpuset_cpus = if cpu.cores.is_empty() {
        text(&options.cpuset_cpus)
    } else {
        Some(cpu.cores.iter().map(u16::to_string).collect::<Vec<_>>().join(","))
    };
    memory(task, options, wanted)?;
    wanted.pids_limit = pids_limit(options, config)?;
    let score = options.oom_score_adj.unwrap_or(config.oom_score_adj);
    if !(-1000..=1000).contains(&score) {
        return Err(RequestError::wrong("oom_score_adj", format!("it is from -1000 to 1000, not {score}")));
    }
    wanted.oom_score_adj = (score != 0).then_some(score);
    Ok(())
}

fn memory(task: &TaskConfig, options: &Options, wanted: &mut HostConfig) -> Result<(), RequestError> {
    let bytes = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let (mut hard, mut reserved) =
        (task.resources.memory.hard_limit().map(bytes), task.resources.memory.reservation().map(bytes));
    if options.memory_hard_limit > 0 {
        let limit = options.memory_hard_limit.saturating_mul(1 << 20);
        let memory = bytes(task.resources.memory.memory_mb.saturating_mul(1 << 20));
        if limit < memory {
            let reason = format!("{} MB is less than the task's memory", options.memory_hard_limit);
            return Err(RequestError::wrong("memory_hard_limit", reason));
        }
        (hard, reserved) = (Some(limit), (memory > 0).then_some(memory));
    }
    wanted.memory = hard;
    // Equal to the memory: no swap beyond it, so that the bound means what it says.
    wanted.memory_swap = hard;
    wanted.memory_reservation = reserved;
    Ok(())
}

fn pids_limit(options: &Options, config: &Config) -> Result<Option<i64>, RequestError> {
    if config.pids_limit > 0 && options.pids_limit > config.pids_limit {
        let reason =
            format!("{} is more than the {} that the operator allows", options.pids_limit, config.pids_limit);
        return Err(RequestError::wrong("pids_limit", reason));
    }
    Ok([options.pids_limit, config.pids_limit].into_iter().find(|limit| *limit > 0))
}

fn security(
    task: &TaskConfig,
    options: &Options,
    config: &Config,
    host: Host,
    wanted: &mut HostConfig,
) -> Result<(), RequestError> {
    if options.privileged && !config.allow_privileged {
        let text = "Docker privileged mode is disabled on this agent; it takes allow_privileged = true in the plugin block";
        return Err(RequestError::Forbidden(text.to_owned()));
    }
    if options.privileged {
        wanted.privileged = Some(true);
    } else {
        let delta = capabilities::decide(&config.allow_caps, &options.cap_add, &options.cap_drop)
            .map_err(RequestError::Forbidden)?;
        wanted.cap_add = listed(&delta.add);
        wanted.cap_drop = listed(&delta.drop);
    }
    let modes = &config.allowed_modes;
    wanted.pid_mode = mode("pid_mode", &options.pid_mode, modes.pid.as_deref(), config)?;
    wanted.ipc_mode = mode("ipc_mode", &options.ipc_mode, modes.ipc.as_deref(), config)?;
    wanted.uts_mode = mode("uts_mode", &options.uts_mode, modes.uts.as_deref(), config)?;
    wanted.userns_mode = mode("userns_mode", &options.userns_mode, modes.userns.as_deref(), config)?;
    let profiles = options.security_opt.iter().map(|text| security_opt(text, task, config, host));
    let profiles = profiles.collect::<Result<Vec<_>, _>>()?;
    wanted.security_opt = listed(&profiles);
    Ok(())
}

/// Namespaces of the host or of other containers let a task reach what is not its own.
fn mode(
    option: &'static str,
    value: &str,
    allowed: Option<&[String]>,
    config: &Config,
) -> Result<Option<String>, RequestError> {
    let own = matches!(value, "" | "private" | "none" | "shareable");
    let permitted = match allowed {
        Some(list) => list.iter().any(|item| item == value),
        None => config.allow_privileged,
    };
    if own || permitted {
        return Ok(text(value));
    }
    let short = option.strip_suffix("_mode").unwrap_or(option);
    Err(RequestError::Forbidden(format!(
        "{option} = {value:?} is not allowed on this agent; it takes allowed_modes {{ {short} = [{value:?}] }} in the plugin block"
    )))
}

/// A seccomp profile named by a path is read here, as the command line tool does; the engine takes only its text.
fn security_opt(text: &str, task: &TaskConfig, config: &Config, host: Host) -> Result<String, RequestError> {
    let profile = text.strip_prefix("seccomp=").or_else(|| text.strip_prefix("seccomp:"));
    let Some(profile) = profile.filter(|value| !matches!(*value, "unconfined" | "builtin")) else {
        return Ok(text.to_owned());
    };
    if profile.trim_start().starts_with('{') {
        return Ok(format!("seccomp={profile}"));
    }
    let path = mounts::host_path(profile, &task.dirs, config, host.real)?;
    let content = (host.read)(&path).map_err(|error| {
        RequestError::wrong("security_opt", format!("seccomp profile {profile:?}: {error}"))
    })?;
    Ok(format!("seccomp={content}"))
}

fn runtime(
    task: &TaskConfig,
    options: &Options,
    config: &Config,
    facts: &Facts,
) -> Result<Option<String>, RequestError> {
    if options.runtime.is_empty() {
        let gpu = task.env.0.contains_key("NVIDIA_VISIBLE_DEVICES");
        return Ok(
            (gpu && facts.runtimes.contains(&config.nvidia_runtime)).then(|| config.nvidia_runtime.clone())
        );
    }
    if config.allow_runtimes.contains(&options.runtime) {
        return Ok(Some(options.runtime.clone()));
    }
    Err(RequestError::Forbidden(format!(
        "requested runtime {:?} is not allowed; allow_runtimes has {}",
        options.runtime,
        config.allow_runtimes.join(", ")
    )))
}

fn log_config(options: &Options, config: &Config) -> HostConfigLogConfig {
    let (driver, of_driver) = match &options.logging {
        Some(own) => {
            let name = [&own.kind, &own.driver].into_iter().find(|name| !name.is_empty());
            let driver = name.unwrap_or(&config.logging.driver);
            let bare = own.config.is_empty() && *driver == config.logging.driver;
            (driver, if bare { &config.logging.config } else { &own.config })
        }
        None => (&config.logging.driver, &config.logging.config),
    };
    let pairs = of_driver.iter().map(|(name, value)| (name.clone(), value.clone()));
    HostConfigLogConfig { typ: Some(driver.clone()), config: Some(pairs.collect()) }
}

fn devices(task: &TaskConfig, options: &Options) -> Option<Vec<DeviceMapping>> {
    let own = options.devices.iter().map(|device| {
        let inside = text(&device.container_path).unwrap_or_else(|| device.host_path.clone());
        let permissions = text(&device.cgroup_permissions).unwrap_or_else(|| "rwm".to_owned());
        (device.host_path.clone(), inside, permissions)
    });
    let given = task.devices.iter().map(|device| {
        let path = |path: &Path| path.display().to_string();
        (path(&device.host_path), path(&device.task_path), device.permissions.clone())
    });
    let all: Vec<_> = own
        .chain(given)
        .map(|(host, inside, permissions)| DeviceMapping {
            path_on_host: Some(host),
            path_in_container: Some(inside),
            cgroup_permissions: Some(permissions),
        })
        .collect();
    (!all.is_empty()).then_some(all)
}

fn ulimits(options: &Options) -> Result<Option<Vec<ResourcesUlimits>>, RequestError> {
    let mut limits = Vec::new();
    for (name, value) in &options.ulimit {
        let (soft, hard) = value.split_once(':').unwrap_or((value, value));
        let (Ok(soft), Ok(hard)) = (soft.trim().parse::<i64>(), hard.trim().parse::<i64>()) else {
            let reason = format!("{name} = {value:?} is no number and no pair of numbers such as 2048:4096");
            return Err(RequestError::wrong("ulimit", reason));
        };
        limits.push(ResourcesUlimits { name: Some(name.clone()), soft: Some(soft), hard: Some(hard) });
    }
    Ok((!limits.is_empty()).then_some(limits))
}

/// The ports that the engine forwards: each for both protocols, because the job file names none.
fn ports(task: &TaskConfig, options: &Options) -> Result<PortMap, RequestError> {
    let mut map = PortMap::new();
    let labels = options.ports.iter().map(|label| (label, None));
    for (label, inside) in labels.chain(options.port_map.iter().map(|(label, port)| (label, Some(*port)))) {
        let mut found = task.ports.iter().filter(|port| port.label == *label).peekable();
        if found.peek().is_none() {
            let reason = format!("Port {label:?} not found, check network block");
            return Err(RequestError::wrong("ports", reason));
        }
        for port in found {
            let inside = inside.unwrap_or(if port.to == 0 { port.host_port } else { port.to });
            for protocol in ["tcp", "udp"] {
                let binding = PortBinding {
                    host_ip: Some(port.host_ip.to_string()),
                    host_port: Some(port.host_port.to_string()),
                };
                let bindings = map.entry(format!("{inside}/{protocol}")).or_default().get_or_insert_default();
                if !bindings.contains(&binding) {
                    bindings.push(binding);
                }
            }
        }
    }
    Ok(map)
}

fn dns(task: &TaskConfig, options: &Options, wanted: &mut HostConfig) {
    let group = task.dns.clone().unwrap_or_default();
    let first = |own: &[String], group: Vec<String>| listed(if own.is_empty() { &group } else { own });
    wanted.dns = first(&options.dns_servers, group.servers);
    wanted.dns_search = first(&options.dns_search_domains, group.searches);
    wanted.dns_options = first(&options.dns_options, group.options);
}

fn endpoints(network: &str, options: &Options) -> Option<NetworkingConfig> {
    let ipam = EndpointIpamConfig {
        ipv4_address: text(&options.ipv4_address),
        ipv6_address: text(&options.ipv6_address),
        link_local_ips: None,
    };
    let settings = EndpointSettings {
        aliases: listed(&options.network_aliases),
        mac_address: text(&options.mac_address),
        ipam_config: (ipam != EndpointIpamConfig::default()).then_some(ipam),
        ..EndpointSettings::default()
    };
    if settings == EndpointSettings::default() {
        return None;
    }
    Some(NetworkingConfig { endpoints_config: Some(HashMap::from([(network.to_owned(), settings)])) })
}

fn text(value: &str) -> Option<String> {
    (!value.is_empty()).then(|| value.to_owned())
}

fn listed(values: &[String]) -> Option<Vec<String>> {
    (!values.is_empty()).then(|| values.to_vec())
}

fn map(values: &std::collections::BTreeMap<String, String>) -> Option<HashMap<String, String>> {
    (!values.is_empty()).then(|| values.clone().into_iter().collect())
}

#[cfg(test)]
pub(crate) use tests::fixture;

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
