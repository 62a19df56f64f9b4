use std::{fmt, net::SocketAddr, time::Duration};

use ring::{
    hkdf, hmac,
    rand::{SecureRandom, SystemRandom},
};

const MIB: usize = 1024 * 1024;

/// The secret that lets a restarted agent tell its peers at once that their old connections are gone.
///
/// Keep it beside the node id, with the same care as a key, and hand the same one in at each start. It guards no
/// data: who learns it can cut this agent's connections, not read them.
#[derive(Clone)]
pub struct EndpointSecret([u8; 32]);

impl EndpointSecret {
    /// Takes back a secret that was kept.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Draws a secret from the operating system.
    ///
    /// # Panics
    ///
    /// When the operating system has no entropy; no key could be made then either.
    pub fn generate() -> Self {
        let mut bytes = [0; 32];
        SystemRandom::new().fill(&mut bytes).expect("the operating system provides entropy");
        Self(bytes)
    }

    /// The bytes to keep.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// Both keys come from the one secret: a reset is only sent for a connection id that passes its own check, so
    /// either key alone changes nothing.
    pub(crate) fn reset_key(&self) -> hmac::Key {
        let mut key = [0; 32];
        self.derive(b"stateless reset", &mut key);
        hmac::Key::new(hmac::HMAC_SHA256, &key)
    }

    pub(crate) fn connection_id_key(&self) -> u64 {
        let mut key = [0; 8];
        self.derive(b"connection id", &mut key);
        u64::from_le_bytes(key)
    }

    fn derive(&self, label: &[u8], out: &mut [u8]) {
        struct Len(usize);
        impl hkdf::KeyType for Len {
            fn len(&self) -> usize {
                self.0
            }
        }
        let secret = hkdf::Salt::new(hkdf::HKDF_SHA256, b"wayfarer endpoint").extract(&self.0);
        let labels = [label];
        let derived = secret.expand(&labels, Len(out.len())).expect("the output is short");
        derived.fill(out).expect("the lengths agree");
    }
}

impl fmt::Debug for EndpointSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EndpointSecret")
    }
}

/// Whether the network card splits large sends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Offload {
    /// Yes: fewer system calls. QUIC falls back by itself on most cards that fail.
    Segmentation,
    /// No: for cards and virtual machines whose sends fail with an input/output error.
    None,
}

/// What the configuration file may say; nothing here is trusted. What is absent takes the value named at
/// [`Config`].
#[derive(Clone, Debug, Default)]
#[allow(missing_docs)]
pub struct RawConfig {
    pub idle_timeout: Option<Duration>,
    pub keepalive: Option<Duration>,
    pub handshake_timeout: Option<Duration>,
    pub connections_max: Option<usize>,
    pub handshakes_max: Option<usize>,
    pub streams_max: Option<usize>,
    pub requests_max: Option<usize>,
    pub request_size_max: Option<usize>,
    pub outbox_bytes_max: Option<usize>,
    pub receive_window: Option<usize>,
    pub socket_buffer: Option<usize>,
    pub offload: Option<Offload>,
}

/// Checked settings of one endpoint.
#[derive(Clone, Debug)]
pub struct Config {
    /// The UDP address to listen on. Port 0 takes any.
    pub bind: SocketAddr,
    /// See [`EndpointSecret`].
    pub secret: EndpointSecret,
    /// A connection on which nothing was heard for so long is lost. 10 s; 1 s to 10 min. Longer survives longer
    /// cuts, shorter notices them sooner.
    pub(crate) idle_timeout: Duration,
    /// An idle connection says so this often. 3 s; at most a third of the idle timeout.
    pub(crate) keepalive: Duration,
    /// A handshake with its greeting takes no longer. 5 s; 100 ms to 1 min.
    pub(crate) handshake_timeout: Duration,
    /// Connections of this endpoint, both ways; further diallers are turned away. 16,384: one server holds 10,000
    /// clients and its own region with room to spare.
    pub(crate) connections_max: usize,
    /// Handshakes under way; diallers beyond half of them must first prove their address. 256.
    pub(crate) handshakes_max: usize,
    /// Streams that a peer may have open at once on a connection. 128; memory is set aside for each.
    pub(crate) streams_max: usize,
    /// Requests that a peer may have at hand here at once on a connection. 1,024.
    pub(crate) requests_max: usize,
    /// Largest body of a request or an answer. 8 MiB; what is larger goes over a stream. At most 64 MiB.
    pub(crate) request_size_max: usize,
    /// Bytes of requests and answers that wait to be written on a connection. 32 MiB; at least one largest body.
    pub(crate) outbox_bytes_max: usize,
    /// Bytes that an admitted peer may have on their way to us, read by nobody yet. 8 MiB among servers, a quarter of it
    /// on the planes that clients reach.
    pub(crate) receive_window: usize,
    /// What the kernel is asked to hold for the socket, each way. 4 MiB; it grants what its own limits allow.
    pub(crate) socket_buffer: usize,
    /// See [`Offload`].
    pub(crate) offload: Offload,
}

