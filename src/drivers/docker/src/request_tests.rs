use std::{net::IpAddr, time::Duration};

use driver::{
    CpuResources, DnsConfig, LogConfig, MemoryResources, NetworkIsolation, Port, Resources, TaskDirs,
    TaskEnv, TaskId,
};
use serde_json::{Value, json};

use super::*;

/// The task that a real Nomad was recorded with.
pub(crate) fn fixture(config: &Value) -> TaskConfig {
    let port = |label: &str, host_port, to| Port {
        label: label.to_owned(),
        host_ip: IpAddr::from([127, 0, 0, 1]),
        host_port,
        to,
    };
    TaskConfig {
        id: TaskId::new("ee7e42ce-171b-4f54-4436-a27f136239b1", "look", "1"),
        alloc_name: "rt3.grp[0]".to_owned(),
        job_id: "job".to_owned(),
        job_name: "job".to_owned(),
        group: "grp".to_owned(),
        namespace: "default".to_owned(),
        node_id: "n1".to_owned(),
        node_name: "node".to_owned(),
        env: [("B", "2"), ("A", "1")].into_iter().collect::<TaskEnv>(),
        user: None,
        resources: Resources {
            cpu: CpuResources { shares_mhz: 100, node_total_mhz: 4000, cores: Vec::new() },
            memory: MemoryResources { memory_mb: 64, memory_max_mb: None },
            disk_mb: 300,
        },
        dirs: TaskDirs {
            alloc_shared: "/a/1/alloc".into(),
            task: "/a/1/look".into(),
            local: "/a/1/look/local".into(),
            secrets: "/a/1/look/secrets".into(),
            logs: "/a/1/alloc/logs".into(),
        },
        ports: vec![port("web", 21403, 8080), port("dash-ed", 23354, 0)],
        mounts: Vec::new(),
        devices: Vec::new(),
        network: None,
        dns: None,
        logs: LogConfig::default(),
        config: config.clone(),
        kill_signal: None,
        kill_timeout: Duration::from_secs(2),
    }
}

fn ask_with(task: &TaskConfig, plugin: &Value) -> Result<Request, RequestError> {
    let options = Options::check(&Options::schema(), &task.config).expect("the options are right");
    let config = Config::parse(plugin).expect("the plugin block is right");
    let facts = Facts { processors: 2, runtimes: vec!["runc".into(), "nvidia".into()] };
    let host = Host { real: |path| Ok(path.to_owned()), read: |_| Ok("{\"profile\":1}".to_owned()) };
    build(task, &options, &config, &facts, host)
}

fn ask(config: Value) -> Result<Request, RequestError> {
    ask_with(&fixture(&config), &json!({}))
}

fn host_of(request: Request) -> HostConfig {
    request.body.host_config.expect("there is one")
}

#[test]
fn the_recorded_task_is_asked_for_as_recorded() {
    let config = json!({"image": "local/busybox:1", "command": "/bin/sh", "args": ["-c", "x"], "ports": ["web"],
        "labels": [{"app": "x"}], "force_pull": false});
    let request = ask(config).expect("it is right");
    assert_eq!(request.name, "look-ee7e42ce-171b-4f54-4436-a27f136239b1");
    let body = serde_json::to_value(&request.body).expect("it is plain data");
    assert_eq!(body["Cmd"], json!(["/bin/sh", "-c", "x"]));
    assert_eq!(body["Env"], json!(["A=1", "B=2"]));
    assert_eq!(body["Image"], "local/busybox:1");
    assert_eq!(body["Labels"]["app"], "x");
    assert_eq!(body["Labels"]["com.hashicorp.nomad.alloc_id"], "ee7e42ce-171b-4f54-4436-a27f136239b1");
    let host = &body["HostConfig"];
    assert_eq!(
        host["LogConfig"],
        json!({"Type": "json-file", "Config": {"max-file": "2", "max-size": "2m"}})
    );
    assert_eq!(host["NetworkMode"], "default");
    let binding = json!([{"HostIp": "127.0.0.1", "HostPort": "21403"}]);
    assert_eq!(host["PortBindings"], json!({"8080/tcp": binding, "8080/udp": binding}));
    assert_eq!(host["CapDrop"], json!(["CAP_NET_RAW"]));
    assert_eq!(
        (&host["CpuShares"], &host["Memory"], &host["MemorySwap"]),
        (&json!(100), &json!(67_108_864), &json!(67_108_864))
    );
    assert_eq!(host["Binds"].as_array().map(Vec::len), Some(4));
    for absent in ["Entrypoint", "WorkingDir", "User", "Hostname", "Tty", "NetworkingConfig"] {
        assert!(body.get(absent).is_none(), "{absent} is {}", body[absent]);
    }
}

