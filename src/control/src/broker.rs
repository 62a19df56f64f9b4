//! Which evaluation is looked at next.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use model::{EvalId, EvalStatus, EvalTrigger, Evaluation, JobKey, Timestamp};
use state::{Changes, State};

use crate::Moment;

/// Settings of the broker.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Time after which an evaluation that was taken and not settled is handed out again. The scheduler settles a round
    /// in milliseconds, so this is reached only when a command was lost on the way.
    pub nack_timeout: Duration,
    /// Wait before an evaluation is handed out for the second time.
    pub first_redelivery: Duration,
    /// Wait before each further time, multiplied by the number of those before.
    pub later_redelivery: Duration,
    /// How often an evaluation is handed out before it is given up.
    pub deliveries_max: u32,
    /// Least wait before what was given up is tried again.
    pub follow_up: Duration,
    /// Random time on top, so that what failed together does not come back together.
    pub follow_up_jitter: Duration,
}

impl Config {
    /// Nomad's settings.
    pub const STANDARD: Self = Self {
        nack_timeout: Duration::from_secs(60),
        first_redelivery: Duration::from_secs(1),
        later_redelivery: Duration::from_secs(20),
        deliveries_max: 3,
        follow_up: Duration::from_secs(60),
        follow_up_jitter: Duration::from_secs(300),
    };
}

/// What happened.
pub enum Input<'a> {
    /// A command was applied.
    Applied(&'a Changes),
    /// An evaluation that was taken can not be settled: its plan was rejected, or its scheduler failed.
    Nack(EvalId),
    /// An evaluation that was taken was not looked at, for there was no room left in its round. That is nothing against it.
    HandedBack(EvalId),
    /// Hand nothing out, or go on.
    Pause(bool),
    /// Time passed.
    Tick,
}

/// What the leader writes down.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Evaluations that are over: needless ones and those that are given up, with what follows these.
    Upsert(Vec<Evaluation>),
}

/// Pending evaluations, in the order in which they are looked at: by priority, then by age, one at a time per job.
///
/// Its size is that of the pending evaluations in the state; it holds nothing else.
#[derive(Debug)]
pub struct Broker {
    config: Config,
    paused: bool,
    /// May be taken.
    ready: BTreeSet<Rank>,
    /// Not before some wall time.
    delayed: BTreeSet<(Timestamp, EvalId)>,
    /// Not before some monotonic time: handed back, or taken and not settled.
    timers: BTreeSet<(Duration, EvalId)>,
    evals: BTreeMap<EvalId, Entry>,
    jobs: BTreeMap<JobKey, JobQueue>,
}

/// The order of evaluations: highest priority first, then oldest.
type Rank = (Reverse<i32>, u64, EvalId);

#[derive(Debug)]
struct Entry {
    eval: Arc<Evaluation>,
    place: Place,
    deliveries: u32,
}

/// Where an evaluation is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Place {
    Delayed,
    /// Behind another one of its job.
    Waiting,
    Ready,
    /// Taken; handed out again at this time.
    Taken(Duration),
    /// Handed back; ready again at this time.
    Resting(Duration),
}

/// The evaluations of one job.
#[derive(Debug, Default)]
struct JobQueue {
    /// The one that is ready, taken or resting.
    current: Option<EvalId>,
    waiting: BTreeSet<(u64, EvalId)>,
}

impl Broker {
    /// Makes a broker of what is pending in a state.
    pub fn new(config: Config, state: &State, now: &Moment<'_>) -> Self {
        let mut broker = Self {
            config,
            paused: state.scheduler_config().pause_eval_broker,
            ready: BTreeSet::new(),
            delayed: BTreeSet::new(),
            timers: BTreeSet::new(),
            evals: BTreeMap::new(),
            jobs: BTreeMap::new(),
        };
        let pending = |eval: &&Arc<Evaluation>| eval.status == EvalStatus::Pending;
        let forgets = mutants::on!("broker-forgets-with-the-leader");
        for eval in state.evals().filter(pending).filter(|_| !forgets) {
            broker.put(eval, now.wall);
        }
        broker
    }

