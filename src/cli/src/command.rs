//! What a command is, and what it gets.

use std::{future::Future, path::PathBuf, pin::Pin};

use sdk::{BadAddress, Client, Config, Query, RequestError};

use crate::{
    console::Console,
    flags::{Flag, Flags, Kind},
};

/// The future of a running command.
pub type Running<'a> = Pin<Box<dyn Future<Output = Outcome> + Send + 'a>>;

/// A command's exit code, or why it failed.
pub type Outcome = Result<i32, Failure>;

/// One command.
pub struct Command {
    /// Its words, e.g. `job run`.
    pub name: &'static str,
    /// Other words for it, e.g. `run`.
    pub aliases: &'static [&'static str],
    /// What stands after the flags.
    pub usage: &'static str,
    /// One line about it.
    pub summary: &'static str,
    /// Its own flags.
    pub flags: &'static [Flag],
    /// Whether it talks to an agent, and takes the flags that say to which.
    pub remote: bool,
    /// The name that messages refer to, when it is not `name`.
    pub help_name: Option<&'static str>,
    /// Runs it.
    pub run: for<'a> fn(&'a Context) -> Running<'a>,
}

impl Command {
    /// Lists its own flags and those that every command has.
    pub fn all_flags(&self) -> impl Iterator<Item = &'static Flag> + Clone {
        self.flags.iter().chain(if self.remote { GLOBAL } else { COLOR })
    }
}

/// Makes a command's table row from its function.
macro_rules! command {
    ($name:literal $([$($alias:literal),*])?, $usage:literal, $summary:literal, $flags:expr, $run:path) => {
        crate::command::Command {
            name: $name,
            aliases: &[$($($alias),*)?],
            usage: $usage,
            summary: $summary,
            flags: $flags,
            remote: true,
            help_name: None,
            run: |context| Box::pin($run(context)),
        }
    };
}
pub(crate) use command;

/// Flags of every command.
const COLOR: &[Flag] = &[
    Flag { name: "no-color", kind: Kind::Bool, help: "Print without colours." },
    Flag {
        name: "force-color",
        kind: Kind::Bool,
        help: "Print with colours even when the output is no terminal.",
    },
];

/// Flags of every command that talks to an agent.
const GLOBAL: &[Flag] = &[
    Flag {
        name: "address",
        kind: Kind::Text,
        help: "Address of the agent, http://, https:// or unix://. Also WAYFARER_ADDR or NOMAD_ADDR.",
    },
    Flag { name: "region", kind: Kind::Text, help: "Region to ask. Also WAYFARER_REGION or NOMAD_REGION." },
    Flag {
        name: "namespace",
        kind: Kind::Text,
        help: "Namespace to ask in; * for all. Also WAYFARER_NAMESPACE or NOMAD_NAMESPACE.",
    },
    Flag {
        name: "token",
        kind: Kind::Text,
        help: "Secret of an ACL token. Also WAYFARER_TOKEN or NOMAD_TOKEN.",
    },
    Flag { name: "no-color", kind: Kind::Bool, help: "Print without colours." },
    Flag {
        name: "force-color",
        kind: Kind::Bool,
        help: "Print with colours even when the output is no terminal.",
    },
    Flag { name: "ca-cert", kind: Kind::Text, help: "File with the authority's certificate." },
    Flag { name: "ca-path", kind: Kind::Text, help: "Folder with authorities' certificates." },
    Flag { name: "client-cert", kind: Kind::Text, help: "File with the client's certificate." },
    Flag { name: "client-key", kind: Kind::Text, help: "File with the client's key." },
    Flag { name: "tls-server-name", kind: Kind::Text, help: "Name that the server's certificate must bear." },
    Flag { name: "tls-skip-verify", kind: Kind::Bool, help: "Do not check the server's certificate." },
];

/// Who is asked, and as whom.
pub struct Globals {
    /// How to reach the agent.
    pub config: Config,
}

impl Globals {
    /// Takes the flags, and where one is missing the environment.
    pub fn read(flags: &Flags, variable: impl Fn(&str) -> Option<String>) -> Result<Self, BadAddress> {
        let address = flags.text("address").map(str::parse).transpose()?;
        // A flag stands before the environment, so a bad address there must not matter.
        let without_address =
            |name: &str| if address.is_some() && name.ends_with("_ADDR") { None } else { variable(name) };
        let mut config = Config::from_env(without_address)?;
        if let Some(address) = address {
            config.address = address;
        }
        for (field, name) in [
            (&mut config.region, "region"),
            (&mut config.namespace, "namespace"),
            (&mut config.token, "token"),
        ] {
            if let Some(text) = flags.text(name) {
                *field = text.to_owned();
            }
        }
        let file = |name: &str| flags.text(name).map(PathBuf::from);
        let tls = &mut config.tls;
        tls.ca_file = file("ca-cert").or(tls.ca_file.take());
        tls.ca_dir = file("ca-path").or(tls.ca_dir.take());
        tls.certificate = file("client-cert").or(tls.certificate.take());
        tls.key = file("client-key").or(tls.key.take());
        tls.server_name = flags.text("tls-server-name").map(str::to_owned).or(tls.server_name.take());
        tls.skip_verify = flags.truth("tls-skip-verify").unwrap_or(tls.skip_verify);
        Ok(Self { config })
    }
}

