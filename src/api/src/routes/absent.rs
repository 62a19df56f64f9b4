//! What this product does not have yet: answered as an empty or disabled Nomad answers where that is known, and with
//! 501 and a plain text otherwise. `docs/status.md` lists it all.

use serde_json::{Value, json};

use crate::{Api, Call, HttpError, Meta, Reply};

/// Answers paths of parts that are not there, and all others that there are not.
pub(crate) fn answer(api: &Api, call: &Call, family: &str, rest: Option<&str>) -> Result<Reply, HttpError> {
    match family {
        "vars" | "var" => variables(api, call, rest),
        "services" | "service" => services(api, call, rest),
        "volumes" | "volume" | "plugins" | "plugin" => volumes(api, call, family, rest),
        "acl" => acl(call, rest.unwrap_or_default()),
        "sentinel" | "quotas" | "quota" | "quota-usages" | "recommendation" | "recommendations" => {
            Err(enterprise())
        }
        _ => Err(HttpError::not_found("")),
    }
}

/// The answer of what only Nomad's paid edition has.
pub(crate) fn enterprise() -> HttpError {
    HttpError::new(501, "Nomad Enterprise only endpoint")
}

/// The answer of what is not there yet.
pub(crate) fn not_yet(what: &str) -> HttpError {
    HttpError::new(501, format!("{what} are not available in this version"))
}

/// Answers with an empty list, at the index of the state.
fn nothing(api: &Api, call: &Call) -> Result<Reply, HttpError> {
    call.query.wait()?;
    let index = api.require_server()?.snapshot().index();
    Reply::read(&Vec::<Value>::new(), Meta { index, next_token: None })
}

fn missing(api: &Api, text: &str) -> Result<Reply, HttpError> {
    Err(HttpError::not_found(text).at(api.require_server()?.snapshot().index()))
}

fn variables(api: &Api, call: &Call, path: Option<&str>) -> Result<Reply, HttpError> {
    match (path, call.is_read()) {
        (None, true) if call.path == "/vars" => nothing(api, call),
        (None | Some(""), _) => Err(HttpError::bad_request("missing variable path")),
        (Some(_), true) => missing(api, "variable not found"),
        (Some(_), false) => Err(not_yet("variables")),
    }
}

fn services(api: &Api, call: &Call, name: Option<&str>) -> Result<Reply, HttpError> {
    if !call.is_read() {
        return Err(not_yet("services"));
    }
    if name.is_some()
        && let Some(choose) = call.query.text("choose")
        && choose.split_once('|').is_none_or(|(count, _)| count.parse::<u32>().is_err())
    {
        let text = "failed to choose services: Parameter for choose must be in form '<number>|<key>'";
        return Err(HttpError::bad_request(text));
    }
    nothing(api, call)
}

fn volumes(api: &Api, call: &Call, family: &str, rest: Option<&str>) -> Result<Reply, HttpError> {
    if !call.is_read() {
        return Err(not_yet("volumes"));
    }
    match (family, rest) {
        ("volumes" | "plugins", None) => match (call.query.text("type"), family) {
            (None, _) => Reply::json(&Vec::<Value>::new()),
            (Some("csi"), "volumes") => Reply::read(&Vec::<Value>::new(), Meta::default()),
            (Some("csi"), _) | (Some("host"), "volumes") => nothing(api, call),
            (Some(_), _) => Err(HttpError::not_found("resource not found")),
        },
        ("volumes", Some("claims")) => nothing(api, call),
        ("plugin", Some(id)) if id.starts_with("csi/") => Err(HttpError::not_found("plugin not found").at(0)),
        ("volume", Some(id)) if id.starts_with("csi/") => Err(HttpError::not_found("volume not found").at(0)),
        ("volume", Some(id)) if id.starts_with("host/") => missing(api, "volume not found"),
        _ => Err(not_yet("volumes")),
    }
}

fn acl(call: &Call, path: &str) -> Result<Reply, HttpError> {
    match path {
        // What Nomad says of everyone while nobody is asked who they are.
        "token/self" if call.is_read() => {
            let token = json!({
                "ExpirationTTL": "", "AccessorID": "acls-disabled", "SecretID": "", "Name": "ACLs disabled token",
                "Type": "client", "Policies": null, "Roles": null, "Global": false, "Hash": null,
                "CreateTime": "0001-01-01T00:00:00Z", "ExpirationTime": null, "CreateIndex": 0, "ModifyIndex": 0,
            });
            Reply::read(&token, Meta::default())
        }
        "identity/client-introduction-token" => Err(not_yet("client introduction tokens")),
        _ => Err(HttpError::bad_request("ACL support disabled")),
    }
}
