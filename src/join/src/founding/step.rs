use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::SocketAddr,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use transport::{ClusterId, NodeId};

/// How often each server that is known is told what we know, and asked for what we wait for.
const ASK_PERIOD: Duration = Duration::from_millis(500);
/// A server that has not answered for so long does not count. Ten questions were lost by then.
const LIVE_FOR: Duration = Duration::from_secs(5);
/// Servers that others have met get so long to answer us before we go on without them.
const SETTLE: Duration = Duration::from_secs(3);
/// An attempt whose members stopped answering is given up after this, if there are enough others.
const ATTEMPT_PATIENCE: Duration = Duration::from_secs(10);
/// When a founder has been silent for so long, its other members are asked to refuse the attempt.
const FOUNDER_SILENCE: Duration = Duration::from_secs(15);
/// Attempts that this server has refused for ever. Each is of another founder that died; at the limit no more are
/// refused, and an operator has to look.
const REFUSED_MAX: usize = 64;
/// Servers that are remembered, from hearsay and from their answers each. Further ones are as if they were not there.
const SERVERS_MAX: usize = 64;

/// A server that may be one of the first of a region.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// Its id; the lowest founds.
    pub node_id: NodeId,
    /// Its name, for people.
    pub name: String,
    /// Where its transport is.
    pub rpc: SocketAddr,
    /// Where its gossip is.
    pub gossip: SocketAddr,
    /// The life of its log: with the node id it names the server in Raft.
    pub life: u64,
    /// How many servers it expects.
    pub expect: u32,
}

/// What servers without a region say to each other. Asked and answered over one connection.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum Message {
    /// Asks and answers: who the speaker is and whom it has met.
    Know {
        /// The speaker.
        own: Candidate,
        /// Those that have answered it.
        met: Vec<Candidate>,
        /// How far it is.
        status: Status,
    },
    /// Asks for a promise.
    Promise {
        /// The attempt: the id that the cluster is to have.
        attempt: ClusterId,
        /// Who is to be a server of it, the founder and whoever is asked among them.
        members: Vec<Candidate>,
    },
    /// Answers: given, and written down.
    Promised {
        /// To which attempt.
        attempt: ClusterId,
    },
    /// Answers: another attempt has the promise.
    Held {
        /// Which.
        attempt: ClusterId,
        /// Whose it is.
        founder: Candidate,
    },
    /// Asks whether an attempt can still lead to a region.
    Check {
        /// Which.
        attempt: ClusterId,
        /// Whose it is.
        founder: NodeId,
        /// Its founder is silent: refuse it for ever, if you have not promised.
        refuse: bool,
    },
    /// Answers: it can.
    Valid {
        /// Which.
        attempt: ClusterId,
    },
    /// Answers: it never will.
    Void {
        /// Which.
        attempt: ClusterId,
    },
    /// Answers: there is a region here.
    Founded {
        /// Its id.
        cluster: ClusterId,
    },
    /// Answers: not understood, or not meant for us.
    Declined {
        /// Why.
        why: String,
    },
}

impl Message {
    /// Checks lengths that a stranger chose.
    pub(crate) fn check(&self, list_max: usize, name_max: usize) -> Result<(), String> {
        let (list, names): (&[Candidate], _) = match self {
            Self::Know { own, met, .. } => (met, Some(own)),
            Self::Promise { members, .. } => (members, None),
            Self::Held { founder, .. } => (&[], Some(founder)),
            Self::Promised { .. }
            | Self::Check { .. }
            | Self::Valid { .. }
            | Self::Void { .. }
            | Self::Founded { .. }
            | Self::Declined { .. } => (&[], None),
        };
        if list.len() > list_max {
            return Err(format!("a list has at most {list_max} servers"));
        }
        match list.iter().chain(names).all(|candidate| candidate.name.len() <= name_max) {
            true => Ok(()),
            false => Err(format!("a name has at most {name_max} bytes")),
        }
    }
}

