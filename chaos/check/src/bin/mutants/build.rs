//! Builds the tests with every mutant compiled in.

use std::{
    collections::BTreeSet,
    env,
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
};

use serde_json::Value;

/// Set for the compiler calls that cargo makes through this program.
pub const WRAPPING: &str = "WAYFARER_MUTANTS_WRAP";

/// A program with tests.
#[derive(Clone, Debug)]
pub struct TestBinary {
    /// The crate that it tests.
    pub of: String,
    /// The crate and the target.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// The directory that tests of the crate run in.
    pub dir: PathBuf,
}

/// Stands between cargo and the compiler: adds the one flag.
pub fn compile() -> ExitCode {
    let mut arguments = env::args_os().skip(1);
    let Some(compiler) = arguments.next() else { return ExitCode::from(2) };
    let status = Command::new(compiler).args(arguments).args(["--cfg", "wayfarer_mutants"]).status();
    match status.ok().and_then(|status| status.code()).and_then(|code| u8::try_from(code).ok()) {
        Some(code) => ExitCode::from(code),
        None => ExitCode::FAILURE,
    }
}

/// Builds the tests of some crates and lists their programs.
pub fn tests_of(crates: &BTreeSet<&str>) -> Result<Vec<TestBinary>, String> {
    let me = env::current_exe().map_err(|error| format!("this program does not find itself: {error}"))?;
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["test", "--no-run", "--message-format=json", "--lib", "--tests"]);
    crates.iter().for_each(|name| _ = cargo.args(["-p", name]));
    cargo.env("RUSTC_WORKSPACE_WRAPPER", me).env(WRAPPING, "1").stderr(Stdio::inherit());
    let output = cargo.output().map_err(|error| format!("cargo does not run: {error}"))?;
    if !output.status.success() {
        return Err("the tests do not build with mutants".to_owned());
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let binaries = messages
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .filter_map(|message| read(&message));
    Ok(binaries.collect())
}

/// Builds the simulation and returns where its program is.
pub fn simulation() -> Result<PathBuf, String> {
    let me = env::current_exe().map_err(|error| format!("this program does not find itself: {error}"))?;
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--message-format=json", "-p", "chaos-sim", "--profile", "sim"]);
    cargo.env("RUSTC_WORKSPACE_WRAPPER", me).env(WRAPPING, "1").stderr(Stdio::inherit());
    let output = cargo.output().map_err(|error| format!("cargo does not run: {error}"))?;
    let messages = String::from_utf8_lossy(&output.stdout);
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let built = messages.filter_map(|message| message["executable"].as_str().map(PathBuf::from)).next_back();
    built.filter(|_| output.status.success()).ok_or_else(|| "the simulation does not build".to_owned())
}

/// Reads one of cargo's messages: a program with tests, or something else.
fn read(message: &Value) -> Option<TestBinary> {
    let path = message["executable"].as_str().filter(|_| message["profile"]["test"] == true)?;
    let manifest = PathBuf::from(message["manifest_path"].as_str()?);
    let dir = manifest.parent()?.to_owned();
    let target = message["target"]["name"].as_str()?;
    let of = package_name(message["package_id"].as_str()?)?;
    let name =
        if of.replace('-', "_") == target.replace('-', "_") { of.clone() } else { format!("{of}/{target}") };
    Some(TestBinary { of, name, path: path.into(), dir })
}

/// Takes the package's name out of its id: `path+file:///somewhere/raft#0.1.0` or `...#name@0.1.0`.
fn package_name(id: &str) -> Option<String> {
    let (place, rest) = id.rsplit_once('#')?;
    match rest.split_once('@') {
        Some((name, _)) => Some(name.to_owned()),
        None => place.rsplit('/').next().map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_named_by_either_form_of_their_id() {
        assert_eq!(package_name("path+file:///w/src/raft#0.1.0").as_deref(), Some("raft"));
        assert_eq!(
            package_name("path+file:///w/gossip/core#gossip-core@0.1.0").as_deref(),
            Some("gossip-core")
        );
    }
}
