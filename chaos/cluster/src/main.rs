//! `wayfarer-chaos`: faults on real agents, with what must hold checked from outside.
//!
//! It makes a region of its own, each agent in a network namespace, with every packet between them going through a relay
//! of ours; breaks it after a schedule that a seed gives; and holds what can be seen from outside against the properties
//! of `chaos-check`. Pointed at a cluster of the user's own it does less, within limits, and always heals what it broke.
//! It never touches what it did not make: everything carries the run's prefix, and a guard removes it, however a run
//! ends.
//!
//! Read [`run::run`] first, then [`fault::Fault`] and [`plan::plan`].

mod agent;
mod args;
mod attack;
mod census;
mod clock;
mod cluster;
mod disk;
mod engine;
mod fault;
mod guard;
mod http;
mod injector;
mod layout;
mod measure;
mod network;
mod observe;
mod plan;
mod process;
mod relay;
mod report;
mod rows;
mod run;
mod users;
mod wall;
mod workload;

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use args::{Args, BadArgs};
use fault::Kind;
use guard::Guard;
use layout::Layout;
use plan::{Extent, Wishes};

const HELP: &str = "wayfarer-chaos breaks agents on purpose and looks whether what must hold does.

  wayfarer-chaos list
      Names every fault.
  wayfarer-chaos plan --seed N [--minutes M | --kills N] [--faults a,b] [--servers N] [--clients N]
      Prints a seed's schedule and does nothing.
  wayfarer-chaos run --seed N [--minutes M | --seconds S | --kills N] [--faults a,b|all] [--servers N]
                     [--clients N] [--binary FILE] [--out DIR] [--users N] [--keep] [--record PAGE --build WORDS]
      Makes a region in network namespaces of its own (root), breaks it, lets it heal, writes DIR/report.md and
      DIR/report.json. With --kills it kills agents with -9, one soon after the other, until it killed so many. Exit code 1 when something does not hold. Logs are kept then, and with --keep.
  wayfarer-chaos attack --address URL --allow NAMES|'*' (--pause CMD --resume CMD)|(--kill CMD --start CMD)
                     [--servers-max N] [--clients-percent P] [--minutes M] [--seed N] [--dry-run]
      Does it to a cluster of yours. Commands run in a shell; {name} and {host} stand for the agent. A quorum of servers
      is always left alone. What is broken is healed when this program ends, also by kill -9.
  wayfarer-chaos clean --prefix P --root DIR [--keep-logs]
      Removes what a run left; the guard of each run does so by itself.
";

/// A command that did not do what it should.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Args(#[from] BadArgs),
    #[error(transparent)]
    Attack(#[from] attack::AttackError),
    #[error("{what}: {source}")]
    Io { what: &'static str, source: io::Error },
    #[error(
        "none of these faults can be done on this machine: it has no loop devices, container engine or C compiler"
    )]
    Impossible,
}

fn io(what: &'static str) -> impl Fn(io::Error) -> Failure {
    move |source| Failure::Io { what, source }
}

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let (command, rest) =
        words.split_first().map_or(("help", &[][..]), |(first, rest)| (first.as_str(), rest));
    let result = match command {
        "list" => list(rest),
        "plan" => print_plan(rest),
        "run" => run_one(rest),
        "attack" => attack_one(rest),
        "clean" => clean(rest),
        "guard" => {
            guard::run();
            Ok(ExitCode::SUCCESS)
        }
        "help" | "--help" | "-h" => {
            print!("{HELP}");
            Ok(ExitCode::SUCCESS)
        }
        other => {
            eprintln!("{other} is no command\n\n{HELP}");
            Ok(ExitCode::from(2))
        }
    };
    result.unwrap_or_else(|failure| {
        eprintln!("wayfarer-chaos: {failure}");
        ExitCode::from(2)
    })
}

fn list(words: &[String]) -> Result<ExitCode, Failure> {
    Args::read(words, &[], &[])?;
    for kind in Kind::ALL {
        let about = kind.about();
        println!("{:<11} {} ({} to {} s)", about.name, about.says, about.lasts.0, about.lasts.1);
    }
    Ok(ExitCode::SUCCESS)
}

/// Flags that say what a schedule is made from.
const WISHES: [&str; 7] = ["seed", "minutes", "seconds", "kills", "faults", "servers", "clients"];

/// More kills of one run: as many as fit into a day.
const KILLS_MAX: usize = 86_400;

fn wishes(args: &Args) -> Result<Wishes, Failure> {
    let seconds_max = plan::LENGTH_MAX.as_secs();
    let minutes: u64 = args.number("minutes", 2, 1..=seconds_max / 60)?;
    let seconds = args.number("seconds", minutes * 60, 1..=seconds_max)?;
    let kills = args.number("kills", 0, 0..=KILLS_MAX)?;
    let extent = match kills {
        0 => Extent::Lasts(Duration::from_secs(seconds)),
        count if args.text("faults").is_none() => Extent::Kills(count),
        _ => return Err(BadArgs::Both("kills", "faults").into()),
    };
    let layout = Layout {
        servers: args.number("servers", 3, 1..=7)?,
        clients: args.number("clients", 5, 1..=20)?,
        spare_clients: 2,
        spare_servers: 1,
    };
    let asked = args.kinds()?;
    let possible = run::possible();
    let kinds: Vec<Kind> = asked.iter().copied().filter(|kind| possible.contains(kind)).collect();
    if kinds.is_empty() && !asked.is_empty() {
        return Err(Failure::Impossible);
    }
    let seed = args.number("seed", clock::unix_seconds(), 0..=u64::MAX)?;
    Ok(Wishes { seed, extent, kinds, possible, layout })
}