/// How far a server is.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum Status {
    /// It has promised nothing.
    Searching,
    /// It has given its promise.
    Promised {
        /// To whom; itself perhaps.
        founder: NodeId,
    },
    /// It is part of a region.
    Founded {
        /// Of this one.
        cluster: ClusterId,
    },
}

/// A promise that was given.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Promise {
    /// To this attempt.
    pub attempt: ClusterId,
    /// Whose it is.
    pub founder: NodeId,
    /// Who is to be a server of it.
    pub members: Vec<Candidate>,
}

impl Promise {
    fn has(&self, node: NodeId) -> bool {
        self.members.iter().any(|member| member.node_id == node)
    }

    fn founder(&self) -> Option<&Candidate> {
        self.members.iter().find(|member| member.node_id == self.founder)
    }
}

/// A region that this server has founded.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Found {
    /// Its id.
    pub cluster: ClusterId,
    /// Its first servers: Raft begins with all of them as voters.
    pub members: Vec<Candidate>,
}

/// What a server must not forget.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The one promise.
    pub promise: Option<Promise>,
    /// Attempts that never get the promise.
    pub refused: Vec<ClusterId>,
    /// The region that this server founded.
    pub founded: Option<Found>,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// Time passed.
    Tick {
        /// An id for an attempt, if one is made: random.
        draw: ClusterId,
    },
    /// Every address that the user gave was tried once.
    Surveyed,
    /// Servers that may be candidates, and have not spoken to us.
    Told(Vec<Candidate>),
    /// A server asked.
    Asked {
        /// Who.
        from: NodeId,
        /// What.
        message: Message,
    },
    /// A server answered.
    Answered {
        /// Who.
        from: NodeId,
        /// What.
        message: Message,
    },
}

/// What to do, in this order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Output {
    /// Write this down, synced, before anything that follows.
    Keep(Record),
    /// Answer what was asked.
    Answer(Message),
    /// Ask a server.
    Ask {
        /// Whom.
        to: Candidate,
        /// What.
        message: Message,
    },
    /// This server has founded the region.
    Found(Found),
    /// There is a region, and nothing forbids joining it.
    Join {
        /// Its id.
        cluster: ClusterId,
    },
    /// What is waited for has changed; for the log.
    Waits(Waits),
}

/// Why there is no region yet.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Waits {
    /// The addresses that the user gave have not all been tried.
    Survey,
    /// Too few servers answer.
    Servers {
        /// Those that do, by name, ourselves among them.
        met: Vec<String>,
        /// How many there must be.
        expect: u32,
    },
    /// Others have met servers that have not answered us.
    Introduction {
        /// Their names.
        names: Vec<String>,
    },
    /// Servers expect different numbers; no region begins until they agree.
    Disagreement {
        /// Who, and how many.
        others: Vec<(String, u32)>,
        /// How many we expect.
        expect: u32,
    },
    /// A server with a lower id makes the attempt.
    Founder {
        /// Its name.
        name: String,
    },
    /// Members of our attempt have not promised.
    Promises {
        /// Their names.
        names: Vec<String>,
    },
    /// Our promise is given, and its founder has not come back to us.
    Promised {
        /// The founder's name.
        name: String,
        /// Whether it is silent.
        silent: bool,
    },
}

impl fmt::Display for Waits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Survey => write!(f, "the given addresses have not all been tried"),
            Self::Servers { met, expect } => {
                write!(f, "{} of {expect} expected servers found ({})", met.len(), met.join(", "))
            }
            Self::Introduction { names } => {
                write!(f, "other servers have met {}, which has not answered here", names.join(", "))
            }
            Self::Disagreement { others, expect } => {
                let others: Vec<_> = others.iter().map(|(name, count)| format!("{name}: {count}")).collect();
                let others = others.join(", ");
                write!(
                    f,
                    "servers disagree on bootstrap_expect (here: {expect}, {others}): set the same number on all"
                )
            }
            Self::Founder { name } => write!(f, "{name} is to found the region"),
            Self::Promises { names } => write!(f, "no promise yet from {}", names.join(", ")),
            Self::Promised { name, silent: false } => {
                write!(f, "promised to {name}, which is founding the region")
            }
            Self::Promised { name, silent: true } => write!(
                f,
                "promised to {name}, which does not answer: start it, or if its disk is lost, \
                 remove tls/founding from the data directory of every server that waits and start them again"
            ),
        }
    }
}

