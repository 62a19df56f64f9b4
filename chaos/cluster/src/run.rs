//! One run: a region is made, broken after a schedule with safety checked all the time, left alone, and must heal in time.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use chaos_check::{Action, Checker, History, Operation, Outcome, Phase};
use model::JobKey;

use crate::{
    agent::Ending,
    census,
    clock::{self, Mark},
    cluster::{Cluster, Ended, Wanted},
    engine,
    fault::{AFTERMATH, Fault, Kind},
    injector::Injector,
    layout::{Agent, Layout},
    measure::{self, Change},
    observe::{self, Known, Observer},
    plan::{Step, Wishes, plan},
    process,
    report::{Found, Healed, Report},
    users::{self, Users},
    wall, workload,
};

/// Between two looks at the schedule.
const TICK: Duration = Duration::from_millis(20);
/// Between two looks at the status of nodes.
const STATUS_PERIOD: Duration = Duration::from_millis(100);
/// Between two looks at everything.
const LOOK_PERIOD: Duration = Duration::from_millis(1_000);
/// Every so many looks are thorough.
const THOROUGH_EVERY: u64 = 10;
/// Violations of one property that are told; the rest are like them.
const TOLD_MAX: usize = 3;

/// After the last fault somebody leads within this time.
const LEADER_MAX: Duration = Duration::from_secs(15);
/// After the last fault all servers vote and all nodes are ready within this time.
const WHOLE_MAX: Duration = Duration::from_secs(90);
/// After the last fault exactly what is wanted runs within this time.
const WORKLOAD_MAX: Duration = Duration::from_secs(120);
/// After everything was stopped nothing is left within this time.
const STOPPED_MAX: Duration = Duration::from_secs(60);
/// Users go on for this long after the last fault.
const CALM: Duration = Duration::from_secs(3);

/// The exit code of an agent whose disk is full.
const EXIT_DISK_FULL: i32 = 70;

/// What a run is made from.
pub struct Options {
    /// The program under test.
    pub binary: PathBuf,
    /// The schedule.
    pub wishes: Wishes,
    /// Users that quarrel about the same jobs.
    pub users: u32,
    /// What everything is named by.
    pub prefix: String,
    /// Everything on disk is below here.
    pub root: PathBuf,
}

/// What the thread that looks shares with the one that breaks.
struct Shared {
    cluster: Arc<Cluster>,
    over: AtomicBool,
    hit: Mutex<Vec<Agent>>,
    phase: Mutex<Phase>,
    changes: Mutex<Vec<Change>>,
    found: Mutex<BTreeMap<String, Vec<Found>>>,
    checker: Mutex<Checker>,
    looks: Mutex<u64>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn new(cluster: Arc<Cluster>) -> Self {
        Self {
            cluster,
            over: AtomicBool::new(false),
            hit: Mutex::default(),
            phase: Mutex::default(),
            changes: Mutex::default(),
            found: Mutex::default(),
            checker: Mutex::default(),
            looks: Mutex::default(),
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.cluster.began.elapsed().as_millis()).expect("runs are bounded")
    }

    fn violation(&self, property: &str, what: String) {
        let at_ms = self.now_ms();
        let mut found = lock(&self.found);
        let same = found.entry(property.to_owned()).or_default();
        if same.len() < TOLD_MAX && same.iter().all(|before| before.what != what) {
            eprintln!("{:8.2} s  VIOLATION {property}: {what}", seconds(at_ms));
            same.push(Found { at_ms, property: property.to_owned(), what });
        }
    }
}

/// Milliseconds as seconds, for people.
fn seconds(ms: u64) -> f64 {
    Duration::from_millis(ms).as_secs_f64()
}

