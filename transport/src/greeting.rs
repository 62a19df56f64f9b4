//! What both ends say before anything else: who they are in this run, which cluster they know, how much they take.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};
use tokio::{sync::mpsc, time::timeout};
use tracing::{debug, warn};

use crate::{
    config::Config,
    connection::{Established, Opened},
    error::{CloseCode, DialError},
    framed::{FrameReader, FrameWriter},
    host::Host,
    identity::{Binding, Boot, CertifiedName, ClusterId, Identity, NAME_LEN_MAX, NodeId, Peer},
    link::{BoxRead, BoxWrite, Link},
    plane::{self, Plane, Refusal},
    requests::Limits,
    transport::Expect,
};

/// Rises when the greeting or the messages after it change in a way that the other end must know.
const VERSION: u16 = 1;
/// A greeting is a few hundred bytes; nothing larger is read from a peer that has not been admitted.
const GREETING_LEN_MAX: usize = 1024;

/// What an endpoint brings to each of its connections.
pub(crate) struct Local {
    pub(crate) identity: Identity,
    pub(crate) boot: Boot,
    pub(crate) config: Config,
    pub(crate) host: Arc<dyn Host>,
    cluster: Mutex<Option<ClusterId>>,
}

impl Local {
    pub(crate) fn new(identity: Identity, boot: Boot, config: Config, host: Arc<dyn Host>) -> Self {
        Self { identity, boot, config, host, cluster: Mutex::new(None) }
    }

    pub(crate) fn cluster(&self) -> Option<ClusterId> {
        *self.cluster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_cluster(&self, cluster: ClusterId) {
        *self.cluster.lock().unwrap_or_else(PoisonError::into_inner) = Some(cluster);
    }

    fn greeting(&self) -> Greeting {
        let small = |limit: usize| u32::try_from(limit).unwrap_or(u32::MAX);
        let mut name = self.identity.name.clone();
        while name.len() > NAME_LEN_MAX {
            name.pop();
        }
        Greeting {
            node_id: self.identity.node_id,
            name,
            boot: self.boot,
            cluster: self.cluster(),
            requests_max: small(self.config.requests_max),
            request_size_max: small(self.config.request_size_max),
        }
    }
}

impl fmt::Debug for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Local").field("identity", &self.identity).finish_non_exhaustive()
    }
}

/// The first frame each way.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub(crate) struct Greeting {
    node_id: NodeId,
    name: String,
    pub(crate) boot: Boot,
    pub(crate) cluster: Option<ClusterId>,
    requests_max: u32,
    request_size_max: u32,
}

impl Greeting {
    fn encode(&self) -> Vec<u8> {
        let bytes = VERSION.to_be_bytes().to_vec();
        postcard::to_extend(self, bytes).expect("a greeting is plain data, and a vector takes it")
    }

    fn decode(frame: &[u8]) -> Result<Self, GreetError> {
        let (version, rest) = frame.split_first_chunk().ok_or(GreetError::Unreadable)?;
        let theirs = u16::from_be_bytes(*version);
        if theirs != VERSION {
            return Err(GreetError::Refused(Refusal::Version { ours: VERSION, theirs }));
        }
        let greeting: Self = postcard::from_bytes(rest).map_err(|_| GreetError::Unreadable)?;
        if greeting.name.len() > NAME_LEN_MAX || greeting.requests_max == 0 {
            return Err(GreetError::Unreadable);
        }
        Ok(greeting)
    }
}

/// Why a greeting led nowhere.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GreetError {
    #[error("{0}")]
    Refused(Refusal),
    #[error("the peer sent no readable greeting")]
    Unreadable,
    #[error("the connection ended during the greeting")]
    Ended,
}

struct Frames {
    reader: FrameReader<BoxRead>,
    writer: FrameWriter<BoxWrite>,
}

impl Frames {
    fn new((reader, writer): (BoxRead, BoxWrite)) -> Self {
        let reader = FrameReader::new(reader, GREETING_LEN_MAX);
        Self { reader, writer: FrameWriter::new(writer, GREETING_LEN_MAX) }
    }

    async fn send(&mut self, greeting: &Greeting) -> Result<(), GreetError> {
        self.writer.send(greeting.encode().into()).await.map_err(|_| GreetError::Ended)
    }

    async fn receive(&mut self) -> Result<Greeting, GreetError> {
        match self.reader.next().await {
            Ok(Some(frame)) => Greeting::decode(&frame),
            Ok(None) | Err(_) => Err(GreetError::Ended),
        }
    }
}

/// Greets as the end that dialled. The caller bounds the time.
pub(crate) async fn greet_listener(
    local: &Local,
    link: Arc<dyn Link>,
    plane: Plane,
    certified: Option<CertifiedName>,
    expect: Expect,
) -> Result<Opened, DialError> {
    let control = link.open_stream().await.map_err(DialError::from_closed)?;
    let mut frames = Frames::new(control);
    let greeted = async {
        frames.send(&local.greeting()).await?;
        let theirs = frames.receive().await?;
        check(local, plane, certified.as_ref(), &theirs, Some(&expect)).map_err(GreetError::Refused)?;
        Ok(theirs)
    };
    match greeted.await {
        Ok(theirs) => Ok(establish(local, link, plane, certified, theirs, frames)),
        Err(GreetError::Refused(refusal)) => {
            link.close(CloseCode::Refused, &refusal.to_string());
            Err(DialError::Unacceptable(refusal))
        }
        Err(GreetError::Unreadable) => {
            link.close(CloseCode::Protocol, "unreadable greeting");
            Err(DialError::Handshake("the peer sent no readable greeting".into()))
        }
        Err(GreetError::Ended) => Err(DialError::from_closed(link.closed().await)),
    }
}

