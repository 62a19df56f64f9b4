//! Wall clocks that jump while their agents run: a library that is loaded into each agent, and a file that it reads.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use crate::network::must;

/// What the library is made from.
const SOURCE: &str = include_str!("wall.c");

/// The variable that names the file.
const FILE: &str = "WAYFARER_CHAOS_WALL";

/// The library, made for one run.
pub struct WallClock {
    library: PathBuf,
}

impl WallClock {
    /// Makes it in a directory.
    ///
    /// # Errors
    ///
    /// When the machine has no C compiler.
    pub fn make(dir: &Path) -> io::Result<Self> {
        let (source, library) = (dir.join("wall.c"), dir.join("wall.so"));
        fs::write(&source, SOURCE)?;
        let place = |path: &Path| path.to_string_lossy().into_owned();
        must("cc", &["-shared", "-fPIC", "-O1", "-o", &place(&library), &place(&source)])?;
        Ok(Self { library })
    }

    /// Has a program that is about to be started read its clock through it. Whose clock it is, `file` tells.
    ///
    /// # Errors
    ///
    /// When the file can not be written.
    pub fn put_into(&self, command: &mut Command, file: &Path) -> io::Result<()> {
        if !file.exists() {
            set(file, 0)?;
        }
        command.env("LD_PRELOAD", &self.library).env(FILE, file);
        Ok(())
    }
}

/// Has the clock of the program that reads `file` go wrong by so many seconds, from now on.
///
/// # Errors
///
/// When the file can not be written.
pub fn set(file: &Path, shift: i64) -> io::Result<()> {
    // It is mapped by whoever reads it, and so must never be shorter.
    let file = File::options().create(true).truncate(false).write(true).open(file)?;
    file.write_all_at(&shift.to_ne_bytes(), 0)
}

/// Whether this machine can make it.
#[must_use]
pub fn possible() -> bool {
    must("cc", &["--version"]).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_of_one_program_jumps() {
        let dir = tempfile::tempdir().expect("a directory");
        let clock = WallClock::make(dir.path()).expect("a C compiler is there");
        let file = dir.path().join("shift");
        let seconds = |shift: i64| {
            set(&file, shift).expect("a file");
            let mut command = Command::new("date");
            clock.put_into(&mut command, &file).expect("a file");
            let output = command.args(["-u", "+%s"]).output().expect("date runs");
            String::from_utf8_lossy(&output.stdout).trim().parse::<i64>().expect("a number")
        };
        let now = seconds(0);
        for shift in [3_600, -315_360_000] {
            let passed = seconds(shift) - shift - now;
            assert!((0..600).contains(&passed), "the test took {passed} s");
        }
    }
}
