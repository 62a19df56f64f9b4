use std::cmp::Ordering;

use regex::Regex;

use super::version::{Requirements, Version};

/// Longest compiled form of a user's regular expression; larger ones never hold.
const REGEX_SIZE_MAX: usize = 1 << 20;

/// How the two sides of a condition are compared.
pub(crate) enum Operator {
    /// `=`, `==`, `is`.
    Equal,
    /// `!=`, `not`.
    NotEqual,
    /// `<`, `<=`, `>`, `>=`: the orders that satisfy it.
    Order(&'static [Ordering]),
    /// `regexp`; none when the expression is not one.
    Regexp(Option<Box<Regex>>),
    /// `version`: a version with a pre-release satisfies only requirements that name one.
    Version(Option<Requirements>),
    /// `semver`: strict order, pre-releases included.
    Semver(Option<Requirements>),
    /// `set_contains`, `set_contains_all`.
    ContainsAll,
    /// `set_contains_any`.
    ContainsAny,
    /// `is_set`, `attribute_is_set`.
    IsSet,
    /// `is_not_set`, `attribute_is_not_set`.
    IsNotSet,
    /// Not an operator: never holds.
    Unknown,
}

impl Operator {
    /// Reads an operator; what depends on a literal right side is compiled here, once.
    pub(crate) fn parse(name: &str, right: &str) -> Self {
        match name {
            "" | "=" | "==" | "is" => Self::Equal,
            "!=" | "not" => Self::NotEqual,
            "<" => Self::Order(&[Ordering::Less]),
            "<=" => Self::Order(&[Ordering::Less, Ordering::Equal]),
            ">" => Self::Order(&[Ordering::Greater]),
            ">=" => Self::Order(&[Ordering::Greater, Ordering::Equal]),
            "regexp" => Self::Regexp(
                regex::RegexBuilder::new(right).size_limit(REGEX_SIZE_MAX).build().ok().map(Box::new),
            ),
            "version" => Self::Version(Requirements::parse(right)),
            "semver" => Self::Semver(Requirements::parse_strict(right)),
            "set_contains" | "set_contains_all" => Self::ContainsAll,
            "set_contains_any" => Self::ContainsAny,
            "is_set" | "attribute_is_set" => Self::IsSet,
            "is_not_set" | "attribute_is_not_set" => Self::IsNotSet,
            _ => Self::Unknown,
        }
    }

    /// Tells whether its right side is compiled, so that it must be read anew where that differs from node to node.
    pub(crate) fn is_compiled(&self) -> bool {
        matches!(self, Self::Regexp(_) | Self::Version(_) | Self::Semver(_))
    }

    /// Compares; a side is none when it was not found.
    pub(crate) fn holds(&self, left: Option<&str>, right: Option<&str>) -> bool {
        match self {
            Self::IsSet => return left.is_some(),
            Self::IsNotSet => return left.is_none(),
            Self::NotEqual => return left != right,
            _ => {}
        }
        let (Some(left), Some(right)) = (left, right) else { return false };
        match self {
            Self::Equal => left == right,
            Self::Order(wanted) => compare(left, right).is_some_and(|order| wanted.contains(&order)),
            Self::Regexp(expression) => {
                expression.as_ref().is_some_and(|expression| expression.is_match(left))
            }
            Self::Version(requirements) => satisfies(left, requirements.as_ref(), Requirements::met_by),
            Self::Semver(requirements) => {
                satisfies(left, requirements.as_ref(), Requirements::met_strictly_by)
            }
            Self::ContainsAll => items(right).all(|wanted| items(left).any(|found| found == wanted)),
            Self::ContainsAny => items(right).any(|wanted| items(left).any(|found| found == wanted)),
            Self::NotEqual | Self::IsSet | Self::IsNotSet | Self::Unknown => false,
        }
    }
}

fn satisfies(
    left: &str,
    requirements: Option<&Requirements>,
    met: impl Fn(&Requirements, &Version) -> bool,
) -> bool {
    match (requirements, Version::parse(left)) {
        (Some(requirements), Some(version)) => met(requirements, &version),
        _ => false,
    }
}

fn items(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim)
}

/// Orders as whole numbers when both are, else as numbers, else as text.
fn compare(left: &str, right: &str) -> Option<Ordering> {
    if let (Ok(left), Ok(right)) = (left.parse::<i64>(), right.parse::<i64>()) {
        return Some(left.cmp(&right));
    }
    if let (Ok(left), Ok(right)) = (left.parse::<f64>(), right.parse::<f64>()) {
        return left.partial_cmp(&right);
    }
    Some(left.cmp(right))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(left: &str, operator: &str, right: &str) -> bool {
        Operator::parse(operator, right).holds(Some(left), Some(right))
    }

    #[test]
    fn numbers_are_ordered_as_numbers_and_words_as_words() {
        assert!(holds("9", "<", "10"));
        assert!(holds("9.5", "<", "10"));
        assert!(holds("abc", "<", "abd"));
        assert!(!holds("10", "<", "9"));
        assert!(holds("10", ">=", "10"));
        assert!(holds("1e1", ">", "9.5"));
        assert!(holds("10", "<", "9a"), "one word makes both words");
    }

    #[test]
    fn versions_follow_their_requirements() {
        assert!(holds("1.2.3", "version", ">= 1.2, < 2"));
        assert!(!holds("2.0.0", "version", ">= 1.2, < 2"));
        assert!(holds("1.2.9", "version", "~> 1.2.3"));
        assert!(!holds("1.3.0", "version", "~> 1.2.3"));
        assert!(!holds("1.3.0-beta1", "version", ">= 1.2"));
        assert!(holds("1.3.0-beta1", "semver", ">= 1.2.0"));
        assert!(holds("4.9.0", "version", "> 3.2"));
        assert!(holds("3.0.0", "version", "~> 2"), "one number alone has no last one that may differ");
        assert!(!holds("1.9.0", "version", "~> 2"));
        assert!(holds("1.3.0-beta2", "version", ">= 1.3.0-beta1"));
        assert!(!holds("1.3.0", "version", "~> 1.3.0-beta1"));
        assert!(!holds("1.2.9", "semver", "~> 1.2.3"), "the strict order has no such operator");
        assert!(!holds("not a version", "version", ">= 0"));
        assert!(!holds("1.2.3", "version", "about 1"));
    }

    #[test]
    fn sets_and_presence() {
        assert!(holds("a, b ,c", "set_contains", "a,c"));
        assert!(!holds("a,b", "set_contains_all", "a,c"));
        assert!(holds("a,b", "set_contains_any", "x,b"));
        assert!(Operator::parse("is_set", "").holds(Some("x"), Some("")));
        assert!(!Operator::parse("is_set", "").holds(None, Some("")));
        assert!(Operator::parse("is_not_set", "").holds(None, Some("")));
        assert!(Operator::parse("!=", "x").holds(None, Some("x")));
        assert!(!Operator::parse("=", "x").holds(None, Some("x")));
        assert!(holds("linux", "regexp", "^lin"));
        assert!(!holds("linux", "regexp", "(("));
    }
}
