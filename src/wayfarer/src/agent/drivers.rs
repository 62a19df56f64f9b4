//! The task drivers of an agent.

use std::{path::Path, sync::Arc};

use anyhow::Context;
use driver::{Driver, DriverContext, cgroup::Cgroups};
use runtime::Env;
use serde_json::{Value, json};

use crate::config::Options;

/// Makes every driver that this binary has, as the configuration's `plugin` blocks say.
///
/// # Errors
///
/// Names the plugin whose configuration is wrong.
pub fn make(
    env: &Env,
    options: &Options,
    state_dir: &Path,
    node_id: &str,
) -> anyhow::Result<Vec<Arc<dyn Driver>>> {
    let client = options.client.as_ref().context("drivers are for clients")?;
    let cgroups = Cgroups::detect(Some(&client.node.cgroup_parent));
    if let Some(reason) = cgroups.disabled() {
        tracing::warn!(%reason, "tasks run without control groups: their limits are not enforced");
    }
    let context = |name: &str| DriverContext {
        env: env.clone(),
        state_dir: state_dir.join("drivers").join(name),
        alloc_dir: client.alloc_dir.clone(),
        cgroups: cgroups.clone(),
    };
    let settings = |name: &str| options.plugins.get(name).cloned().unwrap_or_else(|| json!({}));
    let wrong = |name: &str| format!("configuration of plugin {name:?}");
    let mut drivers: Vec<Arc<dyn Driver>> = Vec::new();

    let mut raw_exec = settings("raw_exec");
    // The old way to switch it on.
    if client.options.get("driver.raw_exec.enable").is_some_and(|value| value == "1" || value == "true") {
        set_default(&mut raw_exec, "enabled", json!(true));
    }
    let config = driver_raw_exec::Config::from_value(&raw_exec).with_context(|| wrong("raw_exec"))?;
    if config.enabled {
        drivers.push(Arc::new(driver_raw_exec::RawExec::new(context("raw_exec"), config)?));
    }
    let mut config = driver_docker::Config::parse(&settings("docker")).with_context(|| wrong("docker"))?;
    // An engine may serve several agents; each looks after its own containers.
    config.node_id = Some(node_id.to_owned());
    drivers.push(Arc::new(driver_docker::Docker::new(env, config)));
    let config =
        driver_mock::Config::from_value(&settings("mock_driver")).with_context(|| wrong("mock_driver"))?;
    drivers.push(Arc::new(driver_mock::MockDriver::new(env.clone(), config, driver_mock::World::default())));
    Ok(drivers)
}

fn set_default(settings: &mut Value, key: &str, value: Value) {
    if let Value::Object(map) = settings {
        map.entry(key.to_owned()).or_insert(value);
    }
}
