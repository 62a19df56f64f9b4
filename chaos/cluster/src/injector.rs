//! Does what a schedule says, and undoes it.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use nix::sys::signal::Signal;
use serde::Serialize;

use crate::{
    cluster::Cluster,
    fault::{Fault, Link, Plane},
    layout::Agent,
    plan::Step,
    relay::RuleId,
};

/// What was done, when, to whom.
#[derive(Clone, Debug, Serialize)]
pub struct Done {
    /// When it began, since the run did.
    pub at_ms: u64,
    /// When it was undone; none while it lasts.
    pub end_ms: Option<u64>,
    /// In words.
    pub what: String,
    /// Whom it hit, as it turned out.
    pub hit: Vec<Agent>,
    /// One of them led.
    pub led: bool,
    /// Processes that it killed with -9.
    pub kills: usize,
    /// Whom others may take for dead meanwhile; none for everybody.
    pub excuses: Option<Vec<Agent>>,
    /// What went otherwise than planned.
    pub note: Option<String>,
    /// As it was planned.
    pub fault: Fault,
}

/// What has to be undone.
struct Active {
    done: usize,
    rules: Vec<RuleId>,
    links: Vec<Link>,
    agents: Vec<Agent>,
}

/// Breaks a cluster and heals it.
pub struct Injector {
    cluster: Arc<Cluster>,
    active: BTreeMap<usize, Active>,
    done: Vec<Done>,
}

impl Injector {
    /// Nothing is broken yet.
    #[must_use]
    pub fn new(cluster: Arc<Cluster>) -> Self {
        Self { cluster, active: BTreeMap::new(), done: Vec::new() }
    }

    /// All that was done so far.
    #[must_use]
    pub fn done(&self) -> &[Done] {
        &self.done
    }

    /// Agents between which and the others something is cut, or whose process is hit.
    #[must_use]
    pub fn hit_now(&self) -> Vec<Agent> {
        let links = self.active.values().flat_map(|active| &active.links);
        let cut = links.flat_map(|link| [link.from, link.to]);
        self.active.values().flat_map(|active| active.agents.iter().copied()).chain(cut).collect()
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.cluster.began.elapsed().as_millis()).expect("runs are bounded")
    }

    /// Breaks what step `number` of the schedule says.
    pub fn begin(&mut self, number: usize, step: &Step) {
        let leader = self.cluster.leader();
        let at_ms = self.now_ms();
        let mut active =
            Active { done: self.done.len(), rules: Vec::new(), links: Vec::new(), agents: Vec::new() };
        let ran = self.cluster.running();
        let result = self.break_it(&step.fault, leader, &mut active);
        let led = leader.is_some_and(|leader| active.agents.contains(&leader));
        let mut excuses = step.fault.excuses(Duration::from_millis(step.lasts_ms));
        if let (Some(excuses), Fault::Leader) = (&mut excuses, &step.fault) {
            excuses.extend(&active.agents);
        }
        let hit = active.agents.clone();
        let kills = active.agents.iter().filter(|agent| step.fault.kills() && ran.contains(agent)).count();
        let note = result.err().map(|error| error.to_string());
        let what = step.fault.to_string();
        self.done.push(Done {
            at_ms,
            end_ms: None,
            what,
            hit,
            led,
            kills,
            excuses,
            note,
            fault: step.fault.clone(),
        });
        self.active.insert(number, active);
    }

    fn break_it(&self, fault: &Fault, leader: Option<Agent>, active: &mut Active) -> io::Result<()> {
        let cluster = &self.cluster;
        active.agents = fault.hits();
        match fault {
            Fault::Kill { agents } => agents.iter().for_each(|agent| cluster.agent(*agent).kill()),
            Fault::Leader => {
                let leader = leader.ok_or_else(|| io::Error::other("nobody leads"))?;
                if self.hit_now().contains(&leader) {
                    return Err(io::Error::other(format!("{leader} leads and is hit already")));
                }
                active.agents = vec![leader];
                cluster.agent(leader).kill();
            }
            Fault::Power { agent } => cluster.power_off(*agent)?,
            Fault::Pause { agent } => cluster.agent(*agent).signal(Signal::SIGSTOP),
            Fault::Cut { links, plane, .. } => {
                active.rules.push(cluster.relay.with_policy(|policy| policy.cut(links.clone(), *plane)));
                if *plane == Plane::All {
                    active.links.clone_from(links);
                    cluster.network.cut(links)?;
                }
            }
            Fault::Weather(weather) => {
                active.rules.push(cluster.relay.with_policy(|policy| policy.weather(*weather)));
            }
            Fault::DiskFull { agent } => self.disk(*agent)?.fill()?,
            Fault::DiskSlow { agent, rate } => {
                let pid = cluster.agent(*agent).pid();
                let pid = pid.ok_or_else(|| io::Error::other(format!("{agent} does not run")))?;
                self.disk(*agent)?.slow(pid, *rate)?;
            }
            Fault::DiskStuck { agent } => self.disk(*agent)?.freeze()?,
            Fault::Clock { agent, .. } | Fault::Expire { agent } => cluster.agent(*agent).kill(),
            Fault::Damage { agent, place } => {
                if !leader.is_some_and(|leader| self.may_lose_a_log(leader)) {
                    active.agents.clear();
                    return Err(io::Error::other(
                        "no log may be lost now: not exactly the usual servers vote",
                    ));
                }
                cluster.agent(*agent).kill();
                let data = cluster.agent(*agent).data();
                let said = flip(&data.join("server"), *place)?;
                eprintln!("          {said}");
            }
            Fault::Wall { agent, shift } => cluster.agent(*agent).set_wall_clock(*shift)?,
            Fault::Engine => self.engine()?.kill()?,
            Fault::Storm { agents } => {
                for agent in agents {
                    cluster.start_afresh(*agent)?;
                }
            }
        }
        Ok(())
    }

    /// Whether the region stands the loss of one server's log: who lost one before votes again, nobody has joined for a while, and
    /// nothing else is wrong with a server. What schedules say of the time that takes is a guess, and a region that lost two logs
    /// of three is gone, as any region would be.
    fn may_lose_a_log(&self, leader: Agent) -> bool {
        let layout = self.cluster.layout;
        let voters = self.cluster.voters(leader).unwrap_or_default();
        let is_server = |agent: Agent| layout.servers().any(|server| server == agent);
        let troubled = self.active.values().any(|active| {
            active.agents.iter().any(|agent| is_server(*agent))
                || active.links.iter().any(|link| is_server(link.from) && is_server(link.to))
        });
        let usual = layout.servers().all(|server| voters.contains(&server));
        usual && voters.len() == layout.servers().count() && !troubled
    }

    fn disk(&self, agent: Agent) -> io::Result<&crate::disk::Disk> {
        self.cluster.disk(agent).ok_or_else(|| io::Error::other(format!("{agent} has no disk of its own")))
    }

    fn engine(&self) -> io::Result<&crate::engine::Engine> {
        let engine = self.cluster.engine.as_ref();
        engine.ok_or_else(|| io::Error::other("the run has no container engine"))
    }

    /// Undoes what step `number` did.
    pub fn end(&mut self, number: usize, step: &Step) {
        let Some(active) = self.active.remove(&number) else { return };
        let result = self.undo(&step.fault, &active);
        let end_ms = self.now_ms();
        let done = &mut self.done[active.done];
        done.end_ms = Some(end_ms);
        if let Err(error) = result {
            let before = done.note.take().map(|note| format!("{note}; ")).unwrap_or_default();
            done.note = Some(format!("{before}{error}"));
        }
    }

    fn undo(&self, fault: &Fault, active: &Active) -> io::Result<()> {
        let cluster = &self.cluster;
        cluster.relay.with_policy(|policy| active.rules.iter().for_each(|rule| policy.lift(*rule)));
        if !active.links.is_empty() {
            cluster.network.mend(&active.links)?;
        }
        match fault {
            Fault::Kill { .. }
            | Fault::Leader
            | Fault::Power { .. }
            | Fault::Damage { .. }
            | Fault::Expire { .. } => active.agents.iter().try_for_each(|agent| cluster.start(*agent, 0)),
            Fault::Pause { agent } => {
                cluster.agent(*agent).signal(Signal::SIGCONT);
                Ok(())
            }
            Fault::Cut { .. } | Fault::Weather(_) => Ok(()),
            Fault::DiskFull { agent } => {
                self.disk(*agent)?.free()?;
                // What a supervisor does with an agent that ended for want of room.
                cluster.look_for_endings();
                cluster.start(*agent, 0)
            }
            Fault::DiskSlow { agent, .. } => self.disk(*agent)?.quicken(),
            Fault::DiskStuck { agent } => self.disk(*agent)?.thaw(),
            Fault::Clock { agent, shift } => cluster.start(*agent, *shift),
            Fault::Wall { agent, .. } => cluster.agent(*agent).set_wall_clock(0),
            Fault::Engine => self.engine()?.resume(),
            Fault::Storm { agents } => {
                agents.iter().for_each(|agent| cluster.agent(*agent).signal(Signal::SIGTERM));
                Ok(())
            }
        }
    }
}

