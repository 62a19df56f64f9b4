use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Longest region name: it must fit a DNS label, because certificates carry `server.<region>.nomad`.
const REGION_LEN_MAX: usize = 63;
/// Longest node name that a peer may claim; host names end at 253 characters.
pub(crate) const NAME_LEN_MAX: usize = 255;
const URI_SCHEME: &str = "wayfarer://";

/// What an agent is to the cluster. An agent that is both is a server.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub enum Role {
    /// Holds the region's state.
    Server,
    /// Runs tasks only.
    Client,
}

impl Role {
    /// The word that certificates use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Client => "client",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A region's name: ASCII letters, digits, `-`, `_` and `.`, at most 63, so that it is safe in a DNS name and a URI.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Region(String);

impl Region {
    /// Checks and takes a name.
    ///
    /// # Errors
    ///
    /// When the name is empty, too long, or has a character outside the allowed set.
    pub fn new(name: impl Into<String>) -> Result<Self, IdentityError> {
        let name = name.into();
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        let edges_fine = !name.starts_with('.') && !name.ends_with('.') && !name.contains("..");
        if name.is_empty() || name.len() > REGION_LEN_MAX || !name.bytes().all(allowed) || !edges_fine {
            return Err(IdentityError::Region { name });
        }
        Ok(Self(name))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Region {
    type Error = IdentityError;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        Self::new(name)
    }
}

impl From<Region> for String {
    fn from(region: Region) -> Self {
        region.0
    }
}

/// Identifies one agent for its whole life, across restarts. Written like a UUID.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct NodeId(pub [u8; 16]);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_uuid(f, &self.0)
    }
}

fn write_uuid(f: &mut fmt::Formatter<'_>, bytes: &[u8; 16]) -> fmt::Result {
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            f.write_str("-")?;
        }
        write!(f, "{byte:02x}")?;
    }
    Ok(())
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for NodeId {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || IdentityError::NodeId { text: text.to_owned() };
        let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b'-').collect();
        let dashes_fine = text.len() == 36 || text.len() == 32;
        if digits.len() != 32 || !dashes_fine || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(wrong());
        }
        let mut id = [0; 16];
        for (place, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| wrong())?;
            *place = u8::from_str_radix(pair, 16).map_err(|_| wrong())?;
        }
        Ok(Self(id))
    }
}

/// Identifies one cluster for ever: drawn at random when the first server starts it, and committed in Raft. Written like a
/// UUID.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize, Deserialize)]
pub struct ClusterId(pub [u8; 16]);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_uuid(f, &self.0)
    }
}

/// Tells one run of an agent from the next: drawn anew at each start. Two boots of one node are compared for
/// equality only.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize, Deserialize)]
pub struct Boot(pub u64);

/// Who an agent is.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Identity {
    /// Server or client.
    pub role: Role,
    /// The region that it belongs to.
    pub region: Region,
    /// Its id.
    pub node_id: NodeId,
    /// Its name, for people. The peer's own claim: nothing may be decided by it.
    pub name: String,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ({}) of {}", self.role, self.name, self.node_id, self.region)
    }
}

/// How well a peer's node id is proven.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Binding {
    /// The certificate carries it.
    Certificate,
    /// The certificate proves role and region only (one made for Nomad); the id is the peer's claim.
    Claim,
}

/// The other end of a connection.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Peer {
    /// It has shown a certificate of an authority that we trust for its region.
    Known {
        /// Who it is.
        identity: Identity,
        /// How its node id is proven.
        binding: Binding,
    },
    /// It has shown none. Only the join plane admits it.
    Stranger,
}

impl Peer {
    /// Returns who the peer is, unless it is a stranger.
    pub fn identity(&self) -> Option<&Identity> {
        match self {
            Self::Known { identity, .. } => Some(identity),
            Self::Stranger => None,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known { identity, .. } => identity.fmt(f),
            Self::Stranger => f.write_str("a stranger without certificate"),
        }
    }
}

/// What a certificate says of its holder.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct CertifiedName {
    pub(crate) role: Role,
    pub(crate) region: Region,
    pub(crate) node_id: Option<NodeId>,
}

impl CertifiedName {
    pub(crate) fn of(identity: &Identity) -> Self {
        Self { role: identity.role, region: identity.region.clone(), node_id: Some(identity.node_id) }
    }

