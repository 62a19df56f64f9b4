//! Refuses configurations that make no sense. `config validate` and the agent ask the same things here.

use std::path::{Path, PathBuf};

use base64::Engine as _;

use super::{
    address::AddressError,
    files::{FileError, io_text},
    raw::{RawAgent, RawClient, RawTls},
};

/// Providers of keys that others are wrapped with.
const KEYRING_PROVIDERS: [&str; 5] = ["aead", "awskms", "azurekeyvault", "gcpckms", "transit"];

/// A configuration can not be used. Its text is what the agent prints before it ends: warnings, then the reason.
#[derive(Debug)]
pub struct ConfigError {
    /// Warnings that were due before.
    pub warnings: Vec<String>,
    /// What is wrong.
    pub fault: Fault,
}

impl ConfigError {
    /// Something so wrong that nothing else was looked at.
    pub(super) fn early(fault: Fault) -> Self {
        Self { warnings: Vec::new(), fault }
    }
}

impl std::fmt::Display for ConfigError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for warning in &self.warnings {
            writeln!(f, "==> WARNING: {warning}")?;
        }
        write!(f, "==> {}", self.fault)
    }
}

impl std::error::Error for ConfigError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.fault)
    }
}

/// What is wrong with a configuration. Texts are those that programs know.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// A file can not be read.
    #[error(transparent)]
    File(FileError),
    /// Neither server nor client.
    #[error("Must specify either server, client or dev mode for the agent.")]
    NoMode,
    /// No place for anything lasting.
    #[error("Must specify \"data_dir\" config option or \"data-dir\" CLI flag")]
    NoDataDir,
    /// A path that depends on where the agent was started.
    #[error("{what} must be given as an absolute path: got {}", path.display())]
    Relative {
        /// The flag's name.
        what: &'static str,
        /// The path.
        path: PathBuf,
    },
    /// A gossip key that is not one.
    #[error("Invalid encryption key: {why}")]
    Encrypt {
        /// What is wrong with it.
        why: String,
    },
    /// No port is between the two.
    #[error("Invalid dynamic port range: min_dynamic_port={min} and max_dynamic_port={max}")]
    DynamicPorts {
        /// The first.
        min: i64,
        /// The last.
        max: i64,
    },
    /// A list of ports or cores that can not be read.
    #[error("{key} {text:?} invalid: {why}")]
    Numbers {
        /// The key.
        key: String,
        /// Its value.
        text: String,
        /// What is wrong.
        why: String,
    },
    /// A pool that no node may be in.
    #[error("Invalid node pool: {why}")]
    NodePool {
        /// What is wrong.
        why: String,
    },
    /// A provider that there is not.
    #[error("keyring {name:?} invalid: unknown keyring provider: {provider:?}")]
    Keyring {
        /// Its name.
        name: String,
        /// The provider.
        provider: String,
    },
    /// No addresses.
    #[error(transparent)]
    Address(AddressError),
    /// A level that there is not.
    #[error("Invalid log level: {0}. Valid log levels are: [OFF TRACE DEBUG INFO WARN ERROR]")]
    LogLevel(String),
    /// Metrics can not be set up.
    #[error("Error initializing telemetry: {0}")]
    Telemetry(String),
    /// A part of the agent can not be set up.
    #[error("Error starting agent: {0}")]
    Setup(String),
    /// The HTTP listener can not be set up.
    #[error("Error starting http server: {0}")]
    Http(String),
}

/// What is checked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mode {
    pub dev: bool,
}

impl Mode {
    /// Tells whether there is anything to run.
    pub fn runs(self, raw: &RawAgent) -> bool {
        self.dev || server_enabled(raw) || client_enabled(raw)
    }
}

fn server_enabled(raw: &RawAgent) -> bool {
    raw.server.as_ref().is_some_and(|server| server.enabled == Some(true))
}

fn client_enabled(raw: &RawAgent) -> bool {
    raw.client.as_ref().is_some_and(|client| client.enabled == Some(true))
}

