use std::ffi::CString;

use driver::shim::LaunchUser;
use nix::unistd::{Uid, User, getgrouplist};

use crate::Config;

/// Why a task cannot run as its user.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UserError {
    #[error("unknown user {0}: this host has none of that name or id")]
    Unknown(String),
    #[error("could not look up user {0}: {1}")]
    Lookup(String, String),
    #[error("running as uid {0} is disallowed by denied_host_uids of the raw_exec plugin")]
    DeniedUid(u32),
    #[error("running as gid {0} is disallowed by denied_host_gids of the raw_exec plugin")]
    DeniedGid(u32),
}

/// Looks up a user of the host by name or id, with all its groups, and checks that it is allowed. Blocks: the host
/// may ask a directory service.
pub(crate) fn find(name: &str, config: &Config) -> Result<LaunchUser, UserError> {
    let lookup = |error: nix::Error| UserError::Lookup(name.to_owned(), error.desc().to_lowercase());
    let found = match name.parse::<u32>() {
        Ok(uid) => User::from_uid(Uid::from_raw(uid)),
        Err(_) => User::from_name(name),
    };
    let user = found.map_err(lookup)?.ok_or_else(|| UserError::Unknown(name.to_owned()))?;
    let mut groups = vec![user.gid.as_raw()];
    if let Ok(login) = CString::new(user.name.as_bytes()) {
        groups.extend(
            getgrouplist(&login, user.gid).map_err(lookup)?.into_iter().map(nix::unistd::Gid::as_raw),
        );
    }
    groups.sort_unstable();
    groups.dedup();
    let (uid, gid) = (user.uid.as_raw(), user.gid.as_raw());
    if config.denied_host_uids.contains(uid) {
        return Err(UserError::DeniedUid(uid));
    }
    match groups.iter().find(|gid| config.denied_host_gids.contains(**gid)) {
        Some(gid) => Err(UserError::DeniedGid(*gid)),
        None => Ok(LaunchUser { uid, gid, groups }),
    }
}
