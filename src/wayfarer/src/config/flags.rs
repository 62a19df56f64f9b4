//! The flags of `wayfarer agent`, and what the environment adds.

use std::{collections::BTreeMap, path::PathBuf};

use super::{
    raw::{Named, RawAgent, RawConsul, RawServerJoin, RawVault},
    section::{Added, Secret, Span},
};

/// A call of `wayfarer agent`, taken apart.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// Everything in memory, for trying things out.
    pub dev: bool,
    /// As `dev`, but reachable from outside, with networks for services.
    pub dev_connect: bool,
    /// Settings for a Consul agent of one's own.
    pub dev_consul: bool,
    /// Settings for a Vault server of one's own.
    pub dev_vault: bool,
    /// Files and directories, in the order given.
    pub config: Vec<PathBuf>,
    /// What flags say; they win over files.
    pub(super) raw: RawAgent,
    /// What the environment says; files win over it.
    pub(super) env: RawAgent,
}

/// A call that can not be understood.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum UsageError {
    /// Help was asked for; this is it.
    #[error("{0}")]
    Help(String),
    /// There is no such flag.
    #[error("flag provided but not defined: -{name}{}", similar.map(|name| format!(" (did you mean -{name}?)")).unwrap_or_default())]
    Unknown {
        /// Its name.
        name: String,
        /// A flag that there is.
        similar: Option<&'static str>,
    },
    /// A flag stands last, without its value.
    #[error("flag needs an argument: -{0}")]
    NoValue(String),
    /// A value is of the wrong kind.
    #[error("invalid value {value:?} for flag -{name}: {why}")]
    BadValue {
        /// The flag.
        name: String,
        /// The value.
        value: String,
        /// What it should be.
        why: &'static str,
    },
    /// Something that is no flag.
    #[error("the agent takes flags only, got {0:?}; configuration files are given with -config=<path>")]
    Argument(String),
}

/// What a flag does with its value; the error says what the value should be.
enum Set {
    Switch(fn(&mut Flags, bool)),
    Text(fn(&mut Flags, String)),
    Number(fn(&mut Flags, i64)),
    Time(fn(&mut Flags, Span)),
}

type Row = (&'static str, Set, &'static str);