/// Checks a configuration as far as that is possible on any machine, and collects warnings.
pub(super) fn check(raw: &RawAgent, mode: Mode, warnings: &mut Vec<String>) -> Result<(), Fault> {
    if !mode.runs(raw) {
        return Err(Fault::NoMode);
    }
    if !mode.dev {
        warn_of_tls(raw, warnings);
    }
    if let Some(key) = raw.server.as_ref().and_then(|server| server.encrypt.as_ref()) {
        gossip_key(&key.0)?;
    }
    check_paths(raw, mode)?;
    if let Some(client) = raw.client.as_ref().filter(|_| client_enabled(raw)) {
        check_client(client)?;
    }
    if server_enabled(raw) && !mode.dev {
        match raw.server.as_ref().and_then(|server| server.bootstrap_expect).unwrap_or(0) {
            1 => warnings.push("Bootstrap mode enabled! Potentially unsafe operation.".to_owned()),
            even if even % 2 == 0 => warnings
                .push("Number of bootstrap servers should ideally be set to an odd number.".to_owned()),
            _ => {}
        }
    }
    raw.keyring.as_ref().map_or(Ok(()), |keyring| check_keyring(&keyring.0))
}

/// Checks providers of keys: `{ "aead": { ... } }`, or a list of such objects.
fn check_keyring(keyring: &serde_json::Value) -> Result<(), Fault> {
    if let Some(list) = keyring.as_array() {
        return list.iter().try_for_each(check_keyring);
    }
    for (provider, settings) in keyring.as_object().into_iter().flatten() {
        if !KEYRING_PROVIDERS.contains(&provider.as_str()) {
            let name = settings.get("name").and_then(|name| name.as_str()).unwrap_or_default().to_owned();
            return Err(Fault::Keyring { name, provider: provider.clone() });
        }
    }
    Ok(())
}

fn warn_of_tls(raw: &RawAgent, warnings: &mut Vec<String>) {
    let tls = raw.tls.clone().unwrap_or_default();
    let (http, rpc) = (tls.http == Some(true), tls.rpc == Some(true));
    if (http || rpc)
        && let Err(text) = read_ca(&tls)
    {
        warnings.push(format!("Error when parsing TLS configuration: {text}"));
    }
    if !(http && rpc && tls.verify_server_hostname == Some(true)) {
        warnings.push("mTLS is not configured - Nomad is not secure without mTLS!".to_owned());
    }
}

fn read_ca(tls: &RawTls) -> Result<(), String> {
    let path = tls.ca_file.clone().unwrap_or_default();
    std::fs::metadata(&path).map(|_| ()).map_err(|error| io_text(Path::new(&path), &error))
}

/// Reads a gossip key.
pub(super) fn gossip_key(text: &str) -> Result<Option<Vec<u8>>, Fault> {
    if text.is_empty() {
        return Ok(None);
    }
    let key = base64::engine::general_purpose::STANDARD.decode(text).map_err(|error| {
        let at = match error {
            base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => at,
            base64::DecodeError::InvalidLength(length) => length / 4 * 4,
            base64::DecodeError::InvalidPadding => text.len() / 4 * 4,
        };
        Fault::Encrypt { why: format!("illegal base64 data at input byte {at}") }
    })?;
    match key.len() {
        16 | 24 | 32 => Ok(Some(key)),
        other => Err(Fault::Encrypt { why: format!("key size must be 16, 24 or 32 bytes, got {other}") }),
    }
}

fn check_paths(raw: &RawAgent, mode: Mode) -> Result<(), Fault> {
    let client = raw.client.clone().unwrap_or_default();
    for (what, path) in [
        ("data-dir", &raw.data_dir),
        ("plugin-dir", &raw.plugin_dir),
        ("alloc-dir", &client.alloc_dir),
        ("alloc-mounts-dir", &client.alloc_mounts_dir),
        ("host-volumes-dir", &client.host_volumes_dir),
        ("host-volume-plugin-dir", &client.host_volume_plugin_dir),
        ("common-plugin-dir", &client.common_plugin_dir),
        ("state-dir", &client.state_dir),
    ] {
        let path = path.as_deref().filter(|path| !path.is_empty()).map(PathBuf::from);
        if let Some(path) = path.filter(|path| !path.is_absolute()) {
            return Err(Fault::Relative { what, path });
        }
    }
    let has = |path: &Option<String>| path.as_ref().is_some_and(|path| !path.is_empty());
    let complete =
        !server_enabled(raw) && has(&client.alloc_dir) && has(&client.state_dir) && has(&raw.plugin_dir);
    if mode.dev || has(&raw.data_dir) || complete { Ok(()) } else { Err(Fault::NoDataDir) }
}

