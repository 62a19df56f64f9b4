use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Component, Path, PathBuf},
};

/// Why a command was not found. The texts are those that users of other tools search for.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LookupError {
    #[error("binary {0:?} could not be found")]
    Missing(String),
    #[error("file {0} not found under path")]
    NotInPath(String),
}

/// Finds a command: below the task's `local` directory, below the task's directory, as an absolute path, then in
/// the search path. What a job brought along is made executable, because a download has no such bit.
pub(crate) fn find(command: &str, task_dir: &Path, path: &str) -> Result<PathBuf, LookupError> {
    let relative = Path::new(command).strip_prefix("/").unwrap_or(Path::new(command));
    let stays_inside =
        relative.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if stays_inside {
        for file in [task_dir.join("local").join(relative), task_dir.join(relative)] {
            if file.is_file() {
                make_executable(&file);
                return Ok(file);
            }
        }
    }
    if command.starts_with('/') {
        let file = PathBuf::from(command);
        return if file.is_file() { Ok(file) } else { Err(LookupError::Missing(command.to_owned())) };
    }
    let not_found = || LookupError::NotInPath(command.to_owned());
    if command.contains('/') {
        return Err(not_found());
    }
    path.split(':')
        .map(|dir| Path::new(dir).join(command))
        .find(|file| is_executable(file))
        .ok_or_else(not_found)
}

fn is_executable(file: &Path) -> bool {
    file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

fn make_executable(file: &Path) {
    if !is_executable(file) {
        // Executing it says why not.
        let _ = fs::set_permissions(file, fs::Permissions::from_mode(0o755));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jobs_own_file_comes_first_and_is_made_executable() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir(dir.path().join("local")).expect("made");
        let own = dir.path().join("local/sh");
        fs::write(&own, "#!/bin/sh\n").expect("written");
        assert_eq!(find("sh", dir.path(), "/bin"), Ok(own.clone()));
        assert!(is_executable(&own));
    }

    #[test]
    fn the_search_path_and_absolute_paths_are_the_hosts() {
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(find("sh", dir.path(), "/nowhere:/bin"), Ok("/bin/sh".into()));
        assert_eq!(find("/bin/sh", dir.path(), ""), Ok("/bin/sh".into()));
    }

    #[test]
    fn what_is_missing_is_named_as_expected() {
        let dir = tempfile::tempdir().expect("a directory");
        let text = |command: &str| find(command, dir.path(), "/bin").expect_err("it is missing").to_string();
        assert_eq!(text("/no/such/thing"), "binary \"/no/such/thing\" could not be found");
        assert_eq!(text("no-such"), "file no-such not found under path");
        assert_eq!(text("../../bin/sh"), "file ../../bin/sh not found under path");
    }
}