/// Every flag, in the order of the help.
static FLAGS: &[Row] = &[
    (
        "config",
        Set::Text(|f, v| f.config.push(v.into())),
        "File or directory with configuration; may be given again.",
    ),
    ("dev", Set::Switch(|f, v| f.dev = v), "Server and client in one, in memory, on this machine only."),
    ("dev-connect", Set::Switch(|f, v| f.dev_connect = v), "As -dev, but reachable from outside."),
    ("dev-consul", Set::Switch(|f, v| f.dev_consul = v), "As -dev, with settings for a Consul agent."),
    ("dev-vault", Set::Switch(|f, v| f.dev_vault = v), "As -dev, with settings for a Vault server."),
    ("bind", Set::Text(|f, v| f.raw.bind_addr = Some(v)), "Address to listen on."),
    ("data-dir", Set::Text(|f, v| f.raw.data_dir = Some(v)), "Where everything lasting is kept; absolute."),
    ("plugin-dir", Set::Text(|f, v| f.raw.plugin_dir = Some(v)), "Where plugins are; absolute."),
    ("region", Set::Text(|f, v| f.raw.region = Some(v)), "Name of the region."),
    ("dc", Set::Text(|f, v| f.raw.datacenter = Some(v)), "Name of the datacenter."),
    ("node", Set::Text(|f, v| f.raw.name = Some(v)), "Name of this agent; the host's name unless given."),
    ("log-level", Set::Text(|f, v| f.raw.log_level = Some(v)), "TRACE, DEBUG, INFO, WARN, ERROR or OFF."),
    ("log-file", Set::Text(|f, v| f.raw.log_file = Some(v)), "File that the log goes to, too."),
    ("log-json", Set::Switch(|f, v| f.raw.log_json = Some(v)), "Log lines as JSON."),
    (
        "log-include-location",
        Set::Switch(|f, v| f.raw.log_include_location = Some(v)),
        "Name the source line of log lines.",
    ),
    ("server", Set::Switch(|f, v| server(f).enabled = Some(v)), "Be a server."),
    (
        "bootstrap-expect",
        Set::Number(|f, v| server(f).bootstrap_expect = Some(v)),
        "Servers that found the region together.",
    ),
    (
        "encrypt",
        Set::Text(|f, v| server(f).encrypt = Some(Secret(v))),
        "Key that gossip is encrypted with, in base64.",
    ),
    (
        "authoritative-region",
        Set::Text(|f, v| server(f).authoritative_region = Some(v)),
        "Region that policies come from.",
    ),
    ("raft-protocol", Set::Number(|f, v| server(f).raft_protocol = Some(v)), "Version 3."),
    ("join", Set::Text(|f, v| added(&mut join(f).start_join, &v)), "Agent to join; may be given again."),
    (
        "retry-join",
        Set::Text(|f, v| added(&mut join(f).retry_join, &v)),
        "As -join, again and again until it works.",
    ),
    (
        "token",
        Set::Text(|f, v| f.raw.join_token = Some(Secret(v))),
        "Token that lets this agent join, from `server token create`. Better in WAYFARER_JOIN_TOKEN: a flag can be seen.",
    ),
    ("retry-max", Set::Number(|f, v| join(f).retry_max = Some(v)), "Times to try; 0 for no end."),
    ("retry-interval", Set::Time(|f, v| join(f).retry_interval = Some(v)), "Time between two tries."),
    ("rejoin", Set::Switch(|f, v| server(f).rejoin_after_leave = Some(v)), "Join again after having left."),
    ("redundancy-zone", Set::Text(|f, v| server(f).redundancy_zone = Some(v)), "Accepted for compatibility."),
    (
        "non-voting-server",
        Set::Switch(|f, v| server(f).non_voting_server = Some(v)),
        "Accepted for compatibility.",
    ),
    ("client", Set::Switch(|f, v| client(f).enabled = Some(v)), "Be a client."),
    (
        "state-dir",
        Set::Text(|f, v| client(f).state_dir = Some(v)),
        "Where the client's own records are; absolute.",
    ),
    ("alloc-dir", Set::Text(|f, v| client(f).alloc_dir = Some(v)), "Where allocations live; absolute."),
    (
        "alloc-mounts-dir",
        Set::Text(|f, v| client(f).alloc_mounts_dir = Some(v)),
        "Where mounts of allocations are; absolute.",
    ),
    (
        "host-volumes-dir",
        Set::Text(|f, v| client(f).host_volumes_dir = Some(v)),
        "Where dynamic host volumes live; absolute.",
    ),
    (
        "host-volume-plugin-dir",
        Set::Text(|f, v| client(f).host_volume_plugin_dir = Some(v)),
        "Where plugins for them are; absolute.",
    ),
    (
        "common-plugin-dir",
        Set::Text(|f, v| client(f).common_plugin_dir = Some(v)),
        "Where common plugins are; absolute.",
    ),
    (
        "servers",
        Set::Text(|f, v| added(&mut client(f).servers, &v)),
        "Servers to speak to, with commas between them; may be given again.",
    ),
    ("node-class", Set::Text(|f, v| client(f).node_class = Some(v)), "Class of this node."),
    ("node-pool", Set::Text(|f, v| client(f).node_pool = Some(v)), "Pool of this node."),
    (
        "meta",
        Set::Text(set_meta),
        "Key=value pairs of this node, with commas between them; may be given again.",
    ),
    (
        "network-interface",
        Set::Text(|f, v| client(f).network_interface = Some(v)),
        "Interface that tasks' ports are on.",
    ),
    (
        "preferred-address-family",
        Set::Text(|f, v| client(f).preferred_address_family = Some(v)),
        "ipv4 or ipv6.",
    ),
    (
        "network-speed",
        Set::Number(|f, v| client(f).network_speed = Some(v)),
        "Its speed in megabits a second.",
    ),
    (
        "cpu-total-compute",
        Set::Number(|f, v| client(f).cpu_total_compute = Some(v)),
        "Compute of this node in MHz.",
    ),
    (
        "reservable-cores",
        Set::Text(|f, v| client(f).reservable_cores = Some(v)),
        "Cores that may be given to one task alone.",
    ),
    (
        "max-kill-timeout",
        Set::Time(|f, v| client(f).max_kill_timeout = Some(v)),
        "The longest that a task may take to stop.",
    ),
    (
        "client-intro-token",
        Set::Text(|f, v| client(f).intro_token = Some(Secret(v))),
        "Token that a new node comes with.",
    ),
    (
        "acl-enabled",
        Set::Switch(|f, v| f.raw.acl.get_or_insert_default().enabled = Some(v)),
        "Ask for tokens.",
    ),
    (
        "acl-replication-token",
        Set::Text(|f, v| f.raw.acl.get_or_insert_default().replication_token = Some(Secret(v))),
        "Token for the authoritative region.",
    ),
    ("consul-address", Set::Text(|f, v| consul(f).address = Some(v)), "Address of the Consul agent."),
    ("consul-auth", Set::Text(|f, v| consul(f).auth = Some(Secret(v))), "User and password for Consul."),
    (
        "consul-auto-advertise",
        Set::Switch(|f, v| consul(f).auto_advertise = Some(v)),
        "Register this agent in Consul.",
    ),
    (
        "consul-ca-file",
        Set::Text(|f, v| consul(f).ca_file = Some(v)),
        "Authority that signed Consul's certificate.",
    ),
    ("consul-cert-file", Set::Text(|f, v| consul(f).cert_file = Some(v)), "Certificate for Consul."),
    ("consul-key-file", Set::Text(|f, v| consul(f).key_file = Some(v)), "Key for Consul."),
    (
        "consul-checks-use-advertise",
        Set::Switch(|f, v| consul(f).checks_use_advertise = Some(v)),
        "Checks ask the advertised address.",
    ),
    (
        "consul-client-auto-join",
        Set::Switch(|f, v| consul(f).client_auto_join = Some(v)),
        "Clients find servers in Consul.",
    ),
    (
        "consul-client-service-name",
        Set::Text(|f, v| consul(f).client_service_name = Some(v)),
        "Name of clients in Consul.",
    ),
    (
        "consul-client-http-check-name",
        Set::Text(|f, v| consul(f).client_http_check_name = Some(v)),
        "Name of their check.",
    ),
    (
        "consul-server-auto-join",
        Set::Switch(|f, v| consul(f).server_auto_join = Some(v)),
        "Servers find each other in Consul.",
    ),
    (
        "consul-server-service-name",
        Set::Text(|f, v| consul(f).server_service_name = Some(v)),
        "Name of servers in Consul.",
    ),
    (
        "consul-server-http-check-name",
        Set::Text(|f, v| consul(f).server_http_check_name = Some(v)),
        "Name of their HTTP check.",
    ),
    (
        "consul-server-rpc-check-name",
        Set::Text(|f, v| consul(f).server_rpc_check_name = Some(v)),
        "Name of their RPC check.",
    ),
    (
        "consul-server-serf-check-name",
        Set::Text(|f, v| consul(f).server_serf_check_name = Some(v)),
        "Name of their gossip check.",
    ),
    ("consul-ssl", Set::Switch(|f, v| consul(f).ssl = Some(v)), "Speak TLS with Consul."),
    ("consul-token", Set::Text(|f, v| consul(f).token = Some(Secret(v))), "Token for Consul."),
    ("consul-verify-ssl", Set::Switch(|f, v| consul(f).verify_ssl = Some(v)), "Check Consul's certificate."),
    ("consul-namespace", Set::Text(|f, v| consul(f).namespace = Some(v)), "Namespace in Consul."),
    ("vault-enabled", Set::Switch(|f, v| vault(f).enabled = Some(v)), "Use Vault."),
    ("vault-address", Set::Text(|f, v| vault(f).address = Some(v)), "Address of Vault."),
    ("vault-token", Set::Text(|f, v| vault(f).token = Some(Secret(v))), "Token for Vault."),
    (
        "vault-create-from-role",
        Set::Text(|f, v| vault(f).create_from_role = Some(v)),
        "Role that tasks' tokens are made from.",
    ),
    (
        "vault-allow-unauthenticated",
        Set::Switch(|f, v| vault(f).allow_unauthenticated = Some(v)),
        "Accepted for compatibility.",
    ),
    (
        "vault-ca-file",
        Set::Text(|f, v| vault(f).ca_file = Some(v)),
        "Authority that signed Vault's certificate.",
    ),
    ("vault-ca-path", Set::Text(|f, v| vault(f).ca_path = Some(v)), "Directory of such authorities."),
    ("vault-cert-file", Set::Text(|f, v| vault(f).cert_file = Some(v)), "Certificate for Vault."),
    ("vault-key-file", Set::Text(|f, v| vault(f).key_file = Some(v)), "Key for Vault."),
    ("vault-namespace", Set::Text(|f, v| vault(f).namespace = Some(v)), "Namespace in Vault."),
    (
        "vault-tls-server-name",
        Set::Text(|f, v| vault(f).tls_server_name = Some(v)),
        "Name in Vault's certificate.",
    ),
    (
        "vault-tls-skip-verify",
        Set::Switch(|f, v| vault(f).tls_skip_verify = Some(v)),
        "Do not check Vault's certificate.",
    ),
];

