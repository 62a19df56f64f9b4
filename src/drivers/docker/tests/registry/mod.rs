//! A registry with one image, behind a user name and a password.

use std::{
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;
use sha2::{Digest, Sha256};

const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

pub struct Registry {
    pub port: u16,
    content: Arc<Content>,
}

struct Content {
    basic: String,
    layer: Vec<u8>,
    config: Vec<u8>,
    manifest: Vec<u8>,
    manifests: AtomicU32,
}

impl Registry {
    /// Serves until the test program ends.
    pub fn serve(user: &str, password: &str) -> Self {
        let layer = layer();
        let config = json!({"architecture": "amd64", "os": "linux", "config": {},
            "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]}});
        let config = config.to_string().into_bytes();
        let part = |kind: &str, bytes: &[u8]| json!({"mediaType": kind, "size": bytes.len(), "digest": digest(bytes)});
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST,
            "config": part("application/vnd.docker.container.image.v1+json", &config),
            "layers": [part("application/vnd.docker.image.rootfs.diff.tar", &layer)]});
        let content = Arc::new(Content {
            basic: STANDARD.encode(format!("{user}:{password}")),
            manifest: manifest.to_string().into_bytes(),
            layer,
            config,
            manifests: AtomicU32::new(0),
        });
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let served = Arc::clone(&content);
        let env = super::bench::env();
        let _ = env.clone().thread("registry", move || {
            for stream in listener.incoming().flatten() {
                let content = Arc::clone(&served);
                let _ = env.thread("registry-connection", move || content.answer_all(stream));
            }
        });
        Self { port, content }
    }

    /// How often the manifest was fetched.
    pub fn manifests(&self) -> u32 {
        self.content.manifests.load(Ordering::Relaxed)
    }

    /// User and password as files of credentials hold them.
    pub fn basic(&self) -> String {
        self.content.basic.clone()
    }
}

impl Content {
    fn answer_all(&self, mut stream: TcpStream) {
        let Ok(reading) = stream.try_clone() else { return };
        let mut lines = BufReader::new(reading).lines();
        loop {
            let Some(Ok(first)) = lines.next() else { return };
            let headers: Vec<String> =
                lines.by_ref().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
            let allowed = headers.iter().any(|line| {
                let (name, value) = line.split_once(": ").unwrap_or_default();
                name.eq_ignore_ascii_case("authorization") && value == format!("Basic {}", self.basic)
            });
            let (status, extra, kind, body): (_, _, _, &[u8]) = if allowed {
                self.answer(&first)
            } else {
                ("401 Unauthorized", "WWW-Authenticate: Basic realm=\"test\"\r\n", "application/json", b"{}")
            };
            let head = format!(
                "HTTP/1.1 {status}\r\n{extra}Content-Type: {kind}\r\nDocker-Content-Digest: {}\r\nContent-Length: {}\r\n\r\n",
                digest(body),
                body.len()
            );
            let body = if first.starts_with("HEAD") { &[][..] } else { body };
            if stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)).is_err() {
                return;
            }
        }
    }

    fn answer(&self, request: &str) -> (&'static str, &'static str, &'static str, &[u8]) {
        let path = request.split(' ').nth(1).unwrap_or_default();
        if path.contains("/manifests/") {
            if request.starts_with("GET") {
                self.manifests.fetch_add(1, Ordering::Relaxed);
            }
            return ("200 OK", "", MANIFEST, &self.manifest);
        }
        let blob = [&self.layer, &self.config].into_iter().find(|blob| path.ends_with(&digest(blob)));
        match blob {
            Some(blob) => ("200 OK", "", "application/octet-stream", blob),
            None if path == "/v2/" => ("200 OK", "", "application/json", b"{}"),
            None => ("404 Not Found", "", "application/json", b"{}"),
        }
    }
}

fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

fn layer() -> Vec<u8> {
    let root = if std::path::Path::new("/bin/busybox").exists() { "/" } else { "/usr" };
    let tar = Command::new("tar").args(["-C", root, "-ch", "bin/busybox"]).output().expect("tar runs");
    assert!(tar.status.success(), "{}", String::from_utf8_lossy(&tar.stderr));
    tar.stdout
}
