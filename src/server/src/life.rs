//! Which life of its node a server is in, and when it begins another one.

use std::{
    fmt, fs,
    io::{self, Write},
    path::Path,
};

use model::Timestamp;

/// The name of the copy beside the log.
const COPY: &str = "life";

/// Counts how often a server began anew with an empty log. A log that was thrown away has promised and acknowledged
/// things, so the server that goes on without it must be another one in Raft.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Life(pub(crate) u16);

/// What one of the two files says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Told {
    Nothing,
    Damaged,
    Life(Life),
}

impl Life {
    /// The first life.
    pub const FIRST: Self = Self(1);

    /// Finds the life that a server is in, and writes it down where that is missing.
    ///
    /// It stands in a file of its own and once more beside the log that was written in it, because an older file put
    /// back, or a flipped bit, would make the server vote as one that it is not. Where one of the two is damaged the other
    /// counts; where they differ, one of them is of another time, and the server begins anew.
    ///
    /// # Errors
    ///
    /// When the files can not be read or made, or neither tells the life.
    pub fn keep(path: &Path, raft_dir: &Path) -> io::Result<Self> {
        let copy = raft_dir.join(COPY);
        let life = match (read(path)?, read(&copy)?) {
            (Told::Life(own), Told::Life(logs)) if own != logs => {
                tracing::error!(%own, %logs, "the log of this server is of another of its lives; it begins anew");
                return Self::begin_anew(path, raft_dir);
            }
            (Told::Nothing, Told::Nothing) => Self::FIRST,
            (Told::Life(life), Told::Life(_) | Told::Nothing) | (Told::Nothing, Told::Life(life)) => life,
            (Told::Life(life), Told::Damaged) | (Told::Damaged, Told::Life(life)) => {
                tracing::error!(%life, "one of the two files with this server's life is damaged; the other counts");
                life
            }
            (Told::Damaged, Told::Damaged | Told::Nothing) | (Told::Nothing, Told::Damaged) => {
                let what = format!(
                    "{} does not hold a number from 1 to 65535 with its checksum, and {} does not tell it either: \
                     write the number there by which the other servers know this one, plus one",
                    path.display(),
                    copy.display()
                );
                return Err(io::Error::new(io::ErrorKind::InvalidData, what));
            }
        };
        for file in [path, &copy] {
            if read(file)? != Told::Life(life) {
                life.write(file)?;
            }
        }
        Ok(life)
    }

    /// The life with this number, as agents tell each other; none when there can be no such.
    pub fn numbered(number: u64) -> Option<Self> {
        u16::try_from(number).ok().filter(|number| *number > 0).map(Self)
    }

    /// Its number.
    pub fn number(self) -> u64 {
        u64::from(self.0)
    }

    /// Puts a log that must not be used aside and begins the next life. The life is on the disk before the log is touched,
    /// so that whatever happens in between, an empty log never goes with an old life.
    ///
    /// # Errors
    ///
    /// When the disk does not take it; then the next start finds the same reason again.
    pub fn begin_anew(path: &Path, raft_dir: &Path) -> io::Result<Self> {
        let copy = raft_dir.join(COPY);
        let known = [read(path)?, read(&copy)?].into_iter().filter_map(|told| match told {
            Told::Life(life) => Some(life),
            Told::Nothing | Told::Damaged => None,
        });
        let last = known.max().map_or(0, |life| life.0);
        let used_up = || io::Error::other("this server has begun anew 65535 times; give it another node id");
        let step = u16::from(!mutants::on!("life-begins-as-before"));
        let next = Self(last.max(1).checked_add(step).ok_or_else(used_up)?);
        next.write(path)?;
        raft::wipe(raft_dir)?;
        next.write(&copy)?;
        Ok(next)
    }

    fn write(self, path: &Path) -> io::Result<()> {
        write_sealed(path, &self.0.to_string())
    }
}

impl fmt::Display for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

fn read(path: &Path) -> io::Result<Told> {
    let Some(text) = read_sealed(path)? else { return Ok(Told::Nothing) };
    let number = text.ok().and_then(|text| text.parse().ok()).and_then(Life::numbered);
    Ok(number.map_or(Told::Damaged, Told::Life))
}

