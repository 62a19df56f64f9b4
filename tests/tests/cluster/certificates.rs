//! A region on certificates of the users' own, for agents and for the API.

use std::{fs, path::Path, process::Command};

use serde_json::Value;
use tempfile::TempDir;
use tests::{Agent, Ended, Kind, binary, http, wait};

use crate::region::{self, client, server};

/// A directory in which certificates are made as users make them.
struct Office(TempDir);

impl Office {
    /// With an authority, a certificate for servers, clients and callers, and a server's for another region.
    fn new() -> Self {
        let office = Self(tempfile::tempdir().expect("a directory"));
        assert!(office.run(&["tls", "ca", "create"]).worked().contains("nomad-agent-ca.pem"));
        for kind in ["-server", "-client", "-cli"] {
            office.run(&["tls", "cert", "create", kind]).worked();
        }
        office.run(&["tls", "cert", "create", "-server", "-region", "elsewhere"]).worked();
        office
    }

    fn run(&self, words: &[&str]) -> Ended {
        let mut command = Command::new(binary::path());
        command.args(words).current_dir(self.0.path());
        Ended::of(&command.output().expect("the program starts"))
    }

    fn file(&self, name: &str) -> String {
        self.0.path().join(name).to_str().expect("a plain name").to_owned()
    }

    /// The `tls` block of an agent with a certificate.
    fn block(&self, holder: &str, more: &str) -> String {
        let (ca, certificate) = (self.file("nomad-agent-ca.pem"), self.file(&format!("{holder}-nomad.pem")));
        let key = self.file(&format!("{holder}-nomad-key.pem"));
        format!(
            "tls {{\n  rpc = true\n  ca_file = {ca:?}\n  cert_file = {certificate:?}\n  key_file = {key:?}\n{more}}}\n"
        )
    }

    /// A command against an agent's API, by a caller with these further variables.
    fn ask(&self, agent: &Agent, words: &[&str], variables: &[(&str, &str)]) -> Ended {
        let mut command = Command::new(binary::path());
        command.args(words).current_dir(self.0.path());
        command.env("NOMAD_ADDR", format!("https://{}", agent.addr()));
        for (name, value) in variables {
            command.env(name, value);
        }
        Ended::of(&command.output().expect("the program starts"))
    }

    /// The variables of a caller that shows its certificate.
    fn caller(&self) -> [(&'static str, String); 3] {
        [
            ("NOMAD_CACERT", self.file("nomad-agent-ca.pem")),
            ("NOMAD_CLIENT_CERT", self.file("global-cli-nomad.pem")),
            ("NOMAD_CLIENT_KEY", self.file("global-cli-nomad-key.pem")),
        ]
    }
}

fn launch(config: &str) -> Agent {
    let mut agent = Agent::prepare(binary::path(), Kind::Member, config);
    agent.launch();
    agent
}

#[test]
fn a_region_on_certificates_of_its_own_lets_nobody_else_in() {
    let _alone = region::alone();
    let office = Office::new();
    let https = "  http = true\n  verify_https_client = true\n";
    let mut servers: Vec<Agent> = Vec::new();
    for at in 0..3 {
        let joins = servers.first().map(Agent::gossip_addr);
        let config = server(&format!("s{at}"), 3, joins, "") + &office.block("global-server", https);
        servers.push(launch(&config));
    }
    let joins = Some(servers[0].gossip_addr());
    let node = launch(&(client("c0", joins) + &office.block("global-client", https)));
    let variables = office.caller();
    let variables: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (*name, &**value)).collect();
    for agent in servers.iter().chain([&node]) {
        wait::until_within(region::FORMED_WITHIN, "every agent answers its callers", || {
            let status = office.ask(agent, &["node", "status", "-json"], &variables);
            let nodes: Value = serde_json::from_str(&status.out).ok()?;
            (nodes.get(0)?["Status"] == "ready").then_some(())
        });
    }
    let members = office.ask(&servers[1], &["server", "members", "-all"], &variables).worked();
    assert!(members.lines().filter(|line| line.contains("tls")).count() >= 3, "{members}");
    callers_are_told_what_is_wrong(&office, &servers[0], &variables);
    strangers_change_nothing(&office, &servers, &variables);
}

