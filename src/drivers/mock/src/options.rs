use std::{collections::BTreeMap, time::Duration};

use driver::{
    DriverNetwork, ExitResult, FsIsolation,
    schema::{ConfigErrors, Kind, Schema},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The plugin's configuration, checked.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// What the driver claims to isolate.
    pub fs_isolation: FsIsolation,
}

impl Config {
    /// Checks the `config` block of `plugin "mock_driver"`.
    ///
    /// # Errors
    ///
    /// Names every mistake.
    pub fn from_value(value: &Value) -> Result<Self, ConfigErrors> {
        let schema = Schema::new()
            .defaulted("fs_isolation", Kind::String, "none")
            .optional("shutdown_periodic_after", Kind::Bool)
            .optional("shutdown_periodic_duration", Kind::Integer);
        let checked = schema.check(value)?;
        let fs_isolation = match checked["fs_isolation"].as_str() {
            Some("none" | "") => FsIsolation::None,
            Some("chroot") => FsIsolation::Chroot,
            Some("image") => FsIsolation::Image,
            _ => return Err(ConfigErrors::value("fs_isolation", "give none, chroot or image")),
        };
        Ok(Self { fs_isolation })
    }
}

/// What a pretended command does. A task is one, and so is what `exec` pretends to run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Command {
    #[serde(with = "go_duration")]
    pub run_for: Duration,
    pub exit_code: i32,
    pub exit_signal: i32,
    pub exit_err_msg: String,
    pub signal_error: String,
    pub stdout_string: String,
    pub stdout_repeat: u32,
    #[serde(with = "go_duration")]
    pub stdout_repeat_duration: Duration,
    pub stderr_string: String,
    pub stderr_repeat: u32,
    #[serde(with = "go_duration")]
    pub stderr_repeat_duration: Duration,
}

/// A task's `config` block, checked.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Options {
    #[serde(flatten)]
    pub command: Command,
    #[serde(with = "go_duration")]
    pub kill_after: Duration,
    pub start_error: String,
    pub start_error_recoverable: bool,
    #[serde(with = "go_duration")]
    pub start_block_for: Duration,
    pub driver_ip: String,
    pub driver_advertise: bool,
    pub driver_port_map: String,
    pub exec_command: Option<Command>,
}

impl Command {
    fn schema() -> Schema {
        Schema::new()
            .optional("run_for", Kind::String)
            .optional("exit_code", Kind::Integer)
            .optional("exit_signal", Kind::Integer)
            .optional("exit_err_msg", Kind::String)
            .optional("signal_error", Kind::String)
            .optional("stdout_string", Kind::String)
            .optional("stdout_repeat", Kind::Integer)
            .optional("stdout_repeat_duration", Kind::String)
            .optional("stderr_string", Kind::String)
            .optional("stderr_repeat", Kind::Integer)
            .optional("stderr_repeat_duration", Kind::String)
            // A plugin that dies. There are no plugin processes here, so that it means nothing.
            .optional("plugin_exit_after", Kind::String)
    }

    /// How it ends when nobody interferes.
    pub fn result(&self) -> ExitResult {
        let err = (!self.exit_err_msg.is_empty()).then(|| self.exit_err_msg.clone());
        ExitResult { exit_code: self.exit_code, signal: self.exit_signal, oom_killed: false, err }
    }
}

impl Options {
    pub fn schema() -> Schema {
        Command::schema()
            .optional("kill_after", Kind::String)
            .optional("start_error", Kind::String)
            .optional("start_error_recoverable", Kind::Bool)
            .optional("start_block_for", Kind::String)
            .optional("driver_ip", Kind::String)
            .optional("driver_advertise", Kind::Bool)
            .optional("driver_port_map", Kind::String)
            .optional("exec_command", Kind::Block(Command::schema()))
    }

    pub fn check(schema: &Schema, config: &Value) -> Result<Self, ConfigErrors> {
        let checked = schema.check(config)?;
        let options: Self = serde_json::from_value(checked)
            .map_err(|error| ConfigErrors::value("config", error.to_string()))?;
        options.port_map()?;
        Ok(options)
    }

    /// Reads `driver_port_map`, such as `http:80 https:443`.
    fn port_map(&self) -> Result<BTreeMap<String, u16>, ConfigErrors> {
        let pairs = self.driver_port_map.split([' ', ',']).filter(|pair| !pair.is_empty());
        let pair = |pair: &str| {
            let (label, port) = pair.split_once([':', '='])?;
            Some((label.to_owned(), port.parse().ok()?))
        };
        pairs
            .map(|text| {
                let reason = || format!("{text:?} is no label and port such as http:80");
                pair(text).ok_or_else(|| ConfigErrors::value("driver_port_map", reason()))
            })
            .collect()
    }

    /// The address that the task pretends to have.
    pub fn network(&self) -> Option<DriverNetwork> {
        let port_map = self.port_map().unwrap_or_default();
        let ip = self.driver_ip.clone();
        let wanted = !ip.is_empty() || !port_map.is_empty();
        wanted.then_some(DriverNetwork { ip, auto_advertise: self.driver_advertise, port_map })
    }
}

/// Units of a duration, in nanoseconds; longer names first, because `m` begins `ms`.
const UNITS: [(&str, f64); 8] =
    [("ns", 1.0), ("us", 1e3), ("µs", 1e3), ("μs", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 60e9), ("h", 3600e9)];

/// Reads a duration as job files write it: `1h30m`, `1.5s`, `200ms`, `0`.
pub fn parse_duration(text: &str) -> Option<Duration> {
    if text.is_empty() || text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(digits);
        let (name, unit) = UNITS.iter().find(|(name, _)| tail.starts_with(name))?;
        total += number.parse::<f64>().ok()? * unit;
        rest = &tail[name.len()..];
    }
    Duration::try_from_secs_f64(total / 1e9).ok()
}

mod go_duration {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("{}ns", duration.as_nanos()))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        super::parse_duration(&text)
            .ok_or_else(|| D::Error::custom(format!("{text:?} is no duration such as 1m30s or 500ms")))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn durations_are_read_as_in_job_files() {
        let seconds = |text| parse_duration(text).map(|duration| duration.as_secs_f64());
        assert_eq!(seconds("1h2m3.5s"), Some(3723.5));
        assert_eq!(seconds("250ms"), Some(0.25));
        assert_eq!(seconds(""), Some(0.0));
        for bad in ["5", "s", "1x", "-1s", "1s2"] {
            assert_eq!(seconds(bad), None, "{bad}");
        }
    }

    #[test]
    fn options_survive_a_handle() {
        let config = json!({"run_for": "1.5s", "exit_code": "3", "exec_command": [{"run_for": "1ms"}]});
        let options = Options::check(&Options::schema(), &config).expect("it is right");
        let text = serde_json::to_string(&options).expect("plain data");
        assert_eq!(serde_json::from_str::<Options>(&text).expect("what was written is read"), options);
        assert_eq!((options.command.run_for.as_millis(), options.command.exit_code), (1500, 3));
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let check = |config| Options::check(&Options::schema(), &config);
        for bad in [json!({"run_for": "soon"}), json!({"driver_port_map": "http"}), json!({"exit": 1})] {
            assert!(check(bad.clone()).is_err(), "{bad}");
        }
        let network = check(json!({"driver_port_map": "http:80 db:5432"})).expect("right").network();
        assert_eq!(network.expect("it has ports").port_map.len(), 2);
    }
}