/// Does one run.
///
/// # Errors
///
/// When the region can not be made at all; what goes wrong later is in the report.
pub fn run(options: Options) -> io::Result<Report> {
    let layout = options.wishes.layout;
    let steps = plan(&options.wishes);
    let lasts = Duration::from_millis(steps.iter().map(Step::end_ms).max().unwrap_or(0));
    let (cluster, formed) = form(&options, &steps)?;

    let shared = Arc::new(Shared::new(cluster.clone()));
    let users = Arc::new(Users::start(&cluster, options.wishes.seed, options.users, lasts));
    let (watcher, sampler) = (watch(&shared, &users), sample(&shared));
    let mut injector = Injector::new(cluster.clone());
    let faults_from = cluster.began.elapsed();
    break_all(&shared, &mut injector, &steps);

    let mut healed = Vec::new();
    heal(&shared, layout, &mut healed);
    shared.over.store(true, Ordering::Relaxed);
    for thread in [watcher, sampler] {
        if thread.join().is_err() {
            shared.violation("chaos", "a thread that looks ended in a panic".to_owned());
        }
    }
    let users = Arc::into_inner(users).ok_or_else(|| io::Error::other("somebody still holds the users"))?;
    let (mut operations, writes) = users.stop();
    let lost = judge(&shared, &mut operations, &mut healed);
    stop_all(&shared, &mut healed);
    judge_endings(&shared, injector.done());
    let changes = lock(&shared.changes).clone();
    let aftermath_ms = u64::try_from(AFTERMATH.as_millis()).expect("it is short");
    for change in measure::false_downs(injector.done(), &changes, aftermath_ms) {
        let what = format!("node {} counted as down at {:.1} s", change.agent, seconds(change.at_ms));
        shared.violation("no node is falsely down", what);
    }
    let found = lock(&shared.found).values().flatten().cloned().collect();
    let checks =
        lock(&shared.checker).checks().iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
    Ok(Report {
        seed: options.wishes.seed,
        layout,
        binary: options.binary.display().to_string(),
        extent: options.wishes.extent,
        kills: injector.done().iter().map(|done| done.kills).sum(),
        lasted_ms: u64::try_from(lasts.as_millis()).expect("runs are bounded"),
        kinds: options.wishes.kinds.clone(),
        formed_ms: u64::try_from(formed.as_millis()).expect("forming is bounded"),
        faults_from_ms: u64::try_from(faults_from.as_millis()).expect("runs are bounded"),
        measured: measure::measure(injector.done(), &changes, &writes, layout),
        done: injector.done().to_vec(),
        healed,
        changes,
        writes: writes.len(),
        lost,
        outcomes: count_outcomes(&operations),
        packets: cluster.relay.passed(),
        endings: cluster.ended(),
        checks,
        violations: found,
    })
}

/// Makes what the schedule needs, starts the region and the services, and tells how long the region took.
fn form(options: &Options, steps: &[Step]) -> io::Result<(Arc<Cluster>, Duration)> {
    let cluster = Arc::new(Cluster::prepare(Wanted {
        layout: options.wishes.layout,
        prefix: options.prefix.clone(),
        root: options.root.clone(),
        binary: options.binary.clone(),
        seed: options.wishes.seed,
        disks: steps.iter().any(|step| uses_disk(&step.fault)),
        wall_clocks: steps.iter().any(|step| matches!(step.fault, Fault::Wall { .. })),
        engine: steps.iter().any(|step| step.fault == Fault::Engine),
        short_certificates: steps.iter().any(|step| matches!(step.fault, Fault::Expire { .. })),
    })?);
    let formed = cluster.form()?;
    eprintln!("the region formed in {:.1} s", formed.as_secs_f64());
    let through = cluster.leader().ok_or_else(|| io::Error::other("the region that formed has no leader"))?;
    workload::register(&cluster, through).map_err(io::Error::other)?;
    clock::poll(WORKLOAD_MAX, || workload::runs_as_wanted(&cluster, through).then_some(()))
        .ok_or_else(|| io::Error::other("the services did not start"))?;
    Ok((cluster, formed))
}

fn uses_disk(fault: &Fault) -> bool {
    matches!(fault, Fault::DiskFull { .. } | Fault::DiskSlow { .. } | Fault::DiskStuck { .. })
}

/// The kinds that this machine can do.
#[must_use]
pub fn possible() -> Vec<Kind> {
    let loops = std::path::Path::new("/dev/loop-control").exists();
    let engine = engine::possible();
    let walls = wall::possible();
    let can = |kind: &Kind| {
        (loops || !kind.needs_disks())
            && (engine || !kind.needs_engine())
            && (walls || !kind.needs_wall_clocks())
    };
    Kind::ALL.into_iter().filter(can).collect()
}

fn break_all(shared: &Shared, injector: &mut Injector, steps: &[Step]) {
    let began = Mark::here();
    let mut due: Vec<(u64, bool, usize)> = Vec::new();
    for (number, step) in steps.iter().enumerate() {
        due.push((step.at_ms, true, number));
        due.push((step.end_ms(), false, number));
    }
    due.sort_unstable();
    for (at_ms, begins, number) in due {
        while began.elapsed() < Duration::from_millis(at_ms) {
            clock::pass(TICK);
            shared.cluster.look_for_endings();
        }
        let step = &steps[number];
        let word = if begins { "begins" } else { "ends" };
        eprintln!("{:8.2} s  {word}: {}", seconds(shared.now_ms()), step.fault);
        if begins {
            injector.begin(number, step);
        } else {
            injector.end(number, step);
        }
        if let Some(note) = injector.done().last().and_then(|done| done.note.as_ref()) {
            eprintln!("            note: {note}");
        }
        *lock(&shared.hit) = injector.hit_now();
    }
}

