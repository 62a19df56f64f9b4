use std::cmp::Ordering;

/// A version: numbers separated by dots, and perhaps a pre-release. Build metadata is dropped.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Version {
    numbers: Vec<u64>,
    pre: String,
}

/// Several requirements on a version, all to be met: `>= 1.2, < 2`.
#[derive(Clone, Debug)]
pub(crate) struct Requirements(Vec<(Relation, Version)>);

#[derive(Clone, Copy, Debug)]
enum Relation {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    /// `~>`: at least this, and the same in all numbers but the last given one; any later one where only one is given.
    Pessimistic,
}

impl Version {
    /// Reads a version; a leading `v` is fine.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let text = text.strip_prefix('v').unwrap_or(text);
        let text = text.split('+').next().unwrap_or(text);
        let numeric = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (numbers, pre) = text.split_at(numeric);
        let numbers = numbers.split('.').map(|part| part.parse().ok()).collect::<Option<Vec<u64>>>()?;
        Some(Self { numbers, pre: pre.trim_start_matches(['-', '~']).to_owned() })
    }

    fn number(&self, at: usize) -> u64 {
        self.numbers.get(at).copied().unwrap_or(0)
    }

    fn order(&self, other: &Self) -> Ordering {
        self.order_of_numbers(other).then_with(|| order_of_pre_releases(&self.pre, &other.pre))
    }

    fn order_of_numbers(&self, other: &Self) -> Ordering {
        (0..self.numbers.len().max(other.numbers.len()))
            .map(|at| self.number(at).cmp(&other.number(at)))
            .find(|order| order.is_ne())
            .unwrap_or(Ordering::Equal)
    }
}

impl Requirements {
    /// Reads requirements separated by commas.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        text.split(',').map(parse_requirement).collect::<Option<Vec<_>>>().map(Self)
    }

    /// Reads requirements for the strict order, which has no `~>`.
    pub(crate) fn parse_strict(text: &str) -> Option<Self> {
        let pessimistic =
            |found: &Self| found.0.iter().any(|(relation, _)| matches!(relation, Relation::Pessimistic));
        Self::parse(text).filter(|found| !pessimistic(found))
    }

    /// Tells whether a version meets all; one with a pre-release only meets those that name a pre-release of it.
    pub(crate) fn met_by(&self, version: &Version) -> bool {
        self.0.iter().all(|(relation, wanted)| {
            pre_release_allowed(*relation, version, wanted) && relation.met(version, wanted)
        })
    }

    /// Tells whether a version meets all in the strict order of versions.
    pub(crate) fn met_strictly_by(&self, version: &Version) -> bool {
        self.0.iter().all(|(relation, wanted)| relation.met(version, wanted))
    }
}

impl Relation {
    fn met(self, version: &Version, wanted: &Version) -> bool {
        let order = version.order(wanted);
        match self {
            Self::Equal => order.is_eq(),
            Self::NotEqual => order.is_ne(),
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
            Self::Greater => order.is_gt(),
            Self::GreaterOrEqual => order.is_ge(),
            Self::Pessimistic => {
                let same = wanted.numbers.len().saturating_sub(1);
                order.is_ge() && (0..same).all(|at| version.number(at) == wanted.number(at))
            }
        }
    }
}

fn pre_release_allowed(relation: Relation, version: &Version, wanted: &Version) -> bool {
    match relation {
        Relation::Equal | Relation::NotEqual => true,
        // What follows a pre-release in this way is one itself.
        Relation::Pessimistic if version.pre.is_empty() => wanted.pre.is_empty(),
        Relation::Less
        | Relation::LessOrEqual
        | Relation::Greater
        | Relation::GreaterOrEqual
        | Relation::Pessimistic => {
            version.pre.is_empty() || (!wanted.pre.is_empty() && version.order_of_numbers(wanted).is_eq())
        }
    }
}

fn parse_requirement(text: &str) -> Option<(Relation, Version)> {
    let text = text.trim();
    let at = text.find(|c: char| !matches!(c, '=' | '!' | '<' | '>' | '~')).unwrap_or(text.len());
    let (relation, version) = text.split_at(at);
    let relation = match relation {
        "" | "=" | "==" => Relation::Equal,
        "!=" => Relation::NotEqual,
        "<" => Relation::Less,
        "<=" => Relation::LessOrEqual,
        ">" => Relation::Greater,
        ">=" if mutants::on!("constraint-version-off-by-one") => Relation::Greater,
        ">=" => Relation::GreaterOrEqual,
        "~>" => Relation::Pessimistic,
        _ => return None,
    };
    Version::parse(version).map(|version| (relation, version))
}

/// None comes after any; dotted parts are compared as numbers where both are.
fn order_of_pre_releases(left: &str, right: &str) -> Ordering {
    match (left.is_empty(), right.is_empty()) {
        (true, true) => return Ordering::Equal,
        (true, false) => return Ordering::Greater,
        (false, true) => return Ordering::Less,
        (false, false) => {}
    }
    let (mut left, mut right) = (left.split('.'), right.split('.'));
    loop {
        let order = match (left.next(), right.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(left), Some(right)) => match (left.parse::<u64>(), right.parse::<u64>()) {
                (Ok(left), Ok(right)) => left.cmp(&right),
                (Ok(_), Err(_)) => Ordering::Less,
                (Err(_), Ok(_)) => Ordering::Greater,
                (Err(_), Err(_)) => left.cmp(right),
            },
        };
        if order.is_ne() {
            return order;
        }
    }
}
