//! A container engine of the run's own, which can be killed and started again. Its containers go on meanwhile (`live-restore`).

use std::{
    fs::{self, File},
    io,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use nix::sys::signal::Signal;

use crate::{clock, network::must, process};

/// The image of the run's containers. Not `latest`, which would be looked for elsewhere.
pub const IMAGE: &str = "wayfarer-chaos:1";

/// How long an engine may take until it answers: a loaded machine starts two more programs for it.
const STARTING_MAX: Duration = Duration::from_secs(60);

/// How long what an engine was started with may take to end after it.
const ENDING_MAX: Duration = Duration::from_secs(10);

/// An engine.
pub struct Engine {
    dir: PathBuf,
    group: String,
    process: Mutex<Option<Child>>,
}

impl Engine {
    /// Starts one whose files and socket are in `dir` and whose control groups are below `group`, and gives it the image.
    ///
    /// # Errors
    ///
    /// When the machine has no engine or no busybox that stands alone, or it does not start.
    pub fn start(dir: &Path, group: &str) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let engine = Self { dir: dir.to_owned(), group: group.to_owned(), process: Mutex::default() };
        engine.resume()?;
        engine.import()?;
        Ok(engine)
    }

    /// Where it listens.
    #[must_use]
    pub fn endpoint(&self) -> String {
        endpoint(&self.dir)
    }

    fn process(&self) -> MutexGuard<'_, Option<Child>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Kills it with -9. What it was started with ends with it, its containers do not.
    ///
    /// # Errors
    ///
    /// When it does not run.
    pub fn kill(&self) -> io::Result<()> {
        let mut child = self.process().take().ok_or_else(|| io::Error::other("the engine does not run"))?;
        let helper = process::child_of(child.id());
        child.kill()?;
        child.wait()?;
        // It ends with its parent; the next engine would wait for it.
        if let Some(helper) = helper {
            process::signal(helper, Signal::SIGKILL);
            clock::poll(ENDING_MAX, || (!Path::new(&format!("/proc/{helper}")).exists()).then_some(()));
        }
        Ok(())
    }

    /// Starts it, unless it runs, and waits until it answers.
    ///
    /// # Errors
    ///
    /// When it does not start, with the end of its log.
    pub fn resume(&self) -> io::Result<()> {
        let mut process = self.process();
        if process.is_some() {
            return Ok(());
        }
        // What it left when it was killed names processes that may be others by now, for which the next one would wait.
        let _ = fs::remove_file(self.dir.join("pid"));
        let _ = fs::remove_file(self.dir.join("run/containerd/containerd.pid"));
        let log = File::options().create(true).append(true).open(self.dir.join("log"))?;
        let place = |name: &str| self.dir.join(name);
        let child = Command::new("dockerd")
            .args(["--host", &self.endpoint(), "--bridge", "none", "--iptables=false", "--live-restore"])
            .args(["--cgroup-parent", &self.group])
            .arg("--data-root")
            .arg(place("data"))
            .arg("--exec-root")
            .arg(place("run"))
            .arg("--pidfile")
            .arg(place("pid"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()?;
        *process = Some(child);
        drop(process);
        clock::poll(STARTING_MAX, || self.docker(&["version"]).is_ok().then_some(())).ok_or_else(|| {
            let text = fs::read_to_string(self.dir.join("log")).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            let tail = lines[lines.len().saturating_sub(5)..].join("\n");
            io::Error::other(format!("the container engine did not start\n{tail}"))
        })
    }

    /// Its containers, those that ended too, each with its name and how it is. None when it does not answer.
    #[must_use]
    pub fn containers(&self) -> Option<Vec<String>> {
        let words = ["--host", &self.endpoint(), "ps", "-a", "--format", "{{.ID}} {{.Names}} {{.Status}}"];
        Some(must("docker", &words).ok()?.lines().map(str::to_owned).collect())
    }

    /// Makes the image out of the machine's own busybox.
    fn import(&self) -> io::Result<()> {
        let bin = self.dir.join("image/bin");
        fs::create_dir_all(&bin)?;
        let found = must("sh", &["-c", "command -v busybox"])?;
        fs::copy(found.trim(), bin.join("sleep"))?;
        let archive = self.dir.join("image.tar");
        let root = self.dir.join("image");
        must("tar", &["-C", &root.to_string_lossy(), "-cf", &archive.to_string_lossy(), "."])?;
        self.docker(&["import", &archive.to_string_lossy(), IMAGE])
    }

    fn docker(&self, words: &[&str]) -> io::Result<()> {
        must("docker", &[&["--host", &self.endpoint()], words].concat()).map(drop)
    }
}

fn containers(host: &str) -> io::Result<Vec<String>> {
    let listed = must("docker", &["--host", host, "ps", "-aq"])?;
    Ok(listed.split_whitespace().map(str::to_owned).collect())
}

/// Where the engine of a directory listens.
fn endpoint(dir: &Path) -> String {
    format!("unix://{}", dir.join("socket").display())
}

/// Ends what the engine of a directory runs. The engine itself goes with the other processes of the run.
pub fn end_containers(dir: &Path) {
    if !dir.exists() {
        return;
    }
    let host = endpoint(dir);
    let gone = clock::poll(ENDING_MAX, || {
        // An engine that does not answer has been ended, and what it ran ends as a process of the run.
        let left = containers(&host).unwrap_or_default();
        let words = ["--host", &host, "rm", "-f"].into_iter().chain(left.iter().map(String::as_str));
        // One that an agent removes at the same time is refused, and gone the next time.
        let _ = left.first().map(|_| must("docker", &words.collect::<Vec<_>>()));
        left.is_empty().then_some(())
    });
    if gone.is_none() {
        eprintln!("containers of {} are left", dir.display());
    }
}

/// Removes the control groups of an engine's containers, once these have ended.
pub fn remove_groups(group: &str) {
    for controller in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
        remove_group(&controller.path().join(group));
    }
}

/// Removes a control group with all below it.
fn remove_group(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir()) {
        remove_group(&entry.path());
    }
    if let Err(error) = fs::remove_dir(dir)
        && error.kind() != io::ErrorKind::NotFound
    {
        eprintln!("{} is left: {error}", dir.display());
    }
}

/// Whether this machine can have one: an engine's programs, and a busybox that stands alone.
#[must_use]
pub fn possible() -> bool {
    let there = |program: &str| must("sh", &["-c", &format!("command -v {program}")]).is_ok();
    let alone = must("sh", &["-c", "! ldd \"$(command -v busybox)\" >/dev/null 2>&1"]).is_ok();
    there("dockerd") && there("docker") && there("busybox") && alone
}
