//! What other agents open here, by plane.

use std::sync::Arc;

use join::Service;
use runtime::Env;
use tokio::sync::mpsc;
use transport::{Acceptor, CloseCode, Incoming, Opened, Plane, Stream};

use super::{joining::is_open, keyring, region::Region};

/// Serves every connection that other agents open, until the transport is closed. HTTP goes to `streams`.
pub async fn serve_all(region: Arc<Region>, mut acceptor: Acceptor, streams: mpsc::Sender<Stream>) {
    let env = region.env.clone();
    while let Some(opened) = acceptor.accept().await {
        let plane = opened.connection.plane();
        if !is_open(&region, plane) {
            opened.connection.close(CloseCode::Refused, "this agent is part of no region yet");
            continue;
        }
        region.peers.observe(&opened.connection);
        match (plane, region.server.clone()) {
            (Plane::Join, _) => region.service.serve(opened),
            (Plane::Raft, Some(server)) => {
                env.spawn("raft-connection", async move { server.serve_raft(opened).await });
            }
            (Plane::Node, Some(server)) => {
                let streams = streams.clone();
                env.spawn("node-session-server", async move { server.serve_node(opened, streams).await });
            }
            (Plane::Rpc | Plane::Federation, _) => {
                env.spawn("agent-requests", serve(region.clone(), opened, streams.clone()));
            }
            (Plane::Raft | Plane::Node, None) => {
                opened.connection.close(CloseCode::Refused, "this agent is no server");
            }
        }
    }
}

/// Serves a connection of the Rpc plane, or one of another region's server.
async fn serve(region: Arc<Region>, opened: Opened, streams: mpsc::Sender<Stream>) {
    let Opened { connection, mut inbound } = opened;
    while let Some(incoming) = inbound.next().await {
        match incoming {
            Incoming::Stream(stream) => {
                // Whoever serves streams is gone only when the agent stops.
                let _ = streams.send(stream).await;
            }
            Incoming::Request(request) if Service::takes(&request.body) => {
                let (service, connection) = (region.service.clone(), connection.clone());
                region.env.spawn("join-answer", async move { service.answer(&connection, request).await });
            }
            Incoming::Request(request) if keyring::takes(&request.body) => {
                let (region, connection) = (region.clone(), connection.clone());
                let env = region.env.clone();
                env.spawn(
                    "keyring-answer",
                    async move { keyring::answer(&region, &connection, request).await },
                );
            }
            Incoming::Request(request) => {
                let Some(server) = region.server.clone().filter(|_| connection.plane() == Plane::Rpc) else {
                    continue;
                };
                let peer = connection.peer().clone();
                // What it gives back is of a later version: dropped, the peer sees that it is not served.
                region.env.spawn("server-answer", async move {
                    drop(server.serve_rpc_request(&peer, request).await);
                });
            }
            Incoming::Datagram(_) => {}
        }
    }
}

/// Serves HTTP on the streams that other agents open.
pub async fn serve_streams(env: Env, api: api::Api, mut incoming: mpsc::Receiver<Stream>) {
    while let Some(stream) = incoming.recv().await {
        if &**stream.header() == api::HTTP_STREAM_HEADER {
            env.spawn("http-stream", api::serve_stream(api.clone(), stream));
        }
    }
}