fn server(flags: &mut Flags) -> &mut super::raw::RawServer {
    flags.raw.server.get_or_insert_default()
}

fn join(flags: &mut Flags) -> &mut RawServerJoin {
    server(flags).server_join.get_or_insert_default()
}

fn client(flags: &mut Flags) -> &mut super::raw::RawClient {
    flags.raw.client.get_or_insert_default()
}

fn consul(flags: &mut Flags) -> &mut RawConsul {
    consul_of(&mut flags.raw)
}

fn consul_of(raw: &mut RawAgent) -> &mut RawConsul {
    raw.consul.get_or_insert_with(|| Named(BTreeMap::new())).0.entry("default".to_owned()).or_default()
}

fn vault(flags: &mut Flags) -> &mut RawVault {
    vault_of(&mut flags.raw)
}

fn vault_of(raw: &mut RawAgent) -> &mut RawVault {
    raw.vault.get_or_insert_with(|| Named(BTreeMap::new())).0.entry("default".to_owned()).or_default()
}

fn added(list: &mut Option<Added>, text: &str) {
    let items = text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned);
    list.get_or_insert_default().0.extend(items);
}

fn set_meta(flags: &mut Flags, text: String) {
    let meta = client(flags).meta.get_or_insert_default();
    for pair in text.split(',').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        meta.insert(key.to_owned(), value.to_owned());
    }
}

