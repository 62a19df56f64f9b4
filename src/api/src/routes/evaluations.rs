//! `/v1/evaluations`, `/v1/evaluations/count`, `/v1/evaluation/:id` and its allocations.

use std::{collections::BTreeMap, sync::Arc};

use api_types::{EvalCountResponse, EvalDeleteRequest, EvalDeleteResponse, Evaluation as Shape, StubFields};
use http::Method;
use model::{EvalId, Evaluation};
use server::Watch;
use state::{Snapshot, Table};

use super::allocations::write_list;
use super::exhausted::shape;
use crate::{
    Api, Call, HttpError, Meta, Query, Reply, ids,
    paging::{Paging, Position},
};

/// Evaluations that are told as related to one; chains are shorter unless something keeps failing.
const RELATED_MAX: usize = 100;

/// Evaluations that one request may delete: their ids fill a message of the size that servers pass on.
const DELETED_MAX: usize = 7_281;

/// Answers what follows `/v1/evaluations`.
pub(crate) async fn collection(api: &Api, call: &Call, rest: &str) -> Result<Reply, HttpError> {
    match rest {
        "" if call.method == Method::DELETE => delete(api, call).await,
        "" => {
            call.require_read()?;
            list(api, call).await
        }
        "count" => {
            call.require_read()?;
            count(api, call).await
        }
        _ => Err(HttpError::not_found("")),
    }
}

/// Answers what follows `/v1/evaluation/`.
pub(crate) async fn single(api: &Api, call: &Call, rest: &str) -> Result<Reply, HttpError> {
    call.require_read()?;
    match rest.split_once('/') {
        None => one(api, call, ids::id("eval", rest)?).await,
        Some((id, "allocations")) => allocations(api, call, ids::id("eval", id)?).await,
        Some(_) => Err(HttpError::not_found("")),
    }
}

async fn list(api: &Api, call: &Call) -> Result<Reply, HttpError> {
    call.query.wait()?;
    let by_field = call.query.text("status").is_some() || call.query.text("job").is_some();
    if by_field && call.query.text("filter").is_some() {
        return Err(HttpError::bad_request("Filter expression cannot be used with other filter parameters"));
    }
    let paging = Paging::of(&call.query)?;
    let wanted = Wanted::of(call)?;
    let (index, (lines, next_token)) = api
        .read(call, &[Watch::Table(Table::Evals)], |state| {
            let rows = wanted.rows(state, paging.reverse);
            let page = paging.shapes(rows, |eval| wanted.position(eval), |eval| Shape::of(eval));
            Ok((state.table_index(Table::Evals), page))
        })
        .await?;
    Reply::read(&lines, Meta { index, next_token })
}

/// Which evaluations a list is about.
struct Wanted<'a> {
    namespace: Option<&'a str>,
    prefix: Option<state::IdPrefix>,
    query: &'a Query,
}

impl<'a> Wanted<'a> {
    fn of(call: &'a Call) -> Result<Self, HttpError> {
        let prefix = call.query.text("prefix").map(|text| ids::prefix("eval", text)).transpose()?;
        Ok(Self { namespace: call.list_namespace(), prefix, query: &call.query })
    }

    fn rows<'s>(
        &'s self,
        state: &'s Snapshot,
        reverse: bool,
    ) -> Box<dyn Iterator<Item = &'s Arc<Evaluation>> + 's> {
        let table = state.eval_table();
        let rows: Box<dyn Iterator<Item = &Arc<Evaluation>>> = match (&self.prefix, reverse) {
            (Some(prefix), false) => Box::new(table.iter_by_prefix(prefix)),
            (Some(prefix), true) => Box::new(table.iter_by_prefix(prefix).rev()),
            (None, false) => Box::new(table.iter()),
            (None, true) => Box::new(table.iter().rev()),
        };
        let (status, job) = (self.query.text("status"), self.query.text("job"));
        Box::new(rows.filter(move |eval| {
            self.namespace.is_none_or(|namespace| eval.job.namespace == namespace)
                && status.is_none_or(|status| eval.status.as_str() == status)
                && job.is_none_or(|job| eval.job.id == job)
        }))
    }

    fn position(&self, eval: &Evaluation) -> Position {
        match self.prefix {
            Some(_) => Position::Id(eval.id.to_string()),
            None => Position::Created(eval.create_index, eval.id.to_string()),
        }
    }
}

