//! What Nomad says of configuration files, and what we make of them.

use std::{fs, net::IpAddr, path::Path};

use serde_json::Value;

use super::{options::TlsOptions, *};

const RECORDED: &str = include_str!("../../tests/data/agent-config.json");
const RECORDED_SELF: &str = include_str!("../../tests/data/agent-self-config.json");

/// Files that Nomad refuses with a text to which ours adds a place, or that its reader passes over by accident.
const OTHER_TEXTS: [&str; 8] = [
    "unknown-key.hcl",
    "unknown-block.hcl",
    "unknown-nested.hcl",
    "two-unknown.hcl",
    "wrong-type.hcl",
    "wrong-type-port.hcl",
    "bad-syntax.hcl",
    "bad-syntax.json",
];

/// Files that Nomad's agent refuses only when it sets up drivers and networks, which options do not cover.
const LATER_FAULTS: [&str; 2] = ["meta-bad-key.hcl", "plugin.hcl"];

fn machine() -> Machine {
    let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
    Machine {
        hostname: "rec1".to_owned(),
        interfaces: vec![
            ("lo".to_owned(), ip("127.0.0.1")),
            ("eth0".to_owned(), ip("10.99.0.1")),
            ("eth1".to_owned(), ip("203.0.114.7")),
        ],
        default_interface: Some("eth0".to_owned()),
        temp_dir: "/tmp".into(),
        process_id: 7,
        resolve: |_| Err(std::io::ErrorKind::NotFound.into()),
    }
}

fn args(list: &[&str]) -> Flags {
    let list: Vec<String> = list.iter().map(|arg| (*arg).to_owned()).collect();
    parse_agent_args(&list, &Default::default()).expect("flags that there are")
}

fn load_text(text: &str) -> Result<Options, ConfigError> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("agent.hcl");
    fs::write(&path, text).expect("a file");
    load(&Flags { config: vec![path], ..Flags::default() }, &machine())
}

/// Nothing, or the line that each recorded case must not have on top of the recorded ones.
fn without_ours(text: &str) -> String {
    let ours = |line: &&str| !line.contains("does nothing");
    text.lines().filter(ours).map(|line| format!("{line}\n")).collect()
}

#[test]
fn files_are_accepted_and_refused_as_nomad_does() {
    let rows: Vec<Value> = serde_json::from_str(RECORDED).expect("recorded JSON");
    let dir = tempfile::tempdir().expect("a temporary directory");
    let prefix = format!("{}/", dir.path().display());
    let mut seen = 0;
    for row in rows.iter().filter(|row| row.get("file").is_some()) {
        let name = row["file"].as_str().expect("a name");
        let path = dir.path().join(name);
        fs::write(&path, row["content"].as_str().expect("a text")).expect("a file");
        let verdict = verdict::validate_command(&[path.display().to_string()]);
        assert_eq!(i64::from(verdict.exit), row["validate"]["exit"], "{name}: {}", verdict.stderr);
        assert_eq!(verdict.stdout, row["validate"]["stdout"].as_str().expect("a text"), "{name}");
        if !OTHER_TEXTS.contains(&name) {
            let said = without_ours(&verdict.stderr.replace(&prefix, ""));
            let wanted = row["validate"]["stderr"].as_str().expect("a text");
            assert_eq!(said.trim_end(), wanted.trim_end(), "{name}");
        }
        let flags = Flags { config: vec![path], ..Flags::default() };
        let runs = load(&flags, &machine()).is_ok();
        let wanted = row["agent"]["state"] == "runs" || LATER_FAULTS.contains(&name);
        assert_eq!(runs, wanted, "{name}");
        seen += 1;
    }
    assert_eq!(seen, 42);
}