    /// Takes in what happened and returns what to write down.
    pub fn step(&mut self, now: &mut Moment<'_>, input: Input<'_>) -> Vec<Output> {
        let mut out = Vec::new();
        match input {
            Input::Applied(changes) => {
                for eval in changes.evals() {
                    match eval.status {
                        EvalStatus::Pending => self.put(eval, now.wall),
                        EvalStatus::Blocked
                        | EvalStatus::Complete
                        | EvalStatus::Failed
                        | EvalStatus::Canceled => {
                            self.take_out(eval.id, &mut out);
                        }
                    }
                }
                changes.removed_evals().for_each(|id| self.take_out(id, &mut out));
            }
            Input::Nack(id) => self.nack(id, now, &mut out),
            Input::HandedBack(id) => self.hand_back(id),
            Input::Pause(paused) => self.paused = paused,
            Input::Tick => self.tick(now, &mut out),
        }
        if out.is_empty() { Vec::new() } else { vec![Output::Upsert(out)] }
    }

    /// Hands out up to `most` evaluations, best first. Each is settled by the command that its plan is in, which takes
    /// it out of the broker, or by [`Input::Nack`].
    pub fn take(&mut self, now: &Moment<'_>, most: usize) -> Vec<Arc<Evaluation>> {
        if self.paused {
            return Vec::new();
        }
        let mut taken = Vec::new();
        while taken.len() < most {
            let Some((_, _, id)) = self.ready.pop_first() else { break };
            let until = now.elapsed + self.config.nack_timeout;
            let entry = self.evals.get_mut(&id).expect("what is ready is known");
            entry.place = Place::Taken(until);
            entry.deliveries += 1;
            self.timers.insert((until, id));
            taken.push(entry.eval.clone());
        }
        taken
    }

    /// Tells whether [`Broker::take`] would hand out anything.
    pub fn has_ready(&self) -> bool {
        !self.paused && !self.ready.is_empty()
    }

    /// Returns the wait until [`Input::Tick`] is due; none when nothing waits for time.
    pub fn next_tick(&self, now: &Moment<'_>) -> Option<Duration> {
        let timer = self.timers.first().map(|(at, _)| at.saturating_sub(now.elapsed));
        let delayed = self.delayed.first().map(|(at, _)| at.since(now.wall));
        timer.into_iter().chain(delayed).min()
    }

    /// Returns how many evaluations are ready, taken, behind another one of their job, and waiting for their time.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for entry in self.evals.values() {
            match entry.place {
                Place::Ready => counts.ready += 1,
                Place::Taken(_) => counts.taken += 1,
                Place::Waiting => counts.waiting += 1,
                Place::Delayed | Place::Resting(_) => counts.delayed += 1,
            }
        }
        counts
    }

    fn put(&mut self, eval: &Arc<Evaluation>, wall: Timestamp) {
        if let Some(known) = self.evals.get_mut(&eval.id) {
            known.eval = eval.clone();
            return;
        }
        let delayed = eval.wait_until > wall;
        let place = if delayed { Place::Delayed } else { Place::Waiting };
        self.evals.insert(eval.id, Entry { eval: eval.clone(), place, deliveries: 0 });
        if delayed {
            self.delayed.insert((eval.wait_until, eval.id));
        } else {
            self.enqueue(eval.id);
        }
    }

    /// Puts an evaluation in its job's line, or makes it ready when there is no line.
    fn enqueue(&mut self, id: EvalId) {
        let entry = self.evals.get_mut(&id).expect("only known evaluations are put in line");
        let queue = self.jobs.entry(entry.eval.job.clone()).or_default();
        if queue.current.is_some() && !mutants::on!("broker-two-of-a-job") {
            entry.place = Place::Waiting;
            queue.waiting.insert((entry.eval.create_index, id));
        } else {
            queue.current = Some(id);
            entry.place = Place::Ready;
            self.ready.insert(rank(&entry.eval));
        }
    }

    /// Forgets an evaluation and lets the next one of its job come.
    fn take_out(&mut self, id: EvalId, out: &mut Vec<Evaluation>) {
        let Some(entry) = self.evals.remove(&id) else { return };
        let job = entry.eval.job.clone();
        match entry.place {
            Place::Delayed => {
                self.delayed.remove(&(entry.eval.wait_until, id));
                return;
            }
            Place::Waiting => {
                let queue = self.jobs.get_mut(&job).expect("who waits is in a line");
                queue.waiting.remove(&(entry.eval.create_index, id));
                return;
            }
            Place::Ready => {
                self.ready.remove(&rank(&entry.eval));
            }
            Place::Taken(at) | Place::Resting(at) => {
                self.timers.remove(&(at, id));
            }
        }
        self.advance(&job, out);
    }

    /// Lets the latest of the waiting evaluations of a job come. It sees all that the older ones would, so they end.
    fn advance(&mut self, job: &JobKey, out: &mut Vec<Evaluation>) {
        let queue = self.jobs.get_mut(job).expect("a job with a current evaluation has a line");
        queue.current = None;
        let Some((_, latest)) = queue.waiting.pop_last() else {
            self.jobs.remove(job);
            return;
        };
        for (_, id) in std::mem::take(&mut queue.waiting) {
            let entry = self.evals.remove(&id).expect("who waits is known");
            let mut eval = Evaluation::clone(&entry.eval);
            eval.status = EvalStatus::Canceled;
            eval.status_description = "canceled after more recent eval was processed".into();
            out.push(eval);
        }
        self.enqueue(latest);
    }

    /// Lets an evaluation be taken again at once, as if it had not been.
    fn hand_back(&mut self, id: EvalId) {
        let Some(entry) = self.evals.get_mut(&id) else { return };
        let Place::Taken(until) = entry.place else { return };
        self.timers.remove(&(until, id));
        entry.deliveries -= 1;
        entry.place = Place::Ready;
        self.ready.insert(rank(&entry.eval));
    }

    fn nack(&mut self, id: EvalId, now: &mut Moment<'_>, out: &mut Vec<Evaluation>) {
        let Some(entry) = self.evals.get_mut(&id) else { return };
        let Place::Taken(until) = entry.place else { return };
        self.timers.remove(&(until, id));
        if entry.deliveries >= self.config.deliveries_max {
            let eval = entry.eval.clone();
            out.extend(give_up(&self.config, &eval, now));
            // It is given up whether or not the command that says so comes through; a later leader sees it pending.
            self.take_out(id, out);
            return;
        }
        let wait = match entry.deliveries {
            0 | 1 => self.config.first_redelivery,
            more => self.config.later_redelivery * (more - 1),
        };
        let at = now.elapsed + wait;
        entry.place = Place::Resting(at);
        if !mutants::on!("broker-loses-what-comes-back") {
            self.timers.insert((at, id));
        }
    }

    fn tick(&mut self, now: &mut Moment<'_>, out: &mut Vec<Evaluation>) {
        while let Some(&(at, id)) = self.delayed.first().filter(|(at, _)| *at <= now.wall) {
            self.delayed.remove(&(at, id));
            self.enqueue(id);
        }
        while let Some(&(at, id)) = self.timers.first().filter(|(at, _)| *at <= now.elapsed) {
            let entry = self.evals.get_mut(&id).expect("what has a timer is known");
            if let Place::Taken(_) = entry.place {
                self.nack(id, now, out);
                continue;
            }
            self.timers.remove(&(at, id));
            entry.place = Place::Ready;
            self.ready.insert(rank(&entry.eval));
        }
    }
}

