//! Who may not speak on the servers' plane changes nothing and is written down. The server is a real process; the stranger has a
//! real QUIC socket.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use transport::{
    Boot, Config, Credentials, DialError, EndpointSecret, Expect, Host, Identity, NodeId, Plane, RawConfig,
    Region, Role, TokioHost, Transport, ca::Authority, quic::Quic,
};

/// An address of this test's own, where agents have the ports that they have by default.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 87, 11);
const HOUR: Duration = Duration::from_secs(3_600);
/// Looks at what is waited for, five a second: a minute on a machine that is busy.
const LOOKS: usize = 300;
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A server that ends with the test.
struct Server {
    child: Child,
    dir: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        // However the test went, the process ends.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("wayfarer-strangers-").tempdir().expect("a directory");
        let text = format!(
            "name = \"s1\"\ndata_dir = {:?}\nbind_addr = \"{ADDRESS}\"\n\
             advertise {{\n  http = \"{ADDRESS}\"\n  rpc  = \"{ADDRESS}\"\n  serf = \"{ADDRESS}\"\n}}\n\
             server {{\n  enabled = true\n  bootstrap_expect = 1\n}}\n",
            dir.path().join("data")
        );
        fs::write(dir.path().join("agent.hcl"), text).expect("a configuration");
        let log = File::create(dir.path().join("agent.log")).expect("a log");
        let mut command = Command::new(env!("CARGO_BIN_EXE_wayfarer"));
        command.args(["agent", "-config"]).arg(dir.path().join("agent.hcl")).stdin(Stdio::null());
        command.stdout(log.try_clone().expect("a second handle")).stderr(log);
        Self { child: command.spawn().expect("the built binary starts"), dir }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("agent.log")).unwrap_or_default()
    }

    /// What the region's members are, once there is a leader.
    fn members(&self) -> Option<String> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wayfarer"));
        command.args(["operator", "raft", "list-peers"]).env("NOMAD_ADDR", format!("http://{ADDRESS}:4646"));
        let output = command.output().expect("the built binary starts");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.success() && said.contains("leader")).then_some(said)
    }

    /// The region's own authority: whoever signs with it is as genuine as can be.
    fn authority(&self) -> Authority {
        let tls = self.dir.path().join("data/tls");
        let read =
            |name: &str| fs::read_to_string(Path::new(&tls).join(name)).expect("the authority is kept");
        let (certificate, key) = (read("authority.pem"), read("authority-key.pem"));
        Authority::load(region("global"), &certificate, &key, TokioHost.unix_time()).expect("it is sound")
    }
}

fn region(name: &str) -> Region {
    Region::new(name).expect("a name")
}

async fn wait<T>(what: &str, server: &Server, mut look: impl FnMut() -> Option<T>) -> T {
    for _ in 0..LOOKS {
        if let Some(found) = look() {
            return found;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    panic!("never: {what}\n{}", server.log())
}

/// Dials the servers' plane as someone.
async fn dial(credentials: &Credentials) -> DialError {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let config = Config::check(any, EndpointSecret::from_bytes([5; 32]), &RawConfig::default());
    let bound = Quic::bind(config.expect("it fits"), credentials, Boot(1), Arc::new(TokioHost));
    let stranger = bound.expect("a port").transport;
    let dialled = stranger.dial((ADDRESS, 4647).into(), Plane::Raft, Expect::Admitted).await;
    stranger.close().await;
    dialled.expect_err("nobody of these is let in")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clients_certificate_and_a_foreign_one_open_no_plane_of_servers() {
    let server = Server::start();
    let before = wait("the server leads", &server, || server.members()).await;
    let identity = |role, region| {
        let node_id = NodeId([7; 16]);
        Identity { role, region, node_id, name: "stranger".to_owned() }
    };

    let client = identity(Role::Client, region("global"));
    let client = Credentials::issued_by(&server.authority(), client, HOUR, &TokioHost).expect("issued");
    let refused = dial(&client).await;
    assert!(
        matches!(&refused, DialError::Refused { reason } if reason.contains("servers only")),
        "{refused:?}"
    );
    wait("the client is written down", &server, || {
        let log = server.log();
        let line = log.lines().find(|line| line.contains("peer refused") && line.contains("plane=raft"))?;
        line.contains("servers only").then_some(())
    })
    .await;

    let forged = Authority::make(region("global"), HOUR, TokioHost.unix_time()).expect("an authority");
    let foreign = identity(Role::Server, region("global"));
    let foreign = Credentials::issued_by(&forged, foreign, HOUR, &TokioHost).expect("issued");
    let foreign = foreign
        .trusting(transport::Scope::Region(region("global")), server.authority().certificate_pem())
        .expect("it trusts the region");
    let refused = dial(&foreign).await;
    wait("the foreign server is written down", &server, || {
        server.log().contains("peer refused in the handshake").then_some(())
    })
    .await;
    assert!(!matches!(refused, DialError::TimedOut { .. }), "{refused:?}");

    assert_eq!(server.members(), Some(before), "nothing changed");
}
