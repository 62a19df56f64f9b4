//! Bugs of our own, to see whether the tests notice them.
//!
//! A mutant is a line in the product that does the wrong thing when [`on!`] says so. That is a constant `false`, unless
//! everything is compiled with `--cfg wayfarer_mutants`; then the environment variable `WAYFARER_MUTANT` chooses one by
//! its name when the process starts. `cargo run -p chaos-check --bin mutants` builds that way and tries them all. This
//! crate depends on nothing, so every other one may use it.
//!
//! Read [`on!`] first, then [`ALL`].

mod list;

pub use list::ALL;

/// The environment variable that chooses a mutant, in builds that have them.
pub const VARIABLE: &str = "WAYFARER_MUTANT";

/// A bug that can be switched on.
#[derive(Clone, Copy, Debug)]
pub struct Mutant {
    /// Its name.
    pub name: &'static str,
    /// The crates whose tests should notice, the one that it is in first.
    pub crates: &'static [&'static str],
    /// What the product does wrong with it.
    pub what: &'static str,
}

/// Tells whether a mutant is on. The name has to be one of [`ALL`]; any other does not compile.
#[macro_export]
macro_rules! on {
    ($name:literal) => {{
        const { assert!($crate::is_known($name), "this mutant is not in the list") };
        $crate::is_chosen($name)
    }};
}

/// Tells whether the process was started with this mutant; see [`on!`].
#[cfg(not(wayfarer_mutants))]
#[inline(always)]
pub const fn is_chosen(_name: &str) -> bool {
    false
}

/// Tells whether the process was started with this mutant; see [`on!`].
#[cfg(wayfarer_mutants)]
pub fn is_chosen(name: &str) -> bool {
    static CHOSEN: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    CHOSEN.get_or_init(|| std::env::var(VARIABLE).unwrap_or_default()) == name
}

/// Tells whether there is a mutant of this name.
pub const fn is_known(name: &str) -> bool {
    let mut at = 0;
    while at < ALL.len() {
        if is_same(ALL[at].name, name) {
            return true;
        }
        at += 1;
    }
    false
}

const fn is_same(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    if one.len() != other.len() {
        return false;
    }
    let mut at = 0;
    while at < one.len() {
        if one[at] != other[at] {
            return false;
        }
        at += 1;
    }
    true
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_has_a_name_of_its_own_and_says_what_it_does() {
        let names: BTreeSet<&str> = ALL.iter().map(|mutant| mutant.name).collect();
        assert_eq!(names.len(), ALL.len());
        assert!(ALL.iter().all(|mutant| !mutant.crates.is_empty() && !mutant.what.is_empty()));
        assert!(names.iter().all(|name| is_known(name)));
        assert!(!is_known("raft-trusts") && !is_known(""));
    }

    #[cfg(not(wayfarer_mutants))]
    #[test]
    fn none_is_on_in_a_build_that_people_use() {
        assert!(!on!("raft-trusts-short-log"));
    }
}
