//! quinn's settings, made from ours.

use std::{sync::Arc, time::Duration};

use quinn::{EndpointConfig, IdleTimeout, TransportConfig};
use quinn_proto::HashedConnectionIdGenerator;

use super::varint;
use crate::{
    config::{Config, Offload},
    plane::Plane,
};

const KIB: usize = 1024;
/// What a peer may send before its certificate was looked at: a greeting.
const UNADMITTED_WINDOW: usize = 64 * KIB;
/// What a stranger may send: a request for a certificate.
const JOIN_WINDOW: usize = 256 * KIB;
const JOIN_STREAMS: usize = 2;
/// Datagrams that wait in quinn, each way. They are small and late ones are worthless.
const DATAGRAM_BUFFER: usize = 256 * KIB;
/// The first stream carries the greeting and the requests.
const CONTROL_STREAMS: usize = 1;

/// How soon a server notices that another one is gone, and how often it asks: a follower that waits for a dead leader lets
/// its users wait. Both ends go by the shorter patience, and a connection that was given up for nothing is dialled again
/// at once. Clients ask their server themselves, as often as the region's size allows.
const SERVERS_IDLE: Duration = Duration::from_millis(1_600);
const SERVERS_KEEPALIVE: Duration = Duration::from_millis(500);

/// Which end of a connection settings are for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Side {
    Dialled,
    Accepted,
}

/// How much a peer may send and open.
pub(super) struct Budget {
    pub(super) receive_window: usize,
    pub(super) streams: usize,
}

impl Budget {
    /// What an admitted peer gets. Clients are many, so each gets a part of what a server gets.
    pub(super) fn of(plane: Plane, side: Side, config: &Config) -> Self {
        let streams = config.streams_max + CONTROL_STREAMS;
        let whole = config.receive_window;
        match (plane, side) {
            (Plane::Join, Side::Accepted) => Self { receive_window: JOIN_WINDOW, streams: JOIN_STREAMS },
            (Plane::Rpc | Plane::Node, Side::Accepted) => Self { receive_window: whole / 4, streams },
            (Plane::Raft | Plane::Federation, _) | (_, Side::Dialled) => {
                Self { receive_window: whole, streams }
            }
        }
    }

    fn unadmitted() -> Self {
        Self { receive_window: UNADMITTED_WINDOW, streams: CONTROL_STREAMS }
    }
}

pub(super) fn endpoint(config: &Config) -> EndpointConfig {
    let mut endpoint = EndpointConfig::new(Arc::new(config.secret.reset_key()));
    let key = config.secret.connection_id_key();
    endpoint.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(key)));
    endpoint
}

pub(super) fn for_accepted(config: &Config) -> Arc<TransportConfig> {
    // The dialler's signs of life reach here long before this one would be due; it is for diallers that give none.
    let patience = Patience { idle: config.idle_timeout, keepalive: config.idle_timeout / 2 };
    transport(config, &Budget::unadmitted(), patience)
}

pub(super) fn for_dialled(config: &Config, plane: Plane) -> Arc<TransportConfig> {
    let usual = Patience { idle: config.idle_timeout, keepalive: config.keepalive };
    let patience = match plane {
        Plane::Raft | Plane::Rpc => {
            Patience { idle: usual.idle.min(SERVERS_IDLE), keepalive: usual.keepalive.min(SERVERS_KEEPALIVE) }
        }
        Plane::Node | Plane::Federation | Plane::Join => usual,
    };
    transport(config, &Budget::of(plane, Side::Dialled, config), patience)
}

/// How long a silent peer is believed to be there, and how often an idle connection is tried.
#[derive(Clone, Copy)]
struct Patience {
    idle: Duration,
    keepalive: Duration,
}

fn transport(config: &Config, budget: &Budget, patience: Patience) -> Arc<TransportConfig> {
    let mut transport = TransportConfig::default();
    let idle = IdleTimeout::try_from(patience.idle).expect("the checked range fits");
    transport
        .max_idle_timeout(Some(idle))
        .keep_alive_interval(Some(patience.keepalive))
        // State is set aside for each permitted stream, so the permission stays small.
        .max_concurrent_bidi_streams(varint(budget.streams))
        .max_concurrent_uni_streams(varint(0))
        .receive_window(varint(budget.receive_window))
        // One stream may use a quarter, so that a reader that sleeps does not stop the others.
        .stream_receive_window(varint(config.receive_window / 4))
        .send_window(config.receive_window as u64)
        .datagram_receive_buffer_size(Some(DATAGRAM_BUFFER))
        .datagram_send_buffer_size(DATAGRAM_BUFFER)
        .enable_segmentation_offload(config.offload == Offload::Segmentation);
    Arc::new(transport)
}
