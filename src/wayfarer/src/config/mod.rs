//! The agent's configuration: from flags, files and the environment to checked [`Options`].
//!
//! A file becomes a [`raw::RawAgent`], in which everything is optional. Several of them are merged, later ones win key
//! by key, and flags win over all. `check` refuses what makes no sense; what is left becomes [`Options`], which the
//! rest of the agent takes as they are.

mod address;
mod check;
mod client;
mod files;
mod flags;
mod join;
mod machine;
mod options;
mod raw;
mod section;
mod server;
mod shown;
mod sockaddr;
mod tls;
mod tree;
mod verdict;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

pub use flags::{Flags, UsageError, parse_agent_args};
pub use machine::Machine;
pub use options::{AutopilotOptions, ClientOptions, Options, ServerOptions};
pub use verdict::validate;

use self::{
    check::{ConfigError, Fault},
    files::Loaded,
    raw::RawAgent,
    section::{Section, Support},
};

/// The flags of a dev agent, as `wayfarer dev` runs one.
pub fn dev() -> Flags {
    Flags { dev: true, ..Flags::default() }
}

/// Makes the options of an agent: reads the files, puts flags over them, checks all of it.
///
/// # Errors
///
/// Says what is wrong, where, and carries the warnings that were due by then.
pub fn load(flags: &Flags, machine: &Machine) -> Result<Options, ConfigError> {
    let mut loaded = Loaded { raw: base(flags), ..Loaded::default() };
    for path in &flags.config {
        loaded.add(path).map_err(|error| ConfigError::early(Fault::File(error)))?;
    }
    let mut raw = loaded.raw;
    raw.absorb(flags.raw.clone());
    let mode = check::Mode { dev: is_dev(flags) };
    if mode.dev {
        stay_dev(&mut raw);
    }
    if !mode.runs(&raw) {
        return Err(ConfigError::early(Fault::NoMode));
    }
    let addresses =
        address::resolve(&raw, mode.dev, machine).map_err(|e| ConfigError::early(Fault::Address(e)))?;
    let mut warnings = loaded.warnings;
    let result = check::check(&raw, mode, &mut warnings);
    let failed = |fault, warnings: &[String]| ConfigError { fault, warnings: warnings.to_vec() };
    result.map_err(|fault| failed(fault, &warnings))?;
    let mut options = options_of(&raw, mode.dev, addresses, machine, &mut warnings)
        .map_err(|fault| failed(fault, &warnings))?;
    warnings.extend(notes(&raw, flags));
    options.shown = shown::shown(&raw, &options, flags, &loaded.files);
    options.warnings = warnings;
    options.files = loaded.files;
    Ok(options)
}

fn is_dev(flags: &Flags) -> bool {
    flags.dev || flags.dev_connect || flags.dev_consul || flags.dev_vault
}

/// What holds before any file is read.
fn base(flags: &Flags) -> RawAgent {
    let mut raw = if is_dev(flags) { dev_base(flags.dev_connect) } else { RawAgent::default() };
    raw.absorb(flags.env.clone());
    raw
}

