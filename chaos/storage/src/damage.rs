use std::fmt;

use rand::{RngExt, rngs::SmallRng};

use crate::{Files, files::Content};

/// Of a hundred damages done to a file, how many are flipped bits; the others are cuts.
const FLIPS_PERCENT: usize = 85;

/// One thing that goes wrong on a disk.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Damage {
    /// One bit of a file is another one.
    FlippedBit {
        /// Which file.
        file: String,
        /// Which bit of it.
        bit: usize,
    },
    /// A file is shorter than it was.
    Cut {
        /// Which file.
        file: String,
        /// How long it is.
        to: usize,
    },
    /// Two files have each other's content.
    Swapped {
        /// One.
        one: String,
        /// The other.
        other: String,
    },
    /// A file, or all below a directory, is as it was at an earlier moment.
    Older {
        /// Which: a file, or a directory with its slash.
        below: String,
    },
    /// A file is gone.
    Gone {
        /// Which.
        file: String,
    },
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FlippedBit { file, bit } => write!(f, "bit {bit} of {file} flipped"),
            Self::Cut { file, to } => write!(f, "{file} cut to {to} bytes"),
            Self::Swapped { one, other } => write!(f, "{one} and {other} swapped"),
            Self::Older { below } => write!(f, "an older {below} put back"),
            Self::Gone { file } => write!(f, "{file} gone"),
        }
    }
}

impl Damage {
    /// Plans damages: every swap of files of one kind, every older file, every file gone, and for the rest flipped bits and
    /// cuts, as many in each file as in any other, until there are `places`. A short file has each of its bits once.
    pub fn plan(files: &Files, older: &Files, places: usize, rng: &mut SmallRng) -> Vec<Self> {
        let mut plan = Vec::new();
        let names: Vec<&String> = files.0.keys().collect();
        for (at, one) in names.iter().enumerate() {
            let alike = |other: &&&String| kind(one) == kind(other) && files.0[**other] != files.0[*one];
            plan.extend(
                names[at + 1..]
                    .iter()
                    .filter(alike)
                    .map(|other| Self::Swapped { one: (*one).clone(), other: (**other).clone() }),
            );
            plan.push(Self::Gone { file: (*one).clone() });
            if older.0.get(*one).is_some_and(|content| *content != files.0[*one]) {
                plan.push(Self::Older { below: (*one).clone() });
            }
        }
        let mut dirs: Vec<&str> =
            names.iter().filter_map(|name| name.rfind('/').map(|at| &name[..=at])).collect();
        dirs.sort_unstable();
        dirs.dedup();
        // A directory at the top is all that an agent has: its log and what guards the log, of one earlier moment. That is an
        // image of the disk put back, which nothing on the same disk can notice.
        dirs.retain(|dir| dir.matches('/').count() > 1);
        plan.extend(dirs.into_iter().map(|dir| Self::Older { below: dir.to_owned() }));
        plan.extend(in_each_file(files, places.saturating_sub(plan.len()), rng));
        plan
    }

    /// Does it.
    pub fn apply(&self, files: &mut Files, older: &Files) {
        match self {
            Self::FlippedBit { file, bit } => {
                let content = files.0.get_mut(file).expect("the plan was made of these files");
                content.bytes[bit / 8] ^= 1 << (bit % 8);
            }
            Self::Cut { file, to } => {
                let content = files.0.get_mut(file).expect("the plan was made of these files");
                content.bytes.truncate(*to);
                content.length = *to as u64;
            }
            Self::Swapped { one, other } => {
                let first = files.0[one].clone();
                let second = files.0.insert(other.clone(), first).expect("the plan was made of these files");
                files.0.insert(one.clone(), second);
            }
            Self::Older { below } => {
                let meant = |name: &String| {
                    name == below || (below.ends_with('/') && name.starts_with(below.as_str()))
                };
                files.0.retain(|name, _| !meant(name));
                let back = older.0.iter().filter(|(name, _)| meant(name));
                files.0.extend(back.map(|(name, content)| (name.clone(), content.clone())));
            }
            Self::Gone { file } => {
                files.0.remove(file);
            }
        }
    }
}

/// Spreads flips and cuts over the files: what short files have no room for goes to the long ones.
fn in_each_file(files: &Files, places: usize, rng: &mut SmallRng) -> Vec<Damage> {
    let mut written: Vec<(&String, &Content)> =
        files.0.iter().filter(|(_, content)| !content.bytes.is_empty()).collect();
    written.sort_by_key(|(_, content)| content.bytes.len());
    let (mut plan, mut left) = (Vec::new(), written.len());
    for (file, content) in written {
        let share = (places - plan.len()) / left;
        left -= 1;
        let bits = content.bytes.len() * 8;
        let flips = bits.min(share * FLIPS_PERCENT / 100);
        for number in 0..flips {
            // One from each of as many equal pieces, so that no part of the file is passed over.
            let (from, to) = (bits * number / flips, bits * (number + 1) / flips);
            plan.push(Damage::FlippedBit { file: file.clone(), bit: rng.random_range(from..to) });
        }
        for _ in 0..content.bytes.len().min(share - flips.min(share)) {
            plan.push(Damage::Cut { file: file.clone(), to: rng.random_range(0..content.bytes.len()) });
        }
    }
    plan
}

/// Names files of one kind alike: by their directory and what comes after the last dot.
fn kind(name: &str) -> (&str, &str) {
    let (dir, file) = name.rsplit_once('/').unwrap_or(("", name));
    (dir, file.rsplit_once('.').map_or("", |(_, extension)| extension))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn files(contents: &[(&str, &[u8])]) -> Files {
        let content = |bytes: &[u8]| Content { bytes: bytes.to_vec(), length: bytes.len() as u64 + 10 };
        Files(contents.iter().map(|(name, bytes)| ((*name).to_owned(), content(bytes))).collect())
    }

    #[test]
    fn a_plan_reaches_every_file_and_every_kind() {
        let now = files(&[("life", b"1"), ("log/0.jnl", &[7; 500]), ("log/1.jnl", &[8; 300])]);
        let then = files(&[("life", b"1"), ("log/0.jnl", &[7; 100])]);
        let plan = Damage::plan(&now, &then, 200, &mut SmallRng::seed_from_u64(1));
        assert!(plan.len() > 150 && plan.len() <= 200, "{}", plan.len());
        for (file, content) in &now.0 {
            let flips = plan
                .iter()
                .filter(|damage| matches!(damage, Damage::FlippedBit { file: of, .. } if of == file));
            assert!(flips.count() >= (content.bytes.len() * 8).min(50), "{file}");
        }
        let swapped = Damage::Swapped { one: "log/0.jnl".to_owned(), other: "log/1.jnl".to_owned() };
        let older = Damage::Older { below: "log/0.jnl".to_owned() };
        assert!(
            [swapped, older, Damage::Gone { file: "life".to_owned() }].iter().all(|one| plan.contains(one))
        );
    }

    #[test]
    fn every_damage_changes_something() {
        let now = files(&[("a/x.jnl", b"one"), ("a/y.jnl", b"two")]);
        let then = files(&[("a/x.jnl", b"o")]);
        for damage in Damage::plan(&now, &then, 40, &mut SmallRng::seed_from_u64(1)) {
            let mut changed = now.clone();
            damage.apply(&mut changed, &then);
            assert_ne!(changed.0, now.0, "{damage}");
        }
    }
}