/// Follows the status of nodes.
fn sample(shared: &Arc<Shared>) -> JoinHandle<()> {
    let shared = shared.clone();
    clock::beside(move || {
        let mut last: BTreeMap<Agent, String> = BTreeMap::new();
        while !shared.over.load(Ordering::Relaxed) {
            let avoid = lock(&shared.hit).clone();
            let at_ms = shared.now_ms();
            for (agent, status) in observe::statuses(&shared.cluster, &avoid).unwrap_or_default() {
                if last.get(&agent) != Some(&status) {
                    last.insert(agent, status.clone());
                    lock(&shared.changes).push(Change { at_ms, agent, status });
                }
            }
            clock::pass(STATUS_PERIOD);
        }
    })
}

/// Looks at everything and holds it against the properties.
fn watch(shared: &Arc<Shared>, users: &Arc<Users>) -> JoinHandle<()> {
    let (shared, users) = (shared.clone(), users.clone());
    clock::beside(move || {
        let mut observer = Observer::new(shared.cluster.clone());
        while !shared.over.load(Ordering::Relaxed) {
            let number = {
                let mut looks = lock(&shared.looks);
                *looks += 1;
                *looks
            };
            let known = Known {
                at: shared.cluster.began.elapsed(),
                phase: *lock(&shared.phase),
                hit: lock(&shared.hit).clone(),
                watched: users.take_watched(),
                thorough: number.is_multiple_of(THOROUGH_EVERY),
            };
            let seen = observer.look(known);
            let found = lock(&shared.checker).step(&seen);
            for violation in found {
                shared.violation(violation.property, violation.what);
            }
            clock::pass(LOOK_PERIOD);
        }
    })
}

/// Gives back what was taken away and waits for what must come back by itself.
fn heal(shared: &Shared, layout: Layout, healed: &mut Vec<Healed>) {
    let cluster = &shared.cluster;
    for agent in layout.spares() {
        if let Err(error) = cluster.wait_until_gone(agent) {
            shared.violation("agents leave", format!("{agent}: {error}"));
        }
    }
    cluster.look_for_endings();
    for agent in layout.members() {
        if let Err(error) = cluster.start(agent, 0) {
            shared.violation("agents start", format!("{agent}: {error}"));
        }
    }
    let since = Mark::here();
    *lock(&shared.phase) = Phase::Healing { since: cluster.began.elapsed() };
    let mut wait = |what: &str, limit: Duration, holds: &mut dyn FnMut() -> bool| {
        let left = limit.saturating_sub(since.elapsed());
        let came = clock::poll(left, || {
            cluster.look_for_endings();
            holds().then_some(())
        });
        let after_ms = u64::try_from(since.elapsed().as_millis()).expect("runs are bounded");
        eprintln!("{what}: {:.1} s after the last fault", seconds(after_ms));
        let limit_ms = u64::try_from(limit.as_millis()).expect("limits are short");
        healed.push(Healed { what: what.to_owned(), after_ms: came.map(|()| after_ms), limit_ms });
        if came.is_none() {
            let tails: Vec<String> = layout.members().map(|agent| cluster.tail(agent)).collect();
            shared.violation(
                "the region heals",
                format!("{what}: not within {} s\n{}", limit.as_secs(), tails.join("\n")),
            );
        }
    };
    wait("somebody leads", LEADER_MAX, &mut || cluster.leader().is_some());
    wait("all servers vote and all nodes are ready", WHOLE_MAX, &mut || cluster.is_whole());
    wait("exactly what is wanted runs", WORKLOAD_MAX, &mut || {
        cluster.leader().is_some_and(|leader| workload::runs_as_wanted(cluster, leader))
    });
    clock::pass(CALM);
}

/// Holds what users did, and the region as it is when all is calm, against the properties. Returns acknowledged writes that
/// are not there.
fn judge(shared: &Shared, operations: &mut Vec<Operation>, healed: &mut Vec<Healed>) -> usize {
    let cluster = &shared.cluster;
    let Some(leader) = cluster.leader() else {
        shared.violation("the region heals", "nobody leads at the end".to_owned());
        return 0;
    };
    let read = users::read_all(cluster, leader, operations);
    let lost = lost(operations, &read);
    if lost > 0 {
        shared.violation("no acknowledged write is lost", format!("{lost} registrations are not there"));
    }
    operations.extend(read);
    let history = History { operations: operations.clone(), ..History::default() };
    let mut observer = Observer::new(cluster.clone());
    let (began, mut left) = (Mark::here(), Vec::new());
    let came = clock::poll(WORKLOAD_MAX, || {
        let (at, phase) = (cluster.began.elapsed(), *lock(&shared.phase));
        let known = Known { at, phase, hit: Vec::new(), watched: Vec::new(), thorough: true };
        let seen = observer.look(known);
        if seen.servers.is_empty() {
            return None;
        }
        left = lock(&shared.checker).end(&seen, &history);
        if !left.is_empty() {
            clock::pass(LOOK_PERIOD);
        }
        left.is_empty().then_some(())
    });
    let after_ms = u64::try_from(began.elapsed().as_millis()).expect("runs are bounded");
    let limit_ms = u64::try_from(WORKLOAD_MAX.as_millis()).expect("limits are short");
    let what = "every property holds at the end".to_owned();
    healed.push(Healed { what, after_ms: came.map(|()| after_ms), limit_ms });
    for violation in left {
        shared.violation(violation.property, violation.what);
    }
    lost
}