    /// Reads a holder's name from the subject alternative names of its certificate: our URI if there is one, else
    /// the DNS name that Nomad's certificates carry. Where a certificate names both roles, it certifies a server.
    pub(crate) fn from_names<'a>(
        uris: impl Iterator<Item = &'a str>,
        dns_names: impl Iterator<Item = &'a str>,
    ) -> Result<Self, IdentityError> {
        let mut ours = uris.filter(|uri| uri.starts_with(URI_SCHEME));
        if let Some(uri) = ours.next() {
            return match ours.next() {
                Some(_) => Err(IdentityError::Ambiguous),
                None => Self::from_uri(uri),
            };
        }
        let mut found: Option<Self> = None;
        for name in dns_names.filter_map(Self::from_dns) {
            match &found {
                Some(before) if before.region != name.region => return Err(IdentityError::Ambiguous),
                Some(before) if before.role == Role::Server => {}
                Some(_) | None => found = Some(name),
            }
        }
        found.ok_or(IdentityError::Nameless)
    }

    fn from_uri(uri: &str) -> Result<Self, IdentityError> {
        let wrong = || IdentityError::Uri { uri: uri.to_owned() };
        let mut parts = uri.strip_prefix(URI_SCHEME).ok_or_else(wrong)?.split('/');
        let (Some(region), Some(role), Some(node_id), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(wrong());
        };
        let role = match role {
            "server" => Role::Server,
            "client" => Role::Client,
            _ => return Err(wrong()),
        };
        Ok(Self { role, region: Region::new(region)?, node_id: Some(node_id.parse()?) })
    }

    fn from_dns(name: &str) -> Option<Self> {
        let name = name.strip_suffix(".nomad")?;
        let (role, region) = name.split_once('.')?;
        let role = match role {
            "server" => Role::Server,
            "client" => Role::Client,
            _ => return None,
        };
        Some(Self { role, region: Region::new(region).ok()?, node_id: None })
    }
}

/// The URI that a certificate of ours carries.
pub(crate) fn certificate_uri(identity: &Identity) -> String {
    format!("{URI_SCHEME}{}/{}/{}", identity.region, identity.role, identity.node_id)
}

/// The DNS name that a certificate of `role` in `region` carries, as Nomad's do.
pub(crate) fn certificate_dns_name(role: Role, region: &Region) -> String {
    format!("{role}.{region}.nomad")
}

/// A name or id that is not one.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum IdentityError {
    /// Not a region name.
    #[error(
        "region {name:?} is not a name of 1 to 63 ASCII letters, digits, '-', '_' and '.'; choose another name"
    )]
    Region {
        /// What was given.
        name: String,
    },
    /// Not a node id.
    #[error("node id {text:?} is not a uuid")]
    NodeId {
        /// What was given.
        text: String,
    },
    /// The certificate's own URI can not be read.
    #[error("certificate names {uri:?}, expected wayfarer://<region>/<role>/<node id>")]
    Uri {
        /// What the certificate carries.
        uri: String,
    },
    /// The certificate names two regions or two nodes.
    #[error("certificate names more than one region or node")]
    Ambiguous,
    /// The certificate has none of the names that we read.
    #[error(
        "certificate carries neither a wayfarer:// name nor server.<region>.nomad or client.<region>.nomad; \
         issue one with such a name"
    )]
    Nameless,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(uris: &[&str], dns: &[&str]) -> Result<CertifiedName, IdentityError> {
        CertifiedName::from_names(uris.iter().copied(), dns.iter().copied())
    }

    #[test]
    fn our_uri_is_read_back() {
        let identity = Identity {
            role: Role::Client,
            region: Region::new("eu-west.1").expect("a good name"),
            node_id: NodeId([7; 16]),
            name: "a".into(),
        };
        let uri = certificate_uri(&identity);
        assert_eq!(names(&[&uri], &["server.other.nomad"]), Ok(CertifiedName::of(&identity)));
    }

    #[test]
    fn a_nomad_name_gives_role_and_region() {
        let name = names(&[], &["localhost", "client.global.nomad"]).expect("a nomad name");
        assert_eq!((name.role, name.region.as_str(), name.node_id), (Role::Client, "global", None));
        let both = names(&[], &["client.global.nomad", "server.global.nomad"]).expect("a nomad name");
        assert_eq!(both.role, Role::Server);
    }

    #[test]
    fn unclear_names_are_refused() {
        assert_eq!(names(&[], &["localhost"]), Err(IdentityError::Nameless));
        assert_eq!(names(&[], &["server.a.nomad", "server.b.nomad"]), Err(IdentityError::Ambiguous));
        for uri in ["wayfarer://", "wayfarer://a/server", "wayfarer://a/boss/00", "wayfarer://a b/server/x"] {
            assert!(names(&[uri], &["server.a.nomad"]).is_err(), "{uri}");
        }
    }

    #[test]
    fn node_ids_read_what_they_write() {
        let id = NodeId([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 255]);
        assert_eq!(id.to_string(), "00010203-0405-0607-0809-0a0b0c0d0eff");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!("00010203-0405-0607-0809-0a0b0c0d0e+f".parse::<NodeId>().is_err());
        assert!("é".parse::<NodeId>().is_err());
    }
}