/// Replaces a file of one line: a text and its checksum.
fn write_sealed(path: &Path, text: &str) -> io::Result<()> {
    let dir = path.parent().ok_or_else(|| io::Error::other("the file has no directory"))?;
    fs::create_dir_all(dir)?;
    let draft = path.with_extension("tmp");
    let mut file = fs::File::create(&draft)?;
    writeln!(file, "{text} {:08x}", crc32fast::hash(text.as_bytes()))?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    fs::File::open(dir)?.sync_all()
}

/// Reads such a file, if it is there; `Err` within when it is damaged. A number alone is of a build before the checksum.
fn read_sealed(path: &Path) -> io::Result<Option<Result<String, ()>>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let text = String::from_utf8(bytes).unwrap_or_default();
    let Some(line) = text.strip_suffix('\n') else { return Ok(Some(Err(()))) };
    let sealed = match line.rsplit_once(' ') {
        Some((text, sum)) if sum == format!("{:08x}", crc32fast::hash(text.as_bytes())) => {
            Ok(text.to_owned())
        }
        Some(_) => Err(()),
        None if !line.is_empty() && line.bytes().all(|byte| byte.is_ascii_digit()) => Ok(line.to_owned()),
        None => Err(()),
    };
    Ok(Some(sealed))
}

/// Within this time, a state that is not the leader's counts as the same trouble.
const TROUBLE_LASTS_NS: i64 = 24 * 3_600 * 1_000_000_000;
/// How often a server may find its state different within that time and still help itself. Whoever differs more often
/// than that has broken memory or a build of its own, and another copy of the state does not mend either.
const SELF_HELP_MAX: usize = 2;

/// What a server does at its start because its state was not the leader's before.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Remedy {
    /// Nothing of the kind happened since the last start.
    None,
    /// The first time: it makes its state anew from its own snapshot and log, for what went wrong may have been in memory.
    Replay,
    /// The second time: it puts its log and snapshots aside and fetches everything from the others, as a learner.
    BeginAnew,
    /// Once too often: someone has to look.
    GiveUp,
}

/// Remembers when a server's state was not the leader's: a file with a time for each, and with how many of them the server
/// dealt.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Differences {
    times: Vec<i64>,
    dealt_with: usize,
}

impl Differences {
    /// Notes that the state was found to differ. To be called before the process ends.
    ///
    /// # Errors
    ///
    /// When the disk does not take it; then the next start knows nothing of it, and replays.
    pub fn note(path: &Path, now: Timestamp) -> io::Result<()> {
        let mut known = Self::read(path)?;
        known.times.push(now.0);
        known.write(path)
    }

    /// Decides what to do at a start, and notes that it was done.
    ///
    /// # Errors
    ///
    /// When the file can not be read or written.
    pub fn decide(path: &Path, now: Timestamp) -> io::Result<Remedy> {
        let mut known = Self::read(path)?;
        if known.times.len() <= known.dealt_with {
            return Ok(Remedy::None);
        }
        // A clock that went back makes a trouble young, never old.
        known.times.retain(|at| now.0.saturating_sub(*at) < TROUBLE_LASTS_NS);
        let remedy = match known.times.len() {
            0 | 1 => Remedy::Replay,
            2..=SELF_HELP_MAX => Remedy::BeginAnew,
            _ => return Ok(Remedy::GiveUp),
        };
        known.dealt_with = known.times.len();
        known.write(path)?;
        Ok(remedy)
    }

    /// A damaged file counts as none: it only ever makes the server try the milder remedy first.
    fn read(path: &Path) -> io::Result<Self> {
        let Some(Ok(text)) = read_sealed(path)? else { return Ok(Self::default()) };
        let mut words = text.split(',');
        let dealt_with = words.next().and_then(|word| word.parse().ok());
        let times: Result<Vec<i64>, _> = words.map(str::parse).collect();
        Ok(dealt_with
            .zip(times.ok())
            .map(|(dealt_with, times)| Self { times, dealt_with })
            .unwrap_or_default())
    }

    fn write(&self, path: &Path) -> io::Result<()> {
        let times: String = self.times.iter().map(|at| format!(",{at}")).collect();
        write_sealed(path, &format!("{}{times}", self.dealt_with))
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use transport::NodeId;

    use super::*;
    use crate::raft_id;

    fn place() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let dir = tempfile::tempdir().expect("a directory");
        let (path, raft) = (dir.path().join("server/life"), dir.path().join("server/raft"));
        (dir, path, raft)
    }

