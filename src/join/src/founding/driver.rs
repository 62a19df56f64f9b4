use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
};

use runtime::{Duration, Env, Instant};
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{debug, error, info};
use transport::{ClusterId, Connection, Expect, NodeId, Opened, Plane, Transport};

use super::{Candidate, Found, Founding, Input, Message, Output};
use crate::{
    Config, Files, Refusal, Service,
    ask::{AskError, ask},
    wire::{Answer, Ask, LIST_MAX, Speaker},
};

/// How often the machine looks at the time; a quarter of what it does most often would be wasted on less.
const TICK: Duration = Duration::from_millis(250);
/// Events that wait. Each asker waits for its answer, so this is as many askers as there may be.
const EVENTS_MAX: usize = 2 * LIST_MAX;
/// A question among servers that found takes no longer; the next tick asks again.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(3);

/// What reaches the one task that owns a [`Founding`].
#[derive(Debug)]
pub(crate) enum DriverEvent {
    /// A server asked; what it gets is written down first.
    Asked { from: NodeId, message: Message, reply: oneshot::Sender<Message> },
    /// A server answered, or did not.
    Answered { from: NodeId, answer: Option<(Message, Connection)> },
    /// Servers that others know.
    Told(Vec<Candidate>),
    /// Every given address was tried.
    Surveyed,
    /// A server is part of a region: may we join it?
    MayJoin { from: NodeId, cluster: ClusterId, reply: oneshot::Sender<bool> },
}

/// What founding has come to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) found: Option<Found>,
    /// A region that may be joined.
    pub(crate) join: Option<ClusterId>,
    /// Where to look for it.
    pub(crate) addresses: BTreeSet<SocketAddr>,
    /// Promises can not be written down: this server can not take part.
    pub(crate) failed: Option<String>,
}

/// Runs a [`Founding`]: carries its questions, writes down its promises, tells what it came to.
pub(crate) struct Driver {
    env: Env,
    config: Arc<Config>,
    transport: Arc<dyn Transport>,
    files: Files,
    service: Service,
    /// Whether the agent has a certificate of the user's: then servers know each other by them.
    plane: Plane,
    machine: Founding,
    started: Instant,
    own_events: mpsc::WeakSender<DriverEvent>,
    connections: BTreeMap<NodeId, Connection>,
    asking: BTreeSet<NodeId>,
    verdict: watch::Sender<Verdict>,
}

/// The way to a running driver; it ends when the last one is gone.
#[derive(Clone)]
pub(crate) struct DriverHandle {
    pub(crate) events: mpsc::Sender<DriverEvent>,
    pub(crate) verdict: watch::Receiver<Verdict>,
}

impl Driver {
    /// Takes up what was promised and starts.
    pub(crate) fn start(
        env: Env,
        config: Arc<Config>,
        transport: Arc<dyn Transport>,
        files: Files,
        service: Service,
        plane: Plane,
        record: super::Record,
    ) -> DriverHandle {
        let (events, inbox) = mpsc::channel(EVENTS_MAX);
        let (verdict, watching) = watch::channel(Verdict::default());
        let own = Candidate {
            node_id: config.identity.node_id,
            name: config.identity.name.clone(),
            rpc: config.rpc,
            gossip: config.gossip,
            life: config.life,
            expect: config.expect,
        };
        let driver = Self {
            machine: Founding::new(own, record, Duration::ZERO),
            started: env.now(),
            own_events: events.downgrade(),
            connections: BTreeMap::new(),
            asking: BTreeSet::new(),
            env: env.clone(),
            config,
            transport,
            files,
            service: service.clone(),
            plane,
            verdict,
        };
        env.spawn("join-founding", driver.run(inbox));
        service.start_founding(events.clone());
        DriverHandle { events, verdict: watching }
    }

    async fn run(mut self, mut inbox: mpsc::Receiver<DriverEvent>) {
        let mut tick = self.env.now();
        loop {
            let event = tokio::select! {
                biased;
                () = self.env.shutdown().wait() => return,
                event = inbox.recv() => event,
                () = self.env.sleep_until(tick) => {
                    tick = self.env.now() + TICK;
                    let draw = ClusterId(self.env.random_u128().to_be_bytes());
                    self.step(Input::Tick { draw }, None).await;
                    self.publish();
                    continue;
                }
            };
            let Some(event) = event else { return };
            self.take(event).await;
        }
    }

    async fn take(&mut self, event: DriverEvent) {
        match event {
            DriverEvent::Asked { from, message, reply } => {
                self.step(Input::Asked { from, message }, Some(reply)).await;
            }
            DriverEvent::Answered { from, answer } => {
                self.asking.remove(&from);
                match answer {
                    Some((message, connection)) => {
                        self.connections.insert(from, connection);
                        self.step(Input::Answered { from, message }, None).await;
                    }
                    None => drop(self.connections.remove(&from)),
                }
            }
            DriverEvent::Told(candidates) => self.step(Input::Told(candidates), None).await,
            DriverEvent::Surveyed => self.step(Input::Surveyed, None).await,
            DriverEvent::MayJoin { from, cluster, reply } => {
                let answered = Input::Answered { from, message: Message::Founded { cluster } };
                self.step(answered, None).await;
                // An asker that is gone asks again.
                let _ = reply.send(self.verdict.borrow().join == Some(cluster));
            }
        }
    }