#[test]
fn a_dev_agent_shows_itself_as_nomad_does() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("agent.hcl");
    let text = r#"
        disable_update_check = true
        name = "rec1"
        client {
          options = { "fingerprint.denylist" = "env_aws" }
          node_class = "c1"
          meta {
            rack = "r0"
            features = "ssd,gpu"
          }
        }
        plugin "docker" {
          config {
            volumes { enabled = true }
          }
        }
    "#;
    fs::write(&path, text).expect("a file");
    let flags = Flags { config: vec![path], ..dev() };
    let options = load(&flags, &machine()).expect("a configuration that works");
    let recorded: Value = serde_json::from_str(RECORDED_SELF).expect("recorded JSON");
    let members = |value: &Value| value.as_object().expect("an object").clone();
    let (own, wanted) = (members(&options.shown), members(&recorded));
    assert_eq!(own.keys().collect::<Vec<_>>(), wanted.keys().collect::<Vec<_>>());
    // Paths differ, the Docker plugin adds its own standards, and the dev agent's list of options is shorter.
    for (key, value) in wanted.iter().filter(|(key, _)| {
        !["ConfigPaths", "Files", "DataDir", "PluginDir", "Plugins", "Client"].contains(&key.as_str())
    }) {
        assert_eq!(own.get(key), Some(value), "{key}");
    }
    for (key, value) in members(&recorded["Client"]).iter().filter(|(key, _)| *key != "Options") {
        assert_eq!(own["Client"].get(key), Some(value), "Client.{key}");
    }
}

#[test]
fn later_files_and_flags_win_key_by_key() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).expect("a file");
    write(
        "10-base.hcl",
        "data_dir = \"/d\"\nregion = \"eu\"\nserver { enabled = true\n retry_join = [\"a\"] }\nports { http = 1 }",
    );
    write("20-more.json", r#"{"ports": {"rpc": 2}, "server": [{"retry_join": ["b"]}], "datacenter": "dc9"}"#);
    write("notes.txt", "this is no configuration");
    write(".#20-more.json", "nor is this");
    let path = dir.path().display().to_string();
    let options =
        load(&args(&["-config", &path, "--region=us", "-bootstrap-expect", "3"]), &machine()).expect("works");
    assert_eq!((options.region.as_str(), options.datacenter.as_str()), ("us", "dc9"));
    assert_eq!((options.http[0].port(), options.rpc.port(), options.serf.port()), (1, 2, 4648));
    let server = options.server.expect("a server");
    assert_eq!((options.join.addresses, server.bootstrap_expect), (vec!["a".to_owned(), "b".to_owned()], 3));
    assert_eq!(options.files.len(), 2);
    assert!(options.client.is_none());
}

#[test]
fn a_wrong_key_is_named_with_its_place_and_the_right_one() {
    let error = load_text(
        "data_dir = \"/d\"\nclient {\n  enabled = true\n  meta { a = 1 }\n  node_clas = \"x\"\n}\n",
    );
    let text = error.expect_err("refused").to_string();
    assert!(text.contains("client unexpected keys node_clas (at 5:3, did you mean node_class?)"), "{text}");
    let error = load_text("{\"client\": {\n  \"enabled\": true,\n  \"nodeclass\": \"x\"}}");
    let text = error.expect_err("refused").to_string();
    assert!(text.contains("client unexpected keys nodeclass (at 3:16, did you mean node_class?)"), "{text}");
}

#[test]
fn address_templates_are_evaluated() {
    let expanded = |text: &str| sockaddr::expand(text, &machine());
    let is = |text: &str, wanted: &str| assert_eq!(expanded(text).as_deref(), Ok(wanted), "{text}");
    is("{{ GetPrivateIP }}", "10.99.0.1");
    is("{{GetPublicIP}}:80", "203.0.114.7:80");
    is("{{ GetInterfaceIP \"lo\" }} {{ GetInterfaceIP `x` }}", "127.0.0.1");
    is("{{ GetAllInterfaces | include \"network\" \"10.0.0.0/8\" | attr \"address\" }}", "10.99.0.1");
    is("{{ GetDefaultInterfaces | attr \"name\" }}", "eth0");
    is(
        "{{ GetAllInterfaces | exclude \"flags\" \"loopback\" | sort \"-address\" | join \"address\" \",\" }}",
        "203.0.114.7,10.99.0.1",
    );
    assert!(matches!(expanded("{{ Nonsense }}"), Err(sockaddr::TemplateError::Step { .. })));
    assert!(matches!(expanded("{{ GetPrivateIP"), Err(sockaddr::TemplateError::Unclosed { .. })));
}

#[test]
fn secrets_are_not_shown() {
    let text = "data_dir = \"/d\"\nserver {\n  enabled = true\n  encrypt = \"AAAAAAAAAAAAAAAAAAAAAA==\"\n}\n\
                acl { replication_token = \"hush\" }\nvault { token = \"hush\" }\nconsul {\n  token = \"hush\"\n}\n";
    let options = load_text(text).expect("works");
    let shown = options.shown.to_string();
    assert!(!shown.contains("hush") && !shown.contains("AAAAAA"), "{shown}");
    assert_eq!(options.shown["ACL"]["ReplicationToken"], "<redacted>");
    assert_eq!(options.encrypt.map(|key| key.len()), Some(16));
}

