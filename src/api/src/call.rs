//! A request, read: what every route needs of it.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, request::Parts};

use crate::HttpError;

/// Longest wait of a blocking query.
const WAIT_MAX: Duration = Duration::from_secs(300);

/// A request, with its body.
pub struct Call {
    /// The method; POST reads as PUT.
    pub method: Method,
    /// The path without `/v1`, not decoded.
    pub path: String,
    /// The query.
    pub query: Query,
    /// The body.
    pub body: Bytes,
    /// The rest, for upgrades.
    pub parts: Parts,
}

/// A query string.
#[derive(Clone, Debug, Default)]
pub struct Query {
    pairs: Vec<(String, String)>,
}

/// What a blocking query waits for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Wait {
    /// The index that the caller has seen.
    pub index: u64,
    /// How long to wait for a later one.
    pub wait: Duration,
}

impl Call {
    /// The headers.
    pub fn headers(&self) -> &HeaderMap {
        &self.parts.headers
    }

    /// The namespace that the request is about: `default` unless given.
    pub fn namespace(&self) -> &str {
        self.query.get("namespace").filter(|name| !name.is_empty()).unwrap_or("default")
    }

    /// The namespace of a list: none for all of them.
    pub fn list_namespace(&self) -> Option<&str> {
        Some(self.namespace()).filter(|name| *name != "*")
    }

    /// Fails unless the request only reads.
    ///
    /// # Errors
    ///
    /// 405 otherwise.
    pub fn require_read(&self) -> Result<(), HttpError> {
        if self.is_read() { Ok(()) } else { Err(HttpError::invalid_method()) }
    }

    /// Fails unless the request is a PUT or POST.
    ///
    /// # Errors
    ///
    /// 405 otherwise.
    pub fn require_put(&self) -> Result<(), HttpError> {
        if self.method == Method::PUT { Ok(()) } else { Err(HttpError::invalid_method()) }
    }

    /// Tells whether the request only reads.
    pub fn is_read(&self) -> bool {
        matches!(self.method, Method::GET | Method::HEAD)
    }

    /// Reads the body as JSON, with keys in any case.
    ///
    /// # Errors
    ///
    /// 400 with what is wrong.
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T, HttpError> {
        self.json_of("request")
    }

    /// Reads the body as a JSON object, with keys in any case. `kind` is what messages call it; clients know them.
    ///
    /// # Errors
    ///
    /// 400 with what is wrong.
    pub fn json_of<T: serde::de::DeserializeOwned>(&self, kind: &str) -> Result<T, HttpError> {
        if self.body.is_empty() {
            return Err(HttpError::bad_request("Request body is empty"));
        }
        let wrong = |error: serde_json::Error| {
            HttpError::bad_request(if error.is_eof() {
                "unexpected EOF".to_owned()
            } else {
                error.to_string()
            })
        };
        let value: serde_json::Value = serde_json::from_slice(&self.body).map_err(wrong)?;
        let found = match &value {
            serde_json::Value::Array(_) => "array",
            serde_json::Value::String(_) => "string",
            serde_json::Value::Number(_) => "number",
            serde_json::Value::Bool(_) => "bool",
            serde_json::Value::Null | serde_json::Value::Object(_) => "",
        };
        if !found.is_empty() {
            let text = format!("json: cannot unmarshal {found} into Go value of type {kind}");
            return Err(HttpError::bad_request(text));
        }
        api_types::from_value(value).map_err(|error| HttpError::bad_request(error.to_string()))
    }

    /// Reads the body as JSON, or takes the default when there is none.
    ///
    /// # Errors
    ///
    /// 400 with what is wrong.
    pub fn json_or_default<T: serde::de::DeserializeOwned + Default>(&self) -> Result<T, HttpError> {
        if self.body.is_empty() { Ok(T::default()) } else { self.json() }
    }
}

impl Query {
    /// Writes a query string with another wait.
    pub(crate) fn with_wait(&self, wait: Duration) -> String {
        let mut text = String::new();
        for (name, value) in self.pairs.iter().filter(|(name, _)| name != "wait") {
            encode(&mut text, name);
            text.push('=');
            encode(&mut text, value);
            text.push('&');
        }
        format!("{text}wait={}ms", wait.as_millis().max(1))
    }

    /// Writes a query string that names a region.
    pub(crate) fn with_region(&self, region: &str) -> String {
        let mut text = String::new();
        for (name, value) in self.pairs.iter().filter(|(name, _)| name != "region") {
            encode(&mut text, name);
            text.push('=');
            encode(&mut text, value);
            text.push('&');
        }
        text.push_str("region=");
        encode(&mut text, region);
        text
    }