    fn publish(&self) {
        let now = self.env.now() - self.started;
        self.service.set_candidates(self.machine.candidates(now));
        let addresses = self.machine.addresses();
        self.verdict.send_if_modified(|verdict| {
            let changed = verdict.addresses != addresses;
            verdict.addresses = addresses;
            changed
        });
    }

    /// Takes one step and does what it says, in order: nothing is said before what must be written down is synced.
    async fn step(&mut self, input: Input, mut reply: Option<oneshot::Sender<Message>>) {
        if self.verdict.borrow().failed.is_some() {
            return;
        }
        let now = self.env.now() - self.started;
        for output in self.machine.step(now, input) {
            match output {
                Output::Keep(record) => {
                    let files = self.files.clone();
                    let kept = self.env.spawn_blocking(move || files.keep_founding(&record)).await;
                    let failed = match kept {
                        Ok(Ok(())) => continue,
                        Ok(Err(failed)) => failed.to_string(),
                        Err(failed) => failed.to_string(),
                    };
                    error!(reason = failed, "a promise could not be written down; this server takes no part");
                    self.verdict.send_modify(|verdict| verdict.failed = Some(failed));
                    return;
                }
                Output::Answer(message) => {
                    if let Some(reply) = reply.take() {
                        // An asker that is gone asks again.
                        let _ = reply.send(message);
                    }
                }
                Output::Ask { to, message } => self.ask(to, message),
                Output::Found(found) => {
                    info!(cluster = %found.cluster, servers = found.members.len(), "region founded");
                    self.verdict.send_modify(|verdict| verdict.found = Some(found));
                }
                Output::Join { cluster } => {
                    self.verdict.send_if_modified(|verdict| {
                        let changed = verdict.join != Some(cluster);
                        verdict.join = Some(cluster);
                        changed
                    });
                }
                Output::Waits(waits) => info!(reason = %waits, "waiting for the region to be founded"),
            }
        }
    }

    /// Asks in a task of its own; one question at a time to each server.
    fn ask(&mut self, to: Candidate, message: Message) {
        if !self.asking.insert(to.node_id) {
            return;
        }
        let Some(events) = self.own_events.upgrade() else { return };
        let kept = self.connections.get(&to.node_id).filter(|kept| kept.close_reason().is_none()).cloned();
        let question = Question {
            env: self.env.clone(),
            config: self.config.clone(),
            transport: self.transport.clone(),
            plane: self.plane,
            kept,
        };
        self.env.spawn("join-founding-ask", async move {
            let from = to.node_id;
            let answer = match question.put(&to, message).await {
                Ok(answer) => Some(answer),
                Err(error) => {
                    note_failure(&to, &error);
                    None
                }
            };
            // A driver that has ended needs no answer.
            let _ = events.send(DriverEvent::Answered { from, answer }).await;
        });
    }
}

fn note_failure(to: &Candidate, error: &AskError) {
    match error {
        AskError::Refused(refusal) if !refusal.passes() => {
            info!(server = to.name, addr = %to.rpc, reason = %refusal, "refused to found together");
        }
        AskError::Unproven => info!(server = to.name, addr = %to.rpc, reason = %error, "not to be trusted"),
        error => debug!(server = to.name, addr = %to.rpc, %error, "no answer"),
    }
}

/// What one question needs.
struct Question {
    env: Env,
    config: Arc<Config>,
    transport: Arc<dyn Transport>,
    plane: Plane,
    kept: Option<Connection>,
}

impl Question {
    async fn put(self, to: &Candidate, message: Message) -> Result<(Message, Connection), AskError> {
        let by_certificate = self.plane == Plane::Rpc;
        if !by_certificate && self.config.require_token && self.config.key.is_none() {
            return Err(AskError::Refused(Refusal::TokenRequired));
        }
        let connection = match self.kept {
            Some(connection) => connection,
            None => {
                let expect = if by_certificate { Expect::Node(to.node_id) } else { Expect::FirstContact };
                let Opened { connection, .. } = self.transport.dial(to.rpc, self.plane, expect).await?;
                connection
            }
        };
        let own = &self.config.identity;
        let speaker = Speaker { region: own.region.clone(), node_id: own.node_id };
        let key = self.config.key.as_ref().filter(|_| !by_certificate);
        let deadline = self.env.now() + QUESTION_TIMEOUT;
        match ask(&connection, &Ask::Founding(speaker, message), key, deadline).await? {
            Answer::Founding(speaker, message)
                if speaker.node_id == to.node_id && speaker.region == own.region =>
            {
                message.check(LIST_MAX, 255).map_err(|what| AskError::Unreadable { what })?;
                Ok((message, connection))
            }
            _ => Err(AskError::Unexpected),
        }
    }
}
