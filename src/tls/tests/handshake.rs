//! An agent's end and a caller's end, over a real socket.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use tempfile::TempDir;
use tls::{
    Acceptor, ClientSettings, Connector, ServerFiles, explain,
    make::{self, AuthorityWish, LeafWish, Made, Subject},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

const DAY: Duration = Duration::from_secs(86_400);

struct Office {
    dir: TempDir,
    now: Duration,
}

impl Office {
    fn new() -> Self {
        #[allow(clippy::disallowed_methods, reason = "certificates are checked against the real clock")]
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
        let office = Self { dir: tempfile::tempdir().expect("a directory"), now };
        for name in ["ca", "other"] {
            let subject =
                Subject { country: "US".into(), organization: "HashiCorp Inc.".into(), ..Subject::default() };
            let common_name = format!("Nomad Agent CA {name}");
            let wish =
                AuthorityWish { common_name, subject, domains: Vec::new(), lifetime: DAY, now: office.now };
            office.keep(name, &make::authority(&wish).expect("an authority"));
        }
        office
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn keep(&self, name: &str, made: &Made) {
        fs::write(self.path(&format!("{name}.pem")), &made.certificate).expect("it can be written");
        fs::write(self.path(&format!("{name}-key.pem")), &made.key).expect("it can be written");
    }

    /// Has an authority certify someone, under a name of files.
    fn certify(&self, authority: &str, name: &str, lifetime: Duration) {
        let read = |file: String| fs::read_to_string(self.path(&file)).expect("it was kept");
        let wish = LeafWish {
            common_name: "server.global.nomad".into(),
            dns_names: vec!["localhost".into()],
            ip_addresses: vec![[127, 0, 0, 1].into()],
            serves: true,
            lifetime,
            now: self.now - if lifetime.is_zero() { 2 * DAY } else { Duration::ZERO },
        };
        let (certificate, key) = (read(format!("{authority}.pem")), read(format!("{authority}-key.pem")));
        self.keep(name, &make::leaf(Path::new("ca"), &certificate, &key, &wish).expect("a certificate"));
    }

    fn files(&self, name: &str, verify_client: bool) -> ServerFiles {
        let (certificate, key) = (self.path(&format!("{name}.pem")), self.path(&format!("{name}-key.pem")));
        ServerFiles { ca: self.path("ca.pem"), certificate, key, verify_client }
    }

    fn trusting(&self, authority: &str) -> ClientSettings {
        ClientSettings { ca_file: Some(self.path(&format!("{authority}.pem"))), ..ClientSettings::default() }
    }

    fn showing(&self, name: &str) -> ClientSettings {
        let (certificate, key) = (self.path(&format!("{name}.pem")), self.path(&format!("{name}-key.pem")));
        ClientSettings { certificate: Some(certificate), key: Some(key), ..self.trusting("ca") }
    }
}

/// Says a word to an agent and hears it again; the error is in the words of users.
async fn talk(acceptor: &Acceptor, host: &str, settings: &ClientSettings) -> Result<String, String> {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let addr = listener.local_addr().expect("its address");
    let answers = async {
        let (stream, _) = listener.accept().await?;
        let mut stream = acceptor.accept(stream).await?;
        let mut word = [0; 5];
        stream.read_exact(&mut word).await?;
        stream.write_all(&word).await?;
        stream.shutdown().await
    };
    let asks = async {
        let stream = TcpStream::connect(addr).await?;
        let connector = Connector::new(settings).map_err(io::Error::other)?;
        let mut stream = connector.connect(host, stream).await?;
        stream.write_all(b"hello").await?;
        let mut word = String::new();
        stream.read_to_string(&mut word).await?;
        Ok::<_, io::Error>(word)
    };
    let (_, asked) = tokio::join!(answers, asks);
    asked.map_err(|error| explain(&error))
}

#[tokio::test]
async fn who_is_trusted_is_heard_and_nobody_else() {
    let office = Office::new();
    office.certify("ca", "server", DAY);
    let acceptor = Acceptor::open(office.files("server", false)).expect("good files");
    for host in ["127.0.0.1", "localhost", "server.global.nomad"] {
        assert_eq!(talk(&acceptor, host, &office.trusting("ca")).await.as_deref(), Ok("hello"), "{host}");
    }
    let unknown =
        talk(&acceptor, "localhost", &office.trusting("other")).await.expect_err("not its authority");
    assert_eq!(unknown, "tls: failed to verify certificate: x509: certificate signed by unknown authority");
    let renamed = talk(&acceptor, "example.com", &office.trusting("ca")).await.expect_err("not its name");
    let text = "x509: certificate is valid for server.global.nomad, localhost";
    assert!(renamed.contains(text) && renamed.ends_with("not example.com"), "{renamed}");
    let named = ClientSettings { server_name: Some("server.global.nomad".into()), ..office.trusting("ca") };
    assert_eq!(talk(&acceptor, "10.9.8.7", &named).await.as_deref(), Ok("hello"));
    let careless = ClientSettings { skip_verify: true, ..ClientSettings::default() };
    assert_eq!(talk(&acceptor, "example.com", &careless).await.as_deref(), Ok("hello"));
}

#[tokio::test]
async fn callers_show_a_certificate_where_it_is_demanded() {
    let office = Office::new();
    office.certify("ca", "server", DAY);
    office.certify("ca", "caller", DAY);
    office.certify("other", "stranger", DAY);
    let acceptor = Acceptor::open(office.files("server", true)).expect("good files");
    let bare = talk(&acceptor, "localhost", &office.trusting("ca")).await.expect_err("nothing was shown");
    assert_eq!(bare, "remote error: tls: certificate required");
    let stranger = talk(&acceptor, "localhost", &office.showing("stranger")).await.expect_err("another's");
    assert!(stranger.starts_with("remote error: tls:") || stranger.starts_with("tls:"), "{stranger}");
    assert_eq!(talk(&acceptor, "localhost", &office.showing("caller")).await.as_deref(), Ok("hello"));
}

#[tokio::test]
async fn files_are_read_again_and_bad_ones_change_nothing() {
    let office = Office::new();
    office.certify("ca", "server", Duration::ZERO);
    let acceptor = Acceptor::open(office.files("server", false)).expect("good files");
    let old = talk(&acceptor, "localhost", &office.trusting("ca")).await.expect_err("it is over");
    assert!(old.contains("x509: certificate has expired"), "{old}");
    office.certify("ca", "server", DAY);
    acceptor.reload().expect("good files");
    assert_eq!(talk(&acceptor, "localhost", &office.trusting("ca")).await.as_deref(), Ok("hello"));
    fs::write(office.path("server.pem"), "nothing").expect("it can be written");
    let error = acceptor.reload().expect_err("no certificate").to_string();
    assert!(error.contains("server.pem holds no certificate"), "{error}");
    assert_eq!(talk(&acceptor, "localhost", &office.trusting("ca")).await.as_deref(), Ok("hello"));
}

#[tokio::test]
async fn who_speaks_plain_text_is_told_so() {
    let office = Office::new();
    office.certify("ca", "server", DAY);
    let acceptor = Acceptor::open(office.files("server", false)).expect("good files");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let addr = listener.local_addr().expect("its address");
    let answers = async { acceptor.accept(listener.accept().await?.0).await.map(drop) };
    let asks = async {
        let mut stream = TcpStream::connect(addr).await?;
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await?;
        let mut text = Vec::new();
        // A socket that is closed with words unread may end with a reset after what it said.
        let _ = stream.read_to_end(&mut text).await;
        Ok::<_, io::Error>(text)
    };
    let (answered, asked) = tokio::join!(answers, asks);
    assert!(answered.is_err());
    let text = String::from_utf8(asked.expect("it answers")).expect("text");
    assert!(text.contains("400 Bad Request") && text.contains("HTTP request to an HTTPS server"), "{text}");
}

#[test]
fn an_authority_signs_only_with_its_own_key() {
    let office = Office::new();
    let read = |file: &str| fs::read_to_string(office.path(file)).expect("it was kept");
    let wish = LeafWish {
        common_name: "client.global.nomad".into(),
        dns_names: Vec::new(),
        ip_addresses: Vec::new(),
        serves: false,
        lifetime: DAY,
        now: office.now,
    };
    let other = make::leaf(Path::new("ca.pem"), &read("ca.pem"), &read("other-key.pem"), &wish);
    let error = other.expect_err("they do not belong together").to_string();
    assert!(error.contains("ca.pem") && error.contains("key"), "{error}");
}