struct Met {
    candidate: Candidate,
    answered: Duration,
}

struct Told {
    candidate: Candidate,
    since: Duration,
    last: Duration,
}

/// One server's part in founding. Time is since any fixed moment of this process.
pub struct Founding {
    own: Candidate,
    record: Record,
    surveyed: bool,
    /// Those that answered us.
    met: BTreeMap<NodeId, Met>,
    /// Those that others have met, or that asked us.
    told: BTreeMap<NodeId, Told>,
    asked: BTreeMap<NodeId, Duration>,
    /// Who promised to our own attempt, in this run.
    promised: BTreeSet<NodeId>,
    /// When our promise's founder was last heard of, or when we began to wait for it.
    founder_heard: Duration,
    attempt_since: Duration,
    waits: Option<Waits>,
    announced: bool,
    outputs: Vec<Output>,
}

impl Founding {
    /// Takes up what was written down.
    pub fn new(own: Candidate, record: Record, now: Duration) -> Self {
        Self {
            own,
            record,
            surveyed: false,
            met: BTreeMap::new(),
            told: BTreeMap::new(),
            asked: BTreeMap::new(),
            promised: BTreeSet::new(),
            founder_heard: now,
            attempt_since: now,
            waits: None,
            announced: false,
            outputs: Vec::new(),
        }
    }

    /// What this server must not forget.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Those that have answered lately, ourselves among them.
    pub fn candidates(&self, now: Duration) -> Vec<Candidate> {
        let met = self.met.values().filter(|met| now.saturating_sub(met.answered) < LIVE_FOR);
        std::iter::once(&self.own).chain(met.map(|met| &met.candidate)).cloned().collect()
    }

    /// Where servers of the region may be found, whether they have answered or not.
    pub fn addresses(&self) -> BTreeSet<SocketAddr> {
        let met = self.met.values().map(|met| met.candidate.rpc);
        let promised = self.record.promise.iter().flat_map(|promise| &promise.members);
        let told = self.told.values().map(|told| told.candidate.rpc);
        met.chain(told)
            .chain(promised.map(|member| member.rpc))
            .filter(|addr| *addr != self.own.rpc)
            .collect()
    }

    /// Takes one step.
    pub fn step(&mut self, now: Duration, input: Input) -> Vec<Output> {
        match input {
            Input::Surveyed => self.surveyed = true,
            Input::Told(candidates) => {
                candidates.into_iter().for_each(|candidate| self.tell(now, candidate));
            }
            Input::Tick { draw } => self.tick(now, draw),
            Input::Asked { from, message } => {
                let answer = self.asked(now, from, message);
                self.outputs.push(Output::Answer(answer));
            }
            Input::Answered { from, message } => self.answered(now, from, message),
        }
        std::mem::take(&mut self.outputs)
    }

    fn keep(&mut self) {
        self.outputs.push(Output::Keep(self.record.clone()));
    }

    fn wait_for(&mut self, waits: Waits) {
        if self.waits.as_ref() != Some(&waits) {
            self.waits = Some(waits.clone());
            self.outputs.push(Output::Waits(waits));
        }
    }

    fn own_attempt(&self) -> Option<&Promise> {
        self.record.promise.as_ref().filter(|promise| promise.founder == self.own.node_id)
    }

