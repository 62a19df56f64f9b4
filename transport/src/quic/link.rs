use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::atomic::{AtomicBool, Ordering},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use quinn::{ConnectionError, RecvStream, SendDatagramError, SendStream, crypto::rustls::HandshakeData};
use rustls_pki_types::CertificateDer;
use tokio::{
    io::AsyncWrite,
    sync::broadcast::{self, error::RecvError},
};

use super::{port, settings::Budget, varint};
use crate::{
    error::{CloseCode, Closed, DatagramError},
    link::{BoxRead, BoxWrite, Link},
    plane::Plane,
};

/// What a peer may tell of its reasons; more is cut.
const REASON_LEN_MAX: usize = 256;
/// Sent with a stream that was dropped before its end.
const BROKEN_STREAM: u32 = 1;

pub(super) struct QuicLink {
    connection: quinn::Connection,
    /// On the dialler's side: addresses whose port was found closed.
    gone: Option<broadcast::Sender<SocketAddr>>,
    /// Whether somebody looks at the peer's port.
    looking: AtomicBool,
}

impl QuicLink {
    pub(super) fn accepted(connection: quinn::Connection) -> Self {
        Self { connection, gone: None, looking: AtomicBool::new(false) }
    }

    pub(super) fn dialled(connection: quinn::Connection, gone: broadcast::Sender<SocketAddr>) -> Self {
        Self { connection, gone: Some(gone), looking: AtomicBool::new(false) }
    }

    /// Waits until the port at which the peer listened is found closed.
    async fn vanished(&self) {
        let Some(gone) = &self.gone else { return std::future::pending().await };
        let mut gone = gone.subscribe();
        loop {
            match gone.recv().await {
                Ok(addr) if addr == self.connection.remote_address() => return,
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return std::future::pending().await,
            }
        }
    }

    /// The plane that the handshake agreed on.
    pub(super) fn plane(&self) -> Option<Plane> {
        let agreed = self.connection.handshake_data()?.downcast::<HandshakeData>().ok()?;
        Plane::from_alpn(&agreed.protocol?)
    }

    /// Gives an admitted peer what its plane deserves.
    pub(super) fn widen(&self, budget: &Budget) {
        self.connection.set_receive_window(varint(budget.receive_window));
        self.connection.set_max_concurrent_bi_streams(varint(budget.streams));
    }
}

impl Link for QuicLink {
    fn remote_addr(&self) -> SocketAddr {
        self.connection.remote_address()
    }

    fn rtt(&self) -> Duration {
        self.connection.rtt()
    }

    fn heard(&self) -> u64 {
        self.connection.stats().udp_rx.datagrams
    }

    fn look(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let Some(gone) = &self.gone else { return };
            if self.looking.swap(true, Ordering::AcqRel) {
                return;
            }
            let addr = self.connection.remote_address();
            if port::is_closed(addr).await {
                // This link itself listens.
                let _ = gone.send(addr);
            }
            self.looking.store(false, Ordering::Release);
        })
    }

    fn acknowledged(&self) -> u64 {
        self.connection.stats().frame_rx.acks
    }

    fn open_stream(&self) -> BoxFuture<'_, Result<(BoxRead, BoxWrite), Closed>> {
        Box::pin(
            async move { self.connection.open_bi().await.map(boxed).map_err(|error| closed_from(&error)) },
        )
    }

    fn accept_stream(&self) -> BoxFuture<'_, Result<(BoxRead, BoxWrite), Closed>> {
        Box::pin(
            async move { self.connection.accept_bi().await.map(boxed).map_err(|error| closed_from(&error)) },
        )
    }

    fn send_datagram(&self, datagram: Bytes) -> Result<(), DatagramError> {
        let len = datagram.len();
        self.connection.send_datagram(datagram).map_err(|error| match error {
            SendDatagramError::ConnectionLost(error) => DatagramError::Ended(closed_from(&error)),
            SendDatagramError::TooLarge
            | SendDatagramError::UnsupportedByPeer
            | SendDatagramError::Disabled => DatagramError::TooLarge { len, max: self.datagram_max() },
        })
    }

    fn read_datagram(&self) -> BoxFuture<'_, Result<Bytes, Closed>> {
        Box::pin(async move { self.connection.read_datagram().await.map_err(|error| closed_from(&error)) })
    }

    fn datagram_max(&self) -> usize {
        self.connection.max_datagram_size().unwrap_or(0)
    }

    fn close(&self, code: CloseCode, reason: &str) {
        let bytes = reason.as_bytes();
        self.connection.close(code.to_wire().into(), &bytes[..bytes.len().min(REASON_LEN_MAX)]);
    }

    fn closed(&self) -> BoxFuture<'_, Closed> {
        Box::pin(async move {
            tokio::select! {
                biased;
                error = self.connection.closed() => closed_from(&error),
                () = self.vanished() => Closed::Vanished,
            }
        })
    }

    fn channel_binding(&self) -> [u8; 32] {
        let mut binding = [0; 32];
        self.connection
            .export_keying_material(&mut binding, b"EXPORTER-wayfarer-binding", b"")
            .expect("32 bytes are within what TLS exports");
        binding
    }

    fn peer_certificates(&self) -> Vec<Vec<u8>> {
        let shown = self.connection.peer_identity();
        let Some(Ok(chain)) = shown.map(|shown| shown.downcast::<Vec<CertificateDer<'static>>>()) else {
            return Vec::new();
        };
        chain.iter().map(|der| der.to_vec()).collect()
    }
}

pub(super) fn closed_from(error: &ConnectionError) -> Closed {
    match error {
        ConnectionError::ApplicationClosed(close) => {
            let shown = &close.reason[..close.reason.len().min(REASON_LEN_MAX)];
            let reason = String::from_utf8_lossy(shown).into_owned();
            Closed::ByPeer { code: CloseCode::from_wire(close.error_code.into_inner()), reason }
        }
        ConnectionError::Reset => Closed::Restarted,
        ConnectionError::TimedOut => Closed::TimedOut,
        // A connection that we close ourselves has its reason already; what is left is the whole endpoint.
        ConnectionError::LocallyClosed => {
            Closed::ByUs { code: CloseCode::Shutdown, reason: "agent is shutting down".into() }
        }
        ConnectionError::VersionMismatch
        | ConnectionError::TransportError(_)
        | ConnectionError::ConnectionClosed(_)
        | ConnectionError::CidsExhausted => Closed::Failed(error.to_string()),
    }
}

fn boxed((send, receive): (SendStream, RecvStream)) -> (BoxRead, BoxWrite) {
    (Box::new(receive), Box::new(QuicWriter { stream: send, finished: false }))
}

/// A writer whose stream breaks when it is dropped early: quinn alone would end it cleanly, and the peer would take
/// half a file for a whole one.
struct QuicWriter {
    stream: SendStream,
    finished: bool,
}

impl Drop for QuicWriter {
    fn drop(&mut self) {
        if !self.finished {
            // An error means that the stream has ended otherwise.
            let _ = self.stream.reset(BROKEN_STREAM.into());
        }
    }
}

impl AsyncWrite for QuicWriter {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        AsyncWrite::poll_write(Pin::new(&mut self.stream), cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_flush(Pin::new(&mut self.stream), cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.finished {
            return Poll::Ready(Ok(()));
        }
        let ended = AsyncWrite::poll_shutdown(Pin::new(&mut self.stream), cx);
        self.finished = matches!(ended, Poll::Ready(Ok(())));
        ended
    }
}
