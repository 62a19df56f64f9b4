//! The same on a cluster of the user's own: agents are stopped and killed by commands that the user gives, within limits,
//! and whatever was broken is healed when this program ends, however it ends.

mod plan;

use std::{
    io,
    net::{SocketAddr, ToSocketAddrs as _},
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::Value;

pub use plan::{BadLimits, Limits, Method, Strike, Target};

use crate::{
    clock::{self, Mark},
    guard::Guard,
    http,
};

/// How long a command of the user's may take.
const COMMAND_MAX_SECONDS: &str = "60";
/// How often healing is tried.
const HEALING_TRIES: u32 = 5;
/// How long one question to the cluster may take.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// How often the cluster is looked at between strikes.
const LOOK_PERIOD: Duration = Duration::from_millis(250);

/// What was asked for.
pub struct Options {
    /// An agent's API.
    pub address: String,
    /// Commands with `{name}` and `{host}` in them.
    pub templates: Templates,
    /// Names of agents that may be hit.
    pub allow: Vec<String>,
    /// Servers at once.
    pub servers_max: usize,
    /// Clients at once, in percent.
    pub clients_percent: u8,
    /// Where chance begins.
    pub seed: u64,
    /// For how long.
    pub length: Duration,
    /// Only say what would be done.
    pub dry_run: bool,
}

/// How agents are reached.
#[derive(Clone, Debug, Default)]
pub struct Templates {
    /// Stops one.
    pub pause: Option<String>,
    /// Continues one.
    pub resume: Option<String>,
    /// Kills one.
    pub kill: Option<String>,
    /// Starts one.
    pub start: Option<String>,
}

/// An attack that can not begin or had to end.
#[derive(Debug, thiserror::Error)]
pub enum AttackError {
    /// The address leads nowhere.
    #[error("{0} is no address of an agent's API, such as http://10.0.0.1:4646")]
    BadAddress(String),
    /// The cluster does not answer.
    #[error("the cluster does not answer {0}")]
    NoAnswer(&'static str),
    /// A limit makes no sense.
    #[error(transparent)]
    Limits(#[from] BadLimits),
    /// Half of a pair of commands.
    #[error("give both --pause and --resume, or both --kill and --start, or all four")]
    HalfAPair,
    /// A name that could be read as something else by a shell.
    #[error("{0:?} is the name or address of an agent and holds signs that a shell would read")]
    UnsafeName(String),
    /// The dead man's switch does not work.
    #[error("the guard does not run, so nothing may be broken")]
    Guard(#[source] io::Error),
    /// Something stays broken.
    #[error("{0} is still hit: heal it by hand")]
    NotHealed(String),
}

/// What became of it.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Strikes done.
    pub done: usize,
    /// Strikes left out, because the cluster was not well.
    pub skipped: usize,
    /// Longest time that nobody led, as far as the address knows.
    pub longest_without_leader: Duration,
}

impl Templates {
    fn methods(&self) -> Result<Vec<Method>, AttackError> {
        let mut methods = Vec::new();
        match (&self.pause, &self.resume) {
            (Some(_), Some(_)) => methods.push(Method::Pause),
            (None, None) => {}
            (Some(_), None) | (None, Some(_)) => return Err(AttackError::HalfAPair),
        }
        match (&self.kill, &self.start) {
            (Some(_), Some(_)) => methods.push(Method::Kill),
            (None, None) => {}
            (Some(_), None) | (None, Some(_)) => return Err(AttackError::HalfAPair),
        }
        if methods.is_empty() { Err(AttackError::HalfAPair) } else { Ok(methods) }
    }

    /// The command that breaks and the one that heals.
    fn commands(&self, strike: &Strike) -> Result<(String, String), AttackError> {
        let (breaking, healing) = match strike.method {
            Method::Pause => (&self.pause, &self.resume),
            Method::Kill => (&self.kill, &self.start),
        };
        let fill = |template: &Option<String>| -> Result<String, AttackError> {
            let template = template.as_ref().ok_or(AttackError::HalfAPair)?;
            let Target { name, host, .. } = &strike.target;
            Ok(template.replace("{name}", plain(name)?).replace("{host}", plain(host)?))
        };
        Ok((fill(breaking)?, fill(healing)?))
    }
}

/// Names come from the cluster and go into a shell's command, so only plain ones are taken.
fn plain(text: &str) -> Result<&str, AttackError> {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    // A name that begins with a dash would be read as a flag.
    if !text.is_empty() && !text.starts_with('-') && text.chars().all(fine) {
        return Ok(text);
    }
    Err(AttackError::UnsafeName(text.to_owned()))
}

/// Attacks, or says what it would do.
///
/// # Errors
///
/// See [`AttackError`].
pub fn attack(options: &Options) -> Result<Outcome, AttackError> {
    let methods = options.templates.methods()?;
    let address = resolve(&options.address)?;
    let all = targets(address)?;
    let limits = Limits::check(options.servers_max, options.clients_percent, &all)?;
    let mine = plan::allowed(&all, &options.allow)?;
    let strikes = plan::plan(&mine, &methods, limits, options.seed, options.length);
    println!(
        "{} agents, {} may be hit, at most {} servers and {} clients at once; {} strikes in {} s",
        all.len(),
        mine.len(),
        limits.servers,
        limits.clients,
        strikes.len(),
        options.length.as_secs()
    );
    let mut commands = Vec::new();
    for strike in &strikes {
        let (breaking, healing) = options.templates.commands(strike)?;
        println!("{:7.1} s  {breaking}", Duration::from_millis(strike.at_ms).as_secs_f64());
        println!("{:7.1} s  {healing}", Duration::from_millis(strike.end_ms()).as_secs_f64());
        commands.push((breaking, healing));
    }
    if options.dry_run {
        println!("dry run: nothing was done");
        return Ok(Outcome::default());
    }
    execute(address, &all, &strikes, &commands)
}

fn execute(
    address: SocketAddr,
    all: &[Target],
    strikes: &[Strike],
    commands: &[(String, String)],
) -> Result<Outcome, AttackError> {
    let mut guard = Guard::start().map_err(AttackError::Guard)?;
    let mut due: Vec<(u64, bool, usize)> = Vec::new();
    for (number, strike) in strikes.iter().enumerate() {
        due.push((strike.at_ms, true, number));
        due.push((strike.end_ms(), false, number));
    }
    due.sort_unstable();
    let (began, mut outcome) = (Mark::here(), Outcome::default());
    let (mut active, mut led): (Vec<usize>, Mark) = (Vec::new(), Mark::here());
    for (at_ms, begins, number) in due {
        while began.elapsed() < Duration::from_millis(at_ms) {
            if has_leader(address) {
                led = Mark::here();
            }
            outcome.longest_without_leader = outcome.longest_without_leader.max(led.elapsed());
            clock::pass(LOOK_PERIOD);
        }
        let (breaking, healing) = &commands[number];
        let name = format!("strike-{number}");
        if begins {
            let hit: Vec<&Target> = active.iter().map(|number| &strikes[*number].target).collect();
            if !is_well(address, all, &hit) {
                println!("skipped, because the cluster is not well: {breaking}");
                outcome.skipped += 1;
                continue;
            }
            // Armed first: whatever ends this program from here on heals.
            guard.arm(&name, healing).map_err(AttackError::Guard)?;
            println!("$ {breaking}");
            active.push(number);
            outcome.done += 1;
            if !shell(breaking) {
                println!("that failed; it is healed all the same");
            }
        } else if active.contains(&number) {
            println!("$ {healing}");
            if !(0..HEALING_TRIES).any(|_| shell(healing)) {
                guard.release();
                return Err(AttackError::NotHealed(strikes[number].target.name.clone()));
            }
            active.retain(|one| *one != number);
            guard.disarm(&name).map_err(AttackError::Guard)?;
        }
    }
    guard.release();
    Ok(outcome)
}

fn shell(command: &str) -> bool {
    // With a limit, so that a host that is gone does not hold up healing the others.
    let words = [COMMAND_MAX_SECONDS, "sh", "-c", command];
    let status = Command::new("timeout").args(words).stdin(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

fn resolve(address: &str) -> Result<SocketAddr, AttackError> {
    let bad = || AttackError::BadAddress(address.to_owned());
    let rest = address.strip_prefix("http://").unwrap_or(address).trim_end_matches('/');
    rest.to_socket_addrs().map_err(|_| bad())?.next().ok_or_else(bad)
}

/// Everybody: servers from gossip, clients from the nodes.
fn targets(address: SocketAddr) -> Result<Vec<Target>, AttackError> {
    let members = http::get(address, "/v1/agent/members", ANSWER_MAX);
    let members = members.ok_or(AttackError::NoAnswer("/v1/agent/members"))?;
    let nodes = http::get(address, "/v1/nodes", ANSWER_MAX).ok_or(AttackError::NoAnswer("/v1/nodes"))?;
    let mut all = Vec::new();
    for member in members["Members"].as_array().into_iter().flatten() {
        let name = member["Name"].as_str().unwrap_or_default();
        let is_server = member["Tags"]["role"].as_str().is_none_or(|role| role == "nomad");
        if is_server && member["Status"] == "alive" {
            let name = name.split('.').next().unwrap_or(name).to_owned();
            all.push(Target { name, host: text(&member["Addr"]), server: true });
        }
    }
    for node in nodes.as_array().into_iter().flatten().filter(|node| node["Status"] == "ready") {
        all.push(Target { name: text(&node["Name"]), host: text(&node["Address"]), server: false });
    }
    Ok(all)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn has_leader(address: SocketAddr) -> bool {
    let leader = http::get(address, "/v1/status/leader", ANSWER_MAX);
    leader.is_some_and(|leader| leader.as_str().is_some_and(|text| !text.is_empty()))
}

/// Whether everybody who is not hit is there. One that is not counts as hit by someone else, and then nothing more is
/// broken.
fn is_well(address: SocketAddr, all: &[Target], hit: &[&Target]) -> bool {
    let Ok(there) = targets(address) else { return false };
    has_leader(address) && all.iter().all(|target| hit.contains(&target) || there.contains(target))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strike(name: &str) -> Strike {
        let target = Target { name: name.to_owned(), host: "10.0.0.1".to_owned(), server: true };
        Strike { at_ms: 0, lasts_ms: 1, target, method: Method::Pause }
    }

    fn templates() -> Templates {
        Templates {
            pause: Some("ssh {host} stop {name}".to_owned()),
            resume: Some("ssh {host} cont {name}".to_owned()),
            ..Templates::default()
        }
    }

    #[test]
    fn commands_name_their_target_and_nothing_else_gets_into_a_shell() {
        let (breaking, healing) = templates().commands(&strike("web-1")).expect("a plain name");
        assert_eq!(
            (breaking.as_str(), healing.as_str()),
            ("ssh 10.0.0.1 stop web-1", "ssh 10.0.0.1 cont web-1")
        );
        for name in ["a;reboot", "$(x)", "-oProxyCommand=x", "", "a b"] {
            assert!(templates().commands(&strike(name)).is_err(), "{name:?}");
        }
    }

    #[test]
    fn what_can_not_be_healed_is_not_broken() {
        assert_eq!(templates().methods().expect("a pair"), [Method::Pause]);
        assert!(Templates { resume: None, ..templates() }.methods().is_err());
        assert!(Templates { kill: Some("x".to_owned()), ..templates() }.methods().is_err());
        assert!(Templates::default().methods().is_err());
    }
}