/// Registrations of jobs that only one user wrote, which were acknowledged, which nobody removed, and which a read at the end
/// does not find.
fn lost(operations: &[Operation], read: &[Operation]) -> usize {
    let of = |one: &Operation| one.key.id.starts_with("new-").then(|| one.key.clone());
    let registered =
        |one: &&Operation| matches!((one.action, &one.outcome), (Action::Register { .. }, Outcome::Done(_)));
    let removed = |one: &&Operation| matches!(one.action, Action::Deregister { .. });
    let unseen = |one: &&Operation| matches!(&one.outcome, Outcome::Done(reply) if reply.seen.is_none());
    let removed: BTreeSet<JobKey> = operations.iter().filter(removed).filter_map(of).collect();
    let missing: BTreeSet<JobKey> = read.iter().filter(unseen).filter_map(of).collect();
    let acknowledged = operations.iter().filter(registered).filter_map(of);
    acknowledged.filter(|key| missing.contains(key) && !removed.contains(key)).count()
}

fn count_outcomes(operations: &[Operation]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for operation in operations {
        let name = match operation.outcome {
            Outcome::Done(_) => "done",
            Outcome::Refused => "refused",
            Outcome::Failed => "failed",
            Outcome::Unknown => "unknown",
        };
        *counts.entry(name.to_owned()).or_default() += 1;
    }
    counts
}

/// Stops every service; then nothing of any may be left.
fn stop_all(shared: &Shared, healed: &mut Vec<Healed>) {
    let cluster = &shared.cluster;
    let stopped = cluster.leader().ok_or_else(|| "nobody leads".to_owned());
    if let Err(error) = stopped.and_then(|leader| workload::stop(cluster, leader)) {
        return shared.violation("the region heals", format!("services can not be stopped: {error}"));
    }
    let allocations = census::allocations_below(&cluster.root);
    let began = Mark::here();
    let mut left = Vec::new();
    let came = clock::poll(STOPPED_MAX, || {
        left = process::tasks(&cluster.prefix).iter().map(|task| format!("process {task:?}")).collect();
        // Directories of allocations stay until they are collected, and with them their mounts; groups go with tasks.
        left.extend(census::groups(&allocations).iter().map(|found| format!("{found:?}")));
        if let Some(engine) = &cluster.engine {
            let silent = || vec!["the engine does not answer".to_owned()];
            left.extend(
                engine.containers().unwrap_or_else(silent).iter().map(|id| format!("container {id}")),
            );
        }
        left.is_empty().then_some(())
    });
    let after_ms = u64::try_from(began.elapsed().as_millis()).expect("runs are bounded");
    let limit_ms = u64::try_from(STOPPED_MAX.as_millis()).expect("limits are short");
    let what = "nothing is left of services that were stopped".to_owned();
    healed.push(Healed { what, after_ms: came.map(|()| after_ms), limit_ms });
    for one in left {
        shared.violation("nothing is left behind", one);
    }
}

/// Agents end when they are told to, and when their disk is full; never else.
fn judge_endings(shared: &Shared, done: &[crate::injector::Done]) {
    let full = |ended: &Ended| {
        done.iter().any(|done| {
            matches!(&done.fault, Fault::DiskFull { agent } if *agent == ended.agent)
                && ended.at_ms >= done.at_ms
                && done.end_ms.is_none_or(|end| ended.at_ms <= end + 5_000)
        })
    };
    for ended in shared.cluster.ended() {
        let fine = match ended.ending {
            Ending::Code(0) => shared.cluster.layout.is_spare(ended.agent),
            Ending::Code(EXIT_DISK_FULL) => full(&ended),
            Ending::Code(_) | Ending::Signal(_) => false,
        };
        if !fine {
            let tail = shared.cluster.tail(ended.agent);
            let what = format!(
                "{} ended at {:.1} s with {:?}\n{tail}",
                ended.agent,
                seconds(ended.at_ms),
                ended.ending
            );
            shared.violation("agents end only when told to", what);
        }
    }
}
