//! What this machine has, and what a test does where it has not.

use std::{
    env,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

/// Says why a test can not run here. Where `WAYFARER_TESTS_REQUIRE_ALL` is set, nothing may be lacking.
///
/// # Panics
///
/// When the variable is set.
pub fn lacks(what: &str) {
    assert!(
        env::var_os("WAYFARER_TESTS_REQUIRE_ALL").is_none(),
        "this machine lacks {what}, and all tests are required"
    );
    let name = std::thread::current().name().unwrap_or("a test").to_owned();
    // Not `eprintln!`, which the test runner keeps to itself when a test passes.
    let line = format!("SKIPPED {name}: this machine lacks {what}\n");
    std::io::stderr().write_all(line.as_bytes()).expect("standard error can be written");
}

/// A program on the path of programs.
#[must_use]
pub fn program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file())
}

/// Python 3, which drives the recorded steps and a client that no one here wrote.
#[must_use]
pub fn python() -> Option<PathBuf> {
    let python = program("python3")?;
    Command::new(&python).args(["-c", "import json, http.client"]).status().ok()?.success().then_some(python)
}

/// Busybox as a program of the host.
#[must_use]
pub fn busybox() -> Option<PathBuf> {
    ["/bin/busybox", "/usr/bin/busybox"].iter().map(PathBuf::from).find(|file| file.is_file())
}

/// The container engine that tests may use: `WAYFARER_TEST_DOCKER`, an address such as `unix:///run/engine.sock`, of an
/// engine that has the image `busybox:local`. Without the variable, tests leave the machine's own engine alone.
#[must_use]
pub fn engine() -> Option<String> {
    let address = env::var("WAYFARER_TEST_DOCKER").ok()?;
    let socket = address.strip_prefix("unix://").unwrap_or(&address);
    Path::new(socket).exists().then(|| format!("unix://{socket}"))
}

/// Whether this user may do what an agent of a real node does.
#[must_use]
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}