fn callers_are_told_what_is_wrong(office: &Office, agent: &Agent, good: &[(&str, &str)]) {
    let words = ["node", "status"];
    let ca = [good[0]];
    let bare = office.ask(agent, &words, &ca);
    assert_eq!(bare.code, 1);
    assert!(bare.err.contains("tls: certificate required"), "{}", bare.err);
    let blind = office.ask(agent, &words, &[]);
    assert!(blind.err.contains("x509") || blind.err.contains("NOMAD_CACERT"), "{}", blind.err);
    let flags =
        ["node", "status", "-ca-cert", good[0].1, "-client-cert", good[1].1, "-client-key", good[2].1];
    assert_eq!(office.ask(agent, &flags, &[]).code, 0);
    let renamed = [good, &[("NOMAD_TLS_SERVER_NAME", "server.elsewhere.nomad")]].concat();
    let refused = office.ask(agent, &words, &renamed);
    assert!(refused.err.contains("not server.elsewhere.nomad"), "{}", refused.err);
    let missing = office.ask(agent, &words, &[("NOMAD_CACERT", "/nowhere.pem")]);
    assert!(missing.err.contains("Error initializing client") && missing.err.contains("/nowhere.pem"));
    let plain = http::request(agent.addr(), "GET", "/v1/nodes", None).expect("it is told why");
    assert_eq!(plain.status, 400);
    assert!(plain.body.contains("HTTP request to an HTTPS server"), "{}", plain.body);
}

fn strangers_change_nothing(office: &Office, servers: &[Agent], good: &[(&str, &str)]) {
    let joins = Some(servers[0].gossip_addr());
    // Without a certificate, as another region's server, and as a server with a client's certificate.
    let mut nobody = launch(&server("nobody", 0, joins, ""));
    let foreign = office.block("elsewhere-server", "");
    let mut foreigner = launch(&(server("foreigner", 0, joins, "") + &foreign));
    let mut pretender = launch(&(server("pretender", 0, joins, "") + &office.block("global-client", "")));
    wait::until("the one without is told why", || nobody.log().contains("could not join").then_some(()));
    for agent in [&mut foreigner, &mut pretender] {
        let code = wait::until("one whose certificate is another's ends", || agent.ended());
        assert_eq!(code, 1, "{}", agent.log());
        assert!(agent.log().contains("tls block"), "{}", agent.log());
    }
    let in_its_region = server("foreigner", 0, joins, "") + &foreign + "region = \"elsewhere\"\n";
    foreigner = launch(&in_its_region);
    wait::until("another region's server is refused as a member", || {
        foreigner
            .log()
            .contains("could not")
            .then_some(())
            .or_else(|| foreigner.log().contains("region").then_some(()))
    });
    let members = office.ask(&servers[0], &["server", "members", "-all"], good).worked();
    for name in ["nobody", "foreigner", "pretender"] {
        assert!(!members.contains(name), "{members}");
    }
    let peers = office.ask(&servers[0], &["operator", "raft", "list-peers"], good).worked();
    assert_eq!(peers.matches("true").count(), 3, "{peers}");
    nobody.kill();
    foreigner.kill();
}

#[test]
fn certificates_of_the_api_are_read_again() {
    let _alone = region::alone();
    let office = Office::new();
    let only_http = office.block("global-server", "  http = true\n").replace("  rpc = true\n", "");
    let agent = launch(&(server("s0", 1, None, "") + &only_http));
    let ca = office.file("nomad-agent-ca.pem");
    let trusting = [("NOMAD_CACERT", ca.as_str())];
    let asked = |variables: &[(&str, &str)]| office.ask(&agent, &["server", "members"], variables);
    wait::until("the agent answers", || (asked(&trusting).code == 0).then_some(()));
    // Another authority takes over: the same files have something else in them.
    let before = office.file("before.pem");
    fs::rename(&ca, &before).expect("it can be moved");
    for name in ["nomad-agent-ca-key.pem", "global-server-nomad.pem", "global-server-nomad-key.pem"] {
        fs::remove_file(Path::new(&office.file(name))).expect("it was made");
    }
    office.run(&["tls", "ca", "create"]).worked();
    office.run(&["tls", "cert", "create", "-server"]).worked();
    assert_eq!(asked(&[("NOMAD_CACERT", &before)]).code, 0, "nothing changes before the agent is told");
    agent.hang_up();
    wait::until("the new certificate is shown", || (asked(&trusting).code == 0).then_some(()));
    let old = asked(&[("NOMAD_CACERT", &before)]);
    assert!(old.err.contains("x509: certificate signed by unknown authority"), "{}", old.err);
}
