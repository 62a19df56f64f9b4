//! Where the web page is.

use crate::{
    command::{Command, Context, Outcome, command},
    flags::{Flag, Kind, flag},
    resolve,
};

/// The commands of this file.
pub const COMMANDS: &[Command] = &[command!(
    "ui",
    "[options] [<id>]",
    "Open the web page, or say where it is.",
    &[
        flag("authenticate", Kind::Bool, "Sign in with the token."),
        flag("show-url", Kind::Bool, "Only say where it is."),
    ],
    ui
)];

/// The flag of commands that have a page.
pub const UI: Flag = flag("ui", Kind::Bool, "Open its page.");

/// Points at a page on standard error, unless hints are turned off; with `-ui`, opens it.
pub fn hint(context: &Context, what: &str, path: &str) {
    if context.on("ui") {
        return open(context, &format!("{}/ui/{path}", context.globals.config.address));
    }
    let off = |prefix: &str| {
        std::env::var(format!("{prefix}_CLI_SHOW_HINTS"))
            .is_ok_and(|value| matches!(value.as_str(), "0" | "f" | "false" | "FALSE" | "False"))
    };
    if off("WAYFARER") || off("NOMAD") {
        return;
    }
    let address = &context.globals.config.address;
    context.console.err(&format!("\n\n==> {what} in the Web UI: {address}/ui/{path}"));
}

/// Escapes one part of a path.
pub fn escaped(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~$&+:=@".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

async fn ui(context: &Context) -> Outcome {
    let client = context.client();
    let mut url = context.globals.config.address.to_string();
    if let [id] = context.args.as_slice() {
        let found = client.search(&resolve::even(id), "all", &sdk::Query::default()).await;
        if let Ok(found) = found {
            for (kind, page) in [("allocs", "allocations"), ("nodes", "clients"), ("jobs", "jobs")] {
                if let Some(Some([only])) = found.matches.get(kind).map(|matches| matches.as_deref()) {
                    url.push_str(&format!("/ui/{page}/{}", escaped(only)));
                    break;
                }
            }
        }
    }
    open(context, &url);
    Ok(0)
}

/// Opens a page, or says where it is when nothing can show it.
fn open(context: &Context, url: &str) {
    if context.on("show-url") || !open_browser(url) {
        context.console.out(&format!("URL for web UI: {url}"));
    } else {
        context.console.out(&format!("Opening URL \"{url}\""));
    }
}

/// Asks the desktop to show a page; there may be none.
fn open_browser(url: &str) -> bool {
    let quiet = std::process::Stdio::null;
    std::process::Command::new("xdg-open")
        .arg(url)
        .stdout(quiet())
        .stderr(quiet())
        .status()
        .is_ok_and(|status| status.success())
}
