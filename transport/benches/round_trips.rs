//! Round trips and frames over loopback, both ends in this process.

#![allow(clippy::unwrap_used)]

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use divan::{Bencher, counter::ItemsCount};
use tokio::{
    runtime::Runtime,
    time::{Duration, Instant},
};
use transport::{
    Boot, Config, Connection, Credentials, EndpointSecret, Expect, Host, Identity, Inbound, Incoming, NodeId,
    Opened, Plane, RawConfig, Region, Role, TokioHost, Transport,
    framed::{FrameReader, FrameWriter},
    quic::Quic,
};

fn main() {
    divan::main();
}

struct Pair {
    runtime: Runtime,
    connection: Connection,
    _dialler: (Arc<Quic>, Inbound),
}

fn pair() -> Pair {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (connection, dialler) = runtime.block_on(async {
        let region = Region::new("bench").unwrap();
        let identity =
            Identity { role: Role::Server, region, node_id: NodeId([1; 16]), name: "bench".into() };
        let credentials = Credentials::ephemeral(identity, &TokioHost).unwrap();
        let bind = SocketAddr::from(([127, 0, 0, 1], 0));
        let start = || {
            let config = Config::check(bind, EndpointSecret::generate(), &RawConfig::default()).unwrap();
            Quic::bind(config, &credentials, Boot(1), Arc::new(TokioHost)).unwrap()
        };
        let (dialler, mut listener) = (start(), start());
        let addr = listener.transport.local_addr();
        let serve = async move {
            let _transport = listener.transport;
            while let Some(Opened { connection, inbound }) = listener.acceptor.accept().await {
                TokioHost.spawn("serve", Box::pin(serve(connection, inbound)));
            }
        };
        TokioHost.spawn("accept", Box::pin(serve));
        let opened = dialler.transport.dial(addr, Plane::Raft, Expect::Admitted).await.unwrap();
        (opened.connection, (dialler.transport, opened.inbound))
    });
    Pair { runtime, connection, _dialler: dialler }
}

/// Answers requests with what they ask, and streams with one frame when they end.
async fn serve(_connection: Connection, mut inbound: Inbound) {
    while let Some(incoming) = inbound.next().await {
        match incoming {
            Incoming::Request(request) => drop(request.reply.send(request.body).await),
            Incoming::Stream(stream) => {
                let (reader, writer) = stream.into_split();
                let count = async move {
                    let mut reader = FrameReader::new(reader, 1 << 20);
                    while let Ok(Some(_)) = reader.next().await {}
                    let mut writer = FrameWriter::new(writer, 1);
                    writer.push(Bytes::new()).unwrap();
                    drop(writer.finish().await);
                };
                TokioHost.spawn("count", Box::pin(count));
            }
            Incoming::Datagram(_) => {}
        }
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

#[divan::bench(args = [100, 10_000])]
fn one_request(bencher: Bencher, len: usize) {
    let pair = pair();
    let body = Bytes::from(vec![7; len]);
    bencher.bench_local(|| pair.runtime.block_on(pair.connection.request(body.clone(), soon())).unwrap());
}

#[divan::bench(args = [1, 64, 512], sample_count = 20)]
fn requests_in_flight(bencher: Bencher, at_once: usize) {
    const ASKED: usize = 5_120;
    let pair = pair();
    let body = Bytes::from(vec![7; 256]);
    bencher.counter(ItemsCount::new(ASKED)).bench_local(|| {
        pair.runtime.block_on(async {
            let ask = || async {
                for _ in 0..ASKED / at_once {
                    pair.connection.request(body.clone(), soon()).await.unwrap();
                }
            };
            futures_util::future::join_all((0..at_once).map(|_| ask())).await;
        });
    });
}

#[divan::bench(args = [64, 512, 16_384], sample_count = 20)]
fn frames_on_one_stream(bencher: Bencher, len: usize) {
    const FRAMES: usize = 20_000;
    let pair = pair();
    let frame = Bytes::from(vec![7; len]);
    bencher.counter(ItemsCount::new(FRAMES)).bench_local(|| {
        pair.runtime.block_on(async {
            let stream = pair.connection.open_stream("frames".into(), soon()).await.unwrap();
            let (reader, writer) = stream.into_split();
            let mut writer = FrameWriter::new(writer, 1 << 20);
            for _ in 0..FRAMES {
                writer.push(frame.clone()).unwrap();
                if writer.waiting() > 128 * 1024 {
                    writer.flush().await.unwrap();
                }
            }
            writer.finish().await.unwrap();
            FrameReader::new(reader, 1).next().await.unwrap();
        });
    });
}
