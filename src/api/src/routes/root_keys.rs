//! `/v1/operator/keyring/...` and `/.well-known/jwks.json`: the keys of the region.

use api_types::RootKeyMeta;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderValue, Method, header};
use model::RootKey;
use serde_json::{Value, json};
use server::Watch;
use state::Table;

use super::nodes::require_read;
use crate::{Api, Call, HttpError, Meta, Reply};

/// How long readers may keep the public keys: a key that signs is always among those that were there an hour before, or
/// was just made because somebody asked for it.
const CACHE_CONTROL: &str = "max-age=3600";

/// Answers what follows `/v1/operator/keyring/`.
pub(crate) async fn answer(api: &Api, call: &Call, rest: &str) -> Result<Reply, HttpError> {
    match rest {
        "keys" => {
            require_read(call)?;
            list(api, call).await
        }
        "rotate" if call.method == Method::PUT => {
            let (key, index) = api.require_server()?.rotate_root_key().await?;
            Reply::written(&json!({ "Index": index, "Key": RootKeyMeta::of(&key) }), index)
        }
        "rotate" => Err(HttpError::invalid_method()),
        _ => match rest.strip_prefix("key/") {
            Some(id) if call.method == Method::DELETE => {
                let id = id.parse().map_err(|_| HttpError::internal("root key not found"))?;
                Ok(Reply::done(api.require_server()?.delete_root_key(id).await?))
            }
            Some(_) => Err(HttpError::invalid_method()),
            None => Err(HttpError::not_found("")),
        },
    }
}

async fn list(api: &Api, call: &Call) -> Result<Reply, HttpError> {
    let (index, keys) = api
        .read(call, &[Watch::Table(Table::RootKeys)], |state| {
            let mut keys: Vec<_> = state.root_keys().collect();
            keys.sort_by_key(|key| key.create_index);
            let keys: Vec<_> = keys.into_iter().map(|key| RootKeyMeta::of(key)).collect();
            Ok((state.table_index(Table::RootKeys), keys))
        })
        .await?;
    Reply::read(&keys, Meta { index, next_token: None })
}

/// Answers `/.well-known/jwks.json`: whatever the region signed can be checked with one of these.
pub(crate) fn jwks(api: &Api) -> Result<Reply, HttpError> {
    let snapshot = api.require_server()?.snapshot();
    let keys: Vec<Value> = snapshot.root_keys().map(|key| jwk(key)).collect();
    let meta = Meta { index: snapshot.table_index(Table::RootKeys), next_token: None };
    let mut response = Reply::read(&json!({ "keys": keys }), meta)?.into_response(false);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static(CACHE_CONTROL));
    Ok(Reply::Raw(response))
}

fn jwk(key: &RootKey) -> Value {
    json!({
        "use": "sig", "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "kid": key.id,
        "x": URL_SAFE_NO_PAD.encode(server::public_signing_key(key)),
    })
}
