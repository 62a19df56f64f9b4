//! What users read when a task does not start: the words that they search for.

use std::{error::Error, path::Path};

use driver::{
    StartTaskError,
    supervisor::{LaunchError, errno_text},
};

/// How a failed launch begins.
const PREFIX: &str = "failed to launch command with executor: rpc error: code = Unknown desc = ";

/// A failure before anything was launched.
pub(crate) fn refused(error: &dyn Error) -> StartTaskError {
    StartTaskError::fatal(format!("{PREFIX}{error}"))
}

/// A failed launch. The job's own mistakes stay the same on another try; those of the machine may pass.
pub(crate) fn launch(error: &LaunchError, program: &Path, args: &[String]) -> StartTaskError {
    match error {
        LaunchError::Step { step, errno } if step == "exec" || step == "directory" => {
            let path = program.display();
            let quoted: Vec<String> = args.iter().map(|arg| format!("{arg:?}")).collect();
            let args = [vec![format!("\"{path}\"")], quoted].concat().join(" ");
            let why = errno_text(*errno);
            StartTaskError::fatal(format!(
                "{PREFIX}failed to start command path=\"{path}\" --- args=[{args}]: fork/exec {path}: {why}"
            ))
        }
        LaunchError::Step { .. }
        | LaunchError::Prepare { .. }
        | LaunchError::Spawn(_)
        | LaunchError::NoAnswer
        | LaunchError::Timeout(_) => {
            let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
            StartTaskError::retry(format!("{PREFIX}{error}{cause}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forbidden_command_reads_as_expected() {
        let error = LaunchError::Step { step: "directory".to_owned(), errno: 13 };
        let text = launch(&error, Path::new("/bin/sh"), &["-c".to_owned(), "id".to_owned()]).to_string();
        assert_eq!(
            text,
            "failed to launch command with executor: rpc error: code = Unknown desc = failed to start command \
             path=\"/bin/sh\" --- args=[\"/bin/sh\" \"-c\" \"id\"]: fork/exec /bin/sh: permission denied"
        );
    }
}
