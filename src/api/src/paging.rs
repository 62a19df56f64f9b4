//! Pages of lists: how many, from where on, and only what matches.

use std::fmt;

use serde_json::Value;

use crate::{HttpError, Query, filter::Filter};

/// Which part of a list a caller wants.
#[derive(Clone, Debug, Default)]
pub(crate) struct Paging {
    /// At most so many; none for all.
    per_page: Option<usize>,
    /// Where the page begins.
    token: Option<String>,
    /// From the end to the beginning.
    pub reverse: bool,
    filter: Option<Filter>,
}

/// Where a row is in its list; as text it is a token.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Position {
    /// In the order of creation.
    Created(u64, String),
    /// In the order of namespaces and names.
    Named(String, String),
    /// In the order of ids.
    Id(String),
    /// In the order of changes.
    Modified(u64),
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Created(index, id) => write!(f, "{index}.{id}"),
            Self::Named(namespace, name) => write!(f, "{namespace}.{name}"),
            Self::Id(id) => f.write_str(id),
            Self::Modified(index) => write!(f, "{index}"),
        }
    }
}

impl Position {
    /// Reads a token of the same kind as this position. A token that is none is one from before all others.
    fn read(&self, token: &str) -> Self {
        let (first, rest) = token.split_once('.').unwrap_or((token, ""));
        match self {
            Self::Created(..) => Self::Created(first.parse().unwrap_or(0), rest.to_owned()),
            Self::Named(..) => Self::Named(first.to_owned(), rest.to_owned()),
            Self::Id(_) => Self::Id(token.to_owned()),
            Self::Modified(_) => Self::Modified(token.parse().unwrap_or(0)),
        }
    }
}

impl Paging {
    /// Reads what a query says about pages.
    ///
    /// # Errors
    ///
    /// 400 with what is wrong.
    pub(crate) fn of(query: &Query) -> Result<Self, HttpError> {
        let per_page = query.number::<i32>("per_page")?;
        let filter = query.text("filter").map(Filter::parse).transpose().map_err(|error| {
            HttpError::bad_request(format!(
                "failed to create result paginator: failed to read filter expression: {error}"
            ))
        })?;
        Ok(Self {
            per_page: per_page.and_then(|count| usize::try_from(count).ok()).filter(|count| *count > 0),
            token: query.text("next_token").map(str::to_owned),
            reverse: query.get("reverse") == Some("true"),
            filter,
        })
    }

    /// Hands the rows of the page to `take` and returns where the next page begins, if there is one.
    ///
    /// The rows come in the order of their positions, or in the reverse order if that was asked for. `row` makes the
    /// JSON form of a row for the filter, with at least the fields that it is given.
    pub(crate) fn select<R>(
        &self,
        rows: impl Iterator<Item = R>,
        position: impl Fn(&R) -> Position,
        row: impl Fn(&R, &Filter) -> Value,
        mut take: impl FnMut(R),
    ) -> Option<String> {
        let mut taken = 0;
        let mut reached = self.token.is_none();
        for candidate in rows {
            if !reached {
                let at = position(&candidate);
                let wanted = at.read(self.token.as_deref().unwrap_or_default());
                reached = if self.reverse { at <= wanted } else { at >= wanted };
                if !reached {
                    continue;
                }
            }
            if self.filter.as_ref().is_some_and(|filter| !filter.matches(&row(&candidate, filter))) {
                continue;
            }
            if self.per_page == Some(taken) {
                return Some(position(&candidate).to_string());
            }
            take(candidate);
            taken += 1;
        }
        None
    }

    /// As [`Paging::select`], for rows whose JSON form is made anyway.
    pub(crate) fn shapes<R, T: serde::Serialize>(
        &self,
        rows: impl Iterator<Item = R>,
        position: impl Fn(&R) -> Position,
        shape: impl Fn(&R) -> T,
    ) -> (Vec<T>, Option<String>) {
        let mut shapes = Vec::new();
        let json = |candidate: &R, _: &Filter| serde_json::to_value(shape(candidate)).unwrap_or_default();
        let next = self.select(rows, position, json, |candidate| shapes.push(shape(&candidate)));
        (shapes, next)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn page(query: &str, rows: impl Iterator<Item = u64>) -> (Vec<u64>, Option<String>) {
        let paging = Paging::of(&Query::parse(query)).expect("a good query");
        let mut taken = Vec::new();
        let position = |row: &u64| Position::Created(*row, format!("id{row}"));
        let next = paging.select(
            rows,
            position,
            |row, _| json!({"N": row, "Even": row % 2 == 0}),
            |row| taken.push(row),
        );
        (taken, next)
    }

    #[test]
    fn pages_follow_each_other_without_gap_or_overlap() {
        let (first, next) = page("per_page=2", 1..6);
        assert_eq!((first, next.as_deref()), (vec![1, 2], Some("3.id3")));
        let (second, next) = page("per_page=2&next_token=3.id3", 1..6);
        assert_eq!((second, next.as_deref()), (vec![3, 4], Some("5.id5")));
        assert_eq!(page("per_page=2&next_token=5.id5", 1..6), (vec![5], None));
    }

    #[test]
    fn a_page_goes_on_where_its_first_row_was() {
        assert_eq!(page("next_token=3.id3", [1, 2, 4, 5].into_iter()), (vec![4, 5], None));
        assert_eq!(page("next_token=zzz", 1..3), (vec![1, 2], None));
    }

    #[test]
    fn lists_go_backwards_when_asked() {
        let (first, next) = page("per_page=2&reverse=true", (1..6).rev());
        assert_eq!((first, next.as_deref()), (vec![5, 4], Some("3.id3")));
        assert_eq!(page("reverse=true&next_token=3.id3", (1..6).rev()), (vec![3, 2, 1], None));
    }

    #[test]
    fn what_does_not_match_does_not_fill_a_page() {
        let (first, next) = page("per_page=2&filter=Even+==+true", 1..10);
        assert_eq!((first, next.as_deref()), (vec![2, 4], Some("6.id6")));
    }

    #[test]
    fn wrong_queries_are_told() {
        let told = |query: &str| Paging::of(&Query::parse(query)).expect_err("a wrong query").message;
        assert_eq!(told("per_page=x"), "Expect a number for `per_page` query string parameter");
        assert!(
            told("filter=x+==")
                .starts_with("failed to create result paginator: failed to read filter expression: 1:5")
        );
        assert!(Paging::of(&Query::parse("per_page=-1")).is_ok());
    }
}