/// Flips one bit of all the bits below a directory, and says which.
fn flip(dir: &Path, place: u64) -> io::Result<String> {
    let mut files = Vec::new();
    files_below(dir, &mut files)?;
    files.sort();
    let sizes: Vec<u64> = files.iter().map(|file| fs::metadata(file).map_or(0, |meta| meta.len())).collect();
    let total: u64 = sizes.iter().sum();
    if total == 0 {
        return Err(io::Error::other(format!("there is nothing to damage in {}", dir.display())));
    }
    let mut byte = place / 8 % total;
    for (file, size) in files.iter().zip(sizes) {
        if byte < size {
            let mut bytes = fs::read(file)?;
            let at = usize::try_from(byte).expect("files of logs fit in memory");
            bytes[at] ^= 1 << (place % 8);
            fs::write(file, bytes)?;
            return Ok(format!("bit {} of byte {byte} of {} flipped", place % 8, file.display()));
        }
        byte -= size;
    }
    Err(io::Error::other("files changed while they were looked at"))
}

fn files_below(dir: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            files_below(&path, found)?;
        } else {
            found.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bit_of_one_file_is_flipped() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir(dir.path().join("deep")).expect("a directory");
        for (name, size) in [("a", 10), ("deep/b", 20)] {
            fs::write(dir.path().join(name), vec![0_u8; size]).expect("a file");
        }
        for place in 0..240_u64 {
            flip(dir.path(), place).expect("there is something to flip");
        }
        for name in ["a", "deep/b"] {
            let bytes = fs::read(dir.path().join(name)).expect("it is still there");
            assert!(bytes.iter().all(|byte| *byte == 0xff), "every bit was flipped once: {bytes:?}");
        }
    }

    #[test]
    fn nothing_to_damage_is_said() {
        let dir = tempfile::tempdir().expect("a directory");
        assert!(flip(dir.path(), 3).is_err());
    }
}