    /// Reads a query string.
    pub fn parse(text: &str) -> Self {
        let pairs = text
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| {
                let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                (decode(key, true), decode(value, true))
            })
            .collect();
        Self { pairs }
    }

    /// Returns a parameter's first value.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.pairs.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// Returns all values of a parameter.
    pub fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.pairs.iter().filter(move |(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// Returns a parameter that is not empty.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.get(key).filter(|value| !value.is_empty())
    }

    /// Reads a switch: absent is none.
    ///
    /// # Errors
    ///
    /// 400 when it is not a switch's value.
    pub fn switch(&self, key: &str) -> Result<Option<bool>, HttpError> {
        match self.text(key) {
            None => Ok(None),
            Some("1" | "t" | "T" | "TRUE" | "true" | "True") => Ok(Some(true)),
            Some("0" | "f" | "F" | "FALSE" | "false" | "False") => Ok(Some(false)),
            Some(value) => Err(HttpError::bad_request(format!(
                "Failed to parse value of \"{key}\" (\"{value}\") as a bool: strconv.ParseBool: parsing \"{value}\": invalid syntax"
            ))),
        }
    }

    /// Reads a number.
    ///
    /// # Errors
    ///
    /// 400 when it is none.
    pub fn number<T: std::str::FromStr>(&self, key: &str) -> Result<Option<T>, HttpError> {
        let Some(text) = self.text(key) else { return Ok(None) };
        let wrong = || HttpError::bad_request(format!("Expect a number for `{key}` query string parameter"));
        text.parse().map(Some).map_err(|_| wrong())
    }

    /// Tells whether the caller takes the state of any server.
    pub fn is_stale(&self) -> bool {
        self.get("stale").is_some_and(|value| !matches!(value, "0" | "f" | "F" | "false" | "FALSE" | "False"))
    }

    /// Tells whether answers are written for people.
    pub fn pretty(&self) -> bool {
        self.get("pretty").is_some_and(|value| value != "0")
    }

    /// Checks what every read takes, and returns what it waits for.
    ///
    /// # Errors
    ///
    /// 400 with what is wrong.
    pub fn wait(&self) -> Result<Option<Wait>, HttpError> {
        if let Some(stale) = self.text("stale")
            && !matches!(
                stale,
                "1" | "t" | "T" | "TRUE" | "true" | "True" | "0" | "f" | "F" | "FALSE" | "false" | "False"
            )
        {
            let message = "Expect `true` or `false` for `stale` query string parameter";
            return Err(HttpError::bad_request(message));
        }
        let wait = match self.text("wait") {
            None => WAIT_MAX,
            Some(text) => parse_duration(text).ok_or_else(|| HttpError::bad_request("Invalid wait time"))?,
        };
        let index = match self.text("index") {
            None => 0,
            Some(text) => text.parse().map_err(|_| HttpError::bad_request("Invalid index"))?,
        };
        let wait = if wait.is_zero() { WAIT_MAX } else { wait.min(WAIT_MAX) };
        Ok((index > 0).then_some(Wait { index, wait }))
    }
}

/// Decodes `%xx`, and `+` where that stands for a blank.
pub fn decode(text: &str, plus: bool) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'+' if plus => out.push(b' '),
            b'%' => {
                let rest = bytes.clone();
                let digits: Vec<u32> =
                    rest.take(2).filter_map(|digit| char::from(digit).to_digit(16)).collect();
                match digits[..] {
                    [high, low] => {
                        out.push(u8::try_from(high * 16 + low).unwrap_or(b'%'));
                        bytes.nth(1);
                    }
                    _ => out.push(b'%'),
                }
            }
            byte => out.push(byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Writes a text so that it may stand in a query.
fn encode(out: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
}

/// Reads a duration as Go writes it: `1h30m`, `200ms`, `1.5s`.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let unit_end = rest[digits..]
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .map_or(rest.len(), |at| at + digits);
        let unit = match &rest[digits..unit_end] {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3_600.0,
            _ => return None,
        };
        total += Duration::try_from_secs_f64(number * unit).ok()?;
        rest = &rest[unit_end..];
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_decoded() {
        let query = Query::parse("filter=Status%20%3D%3D+%22x%22&stale&topic=a&topic=b&bad=%zz");
        assert_eq!(query.get("filter"), Some("Status == \"x\""));
        assert_eq!(query.get("stale"), Some(""));
        assert_eq!(query.all("topic").collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(query.get("bad"), Some("%zz"));
    }

    #[test]
    fn another_wait_leaves_the_rest_of_a_query_as_it_was() {
        let query = Query::parse("filter=A+%3D%3D+%22b%22&wait=5m&index=7&stale");
        let again = Query::parse(&query.with_wait(Duration::from_secs(2)));
        assert_eq!(again.get("filter"), Some("A == \"b\""));
        assert_eq!(again.wait(), Ok(Some(Wait { index: 7, wait: Duration::from_secs(2) })));
        assert!(again.is_stale());
    }

    #[test]
    fn another_region_leaves_the_rest_of_a_query_as_it_was() {
        let query = Query::parse("region=a&namespace=x%26y");
        let abroad = Query::parse(&query.with_region("b&c"));
        assert_eq!((abroad.get("region"), abroad.get("namespace")), (Some("b&c"), Some("x&y")));
    }

    #[test]
    fn durations_are_read_as_go_writes_them() {
        assert_eq!(parse_duration("1h30m"), Some(Duration::from_secs(5_400)));
        assert_eq!(parse_duration("200ms"), Some(Duration::from_millis(200)));
        for wrong in ["", "abc", "5", "1x", "-1s"] {
            assert_eq!(parse_duration(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn waits_are_checked() {
        let wrong = |text: &str| Query::parse(text).wait().expect_err("a wrong query").message;
        assert_eq!(wrong("index=abc"), "Invalid index");
        assert_eq!(wrong("index=1&wait=abc"), "Invalid wait time");
        assert!(wrong("stale=maybe").contains("stale"));
        assert_eq!(Query::parse("index=0").wait(), Ok(None));
    }
}
