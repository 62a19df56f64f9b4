//! The dead man's switch: a process that waits for another one to end, however it ends, and then heals what that one
//! broke.
//!
//! It reads lines from the other's pipe. `arm NAME COMMAND` remembers a command of the shell, `disarm NAME` forgets it.
//! When the pipe closes, because the program ended or was killed, it runs what is still armed, the latest first.

use std::{
    collections::BTreeMap,
    io::{self, BufRead, Write as _},
    os::unix::process::CommandExt as _,
    process::{Child, ChildStdin, Command, Stdio},
};

/// Commands that may be armed at once: one for each fault that is going on, and one for the whole.
const ARMED_MAX: usize = 1_000;

/// The other's end of the pipe.
pub struct Guard {
    child: Child,
    pipe: Option<ChildStdin>,
}

impl Guard {
    /// Starts the guard: this very program again, in a session of its own, so that what ends this one's terminal does not
    /// end it.
    ///
    /// # Errors
    ///
    /// When it does not start.
    pub fn start() -> io::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("guard").stdin(Stdio::piped()).process_group(0);
        let mut child = command.spawn()?;
        let pipe = child.stdin.take();
        Ok(Self { child, pipe })
    }

    /// Lets a command run when this program ends.
    ///
    /// # Errors
    ///
    /// When the guard is gone: then nothing may be broken.
    pub fn arm(&mut self, name: &str, command: &str) -> io::Result<()> {
        self.say(&format!("arm {name} {command}"))
    }

    /// Forgets a command.
    ///
    /// # Errors
    ///
    /// When the guard is gone.
    pub fn disarm(&mut self, name: &str) -> io::Result<()> {
        self.say(&format!("disarm {name}"))
    }

    fn say(&mut self, line: &str) -> io::Result<()> {
        if line.contains('\n') {
            return Err(io::Error::other("a command for the guard is one line"));
        }
        let pipe = self.pipe.as_mut().ok_or_else(|| io::Error::other("the guard was let go"))?;
        writeln!(pipe, "{line}")?;
        pipe.flush()
    }

    /// Lets it heal what is still armed, and waits for that.
    pub fn release(mut self) {
        self.pipe = None;
        if let Err(error) = self.child.wait() {
            eprintln!("the guard is not waited for: {error}");
        }
    }
}

/// Commands that are armed, in the order in which they were.
#[derive(Debug, Default)]
struct Armed {
    number: u64,
    commands: BTreeMap<u64, (String, String)>,
}

impl Armed {
    fn hear(&mut self, line: &str) {
        if let Some((name, command)) = line.strip_prefix("arm ").and_then(|rest| rest.split_once(' ')) {
            self.forget(name);
            if self.commands.len() < ARMED_MAX {
                self.number += 1;
                self.commands.insert(self.number, (name.to_owned(), command.to_owned()));
            }
        } else if let Some(name) = line.strip_prefix("disarm ") {
            self.forget(name);
        }
    }

    fn forget(&mut self, name: &str) {
        self.commands.retain(|_, (armed, _)| armed != name);
    }

    /// The latest first: what was broken last is healed first.
    fn healing(&self) -> impl Iterator<Item = &str> {
        self.commands.values().rev().map(|(_, command)| command.as_str())
    }
}

/// Is the guard.
pub fn run() {
    let mut armed = Armed::default();
    for line in io::stdin().lock().lines() {
        // A pipe that can not be read is as good as closed.
        let Ok(line) = line else { break };
        armed.hear(&line);
    }
    for command in armed.healing() {
        match Command::new("sh").args(["-c", command]).stdin(Stdio::null()).status() {
            Ok(status) if status.success() => {}
            failed => eprintln!("guard: {command}: {failed:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_armed_is_healed_backwards_and_what_is_disarmed_is_not() {
        let mut armed = Armed::default();
        for line in ["arm a one 1", "arm b two", "arm c three", "disarm b", "arm a four", "nonsense"] {
            armed.hear(line);
        }
        assert_eq!(armed.healing().collect::<Vec<_>>(), ["four", "three"]);
    }
}
