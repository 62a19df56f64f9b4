//! `wayfarer dev FILE`: the first command that anyone types.

use std::{
    io::{BufRead as _, BufReader},
    net::TcpListener,
    os::unix::process::CommandExt as _,
    process::{Command, Stdio},
    sync::mpsc,
};

use nix::sys::signal::Signal;
use tests::{binary, http, machine, process, wait};

/// The port that a dev agent's API has.
const API: ([u8; 4], u16) = ([127, 0, 0, 1], 4646);

#[test]
fn the_first_command_runs_a_page_and_cleans_up() {
    if TcpListener::bind(std::net::SocketAddr::from(API)).is_err() {
        return machine::lacks("a free port 4646");
    }
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let mut command = Command::new(binary::path());
    command
        .args(["dev", "examples/hello.nomad.hcl"])
        .current_dir(binary::checkout())
        .env("TMPDIR", dir.path());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()).process_group(0);
    let mut child = command.spawn().expect("the built binary starts");
    let out = child.stdout.take().expect("standard output is a pipe");
    let (sender, lines) = mpsc::channel();
    let reader = wait::beside(move || {
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });

    let mut told = Vec::new();
    let mut find = |what: &str| {
        loop {
            let line = lines.recv_timeout(wait::PATIENCE);
            let line = line.unwrap_or_else(|_| panic!("no line with {what:?} in\n{}", told.join("\n")));
            told.push(line.clone());
            if line.contains(what) {
                return line;
            }
        }
    };
    find("API at http://127.0.0.1:4646");
    find("registered, evaluation");
    let port = find("port \"http\" is http://");
    find("Started");
    find("a page is at");
    let addr = port.rsplit_once("http://").expect("an address").1.parse().expect("host and port");
    let page = wait::until("the page answers", || http::request(addr, "GET", "/", None).ok());
    assert_eq!(page.status, 200);
    assert!(page.body.contains("Hello from hello.web[0]"), "{}", page.body);

    process::signal(child.id(), Signal::SIGINT);
    let status = wait::until("it ends", || child.try_wait().ok().flatten());
    assert_eq!(status.code(), Some(0));
    wait::until("nothing is left running", || process::of_directory(dir.path()).is_empty().then_some(()));
    assert!(http::request(addr, "GET", "/", None).is_err(), "the page is gone with it");
    drop(lines);
    reader.join().expect("the reader ends with its pipe");
}