/// Takes a call of `wayfarer agent` apart, in the manner of Go: `-x v`, `-x=v` or `--x=v`.
///
/// # Errors
///
/// Says what can not be understood, or carries the help that was asked for.
pub fn parse_agent_args(args: &[String], env: &BTreeMap<String, String>) -> Result<Flags, UsageError> {
    let mut flags = Flags { env: of_env(env), ..Flags::default() };
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        let Some(text) =
            arg.strip_prefix("--").or_else(|| arg.strip_prefix('-')).filter(|text| !text.is_empty())
        else {
            return Err(UsageError::Argument(arg.clone()));
        };
        let (name, given) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
        if matches!(name, "h" | "help") {
            return Err(UsageError::Help(help()));
        }
        let Some((known, set, _)) = FLAGS.iter().find(|(known, ..)| *known == name) else {
            let similar = hcl::similar_name(name, FLAGS.iter().map(|(known, ..)| *known));
            return Err(UsageError::Unknown {
                name: name.to_owned(),
                similar: similar.and_then(static_name),
            });
        };
        let value = match (given, set) {
            (Some(value), _) => value.to_owned(),
            (None, Set::Switch(_)) => "true".to_owned(),
            (None, _) => rest.next().cloned().ok_or_else(|| UsageError::NoValue((*known).to_owned()))?,
        };
        apply(&mut flags, known, set, value)?;
    }
    Ok(flags)
}