    fn status(&self) -> Status {
        match (&self.record.founded, &self.record.promise) {
            (Some(found), _) => Status::Founded { cluster: found.cluster },
            (None, Some(promise)) => Status::Promised { founder: promise.founder },
            (None, None) => Status::Searching,
        }
    }

    fn know(&self, now: Duration) -> Message {
        let met = self.candidates(now).split_off(1);
        Message::Know { own: self.own.clone(), met, status: self.status() }
    }

    /// Gives up our own attempt: nothing that anybody promised to it counts from then on.
    fn drop_attempt(&mut self) {
        self.record.promise = None;
        self.promised.clear();
        self.keep();
    }

    fn tick(&mut self, now: Duration, draw: ClusterId) {
        if let Some(found) = self.record.founded.clone() {
            if !self.announced {
                self.announced = true;
                self.outputs.push(Output::Found(found));
            }
            return;
        }
        self.told.retain(|_, told| now.saturating_sub(told.last) < LIVE_FOR * 4);
        self.met.retain(|_, met| now.saturating_sub(met.answered) < LIVE_FOR * 12);
        self.asked.retain(|_, asked| now.saturating_sub(*asked) < LIVE_FOR);
        match self.record.promise.clone() {
            Some(promise) if promise.founder == self.own.node_id => self.pursue(now, &promise),
            Some(promise) => self.wait_for_founder(now, &promise),
            None => self.consider(now, draw),
        }
        self.ask_around(now);
    }

    /// Decides whether to make an attempt.
    fn consider(&mut self, now: Duration, draw: ClusterId) {
        let live = self.candidates(now);
        // It was to found once, gave its promise, and is not to found any more.
        if self.own.expect == 0 {
            return;
        }
        if !self.surveyed {
            return self.wait_for(Waits::Survey);
        }
        let others: Vec<_> = live
            .iter()
            .filter(|candidate| candidate.expect != self.own.expect)
            .map(|candidate| (candidate.name.clone(), candidate.expect))
            .collect();
        if !others.is_empty() {
            return self.wait_for(Waits::Disagreement { others, expect: self.own.expect });
        }
        if live.len() < self.own.expect as usize {
            let mut met: Vec<_> = live.into_iter().map(|candidate| candidate.name).collect();
            met.sort();
            return self.wait_for(Waits::Servers { met, expect: self.own.expect });
        }
        if let Some(lowest) = live.iter().min_by_key(|candidate| candidate.node_id)
            && lowest.node_id != self.own.node_id
        {
            return self.wait_for(Waits::Founder { name: lowest.name.clone() });
        }
        let names: Vec<_> = self
            .told
            .values()
            .filter(|told| now.saturating_sub(told.since) < SETTLE)
            .filter(|told| live.iter().all(|candidate| candidate.node_id != told.candidate.node_id))
            .map(|told| told.candidate.name.clone())
            .collect();
        if !names.is_empty() {
            return self.wait_for(Waits::Introduction { names });
        }
        self.record.promise = Some(Promise { attempt: draw, founder: self.own.node_id, members: live });
        self.promised = BTreeSet::from([self.own.node_id]);
        self.attempt_since = now;
        self.keep();
        self.found_if_complete();
    }

    /// Goes on with our own attempt.
    fn pursue(&mut self, now: Duration, attempt: &Promise) {
        self.promised.insert(self.own.node_id);
        if self.found_if_complete() {
            return;
        }
        let live = self.candidates(now);
        let lower = live.iter().any(|candidate| candidate.node_id < self.own.node_id);
        let silent =
            attempt.members.iter().any(|member| live.iter().all(|one| one.node_id != member.node_id));
        let patience = now.saturating_sub(self.attempt_since) > ATTEMPT_PATIENCE;
        if lower || (silent && patience && live.len() >= self.own.expect as usize) {
            return self.drop_attempt();
        }
        let missing: Vec<_> = attempt
            .members
            .iter()
            .filter(|member| !self.promised.contains(&member.node_id))
            .cloned()
            .collect();
        self.wait_for(Waits::Promises { names: missing.iter().map(|member| member.name.clone()).collect() });
        for to in missing {
            if self.due(now, to.node_id) {
                let message = Message::Promise { attempt: attempt.attempt, members: attempt.members.clone() };
                self.outputs.push(Output::Ask { to, message });
            }
        }
    }