async fn count(api: &Api, call: &Call) -> Result<Reply, HttpError> {
    let paging = Paging::of(&call.query)?;
    let wanted = Wanted::of(call)?;
    let (index, count) = api
        .read(call, &[Watch::Table(Table::Evals)], |state| {
            let mut count = 0;
            let row = |eval: &&Arc<Evaluation>, _: &crate::filter::Filter| {
                serde_json::to_value(Shape::of(eval)).unwrap_or_default()
            };
            paging.select(wanted.rows(state, false), |eval| wanted.position(eval), row, |_| count += 1);
            Ok((state.table_index(Table::Evals), count))
        })
        .await?;
    let response = EvalCountResponse { count, index, known_leader: true, ..EvalCountResponse::default() };
    Reply::read(&response, Meta { index, next_token: None })
}

async fn one(api: &Api, call: &Call, id: EvalId) -> Result<Reply, HttpError> {
    let related = call.query.switch("related")?.unwrap_or(false);
    let (index, eval) = api
        .find(call, &[Watch::Eval(id)], "eval not found", |state| {
            let eval = state.eval(id);
            let index = eval.map_or(state.table_index(Table::Evals), |eval| eval.modify_index);
            let shape = eval.map(|eval| match related {
                true => shape(state, eval).with_related(related_to(state, eval).iter().map(Arc::as_ref)),
                false => shape(state, eval),
            });
            Ok((index, shape))
        })
        .await?;
    Reply::read(&eval, Meta { index, next_token: None })
}

/// Finds the evaluations that one is linked with, directly or through others.
fn related_to(state: &Snapshot, eval: &Evaluation) -> Vec<Arc<Evaluation>> {
    let links = |eval: &Evaluation| -> Vec<EvalId> {
        let single = [eval.next_eval, eval.previous_eval, eval.blocked_eval];
        single.into_iter().flatten().chain(eval.related.iter().copied()).collect()
    };
    let mut found: BTreeMap<EvalId, Arc<Evaluation>> = BTreeMap::new();
    let mut open = links(eval);
    while let Some(id) = open.pop() {
        if id == eval.id || found.contains_key(&id) || found.len() >= RELATED_MAX {
            continue;
        }
        if let Some(linked) = state.eval(id) {
            open.extend(links(linked));
            found.insert(id, linked.clone());
        }
    }
    found.into_values().collect()
}

async fn allocations(api: &Api, call: &Call, id: EvalId) -> Result<Reply, HttpError> {
    let (index, body) = api
        .read(call, &[Watch::Table(Table::Allocs)], |state| {
            let mut allocs: Vec<_> = state.allocs_by_eval(id).collect();
            allocs.sort_unstable_by_key(|alloc| alloc.id);
            Ok((state.table_index(Table::Allocs), write_list(state, allocs, StubFields::default())))
        })
        .await?;
    Ok(Reply::read_encoded(body, Meta { index, next_token: None }))
}

async fn delete(api: &Api, call: &Call) -> Result<Reply, HttpError> {
    let server = api.require_server()?;
    let request: EvalDeleteRequest = call.json_of("structs.EvalDeleteRequest")?;
    let ids: Vec<EvalId> = match (request.eval_ids.is_empty(), request.filter.is_empty()) {
        (true, true) => return Err(HttpError::bad_request("evals must be deleted by either ID or filter")),
        (false, false) => {
            return Err(HttpError::bad_request("evals cannot be deleted by both ID and filter"));
        }
        (false, true) => request.eval_ids.iter().map(|id| ids::id("eval", id)).collect::<Result<_, _>>()?,
        (true, false) => filtered(call, &server.snapshot(), &request.filter)?,
    };
    if ids.len() > DELETED_MAX {
        let text = format!("request includes {} evaluation IDs, must be {DELETED_MAX} or fewer", ids.len());
        return Err(HttpError::bad_request(text));
    }
    let (count, index) = server.delete_evals(ids).await?;
    Reply::written(&EvalDeleteResponse { count: count as u64, index }, index)
}

fn filtered(call: &Call, state: &Snapshot, filter: &str) -> Result<Vec<EvalId>, HttpError> {
    let filter = crate::filter::Filter::parse(filter)
        .map_err(|error| HttpError::bad_request(format!("failed to read filter expression: {error}")))?;
    let namespace = call.list_namespace();
    let evals =
        state.evals().filter(|eval| namespace.is_none_or(|namespace| eval.job.namespace == namespace));
    let matching =
        evals.filter(|eval| filter.matches(&serde_json::to_value(Shape::of(eval)).unwrap_or_default()));
    Ok(matching.map(|eval| eval.id).take(DELETED_MAX).collect())
}