/// A dev agent: server and client, on this machine only, with everything on that helps to look inside.
fn dev_base(connect: bool) -> RawAgent {
    let span = |text: &str| section::Span::parse(text).expect("the text is a time");
    let text = |text: &str| Some(text.to_owned());
    let options = [("driver.raw_exec.enable", "true"), ("driver.docker.volumes", "true")];
    RawAgent {
        bind_addr: text(if connect { "0.0.0.0" } else { "127.0.0.1" }),
        log_level: text("DEBUG"),
        enable_debug: Some(true),
        disable_anonymous_signature: Some(true),
        server: Some(raw::RawServer { enabled: Some(true), bootstrap_expect: Some(1), ..Default::default() }),
        client: Some(raw::RawClient {
            enabled: Some(true),
            network_interface: if connect { None } else { text("lo") },
            options: Some(options.map(|(name, value)| (name.to_owned(), value.to_owned())).into()),
            gc_interval: Some(span("10m")),
            gc_disk_usage_threshold: Some(99.0),
            gc_inode_usage_threshold: Some(99.0),
            ..Default::default()
        }),
        telemetry: Some(raw::RawTelemetry {
            prometheus_metrics: Some(true),
            publish_allocation_metrics: Some(true),
            publish_node_metrics: Some(true),
            include_alloc_metadata_in_metrics: Some(true),
            allowed_metadata_keys_in_metrics: Some(Vec::new()),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// A dev agent stays server and client whatever its files say: `enabled` of a later file only ever turns on, as in
/// Nomad.
fn stay_dev(raw: &mut RawAgent) {
    for enabled in [
        raw.server.as_mut().map(|server| &mut server.enabled),
        raw.client.as_mut().map(|client| &mut client.enabled),
    ] {
        enabled.into_iter().for_each(|enabled| *enabled = Some(true));
    }
}

/// Warnings about keys that are set and do nothing here.
fn notes(raw: &RawAgent, flags: &Flags) -> Vec<String> {
    let mut of_base = Vec::new();
    base(flags).note_keys("", &mut of_base);
    let mut notes = Vec::new();
    raw.note_keys("", &mut notes);
    notes.retain(|note| !of_base.contains(note));
    notes
        .into_iter()
        .map(|(path, support)| match support {
            // Whoever asks for this believes that the agent is safe to reach.
            Support::Later if path == "acl" => "acl does nothing yet: every request is allowed".to_owned(),
            Support::Enterprise => format!("{path} belongs to the enterprise edition and does nothing here"),
            Support::Used | Support::Later | Support::Inert => {
                format!("{path} is accepted and does nothing yet")
            }
        })
        .collect()
}

fn options_of(
    raw: &RawAgent,
    dev: bool,
    addresses: address::Addresses,
    machine: &Machine,
    warnings: &mut Vec<String>,
) -> Result<Options, Fault> {
    let name = raw.name.clone().filter(|name| !name.is_empty()).unwrap_or_else(|| machine.hostname.clone());
    let datacenter = raw.datacenter.clone().unwrap_or_else(|| "dc1".to_owned());
    let data_dir = raw.data_dir.clone().filter(|dir| !dir.is_empty()).map(PathBuf::from);
    let root = if dev { Some(machine.scratch_dir(data_dir.as_deref())) } else { data_dir.clone() };
    let server = raw.server.as_ref().filter(|server| server.enabled == Some(true));
    let client = raw.client.as_ref().filter(|client| client.enabled == Some(true));
    let client = client
        .map(|section| {
            let root = root.as_deref();
            client::options(
                section,
                &client::Agent { name: &name, datacenter: &datacenter, root },
                &addresses,
                machine,
            )
        })
        .transpose()?;
    let telemetry = raw.telemetry.clone().unwrap_or_default();
    check::check_late(raw)?;
    let encrypt = raw.server.as_ref().and_then(|server| server.encrypt.as_ref());
    let encrypt = encrypt.map_or(Ok(None), |key| check::gossip_key(&key.0))?;
    Ok(Options {
        dev,
        region: raw.region.clone().unwrap_or_else(|| "global".to_owned()),
        data_dir: data_dir.filter(|_| !dev),
        http: addresses.http,
        rpc: addresses.rpc,
        serf: addresses.serf,
        advertise: addresses.advertise,
        log_level: check::log_level(raw)?,
        log_json: raw.log_json.unwrap_or(false),
        log_file: raw.log_file.clone().filter(|file| !file.is_empty()).map(PathBuf::from),
        enable_debug: raw.enable_debug.unwrap_or(false),
        prometheus_metrics: telemetry.prometheus_metrics.unwrap_or(false),
        response_headers: raw.http_api_response_headers.clone().unwrap_or_default().into_iter().collect(),
        leave_on_interrupt: raw.leave_on_interrupt.unwrap_or(false),
        leave_on_terminate: raw.leave_on_terminate.unwrap_or(false),
        join: join::options(raw, warnings)?,
        encrypt,
        tls: tls::options(raw)?,
        autopilot: autopilot(raw),
        server: server.map(|section| server::options(section, warnings)).transpose()?,
        plugins: client::plugins(raw),
        client,
        shown: serde_json::Value::Null,
        warnings: Vec::new(),
        files: Vec::new(),
        name,
        datacenter,
    })
}

fn autopilot(raw: &RawAgent) -> AutopilotOptions {
    let raw = raw.autopilot.clone().unwrap_or_default();
    let number = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok());
    AutopilotOptions {
        cleanup_dead_servers: raw.cleanup_dead_servers,
        server_stabilization_time: raw.server_stabilization_time.map(|span| span.time),
        last_contact_threshold: raw.last_contact_threshold.map(|span| span.time),
        max_trailing_logs: number(raw.max_trailing_logs),
        min_quorum: number(raw.min_quorum).and_then(|count| u32::try_from(count).ok()),
    }
}