    fn wait_for_founder(&mut self, now: Duration, promise: &Promise) {
        let silent = now.saturating_sub(self.founder_heard) > FOUNDER_SILENCE;
        let name =
            promise.founder().map_or_else(|| promise.founder.to_string(), |founder| founder.name.clone());
        self.wait_for(Waits::Promised { name, silent });
        let (attempt, founder, own) = (promise.attempt, promise.founder, self.own.node_id);
        for to in promise.members.iter().filter(|member| member.node_id != own) {
            let asks_founder = to.node_id == founder;
            if (asks_founder || silent) && self.due(now, to.node_id) {
                let message = Message::Check { attempt, founder, refuse: silent && !asks_founder };
                self.outputs.push(Output::Ask { to: to.clone(), message });
            }
        }
    }

    /// Tells everybody what we know, if nothing else was said to them lately.
    fn ask_around(&mut self, now: Duration) {
        let met = self.met.values().map(|met| &met.candidate);
        let all: Vec<_> = met.chain(self.told.values().map(|told| &told.candidate)).cloned().collect();
        for to in all {
            if to.node_id != self.own.node_id && self.due(now, to.node_id) {
                let message = self.know(now);
                self.outputs.push(Output::Ask { to, message });
            }
        }
    }

    fn due(&mut self, now: Duration, node: NodeId) -> bool {
        let due = self.asked.get(&node).is_none_or(|last| now.saturating_sub(*last) >= ASK_PERIOD);
        if due {
            self.asked.insert(node, now);
        }
        due
    }

    fn found_if_complete(&mut self) -> bool {
        let Some(attempt) = self.own_attempt() else { return false };
        if !attempt.members.iter().all(|member| self.promised.contains(&member.node_id)) {
            return false;
        }
        let found = Found { cluster: attempt.attempt, members: attempt.members.clone() };
        self.record.founded = Some(found.clone());
        self.keep();
        self.announced = true;
        self.outputs.push(Output::Found(found));
        true
    }

    fn asked(&mut self, now: Duration, from: NodeId, message: Message) -> Message {
        if let Some(found) = &self.record.founded {
            return Message::Founded { cluster: found.cluster };
        }
        match message {
            Message::Know { own, met, status } => {
                if own.node_id != from {
                    return Message::Declined {
                        why: "the speaker is another than the one it describes".into(),
                    };
                }
                self.tell(now, own);
                met.into_iter().for_each(|candidate| self.tell(now, candidate));
                if let Status::Founded { cluster } = status {
                    self.learn(from, cluster);
                }
                self.know(now)
            }
            Message::Promise { attempt, members } => self.asked_for_promise(now, from, attempt, members),
            Message::Check { attempt, founder, refuse } => self.asked_to_check(attempt, founder, refuse),
            Message::Promised { .. }
            | Message::Held { .. }
            | Message::Valid { .. }
            | Message::Void { .. }
            | Message::Founded { .. }
            | Message::Declined { .. } => Message::Declined { why: "that is an answer".into() },
        }
    }

