//! `/v1/agent/join-token...` and `/v1/agent/join-settings`: who may join. Nomad has none of these.

use std::time::Duration;

use api_types::{JoinSettings, JoinToken, JoinTokenRequest, JoinTrust, TrustedAuthority};
use http::Method;

use crate::{
    Api, Call, HttpError, Membership, Reply, TokenRole, TokenState, TokenWish, call::parse_duration,
};

/// How long a token is good for unless told otherwise.
const TTL: Duration = Duration::from_secs(3_600);
/// The longest: a token is meant for a machine that is about to join.
const TTL_MAX: Duration = Duration::from_secs(30 * 24 * 3_600);

/// Answers `join-token`, `join-tokens`, `join-token/<id>` and `join-settings` under `/v1/agent/`.
pub(crate) async fn answer(api: &Api, call: &Call, rest: &str) -> Result<Reply, HttpError> {
    let alone = || HttpError::new(501, "this agent is a region of one: nobody can join it");
    let membership = api.membership().ok_or_else(alone)?;
    match (rest, rest.strip_prefix("join-token/")) {
        ("join-tokens", _) => {
            call.require_read()?;
            let tokens = membership.tokens().await?;
            let tokens: Vec<_> = tokens.into_iter().map(|token| shape(token, String::new())).collect();
            Reply::json(&tokens)
        }
        ("join-token", _) => {
            call.require_put()?;
            let made = membership.create_token(wish(&call.json_or_default()?)?).await?;
            Reply::json(&shape(made.row, made.secret))
        }
        ("join-settings", _) if call.is_read() => Reply::json(&trust(membership.as_ref())),
        ("join-settings", _) => {
            call.require_put()?;
            membership.require_token(call.json::<JoinSettings>()?.require_token).await?;
            Ok(Reply::empty())
        }
        (_, Some(id)) if !id.is_empty() => {
            if call.method != Method::DELETE {
                return Err(HttpError::invalid_method());
            }
            membership.revoke_token(id.to_owned()).await?;
            Ok(Reply::empty())
        }
        _ => Err(HttpError::not_found("")),
    }
}

fn wish(request: &JoinTokenRequest) -> Result<TokenWish, HttpError> {
    let role = match request.role.as_str() {
        "client" | "" => TokenRole::Client,
        "server" => TokenRole::Server,
        "region" => TokenRole::Region,
        other => {
            return Err(HttpError::bad_request(format!(
                "unknown role {other:?}: use \"client\", \"server\" or \"region\""
            )));
        }
    };
    let ttl = match request.ttl.as_str() {
        "" => TTL,
        text => parse_duration(text).filter(|ttl| !ttl.is_zero()).ok_or_else(|| {
            HttpError::bad_request(format!(
                "{text:?} is no time for which a token can be good: use e.g. \"1h\""
            ))
        })?,
    };
    if ttl > TTL_MAX {
        let text = "a token is good for 30 days (720h) at most: make it when the machine is about to join";
        return Err(HttpError::bad_request(text));
    }
    Ok(TokenWish { role, ttl })
}

fn shape(token: crate::JoinToken, secret: String) -> JoinToken {
    let (status, used_by) = match token.state {
        TokenState::Open => ("open", String::new()),
        TokenState::Used { by } => ("used", by.to_string()),
        TokenState::Expired => ("expired", String::new()),
    };
    JoinToken {
        created: token.created.into(),
        expires: token.expires.into(),
        id: token.id,
        role: token.role.word().to_owned(),
        status: status.to_owned(),
        token: secret,
        used_by,
    }
}

fn trust(membership: &dyn Membership) -> JoinTrust {
    let trust = membership.trust();
    let authority = |found: crate::TrustedAuthority| TrustedAuthority {
        fingerprint: found.fingerprint,
        region: found.region,
    };
    JoinTrust {
        authorities: trust.authorities.into_iter().map(authority).collect(),
        encrypted: trust.encrypted,
        require_token: trust.token_required,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(role: &str, ttl: &str) -> Result<TokenWish, String> {
        let request = JoinTokenRequest { role: role.to_owned(), ttl: ttl.to_owned() };
        wish(&request).map_err(|error| error.message)
    }

    #[test]
    fn wishes_for_tokens_are_checked() {
        assert_eq!(ask("", ""), Ok(TokenWish { role: TokenRole::Client, ttl: TTL }));
        let ttl = Duration::from_secs(600);
        assert_eq!(ask("server", "10m"), Ok(TokenWish { role: TokenRole::Server, ttl }));
        assert!(ask("king", "").expect_err("no role").contains("\"server\""));
        for wrong in ["0s", "soon", "-1h", "1000h"] {
            assert!(ask("client", wrong).is_err(), "{wrong}");
        }
    }
}