#[test]
fn what_does_nothing_is_said() {
    let text = "data_dir = \"/d\"\nserver {\n  enabled = true\n  license_path = \"/x\"\n  redundancy_zone = \"\"\n}\n\
                acl { enabled = true }\ntelemetry {\n  statsd_address = \"h:1\"\n}\nvault { enabled = false }\n";
    let warnings = load_text(text).expect("works").warnings;
    let said = |part: &str| warnings.iter().filter(|warning| warning.starts_with(part)).count();
    assert_eq!((said("server.license_path"), said("acl "), said("telemetry.statsd_address")), (1, 1, 1));
    assert_eq!((said("vault"), said("server.redundancy_zone")), (0, 0));
    assert!(load(&dev(), &machine()).expect("works").warnings.is_empty());
}

#[test]
fn wrong_flags_are_refused() {
    let refused = |list: &[&str]| {
        let list: Vec<String> = list.iter().map(|arg| (*arg).to_owned()).collect();
        parse_agent_args(&list, &Default::default()).expect_err("refused").to_string()
    };
    assert_eq!(refused(&["-devv"]), "flag provided but not defined: -devv (did you mean -dev?)");
    assert_eq!(refused(&["-config"]), "flag needs an argument: -config");
    assert!(refused(&["-dev=perhaps"]).contains("invalid value \"perhaps\" for flag -dev"));
    assert!(refused(&["agent.hcl"]).contains("-config=<path>"));
}

#[test]
fn a_dev_agent_leaves_a_data_directory_alone() {
    let options = load(&args(&["-dev", "-data-dir=/data"]), &machine()).expect("works");
    assert_eq!(options.data_dir, None);
    let client = options.client.expect("a client");
    assert_eq!(client.alloc_dir, Path::new("/data/wayfarer-dev-7/alloc"));
}

const SERVER_HCL: &str = r#"
datacenter = "dc1"
data_dir   = "/opt/nomad/data"
bind_addr  = "0.0.0.0"
leave_on_terminate = true

advertise {
  http = "10.99.0.1"
  rpc  = "10.99.0.1:4647"
  serf = "{{ GetPrivateIP }}:4648"
}

server {
  enabled          = true
  bootstrap_expect = 3
  encrypt          = "cg8StVXbQJ0gPvMd9o7yrg=="
  raft_multiplier  = 2
  heartbeat_grace  = "20s"
  num_schedulers   = 4
  license_path     = "/etc/nomad.d/license.hclic"

  server_join {
    retry_join     = ["10.99.0.1", "10.99.0.2:4648", "nomad-3.example.com:4648"]
    retry_max      = 5
    retry_interval = "15s"
  }

  default_scheduler_config {
    scheduler_algorithm = "spread"
  }
}

autopilot {
  cleanup_dead_servers      = true
  server_stabilization_time = "20s"
  enable_redundancy_zones   = false
}
"#;

const SERVER_JSON: &str = r#"{
  "datacenter": "dc1", "data_dir": "/opt/nomad/data", "bind_addr": "0.0.0.0", "leave_on_terminate": true,
  "advertise": {"http": "10.99.0.1", "rpc": "10.99.0.1:4647", "serf": "{{ GetPrivateIP }}:4648"},
  "server": {
    "enabled": true, "bootstrap_expect": 3, "encrypt": "cg8StVXbQJ0gPvMd9o7yrg==", "raft_multiplier": 2,
    "heartbeat_grace": "20s", "num_schedulers": 4, "license_path": "/etc/nomad.d/license.hclic",
    "server_join": {
      "retry_join": ["10.99.0.1", "10.99.0.2:4648", "nomad-3.example.com:4648"],
      "retry_max": 5, "retry_interval": "15s"
    },
    "default_scheduler_config": {"scheduler_algorithm": "spread"}
  },
  "autopilot": {"cleanup_dead_servers": true, "server_stabilization_time": "20s", "enable_redundancy_zones": false}
}"#;