fn print_plan(words: &[String]) -> Result<ExitCode, Failure> {
    let wishes = wishes(&Args::read(words, &WISHES, &[])?)?;
    println!("seed {}", wishes.seed);
    for step in plan::plan(&wishes) {
        let at = |ms: u64| Duration::from_millis(ms).as_secs_f64();
        println!("{:7.1} to {:7.1} s  {}", at(step.at_ms), at(step.end_ms()), step.fault);
    }
    Ok(ExitCode::SUCCESS)
}

fn run_one(words: &[String]) -> Result<ExitCode, Failure> {
    let flags = [&WISHES[..], &["binary", "out", "users", "record", "build"]].concat();
    let args = Args::read(words, &flags, &["keep"])?;
    let wishes = wishes(&args)?;
    let binary = binary(args.text("binary"))?;
    let prefix = format!("wfc{}", std::process::id());
    let root = env::temp_dir().join(format!("wayfarer-chaos-{}", std::process::id()));
    let out = args.text("out").map_or_else(|| root.clone(), PathBuf::from);
    let users = args.number("users", 3, 0..=50)?;
    fs::create_dir_all(&root).map_err(io("a directory for the run"))?;

    let own = env::current_exe().map_err(io("where this program is"))?;
    let clean = format!("{:?} clean --prefix {prefix} --root {:?}", own, root);
    let keep_logs = format!("{clean} --keep-logs");
    let mut guard = Guard::start().map_err(io("the guard"))?;
    guard.arm("run", &clean).map_err(io("the guard"))?;
    println!("seed {}; everything is named {prefix}-* and below {}", wishes.seed, root.display());
    let result = run::run(run::Options { binary, wishes, users, prefix, root: root.clone() });
    let fine = result.as_ref().is_ok_and(|report| report.violations.is_empty());
    if !fine || args.is_on("keep") || out == root {
        guard.arm("run", &keep_logs).map_err(io("the guard"))?;
    }
    guard.release();
    let report = result.map_err(io("the region"))?;
    report.save(&out).map_err(io("the report"))?;
    println!("{}", report.page());
    println!("the report is in {}", out.display());
    if !fine {
        println!("logs are in {}; this repeats the schedule:\n  {}", root.display(), report.command());
    }
    if let Some(page) = args.text("record") {
        let row = report.row(args.text("build").unwrap_or("?"));
        report::record(Path::new(page), &row).map_err(io("the page of results"))?;
    }
    Ok(if fine { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// The program under test: named, or beside this one.
fn binary(named: Option<&str>) -> Result<PathBuf, Failure> {
    let beside = || Ok(env::current_exe()?.with_file_name("wayfarer"));
    let path = named.map_or_else(beside, |name| Ok(PathBuf::from(name)));
    path.and_then(|path| path.canonicalize()).map_err(io("the program under test (--binary)"))
}

fn attack_one(words: &[String]) -> Result<ExitCode, Failure> {
    let flags = [
        "address",
        "allow",
        "pause",
        "resume",
        "kill",
        "start",
        "servers-max",
        "clients-percent",
        "minutes",
        "seed",
    ];
    let args = Args::read(words, &flags, &["dry-run"])?;
    let command = |flag| args.text(flag).map(str::to_owned);
    let minutes: u64 = args.number("minutes", 10, 1..=plan::LENGTH_MAX.as_secs() / 60)?;
    let allow = args.words("allow");
    if allow.is_empty() {
        return Err(BadArgs::Missing("allow").into());
    }
    let outcome = attack::attack(&attack::Options {
        address: args.text("address").ok_or(BadArgs::Missing("address"))?.to_owned(),
        templates: attack::Templates {
            pause: command("pause"),
            resume: command("resume"),
            kill: command("kill"),
            start: command("start"),
        },
        allow,
        servers_max: args.number("servers-max", 1, 0..=7)?,
        clients_percent: args.number("clients-percent", 10, 0..=100)?,
        seed: args.number("seed", clock::unix_seconds(), 0..=u64::MAX)?,
        length: Duration::from_secs(minutes * 60),
        dry_run: args.is_on("dry-run"),
    })?;
    if !args.is_on("dry-run") {
        println!(
            "{} strikes done, {} left out; longest time without a leader: {:.1} s",
            outcome.done,
            outcome.skipped,
            outcome.longest_without_leader.as_secs_f64()
        );
    }
    Ok(ExitCode::SUCCESS)
}

fn clean(words: &[String]) -> Result<ExitCode, Failure> {
    let args = Args::read(words, &["prefix", "root"], &["keep-logs"])?;
    let prefix = args.text("prefix").ok_or(BadArgs::Missing("prefix"))?;
    let root = args.text("root").ok_or(BadArgs::Missing("root"))?;
    cluster::remove(prefix, Path::new(root), args.is_on("keep-logs"));
    Ok(ExitCode::SUCCESS)
}
