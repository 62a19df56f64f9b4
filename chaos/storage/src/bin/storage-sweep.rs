//! `storage-sweep [--places N] [--seed N]`: damages the files of a server and of a client in N places, half each, and
//! tells what came of it. Ends with 1 when something was served in silence. Each start of a server is tried by this program
//! in a process of its own first (`storage-sweep open DIR`), for some damage makes a library abort it.
//!
//! The copies are below the temporary directory; one in memory (`TMPDIR=/dev/shm`) makes it several times as fast.
#![expect(clippy::disallowed_methods, reason = "what is measured here is a whole program, in real time")]

use std::{path::Path, process::ExitCode, time::Instant};

use anyhow::Context;
use chaos_storage::{ClientFiles, Findings, ServerFiles, Subject, Verdict, sweep};

/// Findings of each kind that are named.
const NAMED_MAX: usize = 20;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<ExitCode> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [open, dir] = words.as_slice()
        && open == "open"
    {
        // What comes of it is judged on another copy; here it is only to be seen whether the process survives.
        let _ = ServerFiles::open(Path::new(dir)).await;
        return Ok(ExitCode::SUCCESS);
    }
    let (places, seed) = arguments(&words)?;
    let scratch = tempfile::tempdir().context("no directory for copies")?;
    let (server_dir, client_dir) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let server = ServerFiles::make(server_dir.path()).await?.rehearsed_by(std::env::current_exe()?);
    let client = ClientFiles::make(client_dir.path()).await?;
    println!("| Files of a | places | detected | harmless | for a person | in silence | seconds |");
    println!("| --- | ---: | ---: | ---: | ---: | ---: | ---: |");
    let started = Instant::now();
    let of_server = sweep(&server, scratch.path(), places / 2, seed).await?;
    show(server.name(), &of_server, started);
    let started = Instant::now();
    let of_client = sweep(&client, scratch.path(), places - places / 2, seed).await?;
    show(client.name(), &of_client, started);
    for (name, damages) in [
        ("in silence", |findings: &Findings| findings.silent.clone()),
        ("for a person", |findings| findings.refused.clone()),
        ("aborted its first starts", |findings| findings.aborted.clone()),
    ] as [(&str, fn(&Findings) -> Vec<chaos_storage::Damage>); 3]
    {
        for findings in [&of_server, &of_client] {
            damages(findings).iter().take(NAMED_MAX).for_each(|damage| println!("{name}: {damage}"));
        }
    }
    let silent = of_server.count(Verdict::Silent) + of_client.count(Verdict::Silent);
    Ok(if silent == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn show(name: &str, findings: &Findings, started: Instant) {
    let count = |verdict| findings.count(verdict);
    println!(
        "| {name} | {} | {} | {} | {} | {} | {:.0} |",
        findings.places(),
        count(Verdict::Detected),
        count(Verdict::Harmless),
        count(Verdict::Refused),
        count(Verdict::Silent),
        started.elapsed().as_secs_f64()
    );
}

fn arguments(words: &[String]) -> anyhow::Result<(usize, u64)> {
    let (mut places, mut seed) = (4_000, 1);
    let mut given = words.iter();
    while let Some(argument) = given.next() {
        let value = given.next().with_context(|| format!("{argument} needs a number"))?;
        match argument.as_str() {
            "--places" => places = value.parse().with_context(|| format!("{value} is not a number"))?,
            "--seed" => seed = value.parse().with_context(|| format!("{value} is not a number"))?,
            other => anyhow::bail!("{other} is not known: --places N, --seed N"),
        }
    }
    Ok((places, seed))
}
