//! The keys of the region: `operator root keyring ...`.

use sdk::{
    Query,
    types::{RootKeyMeta, Time},
};
use serde_json::json;

use crate::{
    command::{Command, Context, Failure, JSON, OrFail, Outcome, TEMPLATE, VERBOSE, command},
    flags::{Kind, flag},
    format, template,
};

/// Characters of a short id.
const SHORT: usize = 8;

/// The commands of this file.
pub const COMMANDS: &[Command] = &[
    command!(
        "operator root keyring list",
        "[options]",
        "List the keys of the region.",
        &[VERBOSE, JSON, TEMPLATE],
        list
    ),
    command!(
        "operator root keyring rotate",
        "[options]",
        "Put a new key of the region into use.",
        &[
            flag("now", Kind::Bool, "The new key is in use at once."),
            flag("prepublish", Kind::Text, "Publish the key for this long before it is used; not done here."),
            flag("full", Kind::Bool, "Encrypt everything anew; there is nothing to encrypt yet."),
            VERBOSE,
        ],
        rotate
    ),
    command!(
        "operator root keyring remove",
        "[options] <key id>",
        "Remove a key of the region that is not in use.",
        &[flag("force", Kind::Bool, "Even when something was made with it.")],
        remove
    ),
];

async fn keys(context: &Context) -> Result<Vec<RootKeyMeta>, Failure> {
    let path = "/v1/operator/keyring/keys";
    context.client().get(path, &Query::default()).await.map(|(keys, _)| keys).or_fail("error")
}

fn print(context: &Context, keys: &[RootKeyMeta]) {
    let length = if context.on("verbose") { usize::MAX } else { SHORT };
    let row = |key: &RootKeyMeta| {
        let published = if key.publish_time == 0 { "<none>".to_owned() } else { time(key.publish_time) };
        vec![key.key_id.chars().take(length).collect(), key.state.clone(), time(key.create_time), published]
    };
    let rows: Vec<_> = keys.iter().map(row).collect();
    context.console.out(&format::table(&["Key", "State", "Create Time", "Publish Time"], &rows));
}

fn time(nanos: i64) -> String {
    Time(nanos - nanos.rem_euclid(1_000_000_000)).to_string()
}

async fn list(context: &Context) -> Outcome {
    context.no_args()?;
    template::check(context)?;
    let keys = keys(context).await?;
    if !template::print(context, || json!(keys))? {
        print(context, &keys);
    }
    Ok(0)
}

async fn rotate(context: &Context) -> Outcome {
    context.no_args()?;
    if !context.text("prepublish").is_empty() {
        return Err(Failure::new("-prepublish is not available here: use -now"));
    }
    if !context.on("now") {
        return Err(Failure::new(
            "\nOne of \"-now\" or \"-prepublish\" must be used.\n\n\
             If a key has been leaked use \"-now\" to force immediate rotation.\n\n\
             Otherwise please use \"-prepublish <duration>\" to ensure the new key is not used\n\
             to sign workload identities before JWKS endpoints are updated.\n",
        ));
    }
    let (answer, _) = context
        .client()
        .put::<_, serde_json::Value>("/v1/operator/keyring/rotate", &json!({}), &Query::default())
        .await
        .or_fail("error")?;
    let key: RootKeyMeta = serde_json::from_value(answer["Key"].clone())
        .map_err(|error| Failure::new(format!("error: {error}")))?;
    print(context, &[key]);
    Ok(0)
}

async fn remove(context: &Context) -> Outcome {
    let wanted = context.one_arg("<key id>")?;
    let keys = keys(context).await?;
    let found: Vec<_> = keys.iter().filter(|key| key.key_id.starts_with(wanted)).collect();
    let key = match found.as_slice() {
        [] => {
            let text = format!("No encryption key(s) with prefix or ID {wanted:?} found");
            return Err(Failure::new(text));
        }
        [key] => key,
        [..] => return Err(Failure::new(format!("{wanted:?} is the beginning of several keys"))),
    };
    let query = Query::default();
    let path = format!("/v1/operator/keyring/key/{}", key.key_id);
    context.client().delete::<serde_json::Value>(&path, &query).await.or_fail("error")?;
    context.console.out(&format!("Removed encryption key {}", key.key_id));
    Ok(0)
}