fn static_name(name: &str) -> Option<&'static str> {
    FLAGS.iter().map(|(known, ..)| *known).find(|known| *known == name)
}

fn apply(flags: &mut Flags, name: &str, set: &Set, value: String) -> Result<(), UsageError> {
    let bad = |value: &str, why| UsageError::BadValue { name: name.to_owned(), value: value.to_owned(), why };
    match set {
        Set::Text(set) => set(flags, value),
        Set::Switch(set) => match value.as_str() {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => set(flags, true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => set(flags, false),
            _ => return Err(bad(&value, "wanted true or false")),
        },
        Set::Number(set) => set(flags, value.parse().map_err(|_| bad(&value, "wanted a whole number"))?),
        Set::Time(set) => {
            let span = Span::parse(&value).ok_or_else(|| bad(&value, "wanted a time such as 30s or 1h"))?;
            set(flags, span);
        }
    }
    Ok(())
}

/// The help of `wayfarer agent`.
pub fn help() -> String {
    let mut text = "Usage: wayfarer agent [options]\n\n  Runs an agent: a server, a client, or both. Settings come from \
                    files, and flags win over them.\n\nOptions:\n"
        .to_owned();
    for (name, set, about) in FLAGS {
        let value = match set {
            Set::Switch(_) => "",
            Set::Text(_) => "=<text>",
            Set::Number(_) => "=<number>",
            Set::Time(_) => "=<time>",
        };
        text.push_str(&format!("\n  -{name}{value}\n    {about}\n"));
    }
    text
}

/// What the environment says about Consul and Vault.
fn of_env(env: &BTreeMap<String, String>) -> RawAgent {
    let mut raw = RawAgent::default();
    let value = |name: &str| env.get(name).filter(|value| !value.is_empty()).cloned();
    let yes = |text: String| text == "1" || text.eq_ignore_ascii_case("true");
    if let Some(address) = value("CONSUL_HTTP_ADDR") {
        consul_of(&mut raw).address = Some(address);
    }
    if let Some(token) = value("CONSUL_HTTP_TOKEN") {
        consul_of(&mut raw).token = Some(Secret(token));
    }
    if let Some(auth) = value("CONSUL_HTTP_AUTH") {
        consul_of(&mut raw).auth = Some(Secret(auth));
    }
    if let Some(ssl) = value("CONSUL_HTTP_SSL") {
        consul_of(&mut raw).ssl = Some(yes(ssl));
    }
    if let Some(namespace) = value("CONSUL_NAMESPACE") {
        consul_of(&mut raw).namespace = Some(namespace);
    }
    raw.join_token = value("WAYFARER_JOIN_TOKEN").map(Secret);
    if let Some(token) = value("VAULT_TOKEN") {
        vault_of(&mut raw).token = Some(Secret(token));
    }
    if let Some(namespace) = value("VAULT_NAMESPACE") {
        vault_of(&mut raw).namespace = Some(namespace);
    }
    raw
}