#[test]
fn ports_are_published_where_there_is_a_network_to_publish_from() {
    let both =
        host_of(ask(json!({"image": "x", "ports": ["dash-ed"], "port_map": {"web": 80}})).expect("right"));
    let map = both.port_bindings.expect("there are ports");
    assert!(map.contains_key("23354/tcp") && map.contains_key("80/udp") && !map.contains_key("8080/tcp"));
    for mode in ["host", "none"] {
        let none =
            host_of(ask(json!({"image": "x", "ports": ["web"], "network_mode": mode})).expect("right"));
        assert_eq!(none.port_bindings, None, "{mode}");
    }
    let unknown = ask(json!({"image": "x", "ports": ["wbe"]})).expect_err("there is no such port");
    assert!(unknown.to_string().contains("Port \"wbe\" not found, check network block"), "{unknown}");
}

#[test]
fn a_container_joins_the_network_that_holds_its_allocation() {
    let mut task =
        fixture(&json!({"image": "x", "ports": ["web"], "extra_hosts": ["db:10.0.0.9"], "hostname": "h"}));
    task.dns = Some(DnsConfig { servers: vec!["9.9.9.9".into()], ..DnsConfig::default() });
    let mut network = NetworkIsolation { path: Some("/run/x".into()), ..NetworkIsolation::default() };
    task.network = Some(network.clone());
    let refused = ask_with(&task, &json!({})).expect_err("it is not the driver's");
    assert!(refused.to_string().contains("/run/x"), "{refused}");
    network.labels.insert(pause::SANDBOX_LABEL.to_owned(), "c0ffee".to_owned());
    task.network = Some(network);
    let request = ask_with(&task, &json!({})).expect("it is right");
    assert!(request.hosts.as_deref().is_some_and(|hosts| hosts.contains("10.0.0.9 db\n")));
    assert_eq!(request.body.hostname, None);
    let host = host_of(request);
    assert_eq!(host.network_mode.as_deref(), Some("container:c0ffee"));
    assert_eq!((host.port_bindings, host.dns, host.extra_hosts), (None, None, None));
}

#[test]
fn name_servers_of_the_task_come_before_those_of_its_group() {
    let mut task = fixture(&json!({"image": "x", "dns_servers": ["1.1.1.1"]}));
    task.dns =
        Some(DnsConfig { servers: vec!["9.9.9.9".into()], searches: vec!["s".into()], options: vec![] });
    let host = host_of(ask_with(&task, &json!({})).expect("right"));
    assert_eq!((host.dns, host.dns_search), (Some(vec!["1.1.1.1".into()]), Some(vec!["s".into()])));
}

#[test]
fn resources_become_bounds() {
    let mut task =
        fixture(&json!({"image": "x", "cpu_hard_limit": true, "pids_limit": 9, "ulimit": {"nofile": "1:2"}}));
    task.resources.memory.memory_max_mb = Some(96);
    task.resources.cpu.shares_mhz = 1000;
    let host = host_of(ask_with(&task, &json!({})).expect("right"));
    // A quarter of two processors.
    assert_eq!((host.cpu_period, host.cpu_quota), (Some(100_000), Some(50_000)));
    assert_eq!((host.memory, host.memory_reservation), (Some(96 << 20), Some(64 << 20)));
    assert_eq!(host.pids_limit, Some(9));
    assert_eq!(host.ulimits.expect("there is one")[0].hard, Some(2));
    task.resources.cpu.cores = vec![1, 3];
    task.config = json!({"image": "x", "cpuset_cpus": "0", "memory_hard_limit": 128});
    let host = host_of(ask_with(&task, &json!({})).expect("right"));
    assert_eq!(host.cpuset_cpus.as_deref(), Some("1,3"));
    assert_eq!((host.memory, host.memory_reservation), (Some(128 << 20), Some(64 << 20)));
}