/// How many evaluations are where.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// May be taken.
    pub ready: usize,
    /// Taken and not settled.
    pub taken: usize,
    /// Behind another one of their job.
    pub waiting: usize,
    /// Waiting for their time.
    pub delayed: usize,
}

fn rank(eval: &Evaluation) -> Rank {
    (Reverse(eval.priority), eval.create_index, eval.id)
}

/// Ends an evaluation that nobody could settle, and makes the one that tries again later.
fn give_up(config: &Config, eval: &Evaluation, now: &mut Moment<'_>) -> [Evaluation; 2] {
    let wait = config.follow_up + now.jitter(config.follow_up_jitter);
    let id = now.eval_id();
    let mut next = Evaluation::pending(
        id,
        eval.job.clone(),
        eval.kind,
        eval.priority,
        EvalTrigger::FailedFollowUp,
        now.wall,
    );
    next.job_modify_index = eval.job_modify_index;
    next.previous_eval = Some(eval.id);
    next.wait_until = now.wall.after(wait);
    let mut failed = eval.clone();
    failed.status = EvalStatus::Failed;
    failed.status_description =
        format!("evaluation reached delivery limit ({})", config.deliveries_max).into();
    failed.next_eval = Some(id);
    failed.modify_time = now.wall;
    [failed, next]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{Clock, Region, job};

    #[test]
    fn higher_priorities_come_first_then_older_ones_and_one_at_a_time_per_job() {
        let (mut region, mut clock) = (Region::with_nodes(1), Clock::default());
        for (id, priority) in [("low", 10), ("old", 50), ("young", 50)] {
            region.register(job(id, "service", priority));
        }
        let again = region.add_eval("old");
        let mut broker = Broker::new(Config::STANDARD, region.state(), &clock.moment());
        let taken = broker.take(&clock.moment(), 10);
        let jobs: Vec<_> = taken.iter().map(|eval| eval.job.id.as_str()).collect();
        assert_eq!(jobs, ["old", "young", "low"]);
        let changes = region.settle(&taken[0]);
        assert_eq!(broker.step(&mut clock.moment(), Input::Applied(&changes)), []);
        let next = broker.take(&clock.moment(), 10);
        assert_eq!(next.iter().map(|eval| eval.id).collect::<Vec<_>>(), [again]);
    }

    #[test]
    fn of_several_that_wait_the_latest_comes_and_the_others_end() {
        let (mut region, mut clock) = (Region::with_nodes(1), Clock::default());
        region.register(job("web", "service", 50));
        let mut broker = Broker::new(Config::STANDARD, region.state(), &clock.moment());
        let first = broker.take(&clock.moment(), 1).remove(0);
        let waiting = [0; 3].map(|_| {
            let id = region.add_eval("web");
            broker.step(&mut clock.moment(), Input::Applied(region.last_changes()));
            id
        });
        let changes = region.settle(&first);
        let out = broker.step(&mut clock.moment(), Input::Applied(&changes));
        let [Output::Upsert(ended)] = &out[..] else { panic!("two evaluations became needless") };
        assert_eq!(ended.iter().map(|eval| eval.id).collect::<Vec<_>>(), waiting[..2]);
        assert!(ended.iter().all(|eval| eval.status == EvalStatus::Canceled));
        assert_eq!(broker.take(&clock.moment(), 5)[0].id, waiting[2]);
    }

    #[test]
    fn what_found_no_room_in_a_round_comes_in_the_next_one_however_often() {
        let (mut region, mut clock) = (Region::with_nodes(1), Clock::default());
        region.register(job("web", "service", 50));
        let mut broker = Broker::new(Config::STANDARD, region.state(), &clock.moment());
        for _ in 0..=Config::STANDARD.deliveries_max {
            let eval = broker.take(&clock.moment(), 1).remove(0);
            assert_eq!(broker.step(&mut clock.moment(), Input::HandedBack(eval.id)), []);
        }
        let eval = broker.take(&clock.moment(), 1).remove(0);
        assert_eq!(broker.step(&mut clock.moment(), Input::Nack(eval.id)), []);
        assert_eq!(broker.next_tick(&clock.moment()), Some(Config::STANDARD.first_redelivery));
    }

    #[test]
    fn what_is_refused_comes_again_later_and_at_last_fails() {
        let (mut region, mut clock) = (Region::with_nodes(1), Clock::default());
        region.register(job("web", "service", 50));
        let mut broker = Broker::new(Config::STANDARD, region.state(), &clock.moment());
        for wait in [1, 20] {
            let eval = broker.take(&clock.moment(), 1).remove(0);
            assert_eq!(broker.step(&mut clock.moment(), Input::Nack(eval.id)), []);
            assert!(!broker.has_ready());
            assert_eq!(broker.next_tick(&clock.moment()), Some(Duration::from_secs(wait)));
            clock.pass(Duration::from_secs(wait));
            broker.step(&mut clock.moment(), Input::Tick);
        }
        let eval = broker.take(&clock.moment(), 1).remove(0);
        // Nobody says anything: the last delivery times out.
        clock.pass(Config::STANDARD.nack_timeout);
        let out = broker.step(&mut clock.moment(), Input::Tick);
        let [Output::Upsert(evals)] = &out[..] else { panic!("it was given up") };
        assert_eq!((evals[0].id, evals[0].status), (eval.id, EvalStatus::Failed));
        assert_eq!(evals[1].trigger, EvalTrigger::FailedFollowUp);
        assert!(evals[1].wait_until.since(clock.wall()) >= Config::STANDARD.follow_up);
        assert_eq!(broker.counts(), Counts::default());
    }

    #[test]
    fn delayed_ones_wait_for_their_time_and_a_paused_broker_hands_out_nothing() {
        let (mut region, mut clock) = (Region::with_nodes(1), Clock::default());
        region.register(job("web", "service", 50));
        region.settle_all();
        let id = region.add_delayed_eval("web", clock.wall().after(Duration::from_secs(30)));
        let mut broker = Broker::new(Config::STANDARD, region.state(), &clock.moment());
        assert!(!broker.has_ready());
        assert_eq!(broker.next_tick(&clock.moment()), Some(Duration::from_secs(30)));
        clock.pass(Duration::from_secs(30));
        broker.step(&mut clock.moment(), Input::Pause(true));
        broker.step(&mut clock.moment(), Input::Tick);
        assert!(broker.take(&clock.moment(), 1).is_empty());
        broker.step(&mut clock.moment(), Input::Pause(false));
        assert_eq!(broker.take(&clock.moment(), 1)[0].id, id);
    }
}
