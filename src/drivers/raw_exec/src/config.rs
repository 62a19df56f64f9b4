use std::{collections::BTreeMap, ops::RangeInclusive};

use driver::{
    TaskEnv,
    schema::{ConfigErrors, Kind, Schema},
};
use serde::Deserialize;
use serde_json::Value;

/// The plugin's configuration, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Whether tasks may run at all. Off unless switched on, because they run with the agent's rights.
    pub enabled: bool,
    /// Users that a task may not name, as ids.
    pub denied_host_uids: IdRanges,
    /// Groups that a task's user may not be in, as ids.
    pub denied_host_gids: IdRanges,
    /// Names of variables that no task gets; `*` stands for any letters.
    pub denied_envvars: Vec<String>,
}

impl Config {
    /// Checks the `config` block of `plugin "raw_exec"`.
    ///
    /// # Errors
    ///
    /// Names every mistake.
    pub fn from_value(value: &Value) -> Result<Self, ConfigErrors> {
        #[derive(Deserialize)]
        struct Raw {
            enabled: bool,
            denied_host_uids: String,
            denied_host_gids: String,
            denied_envvars: Vec<String>,
        }
        let schema = Schema::new()
            .defaulted("enabled", Kind::Bool, false)
            .defaulted("denied_host_uids", Kind::String, "")
            .defaulted("denied_host_gids", Kind::String, "")
            .defaulted("denied_envvars", Kind::strings(), Vec::<String>::new());
        let checked = schema.check(value)?;
        let raw: Raw = serde_json::from_value(checked).expect("the schema gives every field its kind");
        let ids =
            |name: &str, text: &str| IdRanges::parse(text).map_err(|why| ConfigErrors::value(name, why));
        Ok(Self {
            enabled: raw.enabled,
            denied_host_uids: ids("denied_host_uids", &raw.denied_host_uids)?,
            denied_host_gids: ids("denied_host_gids", &raw.denied_host_gids)?,
            denied_envvars: raw.denied_envvars,
        })
    }
}

/// User or group ids, written as `0,100-199`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdRanges(Vec<RangeInclusive<u32>>);

impl IdRanges {
    /// Reads single ids and ranges, separated by commas.
    ///
    /// # Errors
    ///
    /// Says which part is no id and no range.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut ranges = Vec::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            match (first.trim().parse::<u32>(), last.trim().parse::<u32>()) {
                (Ok(first), Ok(last)) if first <= last => ranges.push(first..=last),
                _ => return Err(format!("{part:?} is no id and no range of ids such as 100-199")),
            }
        }
        Ok(Self(ranges))
    }

    /// Tells whether an id is in it.
    pub fn contains(&self, id: u32) -> bool {
        self.0.iter().any(|range| range.contains(&id))
    }
}

/// A task's `config` block, checked.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Options {
    pub command: String,
    #[serde(default)]
    pub args: Vec<String>,
    #[serde(default)]
    pub work_dir: String,
    #[serde(default)]
    pub oom_score_adj: i64,
    #[serde(default)]
    pub denied_envvars: Vec<String>,
    #[serde(default)]
    pub cgroup_v1_override: BTreeMap<String, String>,
    #[serde(default)]
    pub cgroup_v2_override: String,
}

/// The highest value that the kernel takes.
const OOM_SCORE_ADJ_MAX: i64 = 1000;

impl Options {
    pub fn schema() -> Schema {
        Schema::new()
            .required("command", Kind::String)
            .optional("args", Kind::strings())
            .optional("work_dir", Kind::String)
            .optional("oom_score_adj", Kind::Integer)
            .optional("denied_envvars", Kind::strings())
            .optional("cgroup_v1_override", Kind::string_map())
            .optional("cgroup_v2_override", Kind::String)
    }

    pub fn check(schema: &Schema, config: &Value) -> Result<Self, ConfigErrors> {
        let checked = schema.check(config)?;
        let options: Self = serde_json::from_value(checked).expect("the schema gives every field its kind");
        if options.command.is_empty() {
            return Err(ConfigErrors::value("command", "it is empty; name a program"));
        }
        if !options.work_dir.is_empty() && !options.work_dir.starts_with('/') {
            let reason = format!("work_dir must be absolute but got relative path {:?}", options.work_dir);
            return Err(ConfigErrors::value("work_dir", reason));
        }
        if !(0..=OOM_SCORE_ADJ_MAX).contains(&options.oom_score_adj) {
            let reason = format!("it must be from 0 to {OOM_SCORE_ADJ_MAX}, not {}", options.oom_score_adj);
            return Err(ConfigErrors::value("oom_score_adj", reason));
        }
        Ok(options)
    }
}

/// Takes the variables out that the operator or the job denies.
pub(crate) fn without_denied(env: &TaskEnv, denied: &[&[String]]) -> BTreeMap<String, String> {
    let is_denied = |name: &str| denied.iter().copied().flatten().any(|pattern| matches(pattern, name));
    env.0.iter().filter(|(name, _)| !is_denied(name)).map(|(n, v)| (n.clone(), v.clone())).collect()
}

/// Tells whether a name fits a pattern in which `*` stands for any letters.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(tail) = name.strip_prefix(head) else { return false };
    (0..=tail.len()).filter(|n| tail.is_char_boundary(*n)).any(|n| matches(rest, &tail[n..]))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_plugin_without_a_word_is_off() {
        let config = Config::from_value(&json!(null)).expect("empty is fine");
        assert!(!config.enabled);
        let config =
            Config::from_value(&json!({"enabled": "true", "denied_host_uids": "0, 10-12"})).expect("fine");
        assert!(
            config.enabled && config.denied_host_uids.contains(11) && !config.denied_host_uids.contains(13)
        );
        for bad in ["x", "5-1", "-1", "1-2-3"] {
            assert!(Config::from_value(&json!({"denied_host_gids": bad})).is_err(), "{bad}");
        }
    }

    #[test]
    fn denied_variables_are_matched_by_pattern() {
        let env: TaskEnv = [("AWS_KEY", "1"), ("MY_SECRET", "2"), ("HOME", "3")].into_iter().collect();
        let denied = [String::from("AWS_*"), String::from("*SECRET")];
        assert_eq!(without_denied(&env, &[&denied, &[]]).into_keys().collect::<Vec<_>>(), ["HOME"]);
    }

    #[test]
    fn options_that_cannot_be_meant_are_refused() {
        let schema = Options::schema();
        let check = |config| Options::check(&schema, &config);
        assert!(check(json!({"command": "x", "args": ["a"], "cgroup_v1_override": [{"pids": "p"}]})).is_ok());
        for bad in [
            json!({"command": ""}),
            json!({"command": "x", "work_dir": "relative"}),
            json!({"command": "x", "oom_score_adj": -1}),
            json!({"command": "x", "oom_score_adj": 1001}),
            json!({"command": ["x", "y"]}),
        ] {
            assert!(check(bad.clone()).is_err(), "{bad}");
        }
    }
}
