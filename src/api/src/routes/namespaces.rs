//! `/v1/namespaces`, `/v1/namespace` and `/v1/namespace/:name`.

use std::sync::Arc;

use api_types::Namespace as Shape;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::Method;
use model::Namespace;
use server::Watch;
use sha2::{Digest, Sha256};
use state::Table;

use crate::{
    Api, Call, HttpError, Meta, Reply,
    call::decode,
    paging::{Paging, Position},
};

/// Answers `GET /v1/namespaces`.
pub(crate) async fn list(api: &Api, call: &Call) -> Result<Reply, HttpError> {
    call.require_read()?;
    let paging = Paging::of(&call.query)?;
    let prefix = call.query.text("prefix").unwrap_or_default();
    let (index, (lines, next_token)) = api
        .read(call, &[Watch::Table(Table::Namespaces)], |state| {
            let rows = state.namespaces().filter(|namespace| namespace.name.starts_with(prefix));
            let position = |namespace: &&Arc<Namespace>| Position::Id(namespace.name.to_string());
            Ok((
                state.table_index(Table::Namespaces),
                paging.shapes(rows, position, |namespace| shape(namespace)),
            ))
        })
        .await?;
    Reply::read(&lines, Meta { index, next_token })
}

/// Answers `/v1/namespace` and `/v1/namespace/:name`.
pub(crate) async fn single(api: &Api, call: &Call, rest: &str) -> Result<Reply, HttpError> {
    let name = decode(rest, false);
    match call.method {
        Method::PUT => put(api, call, &name).await,
        Method::GET | Method::HEAD if !name.is_empty() => get(api, call, &name).await,
        Method::DELETE if !name.is_empty() => {
            Ok(Reply::done(api.require_server()?.delete_namespace(name.into()).await?))
        }
        _ => Err(HttpError::invalid_method()),
    }
}

async fn get(api: &Api, call: &Call, name: &str) -> Result<Reply, HttpError> {
    let (index, namespace) = api
        .find(call, &[Watch::Table(Table::Namespaces)], "Namespace not found", |state| {
            let namespace = state.namespace(name).cloned();
            let table = state.table_index(Table::Namespaces);
            Ok((namespace.as_ref().map_or(table, |found| found.modify_index), namespace))
        })
        .await?;
    Reply::read(&shape(&namespace), Meta { index, next_token: None })
}

async fn put(api: &Api, call: &Call, name: &str) -> Result<Reply, HttpError> {
    let mut namespace: Shape = call.json_of("structs.Namespace")?;
    if namespace.name.is_empty() {
        name.clone_into(&mut namespace.name);
    }
    if !name.is_empty() && namespace.name != name {
        return Err(HttpError::bad_request("Namespace name does not match request path"));
    }
    Ok(Reply::done(api.require_server()?.upsert_namespace(namespace.to_model()).await?))
}

fn shape(namespace: &Namespace) -> Shape {
    let content = Namespace { create_index: 0, modify_index: 0, ..namespace.clone() };
    Shape::of(namespace, hash(&content))
}

/// Returns a hash of what someone set, in base64.
pub(crate) fn hash<T: serde::Serialize>(content: &T) -> String {
    STANDARD.encode(Sha256::digest(serde_json::to_vec(content).unwrap_or_default()))
}
