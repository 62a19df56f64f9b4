//! `/v1/status/leader` and `/v1/status/peers`.

use super::members::rpc_addr;
use crate::{Api, Call, HttpError, Reply};

/// Answers what follows `/v1/status/`.
pub(crate) fn answer(api: &Api, call: &Call, rest: &str) -> Result<Reply, HttpError> {
    call.require_read()?;
    call.query.wait()?;
    let server = api.require_server()?;
    match rest {
        "leader" => Reply::json(
            &server.raft().leader().map(|leader| rpc_addr(&leader).to_owned()).unwrap_or_default(),
        ),
        "peers" => {
            let mut peers: Vec<String> =
                server.raft().members().peers.values().map(|peer| rpc_addr(peer).to_owned()).collect();
            peers.sort_unstable();
            Reply::json(&peers)
        }
        _ => Err(HttpError::not_found("")),
    }
}