    fn keep(path: &Path, raft: &Path) -> Life {
        Life::keep(path, raft).expect("the files tell the life")
    }

    #[test]
    fn a_new_life_is_another_id_and_lasts() {
        let (_dir, path, raft) = place();
        assert_eq!(keep(&path, &raft), Life::FIRST);
        let next = Life::begin_anew(&path, &raft).expect("an empty log can be put aside");
        assert_eq!(keep(&path, &raft), next);
        assert_ne!(raft_id(NodeId([1; 16]), Life::FIRST), raft_id(NodeId([1; 16]), next));
    }

    #[test]
    fn no_flipped_bit_and_no_cut_makes_it_another_life() {
        for broken in ["life", "raft/life"] {
            let (dir, path, raft) = place();
            keep(&path, &raft);
            let life = Life::begin_anew(&path, &raft).expect("an empty log can be put aside");
            let file = dir.path().join("server").join(broken);
            let good = fs::read(&file).expect("it is there");
            for bit in 0..good.len() * 8 {
                let mut bad = good.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                fs::write(&file, bad).expect("it can be written");
                assert_eq!(keep(&path, &raft), life, "bit {bit} of {broken}");
            }
            for length in 0..good.len() {
                fs::write(&file, &good[..length]).expect("it can be written");
                assert_eq!(keep(&path, &raft), life, "{length} bytes of {broken}");
            }
            fs::remove_file(&file).expect("it can go");
            assert_eq!(keep(&path, &raft), life, "without {broken}");
            assert_eq!(fs::read(&file).expect("it is made again"), good);
        }
    }

    #[test]
    fn an_older_file_put_back_never_brings_an_old_life_back() {
        for old_one in ["life", "raft/life"] {
            let (dir, path, raft) = place();
            keep(&path, &raft);
            let file = dir.path().join("server").join(old_one);
            let old = fs::read(&file).expect("it is there");
            let second = Life::begin_anew(&path, &raft).expect("an empty log can be put aside");
            fs::write(&file, old).expect("it can be written");
            let third = keep(&path, &raft);
            assert!(third > second, "{old_one}");
            assert_eq!(keep(&path, &raft), third);
        }
    }

    #[test]
    fn two_damaged_files_are_for_a_person_and_a_number_alone_is_of_an_older_build() {
        let (_dir, path, raft) = place();
        keep(&path, &raft);
        for file in [path.clone(), raft.join("life")] {
            fs::write(file, "none").expect("it can be written");
        }
        assert!(Life::keep(&path, &raft).is_err());
        fs::remove_file(raft.join("life")).expect("it can go");
        fs::write(&path, "7\n").expect("it can be written");
        assert_eq!(keep(&path, &raft), Life(7));
    }

    #[test]
    fn a_state_that_differs_is_replayed_then_fetched_then_left_to_a_person() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("differences");
        let hour = |number: i64| Timestamp(number * 3_600 * 1_000_000_000);
        let decide = |at| Differences::decide(&path, at).expect("the file can be read");
        assert_eq!(decide(hour(1)), Remedy::None);
        let expected = [(2, Remedy::Replay), (3, Remedy::BeginAnew), (4, Remedy::GiveUp)];
        for (at, remedy) in expected {
            Differences::note(&path, hour(at)).expect("it can be written");
            assert_eq!(decide(hour(at)), remedy);
        }
        assert_eq!(decide(hour(5)), Remedy::GiveUp, "until someone looks or a day is over");
        assert_eq!(decide(hour(40)), Remedy::Replay);
        assert_eq!(decide(hour(41)), Remedy::None);
    }

    #[test]
    fn a_remedy_is_applied_once() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("differences");
        Differences::note(&path, Timestamp(1)).expect("it can be written");
        Differences::note(&path, Timestamp(2)).expect("it can be written");
        assert_eq!(Differences::decide(&path, Timestamp(3)).expect("it is there"), Remedy::BeginAnew);
        assert_eq!(Differences::decide(&path, Timestamp(4)).expect("it is there"), Remedy::None);
    }
}