#[test]
fn what_the_operator_does_not_allow_is_refused() {
    for config in [
        json!({"image": "x", "privileged": true}),
        json!({"image": "x", "cap_add": ["sys_admin"]}),
        json!({"image": "x", "pid_mode": "host"}),
        json!({"image": "x", "ipc_mode": "container:other"}),
        json!({"image": "x", "uts_mode": "host"}),
        json!({"image": "x", "userns_mode": "host"}),
        json!({"image": "x", "runtime": "evil"}),
        json!({"image": "x", "security_opt": ["seccomp=/etc/shadow"]}),
    ] {
        let refused = ask(config.clone());
        assert!(matches!(refused, Err(RequestError::Forbidden(_))), "{config}: {refused:?}");
    }
    let open = json!({"allow_privileged": true, "allowed_modes": {"pid": ["host"]}});
    let task = fixture(&json!({"image": "x", "privileged": true, "pid_mode": "host"}));
    let host = host_of(ask_with(&task, &open).expect("allowed"));
    assert_eq!((host.privileged, host.pid_mode.as_deref(), host.cap_drop), (Some(true), Some("host"), None));
}

#[test]
fn what_cannot_be_meant_is_refused() {
    for config in [
        json!({"image": "x", "ulimit": {"nofile": "many"}}),
        json!({"image": "x", "oom_score_adj": 2000}),
        json!({"image": "x", "memory_hard_limit": 3}),
        json!({"image": "x", "volumes": ["only-one"]}),
    ] {
        let refused = ask(config.clone());
        assert!(matches!(refused, Err(RequestError::Wrong { .. })), "{config}: {refused:?}");
    }
    let task = fixture(&json!({"image": "x", "pids_limit": 20}));
    assert!(ask_with(&task, &json!({"pids_limit": 10})).is_err());
}

#[test]
fn small_options_are_passed_on() {
    let config = json!({"image": "x", "entrypoint": ["/e"], "work_dir": "/w", "hostname": "h", "tty": true,
        "interactive": true, "init": true, "readonly_rootfs": true, "healthchecks": {"disable": true},
        "ipv4_address": "10.1.1.2", "network_mode": "mine", "network_aliases": ["a"], "cgroupns": "private",
        "security_opt": ["no-new-privileges", "seccomp=local/p.json"], "logging": {"driver": "syslog"},
        "sysctl": {"net.core.somaxconn": "1"}, "devices": [{"host_path": "/dev/null"}], "group_add": ["7"]});
    let mut task = fixture(&config);
    task.user = Some("nobody".to_owned());
    task.env.0.insert("NVIDIA_VISIBLE_DEVICES".to_owned(), "0".to_owned());
    let request = ask_with(&task, &json!({})).expect("right");
    let body = serde_json::to_value(&request.body).expect("plain data");
    assert_eq!(body["Entrypoint"], json!(["/e"]));
    assert_eq!(
        (&body["User"], &body["Hostname"], &body["WorkingDir"]),
        (&json!("nobody"), &json!("h"), &json!("/w"))
    );
    assert_eq!((&body["Tty"], &body["OpenStdin"]), (&json!(true), &json!(true)));
    assert_eq!(body["Healthcheck"]["Test"], json!(["NONE"]));
    let endpoint = &body["NetworkingConfig"]["EndpointsConfig"]["mine"];
    assert_eq!(
        (&endpoint["Aliases"], &endpoint["IPAMConfig"]["IPv4Address"]),
        (&json!(["a"]), &json!("10.1.1.2"))
    );
    let host = &body["HostConfig"];
    assert_eq!(host["SecurityOpt"], json!(["no-new-privileges", "seccomp={\"profile\":1}"]));
    assert_eq!((&host["LogConfig"]["Type"], &host["LogConfig"]["Config"]), (&json!("syslog"), &json!({})));
    assert_eq!(
        (&host["Runtime"], &host["CgroupnsMode"], &host["Init"]),
        (&json!("nvidia"), &json!("private"), &json!(true))
    );
    assert_eq!(host["Devices"][0]["CgroupPermissions"], "rwm");
}
