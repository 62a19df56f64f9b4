use std::collections::BTreeMap;

use bollard::{models::SystemInfo, query_parameters::InspectNetworkOptions};
use driver::Fingerprint;

use crate::{
    Config,
    engine::{ASK, Engine, EngineError},
    request::Facts,
};

/// Asks the engine what it is.
pub(crate) async fn look(engine: &Engine) -> Result<(SystemInfo, Option<String>), EngineError> {
    let info = engine.call(ASK, |client| async move { client.info().await }).await?;
    let bridge = engine.call(ASK, |client| async move {
        client.inspect_network("bridge", None::<InspectNetworkOptions>).await
    });
    // An engine without the default bridge is as good as any.
    let bridge = bridge.await.ok().and_then(|network| {
        let configs = network.ipam?.config?;
        configs.into_iter().find_map(|config| config.gateway)
    });
    Ok((info, bridge))
}

/// Says what was found in the words of the API.
pub(crate) fn describe(info: &SystemInfo, bridge: Option<&str>, config: &Config) -> Fingerprint {
    let mut attributes = BTreeMap::new();
    let mut set = |name: &str, value: String| {
        attributes.insert(format!("driver.docker{name}"), value);
    };
    set("", "true".to_owned());
    if let Some(version) = &info.server_version {
        set(".version", version.clone());
    }
    if let Some(os) = &info.os_type {
        set(".os_type", os.clone());
    }
    let runtimes = runtimes(info);
    if !runtimes.is_empty() {
        set(".runtimes", runtimes.join(","));
    }
    if let Some(address) = bridge {
        set(".bridge_ip", address.to_owned());
    }
    if config.volumes_enabled {
        set(".volumes.enabled", "true".to_owned());
    }
    if config.allow_privileged {
        set(".privileged.enabled", "true".to_owned());
    }
    if config.pids_limit > 0 {
        set(".pids.limit", config.pids_limit.to_string());
    }
    Fingerprint::healthy(attributes)
}

/// What requests depend on.
pub(crate) fn facts(info: &SystemInfo) -> Facts {
    Facts { processors: info.ncpu.and_then(|n| u64::try_from(n).ok()).unwrap_or(1), runtimes: runtimes(info) }
}

fn runtimes(info: &SystemInfo) -> Vec<String> {
    let mut names: Vec<String> = info.runtimes.iter().flat_map(|map| map.keys().cloned()).collect();
    names.sort_unstable();
    names
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn attributes_are_those_that_jobs_constrain_on() {
        let info: SystemInfo = serde_json::from_value(json!({
            "ServerVersion": "20.10.24", "OSType": "linux", "NCPU": 2, "Runtimes": {"runc": {}, "io.x": {}},
        }))
        .expect("the engine's form");
        let config = Config::parse(&json!({"volumes": {"enabled": true}, "pids_limit": 5})).expect("right");
        let found = describe(&info, Some("172.17.0.1"), &config);
        let expected = [
            ("driver.docker", "true"),
            ("driver.docker.bridge_ip", "172.17.0.1"),
            ("driver.docker.os_type", "linux"),
            ("driver.docker.pids.limit", "5"),
            ("driver.docker.runtimes", "io.x,runc"),
            ("driver.docker.version", "20.10.24"),
            ("driver.docker.volumes.enabled", "true"),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        assert_eq!((found.attributes, found.healthy), (expected, true));
        assert_eq!(facts(&info).processors, 2);
    }
}
