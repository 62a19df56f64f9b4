use std::time::Duration;

use http::HeaderMap;

/// What narrows or steers a request.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// Another namespace than the client's; `*` for all.
    pub namespace: Option<String>,
    /// Another region than the client's.
    pub region: Option<String>,
    /// Only ids that begin so.
    pub prefix: String,
    /// Only what this expression holds for.
    pub filter: String,
    /// At most so many.
    pub per_page: u32,
    /// Begin here.
    pub next_token: String,
    /// The other way round.
    pub reverse: bool,
    /// Wait until the index is higher.
    pub index: u64,
    /// At most so long; the server's default when zero.
    pub wait: Duration,
    /// Any server may answer.
    pub stale: bool,
    /// Anything else.
    pub params: Vec<(String, String)>,
}

impl Query {
    /// Narrows to ids that begin so.
    pub fn prefix(prefix: impl Into<String>) -> Self {
        Self { prefix: prefix.into(), ..Self::default() }
    }

    /// Adds a parameter.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.params.push((name.to_owned(), value.into()));
        self
    }

    /// Looks into another namespace.
    #[must_use]
    pub fn in_namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = Some(namespace.into());
        self
    }

    /// Lists the parameters in the form of a URL; `namespace` and `region` are what holds where the query has none.
    pub(crate) fn text(&self, namespace: &str, region: &str) -> String {
        let mut text = String::new();
        let mut add = |name: &str, value: &str| {
            if !text.is_empty() {
                text.push('&');
            }
            escape(&mut text, name);
            text.push('=');
            escape(&mut text, value);
        };
        let namespace = self.namespace.as_deref().unwrap_or(namespace);
        let region = self.region.as_deref().unwrap_or(region);
        for (name, value) in [
            ("namespace", namespace),
            ("region", region),
            ("prefix", &self.prefix),
            ("filter", &self.filter),
            ("next_token", &self.next_token),
        ] {
            if !value.is_empty() {
                add(name, value);
            }
        }
        if self.per_page > 0 {
            add("per_page", &self.per_page.to_string());
        }
        if self.reverse {
            add("reverse", "true");
        }
        if self.stale {
            add("stale", "");
        }
        if self.index > 0 {
            add("index", &self.index.to_string());
            if !self.wait.is_zero() {
                add("wait", &format!("{}ms", self.wait.as_millis()));
            }
        }
        for (name, value) in &self.params {
            add(name, value);
        }
        text
    }
}

/// Where an answer stands in time.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct QueryMeta {
    /// The index to wait on for changes.
    pub index: u64,
    /// Time since the answering server heard of the leader.
    pub last_contact: Duration,
    /// Whether there is a leader.
    pub known_leader: bool,
    /// Where the next page begins; empty when there is none.
    pub next_token: String,
}

impl QueryMeta {
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        Self {
            index: header("x-nomad-index").parse().unwrap_or(0),
            last_contact: Duration::from_millis(header("x-nomad-lastcontact").parse().unwrap_or(0)),
            known_leader: header("x-nomad-knownleader") == "true",
            next_token: header("x-nomad-nexttoken").to_owned(),
        }
    }
}

/// Appends a text with everything but letters, digits, `-`, `.`, `_` and `~` written as `%XX`.
pub(crate) fn escape(out: &mut String, text: &str) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
}

/// Returns one part of a path in escaped form.
pub(crate) fn segment(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    escape(&mut out, text);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_escaped_and_empty_ones_left_out() {
        let query = Query {
            filter: "A == \"b c\"".into(),
            index: 5,
            wait: Duration::from_secs(2),
            ..Query::default()
        };
        assert_eq!(query.text("*", ""), "namespace=%2A&filter=A%20%3D%3D%20%22b%20c%22&index=5&wait=2000ms");
        assert_eq!(Query::default().in_namespace("x").text("y", "eu"), "namespace=x&region=eu");
        assert_eq!(segment("a/periodic-1"), "a%2Fperiodic-1");
    }
}
