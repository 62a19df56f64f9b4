use std::{fmt, path::PathBuf, str::FromStr};

use tls::{ClientSettings as TlsSettings, TlsError};

/// Where an agent listens.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Address {
    /// TCP without encryption.
    Http {
        /// Host and port.
        authority: String,
        /// Path that stands before every request's, without a slash at its end.
        base: String,
    },
    /// TCP with TLS.
    Https {
        /// Host and port.
        authority: String,
        /// Path that stands before every request's, without a slash at its end.
        base: String,
    },
    /// A socket in the file system.
    Unix(PathBuf),
}

/// A text is not the address of an agent.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BadAddress {
    /// It begins with a scheme that this client does not speak.
    #[error("address {0:?} begins with {1}: this client speaks http://, https:// and unix://")]
    Scheme(String, String),
    /// There is no host in it.
    #[error("address {0:?} names no host: wanted one like http://127.0.0.1:4646")]
    NoHost(String),
}

impl FromStr for Address {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Self, BadAddress> {
        let trimmed = text.trim_end_matches('/');
        let Some((scheme, rest)) = trimmed.split_once("://") else {
            return Err(BadAddress::Scheme(text.to_owned(), "no scheme".to_owned()));
        };
        match scheme {
            "unix" => Ok(Self::Unix(rest.into())),
            "http" | "https" => {
                let (authority, path) =
                    rest.split_once('/').map_or((rest, ""), |(authority, path)| (authority, path));
                if authority.is_empty() || authority.starts_with(':') {
                    return Err(BadAddress::NoHost(text.to_owned()));
                }
                let base = if path.is_empty() { String::new() } else { format!("/{path}") };
                let authority = authority.to_owned();
                if scheme == "https" {
                    return Ok(Self::Https { authority, base });
                }
                Ok(Self::Http { authority, base })
            }
            other => Err(BadAddress::Scheme(text.to_owned(), format!("{other}://"))),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http { authority, base } => write!(f, "http://{authority}{base}"),
            Self::Https { authority, base } => write!(f, "https://{authority}{base}"),
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

/// How to reach a cluster, and as whom.
#[derive(Clone)]
pub struct Config {
    /// The agent that is asked.
    pub address: Address,
    /// The region that requests are for; the agent's own when empty.
    pub region: String,
    /// The namespace that requests are for; `default` when empty.
    pub namespace: String,
    /// Secret of an ACL token; empty for none.
    pub token: String,
    /// User and password of a proxy before the API, `user:password`.
    pub basic_auth: Option<String>,
    /// Headers that every request carries.
    pub headers: Vec<(String, String)>,
    /// Whom an `https://` address is believed to be, and what is shown there.
    pub tls: TlsSettings,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The token and the password stay out of logs.
        f.debug_struct("Config")
            .field("address", &self.address)
            .field("region", &self.region)
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            address: Address::Http { authority: "127.0.0.1:4646".to_owned(), base: String::new() },
            region: String::new(),
            namespace: String::new(),
            token: String::new(),
            basic_auth: None,
            headers: Vec::new(),
            tls: TlsSettings::default(),
        }
    }
}

impl Config {
    /// Reads the variables `WAYFARER_ADDR`, `_REGION`, `_NAMESPACE`, `_TOKEN` and `_HTTP_AUTH`, and those about TLS, `_CACERT`,
    /// `_CAPATH`, `_CLIENT_CERT`, `_CLIENT_KEY`, `_TLS_SERVER_NAME` and `_SKIP_VERIFY`; where one is not set, the one that
    /// begins with `NOMAD_`. `variable` looks a variable up.
    ///
    /// # Errors
    ///
    /// When the address is none.
    pub fn from_env(variable: impl Fn(&str) -> Option<String>) -> Result<Self, BadAddress> {
        let read = |name: &str| {
            let set = |prefix: &str| variable(&format!("{prefix}_{name}")).filter(|value| !value.is_empty());
            set("WAYFARER").or_else(|| set("NOMAD"))
        };
        let mut config = Self::default();
        if let Some(address) = read("ADDR") {
            config.address = address.parse()?;
        }
        config.region = read("REGION").unwrap_or_default();
        config.namespace = read("NAMESPACE").unwrap_or_default();
        config.token = read("TOKEN").unwrap_or_default();
        config.basic_auth = read("HTTP_AUTH");
        config.tls = TlsSettings {
            ca_file: read("CACERT").map(PathBuf::from),
            ca_dir: read("CAPATH").map(PathBuf::from),
            certificate: read("CLIENT_CERT").map(PathBuf::from),
            key: read("CLIENT_KEY").map(PathBuf::from),
            server_name: read("TLS_SERVER_NAME"),
            skip_verify: read("SKIP_VERIFY").is_some_and(|value| is_true(&value)),
        };
        Ok(config)
    }

    /// Looks whether the files about TLS can be used, where they are needed.
    ///
    /// # Errors
    ///
    /// Names the one that can not.
    pub fn check_tls(&self) -> Result<(), TlsError> {
        match &self.address {
            Address::Https { .. } => tls::Connector::new(&self.tls).map(drop),
            Address::Http { .. } | Address::Unix(_) => Ok(()),
        }
    }
}

/// Reads a truth as Go writes it.
fn is_true(value: &str) -> bool {
    ["1", "t", "T", "true", "TRUE", "True"].contains(&value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_variables_stand_before_nomads() {
        let set = |name: &str| match name {
            "NOMAD_ADDR" => Some("http://b:1".to_owned()),
            "WAYFARER_ADDR" => Some("http://a:1/base/".to_owned()),
            "NOMAD_TOKEN" => Some("secret".to_owned()),
            "NOMAD_CACERT" => Some("/ca.pem".to_owned()),
            "NOMAD_SKIP_VERIFY" => Some("false".to_owned()),
            _ => None,
        };
        let config = Config::from_env(set).expect("a good address");
        assert_eq!(config.address, Address::Http { authority: "a:1".into(), base: "/base".into() });
        assert_eq!(config.token, "secret");
        let tls = TlsSettings { ca_file: Some("/ca.pem".into()), ..TlsSettings::default() };
        assert_eq!(config.tls, tls);
        assert!(!format!("{config:?}").contains("secret"));
    }

    #[test]
    fn bad_addresses_say_what_is_wrong() {
        assert!(matches!("127.0.0.1:4646".parse::<Address>(), Err(BadAddress::Scheme(..))));
        assert!(matches!("http://".parse::<Address>(), Err(BadAddress::NoHost(_) | BadAddress::Scheme(..))));
        assert!(matches!("ftp://x".parse::<Address>(), Err(BadAddress::Scheme(..))));
        let https = Address::Https { authority: "a:4646".into(), base: String::new() };
        assert_eq!("https://a:4646/".parse::<Address>(), Ok(https));
        assert_eq!("unix:///run/a.sock".parse::<Address>(), Ok(Address::Unix("/run/a.sock".into())));
    }
}