    fn asked_for_promise(
        &mut self,
        now: Duration,
        from: NodeId,
        attempt: ClusterId,
        members: Vec<Candidate>,
    ) -> Message {
        if self.record.refused.contains(&attempt) {
            return Message::Void { attempt };
        }
        let promise = Promise { attempt, founder: from, members };
        let agrees = promise.members.iter().all(|member| member.expect == self.own.expect);
        if !promise.has(self.own.node_id) || !promise.has(from) || !agrees {
            return Message::Declined {
                why: "the attempt is not one that this server can be part of".into(),
            };
        }
        match &self.record.promise {
            Some(held) if held.attempt == attempt => {
                self.founder_heard = now;
                return Message::Promised { attempt };
            }
            // Our own attempt gives way to one with a lower id, and both happen in one write.
            Some(held) if held.founder == self.own.node_id && from < self.own.node_id => {}
            // Also one of the same founder: it may be an old question that comes late. The check tells.
            Some(held) => {
                let (attempt, founder) = (held.attempt, held.founder().unwrap_or(&self.own).clone());
                return Message::Held { attempt, founder };
            }
            None => {}
        }
        self.promised.clear();
        self.record.promise = Some(promise);
        self.founder_heard = now;
        self.keep();
        Message::Promised { attempt }
    }

    fn asked_to_check(&mut self, attempt: ClusterId, founder: NodeId, refuse: bool) -> Message {
        let promised = self.record.promise.as_ref().is_some_and(|promise| promise.attempt == attempt);
        if promised {
            return Message::Valid { attempt };
        }
        // What the founder does not hold itself it has dropped; nobody makes the same attempt twice.
        if founder == self.own.node_id || self.record.refused.contains(&attempt) {
            return Message::Void { attempt };
        }
        if !refuse || self.record.refused.len() >= REFUSED_MAX {
            return Message::Valid { attempt };
        }
        self.record.refused.push(attempt);
        self.keep();
        Message::Void { attempt }
    }

    fn answered(&mut self, now: Duration, from: NodeId, message: Message) {
        if let Some(met) = self.met.get_mut(&from) {
            met.answered = now;
        }
        if self.record.promise.as_ref().is_some_and(|promise| promise.founder == from) {
            self.founder_heard = now;
        }
        if self.record.founded.is_some() {
            return;
        }
        match message {
            Message::Know { own, met, status } if own.node_id == from => {
                if self.met.len() < SERVERS_MAX || self.met.contains_key(&from) {
                    self.met.insert(from, Met { candidate: own, answered: now });
                }
                met.into_iter().for_each(|candidate| self.tell(now, candidate));
                if let Status::Founded { cluster } = status {
                    self.learn(from, cluster);
                }
            }
            Message::Promised { attempt } => {
                if self.own_attempt().is_some_and(|own| own.attempt == attempt && own.has(from)) {
                    self.promised.insert(from);
                    self.found_if_complete();
                }
            }
            Message::Held { founder, .. } => self.tell(now, founder),
            Message::Void { attempt } => {
                let concerns = |promise: &Promise| promise.attempt == attempt && promise.has(from);
                if self.record.promise.as_ref().is_some_and(concerns) {
                    self.drop_attempt();
                }
            }
            Message::Founded { cluster } => self.learn(from, cluster),
            // What is no answer, or says nothing that we wait for.
            Message::Know { .. }
            | Message::Promise { .. }
            | Message::Check { .. }
            | Message::Valid { .. }
            | Message::Declined { .. } => {}
        }
    }

    fn tell(&mut self, now: Duration, candidate: Candidate) {
        if candidate.node_id == self.own.node_id {
            return;
        }
        if let Some(told) = self.told.get_mut(&candidate.node_id) {
            (told.candidate, told.last) = (candidate, now);
        } else if self.told.len() < SERVERS_MAX {
            self.told.insert(candidate.node_id, Told { candidate, since: now, last: now });
        }
    }

    /// Someone is part of a region. Our promise, if it is not to that region, must be void before we are too.
    fn learn(&mut self, from: NodeId, cluster: ClusterId) {
        match &self.record.promise {
            Some(promise) if promise.attempt == cluster => {}
            // A member of an attempt that is part of another region never promises to the attempt any more.
            Some(promise) if promise.founder == self.own.node_id || promise.has(from) => self.drop_attempt(),
            Some(_) => return,
            None => {}
        }
        self.outputs.push(Output::Join { cluster });
    }
}