impl Config {
    /// Fills in what is absent and checks what is there.
    ///
    /// # Errors
    ///
    /// Names the first setting that is out of range or contradicts another.
    pub fn check(bind: SocketAddr, secret: EndpointSecret, raw: &RawConfig) -> Result<Self, ConfigError> {
        let seconds = Duration::from_secs;
        let idle_timeout = raw.idle_timeout.unwrap_or(seconds(10));
        in_range("idle_timeout", idle_timeout, seconds(1), seconds(600))?;
        let keepalive = raw.keepalive.unwrap_or((idle_timeout / 3).min(seconds(3)));
        if keepalive.is_zero() || keepalive > idle_timeout / 3 {
            return Err(ConfigError::Keepalive { keepalive, idle_timeout });
        }
        let handshake_timeout = raw.handshake_timeout.unwrap_or(seconds(5));
        in_range("handshake_timeout", handshake_timeout, Duration::from_millis(100), seconds(60))?;
        let connections_max = raw.connections_max.unwrap_or(16_384);
        in_range("connections_max", connections_max, 1, 1_000_000)?;
        let handshakes_max = raw.handshakes_max.unwrap_or(256);
        in_range("handshakes_max", handshakes_max, 2, 65_536)?;
        let streams_max = raw.streams_max.unwrap_or(128);
        in_range("streams_max", streams_max, 4, 4_096)?;
        let requests_max = raw.requests_max.unwrap_or(1_024);
        in_range("requests_max", requests_max, 1, 65_536)?;
        let request_size_max = raw.request_size_max.unwrap_or(8 * MIB);
        in_range("request_size_max", request_size_max, 4_096, 64 * MIB)?;
        let outbox_bytes_max = raw.outbox_bytes_max.unwrap_or((32 * MIB).max(request_size_max));
        in_range("outbox_bytes_max", outbox_bytes_max, request_size_max, 1_024 * MIB)?;
        let receive_window = raw.receive_window.unwrap_or(8 * MIB);
        in_range("receive_window", receive_window, MIB, 256 * MIB)?;
        let socket_buffer = raw.socket_buffer.unwrap_or(4 * MIB);
        in_range("socket_buffer", socket_buffer, 65_536, 256 * MIB)?;
        let offload = raw.offload.unwrap_or(Offload::Segmentation);
        Ok(Self {
            bind,
            secret,
            idle_timeout,
            keepalive,
            handshake_timeout,
            connections_max,
            handshakes_max,
            streams_max,
            requests_max,
            request_size_max,
            outbox_bytes_max,
            receive_window,
            socket_buffer,
            offload,
        })
    }

    /// How long a connection outlives the last sign of its peer.
    pub fn idle_timeout(&self) -> Duration {
        self.idle_timeout
    }
}

fn in_range<T: PartialOrd + fmt::Debug>(
    setting: &'static str,
    value: T,
    min: T,
    max: T,
) -> Result<(), ConfigError> {
    if value < min || value > max {
        let (value, min, max) = (format!("{value:?}"), format!("{min:?}"), format!("{max:?}"));
        return Err(ConfigError::OutOfRange { setting, value, min, max });
    }
    Ok(())
}

/// A setting that can not be used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ConfigError {
    /// Outside its range.
    #[error("{setting} is {value}, must be between {min} and {max}")]
    OutOfRange {
        /// Its name.
        setting: &'static str,
        /// What was given.
        value: String,
        /// The least.
        min: String,
        /// The most.
        max: String,
    },
    /// Keepalives come too late to keep anything alive.
    #[error(
        "keepalive is {keepalive:?}, must be above zero and at most a third of idle_timeout ({idle_timeout:?})"
    )]
    Keepalive {
        /// What was given.
        keepalive: Duration,
        /// The idle timeout.
        idle_timeout: Duration,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(raw: &RawConfig) -> Result<Config, ConfigError> {
        Config::check(([127, 0, 0, 1], 0).into(), EndpointSecret::from_bytes([1; 32]), raw)
    }

    #[test]
    fn settings_out_of_range_are_named() {
        assert!(check(&RawConfig::default()).is_ok());
        let raw = RawConfig { idle_timeout: Some(Duration::from_secs(4)), ..RawConfig::default() };
        assert_eq!(check(&raw).expect("fine").keepalive, Duration::from_secs(4) / 3);
        let raw = RawConfig { keepalive: Some(Duration::from_secs(4)), ..RawConfig::default() };
        assert!(matches!(check(&raw), Err(ConfigError::Keepalive { .. })));
        let raw = RawConfig { streams_max: Some(100_000), ..RawConfig::default() };
        assert!(matches!(check(&raw), Err(ConfigError::OutOfRange { setting: "streams_max", .. })));
    }

    #[test]
    fn keys_follow_from_the_secret() {
        let (a, b) = (EndpointSecret::from_bytes([1; 32]), EndpointSecret::from_bytes([2; 32]));
        assert_eq!(a.connection_id_key(), a.clone().connection_id_key());
        assert_ne!(a.connection_id_key(), b.connection_id_key());
        assert!(!format!("{a:?}").contains('1'));
    }
}