#[test]
fn a_server_of_three_is_configured_as_for_nomad() {
    for text in [SERVER_HCL, SERVER_JSON] {
        let options = load_text(text).expect("works");
        let join = &options.join;
        assert_eq!(join.addresses, ["10.99.0.1", "10.99.0.2:4648", "nomad-3.example.com:4648"]);
        assert_eq!((join.tries_max, join.interval.as_secs()), (Some(5), 15));
        assert_eq!(options.advertise.serf.to_string(), "10.99.0.1:4648");
        assert_eq!(options.encrypt.as_ref().map(Vec::len), Some(16));
        assert!(options.leave_on_terminate && !options.leave_on_interrupt);
        assert_eq!(options.autopilot.server_stabilization_time.map(|time| time.as_secs()), Some(20));
        let server = options.server.as_ref().expect("a server");
        assert_eq!((server.bootstrap_expect, server.raft_multiplier), (3, 2));
        assert_eq!(server.heartbeats.grace.map(|time| time.as_secs()), Some(20));
        let ours: Vec<&String> =
            options.warnings.iter().filter(|warning| warning.contains("does nothing")).collect();
        assert_eq!(ours, ["server.license_path belongs to the enterprise edition and does nothing here"]);
    }
}

#[test]
fn others_are_told_an_address_at_which_the_sockets_are_reached() {
    let told = |bind: &str, addresses: &[&str]| {
        let eth = |text: &&str| ("eth0".to_owned(), text.parse::<IpAddr>().expect("an address"));
        let machine = Machine { interfaces: addresses.iter().map(eth).collect(), ..machine() };
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("agent.hcl");
        let text = format!("data_dir = \"/d\"\nbind_addr = \"{bind}\"\nclient {{\n  enabled = true\n}}\n");
        fs::write(&path, text).expect("a file");
        let options = load(&Flags { config: vec![path], ..Flags::default() }, &machine).expect("works");
        options.advertise.rpc.ip().to_string()
    };
    assert_eq!(told("0.0.0.0", &["fd00::2", "192.0.2.2"]), "192.0.2.2");
    assert_eq!(told("0.0.0.0", &["fd00::2", "192.0.2.2", "203.0.114.7", "10.0.0.5"]), "10.0.0.5");
    assert_eq!(told("::", &["192.0.2.2", "10.0.0.5", "fd00::2"]), "fd00::2");
    assert_eq!(told("0.0.0.0", &["fd00::2"]), "fd00::2");
}

#[test]
fn flags_and_blocks_name_whom_to_join() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("client.hcl");
    let text = "data_dir = \"/d\"\nclient {\n  enabled = true\n  servers = [\"a:4647\"]\n  server_join {\n    retry_join = [\"b\"]\n  }\n}\n";
    fs::write(&path, text).expect("a file");
    let path = path.display().to_string();
    let flags = args(&["-config", &path, "-join", "c,d", "-retry-join=e", "-servers", "f", "-token", "hush"]);
    let options = load(&flags, &machine()).expect("works");
    assert_eq!(options.join.addresses, ["c", "d", "e", "b", "a:4647", "f"]);
    assert_eq!(options.join.token.as_deref(), Some("hush"));
    assert!(!options.shown.to_string().contains("hush"));
    let cloud =
        "data_dir = \"/d\"\nserver {\n  enabled = true\n  retry_join = [\"provider=aws tag_key=x\"]\n}\n";
    let options = load_text(cloud).expect("works");
    assert!(options.join.addresses.is_empty());
    assert!(options.warnings.iter().any(|warning| warning.contains("provider=aws")));
}

#[test]
fn certificates_are_named_in_full_or_not_at_all() {
    let server = "data_dir = \"/d\"\nserver {\n  enabled = true\n}\n";
    assert_eq!(load_text(server).expect("works").tls, TlsOptions::default());
    let dir = tempfile::tempdir().expect("a temporary directory");
    let ca = dir.path().join("ca.pem");
    fs::write(&ca, "x").expect("a file");
    let tls = format!("{server}tls {{\n  rpc = true\n  ca_file = \"{}\"\n}}\n", ca.display());
    let error = load_text(&tls).expect_err("no certificate").to_string();
    assert!(error.contains("tls.cert_file must be set"), "{error}");
}

#[test]
fn certificates_live_for_a_minute_at_the_least() {
    let with = |ttl: &str| {
        load_text(&format!(
            "data_dir = \"/var/lib/x\"\nserver {{\n  enabled = true\n  certificate_ttl = \"{ttl}\"\n}}\n"
        ))
    };
    let error = with("59s").expect_err("too short").to_string();
    assert!(error.contains("certificate_ttl must be a minute"), "{error}");
    let options = with("90s").expect("fine");
    assert_eq!(options.join.certificate_ttl, Some(std::time::Duration::from_secs(90)));
}