/// A command that could not do its work.
#[derive(Debug)]
pub struct Failure {
    /// What is printed to standard error; nothing when empty.
    pub message: String,
    /// The exit code.
    pub code: i32,
    /// Whether help is pointed at.
    pub hint: bool,
}

impl Failure {
    /// Something went wrong while the command ran.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: 1, hint: false }
    }

    /// The command was called wrongly.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: 1, hint: true }
    }

    /// Gives it another exit code.
    #[must_use]
    pub fn with_code(mut self, code: i32) -> Self {
        self.code = code;
        self
    }
}

/// Says what was tried when it failed.
pub trait OrFail<T> {
    /// Prefixes the error with what was tried.
    ///
    /// # Errors
    ///
    /// When it failed.
    fn or_fail(self, tried: &str) -> Result<T, Failure>;
}

impl<T> OrFail<T> for Result<T, RequestError> {
    fn or_fail(self, tried: &str) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(format!("{tried}: {error}")))
    }
}

/// Everything that a running command has.
pub struct Context {
    /// How the program was called.
    pub program: String,
    /// The command.
    pub command: &'static Command,
    /// Its flags.
    pub flags: Flags,
    /// What stands after them.
    pub args: Vec<String>,
    /// Where it prints.
    pub console: Console,
    /// Who is asked.
    pub globals: Globals,
}

impl Context {
    /// Makes a client.
    pub fn client(&self) -> Client {
        Client::new(self.globals.config.clone())
    }

    /// Tells whether a flag is set.
    pub fn on(&self, flag: &str) -> bool {
        self.flags.on(flag)
    }

    /// Returns a flag's text, or nothing.
    pub fn text(&self, flag: &str) -> &str {
        self.flags.text(flag).unwrap_or_default()
    }

    /// Shows an id in full with `-verbose`, else its first eight characters.
    pub fn id(&self, id: &str) -> String {
        short_id(id, self.on("verbose"))
    }

    /// Returns the only argument.
    ///
    /// # Errors
    ///
    /// When there is none, or more than one; `wanted` is its form, e.g. `<job>`.
    pub fn one_arg(&self, wanted: &str) -> Result<&str, Failure> {
        match self.args.as_slice() {
            [only] => Ok(only),
            _ => Err(Failure::usage(format!("This command takes one argument: {wanted}"))),
        }
    }

    /// Makes sure that there are no arguments.
    ///
    /// # Errors
    ///
    /// When there are some.
    pub fn no_args(&self) -> Result<(), Failure> {
        if self.args.is_empty() { Ok(()) } else { Err(Failure::usage("This command takes no arguments")) }
    }

    /// Makes the query that the paging and filter flags ask for.
    pub fn list_query(&self) -> Query {
        Query {
            filter: self.text("filter").to_owned(),
            per_page: self.flags.number("per-page").and_then(|count| u32::try_from(count).ok()).unwrap_or(0),
            next_token: self.text("page-token").to_owned(),
            ..Query::default()
        }
    }
}

/// Shortens an id to eight characters unless it is wanted in full.
pub fn short_id(id: &str, full: bool) -> String {
    if full { id.to_owned() } else { id.chars().take(8).collect() }
}

pub(crate) const VERBOSE: Flag =
    Flag { name: "verbose", kind: Kind::Bool, help: "Show ids and times in full, and more of everything." };
pub(crate) const JSON: Flag = Flag { name: "json", kind: Kind::Bool, help: "Print JSON." };
pub(crate) const TEMPLATE: Flag = Flag { name: "t", kind: Kind::Text, help: "Print by a Go template." };
pub(crate) const DETACH: Flag =
    Flag { name: "detach", kind: Kind::Bool, help: "Return at once, without following what happens." };
pub(crate) const YES: Flag = Flag { name: "yes", kind: Kind::Bool, help: "Do not ask." };
pub(crate) const FILTER: Flag =
    Flag { name: "filter", kind: Kind::Text, help: "Only what this expression holds for." };
pub(crate) const PER_PAGE: Flag = Flag { name: "per-page", kind: Kind::Number, help: "At most so many." };
pub(crate) const PAGE_TOKEN: Flag =
    Flag { name: "page-token", kind: Kind::Text, help: "Begin at this page." };
