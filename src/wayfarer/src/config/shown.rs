//! The configuration as `/v1/agent/self` shows it.

use std::path::PathBuf;

use serde_json::{Map, Value, json};

use super::{Flags, options::Options, raw::RawAgent, section::Section};

/// What is shown of an agent of which nothing is configured. A key's type there decides how its value is shown: a time
/// as a number of nanoseconds, or as text.
const STANDARD: &str = include_str!("shown.json");

/// Makes the shown form. Secrets are not in it.
pub(super) fn shown(raw: &RawAgent, options: &Options, flags: &Flags, files: &[PathBuf]) -> Value {
    let mut all: Map<String, Value> =
        serde_json::from_str(STANDARD).expect("the file is part of the program");
    raw.show_into(&mut all);
    let advertise = &options.advertise;
    // A client has no part in gossip.
    let serf = options.server.as_ref().map(|_| advertise.serf.to_string()).unwrap_or_default();
    let http: Vec<String> = options.http.iter().map(|address| address.ip().to_string()).collect();
    let mut set = |key: &str, value: Value| {
        all.insert(key.to_owned(), value);
    };
    set("DevMode", options.dev.into());
    set("Region", options.region.as_str().into());
    set("Datacenter", options.datacenter.as_str().into());
    set("NodeName", options.name.as_str().into());
    set("LogLevel", options.log_level.to_uppercase().into());
    set(
        "Addresses",
        json!({
            "HTTP": http.join(" "),
            "RPC": options.rpc.ip().to_string(),
            "Serf": options.serf.ip().to_string(),
        }),
    );
    set(
        "AdvertiseAddrs",
        json!({
            "HTTP": advertise.http.to_string(),
            "RPC": advertise.rpc.to_string(),
            "Serf": serf,
        }),
    );
    if !flags.config.is_empty() {
        set("ConfigPaths", paths(&flags.config));
        set("Files", paths(files));
    }
    if let (Some(dir), None) = (raw.data_dir.as_ref().filter(|dir| !dir.is_empty()), &raw.plugin_dir) {
        set("PluginDir", format!("{}/plugins", dir.trim_end_matches('/')).into());
    }
    all.into()
}

fn paths(paths: &[PathBuf]) -> Value {
    paths.iter().map(|path| path.display().to_string()).collect()
}
