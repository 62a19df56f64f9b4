use std::collections::BTreeMap;

/// What a driver can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// `signal` works.
    pub send_signals: bool,
    /// `exec` works.
    pub exec: bool,
    /// What of the file system a task sees.
    pub fs_isolation: FsIsolation,
    /// The networks that a task can be put in.
    pub network_modes: &'static [NetworkMode],
    /// The driver makes the shared network itself (`create_network`).
    pub must_create_network: bool,
    /// `mounts` and `devices` of a task are honoured.
    pub mounts: bool,
    /// Asking a task to stop uses this signal when the job names none.
    pub default_kill_signal: &'static str,
    /// The driver's tasks can be put in a user namespace or run as a dynamic user.
    pub dynamic_users: bool,
}

/// What of the file system a task sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FsIsolation {
    /// The host's, as it is: paths in the environment are host paths.
    None,
    /// The task's directory as root, built from host paths: `/alloc`, `/local`, `/secrets`.
    Chroot,
    /// An image as root, with `/alloc`, `/local`, `/secrets` mounted into it.
    Image,
}

impl FsIsolation {
    /// The name that the API shows.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Chroot => "chroot",
            Self::Image => "image",
        }
    }
}

/// A network that a task can be put in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkMode {
    /// The host's.
    Host,
    /// One for the allocation.
    Group,
    /// One for the task alone.
    Task,
    /// None but loopback.
    None,
}

/// Whether a driver works here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    /// What it needs is installed and enabled.
    pub detected: bool,
    /// It works at this moment.
    pub healthy: bool,
    /// Why, for people: `Healthy`, or what is wrong and what to do.
    pub description: String,
    /// Node attributes, such as `driver.raw_exec`.
    pub attributes: BTreeMap<String, String>,
}

impl Fingerprint {
    /// A driver that is installed and works.
    pub fn healthy(attributes: BTreeMap<String, String>) -> Self {
        Self { detected: true, healthy: true, description: "Healthy".to_owned(), attributes }
    }

    /// A driver that is not there, or switched off.
    pub fn undetected(description: impl Into<String>) -> Self {
        Self { detected: false, healthy: false, description: description.into(), attributes: BTreeMap::new() }
    }

    /// A driver that is installed and does not work.
    pub fn unhealthy(description: impl Into<String>) -> Self {
        Self { detected: true, healthy: false, description: description.into(), attributes: BTreeMap::new() }
    }
}