fn check_client(client: &RawClient) -> Result<(), Fault> {
    let (min, max) = (client.min_dynamic_port.unwrap_or(20_000), client.max_dynamic_port.unwrap_or(32_000));
    if min < 0 || max > 65_535 || min > max {
        return Err(Fault::DynamicPorts { min, max });
    }
    let reserved = client.reserved.clone().unwrap_or_default();
    if let Some(ports) = &reserved.reserved_ports {
        numbers("reserved.reserved_ports", ports, 65_536)?;
    }
    for (name, network) in client.host_network.iter().flatten() {
        let key = format!("host_network[{name:?}].reserved_ports");
        numbers(&key, network.reserved_ports.as_deref().unwrap_or_default(), 65_536)?;
    }
    let pool = client.node_pool.as_deref().unwrap_or_default();
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let why = match pool {
        "" => return Ok(()),
        "all" => format!("node is not allowed to register in node pool {pool:?}"),
        pool if pool.len() > 128 || !pool.chars().all(fits) => {
            format!("{pool:?} must be 1 to 128 letters, digits, dashes and underscores")
        }
        _ => return Ok(()),
    };
    Err(Fault::NodePool { why })
}

/// Reads a list of numbers and ranges such as `22,80,8500-8503`.
pub(super) fn numbers(key: &str, text: &str, limit: u32) -> Result<Vec<u16>, Fault> {
    let fault = |why: String| Fault::Numbers { key: key.to_owned(), text: text.to_owned(), why };
    let number = |text: &str| {
        let parsed: Result<u32, _> = text.trim().parse();
        let invalid = |_| fault(format!("strconv.ParseUint: parsing {text:?}: invalid syntax"));
        let value = parsed.map_err(invalid)?;
        let in_range = u16::try_from(value).ok().filter(|_| value < limit);
        in_range.ok_or_else(|| fault(format!("{value} must be less than {limit}")))
    };
    let mut all = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        match part.split_once('-') {
            None => all.push(number(part)?),
            Some((first, last)) => {
                let (first, last) = (number(first)?, number(last)?);
                if first > last {
                    return Err(fault(format!(
                        "invalid range: starting value ({first}) more than ending ({last})"
                    )));
                }
                all.extend(first..=last);
            }
        }
    }
    all.sort_unstable();
    all.dedup();
    Ok(all)
}

/// Checks what Nomad's agent finds out only while it starts, and `config validate` therefore lets pass.
pub(super) fn check_late(raw: &RawAgent) -> Result<(), Fault> {
    log_level(raw)?;
    for rule in raw.telemetry.iter().flat_map(|telemetry| telemetry.prefix_filter.iter().flatten()) {
        if !rule.starts_with(['+', '-']) {
            let why = format!("Filter rule must begin with either '+' or '-': {rule:?}");
            return Err(Fault::Telemetry(why));
        }
    }
    let tls = raw.tls.clone().unwrap_or_default();
    if tls.http == Some(true) || tls.rpc == Some(true) {
        read_ca(&tls)
            .map_err(|why| Fault::Setup(format!("server setup failed: Failed to read CA file: {why}")))?;
    }
    let limits = raw.limits.clone().unwrap_or_default();
    for (key, value) in [
        ("http_max_conns_per_client", limits.http_max_conns_per_client),
        ("rpc_max_conns_per_client", limits.rpc_max_conns_per_client),
    ] {
        if value.is_some_and(|value| value < 0) {
            return Err(Fault::Http(format!("{key} must be >= 0")));
        }
    }
    Ok(())
}

/// The log level, in lower case.
pub(super) fn log_level(raw: &RawAgent) -> Result<String, Fault> {
    let level = raw.log_level.clone().unwrap_or_else(|| "INFO".to_owned());
    let lower = level.to_ascii_lowercase();
    match lower.as_str() {
        "off" | "trace" | "debug" | "info" | "warn" | "error" => Ok(lower),
        _ => Err(Fault::LogLevel(level)),
    }
}