/// Greets as the end that was dialled.
async fn greet_dialler(
    local: &Local,
    link: Arc<dyn Link>,
    plane: Plane,
    certified: Option<CertifiedName>,
) -> Result<Opened, GreetError> {
    let control = link.accept_stream().await.map_err(|_| GreetError::Ended)?;
    let mut frames = Frames::new(control);
    let theirs = frames.receive().await?;
    check(local, plane, certified.as_ref(), &theirs, None).map_err(GreetError::Refused)?;
    frames.send(&local.greeting()).await?;
    Ok(establish(local, link, plane, certified, theirs, frames))
}

/// Decides on a peer that has dialled, greets it, and hands the connection on. A peer that is turned away changes
/// nothing here but the log.
pub(crate) async fn admit(
    local: Arc<Local>,
    link: Arc<dyn Link>,
    plane: Plane,
    certified: Option<CertifiedName>,
    accepted: mpsc::Sender<Opened>,
) {
    let addr = link.remote_addr();
    let greeted = async {
        plane::admit_dialler(plane, &local.identity, certified.as_ref()).map_err(GreetError::Refused)?;
        greet_dialler(&local, link.clone(), plane, certified).await
    };
    match timeout(local.config.handshake_timeout, greeted).await {
        Ok(Ok(opened)) => {
            // Without an acceptor the connection is dropped, and the peer sees it closed.
            let _ = accepted.send(opened).await;
        }
        Ok(Err(GreetError::Refused(refusal))) => {
            warn!(%addr, %plane, reason = %refusal, "peer refused");
            link.close(CloseCode::Refused, &refusal.to_string());
        }
        Ok(Err(error)) => {
            warn!(%addr, %plane, reason = %error, "greeting failed");
            link.close(CloseCode::Protocol, &error.to_string());
        }
        Err(_) => {
            warn!(%addr, %plane, "peer sent no greeting in time");
            link.close(CloseCode::Protocol, "no greeting in time");
        }
    }
}

fn check(
    local: &Local,
    plane: Plane,
    certified: Option<&CertifiedName>,
    theirs: &Greeting,
    expect: Option<&Expect>,
) -> Result<(), Refusal> {
    plane::check_claim(certified, theirs.node_id, expect)?;
    plane::check_cluster(plane, local.cluster(), theirs.cluster)
}

fn establish(
    local: &Local,
    link: Arc<dyn Link>,
    plane: Plane,
    certified: Option<CertifiedName>,
    theirs: Greeting,
    frames: Frames,
) -> Opened {
    let peer = match certified {
        Some(name) => {
            let binding = if name.node_id.is_some() { Binding::Certificate } else { Binding::Claim };
            let CertifiedName { role, region, .. } = name;
            let identity = Identity { role, region, node_id: theirs.node_id, name: theirs.name };
            Peer::Known { identity, binding }
        }
        None => Peer::Stranger,
    };
    debug!(%peer, %plane, addr = %link.remote_addr(), "connection open");
    let as_len = |limit: u32| usize::try_from(limit).unwrap_or(usize::MAX);
    let config = &local.config;
    let limits = Limits {
        // What the peer permits is taken up to our own measure, so that a boast costs us no memory.
        requests_out_max: as_len(theirs.requests_max).min(config.requests_max),
        requests_in_max: config.requests_max,
        body_out_max: as_len(theirs.request_size_max).min(config.outbox_bytes_max),
        outbox_bytes_max: config.outbox_bytes_max,
    };
    let body_in_max = config.request_size_max;
    Established {
        link,
        plane,
        peer,
        boot: theirs.boot,
        cluster: theirs.cluster,
        limits,
        body_in_max,
        streams_max: config.streams_max,
        reader: frames.reader,
        writer: frames.writer,
    }
    .start(&*local.host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn greeting() -> Greeting {
        Greeting {
            node_id: NodeId([3; 16]),
            name: "a".into(),
            boot: Boot(9),
            cluster: Some(ClusterId([4; 16])),
            requests_max: 10,
            request_size_max: 1_000,
        }
    }

    #[test]
    fn version_one_stays_as_it_is() {
        let mut expected = vec![0, 1];
        expected.extend([3; 16]);
        expected.extend([1, b'a', 9, 1]);
        expected.extend([4; 16]);
        expected.extend([10, 0xe8, 7]);
        assert_eq!(greeting().encode(), expected);
        assert_eq!(Greeting::decode(&expected).expect("our own"), greeting());
    }

    #[test]
    fn other_versions_and_rubbish_are_refused() {
        assert!(matches!(
            Greeting::decode(&[0, 2, 1]),
            Err(GreetError::Refused(Refusal::Version { ours: 1, theirs: 2 }))
        ));
        assert!(matches!(Greeting::decode(&[0]), Err(GreetError::Unreadable)));
        assert!(matches!(Greeting::decode(&[0, 1, 5, 5]), Err(GreetError::Unreadable)));
    }
}
