//! Entries on their way to one other server: many messages under way, answered in order.

use futures_util::{
    Stream, StreamExt,
    future::BoxFuture,
    stream::{BoxStream, FuturesOrdered, unfold},
};
use openraft::{
    error::RPCError,
    network::RPCOption,
    raft::{AppendEntriesRequest, AppendEntriesResponse, StreamAppendError, StreamAppendResult},
};

use super::{Link, RpcKind};
use crate::types::{LogId, Types, entry_weight};

/// Messages under way to one server. On a fast link a handful is enough to keep its disk busy; a far one needs more.
const UNDER_WAY_MAX: usize = 64;
/// Bytes under way to one server; a message on its own may be larger.
const UNDER_WAY_BYTES_MAX: usize = 8 << 20;

type Answer = Result<StreamAppendResult<Types>, RPCError<Types>>;

struct Sent {
    weight: usize,
    first: Option<LogId>,
    last: Option<LogId>,
    answer: Result<AppendEntriesResponse<Types>, RPCError<Types>>,
}

struct Pipeline<'s, S> {
    link: &'s Link,
    input: Option<S>,
    option: RPCOption,
    under_way: FuturesOrdered<BoxFuture<'s, Sent>>,
    bytes: usize,
    began: bool,
}

/// Sends what comes and returns the answers, in the order of what was sent. Ends after the first that is no success.
pub(super) fn answers<'s, S>(link: &'s Link, input: S, option: RPCOption) -> BoxStream<'s, Answer>
where
    S: Stream<Item = AppendEntriesRequest<Types>> + Send + Unpin + 'static,
{
    let under_way = FuturesOrdered::new();
    let pipeline = Pipeline { link, input: Some(input), option, under_way, bytes: 0, began: false };
    Box::pin(unfold(Some(pipeline), |pipeline| async move {
        let mut pipeline = pipeline?;
        let sent = pipeline.next().await?;
        let (answer, goes_on) = judge(sent);
        Some((answer, goes_on.then_some(pipeline)))
    }))
}

impl<S> Pipeline<'_, S>
where
    S: Stream<Item = AppendEntriesRequest<Types>> + Send + Unpin + 'static,
{
    /// Waits for the next answer and sends what comes meanwhile.
    async fn next(&mut self) -> Option<Sent> {
        loop {
            let room = self.under_way.len() < UNDER_WAY_MAX && self.bytes < UNDER_WAY_BYTES_MAX;
            let request = tokio::select! {
                biased;
                Some(sent) = self.under_way.next(), if !self.under_way.is_empty() => {
                    self.bytes -= sent.weight;
                    return Some(sent);
                }
                request = next_of(&mut self.input), if room && self.input.is_some() => request,
                else => return None,
            };
            match request {
                Some(request) => self.send(request),
                None => self.input = None,
            }
        }
    }

    fn send(&mut self, request: AppendEntriesRequest<Types>) {
        let (link, option) = (self.link, self.option.clone());
        // What opens a stream without entries is a sign of life or a question; later such messages carry a commit that
        // must not arrive before its entries.
        let alone = !std::mem::replace(&mut self.began, true) && request.entries.is_empty();
        let kind = if alone { RpcKind::Heartbeat } else { RpcKind::Append };
        let weight = request.entries.iter().map(entry_weight).sum();
        self.bytes += weight;
        self.under_way.push_back(Box::pin(async move {
            let first = request.prev_log_id;
            let last = request.entries.last().map(|entry| entry.log_id).or(first);
            let answer = link.append(kind, &request, &option).await;
            Sent { weight, first, last, answer }
        }));
    }
}

async fn next_of<S: Stream + Unpin>(input: &mut Option<S>) -> Option<S::Item> {
    match input {
        Some(input) => input.next().await,
        None => std::future::pending().await,
    }
}

/// Says what an answer means, and whether those behind it still count.
fn judge(sent: Sent) -> (Answer, bool) {
    match sent.answer {
        Ok(AppendEntriesResponse::Success) => (Ok(Ok(sent.last)), true),
        Ok(AppendEntriesResponse::PartialSuccess(up_to)) => (Ok(Ok(up_to)), up_to == sent.last),
        Ok(AppendEntriesResponse::HigherVote(vote)) => (Ok(Err(StreamAppendError::HigherVote(vote))), false),
        Ok(AppendEntriesResponse::Conflict) => match sent.first {
            Some(first) => (Ok(Err(StreamAppendError::Conflict(first))), false),
            // An empty log conflicts with nothing, so this peer does not speak as a server of ours does.
            None => {
                let what = std::io::Error::other("a conflict was reported where nothing can conflict");
                (Err(RPCError::Network(openraft::error::NetworkError::new(&what))), false)
            }
        },
        Err(error) => (Err(error), false),
    }
}
