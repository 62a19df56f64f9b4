//! Who may join: `server token ...`.

use sdk::types::{JoinToken, JoinTokenRequest};
use serde_json::json;

use crate::{
    command::{Command, Context, Failure, JSON, OrFail, Outcome, TEMPLATE, command},
    flags::{Kind, flag},
    format, template,
};

/// The commands of this file.
pub const COMMANDS: &[Command] = &[
    command!(
        "server token create",
        "[options]",
        "Make a token with which one agent may join.",
        &[
            flag(
                "role",
                Kind::Text,
                "`client` (default), `server`, or `region` for the servers of another one."
            ),
            flag("ttl", Kind::Text, "For how long it is good, e.g. 30m; 1h unless set."),
            flag("quiet", Kind::Bool, "Print the token alone."),
            JSON,
            TEMPLATE,
        ],
        create
    ),
    command!("server token list", "[options]", "List tokens for joining.", &[JSON, TEMPLATE], list),
    command!("server token revoke", "<id>", "Make a token worthless.", &[], revoke),
    command!(
        "server token require",
        "[options]",
        "Let agents join with a token or a certificate only.",
        &[flag("off", Kind::Bool, "Let the gossip key, or where there is none trust, be enough again.")],
        require
    ),
];

async fn create(context: &Context) -> Outcome {
    context.no_args()?;
    template::check(context)?;
    let role = match context.text("role") {
        "" => "client",
        role => role,
    };
    let request = JoinTokenRequest { role: role.to_owned(), ttl: context.text("ttl").to_owned() };
    let made = context.client().create_join_token(&request).await.or_fail("Error creating join token")?;
    if template::print(context, || json!(made))? {
        return Ok(0);
    }
    if context.on("quiet") {
        context.console.out(&made.token);
        return Ok(0);
    }
    let facts = [
        ("Token", made.token.clone()),
        ("ID", made.id.clone()),
        ("Role", made.role.clone()),
        ("Expires", format::time(made.expires.nanos())),
    ];
    context.console.out(&format::pairs(&facts));
    let program = &context.program;
    context.console.err(&match made.role.as_str() {
        "region" => format!(
            "\nThe token is not shown again. Give it to a server of the other region as join_token, then there:\n  {program} server join <address of a server of this region>"
        ),
        role => format!(
            "\nThe token is not shown again. On the machine that joins:\n  {program} agent -{role} -join <address of any agent> -token {}",
            made.token
        ),
    });
    Ok(0)
}

async fn list(context: &Context) -> Outcome {
    context.no_args()?;
    template::check(context)?;
    let tokens = context.client().join_tokens().await.or_fail("Error listing join tokens")?;
    if template::print(context, || json!(tokens))? {
        return Ok(0);
    }
    if tokens.is_empty() {
        context.console.out("No join tokens");
        return Ok(0);
    }
    let row = |token: &JoinToken| {
        vec![
            token.id.clone(),
            token.role.clone(),
            token.status.clone(),
            format::time(token.created.nanos()),
            format::time(token.expires.nanos()),
            token.used_by.clone(),
        ]
    };
    let rows: Vec<_> = tokens.iter().map(row).collect();
    context.console.out(&format::table(&["ID", "Role", "Status", "Created", "Expires", "Used By"], &rows));
    Ok(0)
}

async fn revoke(context: &Context) -> Outcome {
    let id = context.one_arg("<id>")?;
    context.client().revoke_join_token(id).await.or_fail("Error revoking join token")?;
    context.console.out(&format!("Join token {} is revoked", format::quoted(id)));
    Ok(0)
}

async fn require(context: &Context) -> Outcome {
    context.no_args()?;
    let (client, required) = (context.client(), !context.on("off"));
    client.require_join_token(required).await.or_fail("Error changing what joining demands")?;
    let trust = client.join_trust().await.or_fail("Error reading what joining demands")?;
    if trust.require_token != required {
        return Err(Failure::new("The setting was changed by someone else meanwhile; try again"));
    }
    context.console.out(match (required, trust.encrypted) {
        (true, _) => "Joining demands a token or a certificate from here on",
        (false, true) => "Agents may join with the key of gossip",
        (false, false) => "Agents may join without anything: whoever reaches a server becomes a member",
    });
    Ok(0)
}
