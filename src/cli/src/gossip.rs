//! The keys of gossip: `operator gossip keyring ...`.

use ring::rand::SecureRandom;
use sdk::{RequestError, types::KeyringResponse};
use serde_json::json;

use crate::{
    command::{Command, Context, Failure, JSON, Outcome, TEMPLATE, VERBOSE, command},
    format, template,
};

/// The commands of this file.
pub const COMMANDS: &[Command] = &[
    command!(
        "operator gossip keyring generate"["operator keygen", "keygen"],
        "",
        "Print a new key for gossip.",
        &[],
        generate
    ),
    command!(
        "operator gossip keyring list",
        "[options]",
        "List the keys of gossip.",
        &[VERBOSE, JSON, TEMPLATE],
        list
    ),
    command!(
        "operator gossip keyring install",
        "<key>",
        "Give a key to every member, which accept it from then on.",
        &[],
        install
    ),
    command!("operator gossip keyring use", "<key>", "Let every member seal with a key.", &[], set_primary),
    command!(
        "operator gossip keyring remove",
        "<key>",
        "Take a key from every member, which accept it no longer.",
        &[],
        remove
    ),
];

async fn generate(context: &Context) -> Outcome {
    context.no_args()?;
    let mut key = [0; 32];
    ring::rand::SystemRandom::new().fill(&mut key).map_err(|_| Failure::new("Error reading random data"))?;
    context.console.out(&sdk::base64(&key));
    Ok(0)
}

/// Tells what the members answered; those that could not do it are named.
fn answered(
    context: &Context,
    answer: Result<KeyringResponse, RequestError>,
) -> Result<KeyringResponse, Failure> {
    let report = answer.map_err(|error| Failure::new(format!("error: {error}")))?;
    for (member, message) in &report.messages {
        context.console.err(&format!("{member}: {message}"));
    }
    match report.messages.len() {
        0 => Ok(report),
        failed => Err(Failure::new(format!(
            "error: {failed} of {} members could not do it; the others have: try again when they are back",
            report.num_nodes
        ))),
    }
}

async fn list(context: &Context) -> Outcome {
    context.no_args()?;
    let formatted = template::check(context)?;
    if !formatted {
        context.console.out("Gathering installed encryption keys...");
    }
    let report = answered(context, context.client().keyring().await)?;
    if template::print(context, || json!(report))? {
        return Ok(0);
    }
    let full = context.on("verbose");
    let row = |(key, count): (&String, &u64)| {
        let mut row = vec![key.clone()];
        if full {
            row.push(format!("{count}/{}", report.num_nodes));
            row.push(format!("{}/{}", report.primary_keys.get(key).unwrap_or(&0), report.num_nodes));
        }
        row
    };
    let rows: Vec<_> = report.keys.iter().map(row).collect();
    let header: &[&str] = if full { &["Key", "Members", "Primary On"] } else { &["Key"] };
    context.console.out(&format::table(header, &rows));
    Ok(0)
}

async fn change(context: &Context, verb: &str, doing: &str) -> Outcome {
    let key = context.one_arg("<key>")?;
    context.console.out(doing);
    answered(context, context.client().change_keyring(verb, key).await)?;
    Ok(0)
}

async fn install(context: &Context) -> Outcome {
    change(context, "install", "Installing new gossip encryption key...").await
}

async fn set_primary(context: &Context) -> Outcome {
    change(context, "use", "Changing primary gossip encryption key...").await
}

async fn remove(context: &Context) -> Outcome {
    change(context, "remove", "Removing gossip encryption key...").await
}
