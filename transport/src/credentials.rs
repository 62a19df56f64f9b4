use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject};
use webpki::KeyUsage;

use crate::{
    ca::{Authority, AuthorityError, Fingerprint, Leaf, LeafKey},
    error::ReloadError,
    host::Host,
    identity::{CertifiedName, Identity, Region, Role},
    validity::Validity,
    verify::{Trust, provider},
};

/// A dev agent's certificates live as long as the process; nobody restarts a dev agent yearly.
const EPHEMERAL_LIFETIME: Duration = Duration::from_secs(10 * 365 * 86_400);

/// Whom an authority may certify.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Scope {
    /// Agents of every region: one authority for all, as Nomad's users have it.
    AnyRegion,
    /// Agents of this region only: it can not pass its own off as another region's.
    Region(Region),
}

impl Scope {
    pub(crate) fn covers(&self, region: &Region) -> bool {
        match self {
            Self::AnyRegion => true,
            Self::Region(own) => own == region,
        }
    }
}

/// The authorities that an agent trusts. While an authority is being replaced, both stand here.
#[derive(Clone, Debug, Default)]
pub struct Authorities(Vec<(Scope, CertificateDer<'static>)>);

impl Authorities {
    /// Trusts nobody.
    pub fn none() -> Self {
        Self::default()
    }

    /// Trusts every certificate in a PEM text, within `scope`.
    ///
    /// # Errors
    ///
    /// When the text is not PEM, holds no certificate, or holds one that can not be an authority.
    pub fn trust_pem(mut self, scope: Scope, pem: &str) -> Result<Self, CredentialsError> {
        let certificates = read_certificates("authority", pem)?;
        self.0.extend(certificates.into_iter().map(|der| (scope.clone(), der)));
        match Trust::new(&self) {
            Ok(_) => Ok(self),
            Err(error) => Err(CredentialsError::Authority(error.to_string())),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &(Scope, CertificateDer<'static>)> {
        self.0.iter()
    }
}

/// What an agent proves itself with and judges others by. Checked: the key fits the certificate, the certificate names
/// the identity, and the agent's own authorities accept it.
pub struct Credentials {
    pub(crate) identity: Identity,
    pub(crate) authorities: Authorities,
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
    provisional: bool,
}

impl Credentials {
    /// Takes credentials as PEM texts: the agent's chain, its own certificate first, and its key. `now` is time since
    /// the Unix epoch.
    ///
    /// # Errors
    ///
    /// Names the part that can not be read or does not fit.
    pub fn from_pem(
        identity: Identity,
        authorities: Authorities,
        chain_pem: &str,
        key_pem: &str,
        now: Duration,
    ) -> Result<Self, CredentialsError> {
        let chain = read_certificates("certificate", chain_pem)?;
        let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes())
            .map_err(|error| CredentialsError::Read { what: "key", why: error.to_string() })?;
        let credentials = Self { identity, authorities, chain, key, provisional: false };
        credentials.check(now)?;
        Ok(credentials)
    }

    /// Reads the user's own files, as Nomad's `tls` block names them. The authority may certify any region.
    ///
    /// # Errors
    ///
    /// Names the file that can not be read or does not fit.
    pub fn from_files(
        identity: Identity,
        files: &Files<'_>,
        now: Duration,
    ) -> Result<Self, CredentialsError> {
        let read = |path: &Path| {
            fs::read_to_string(path)
                .map_err(|source| CredentialsError::File { path: path.to_owned(), source })
        };
        let authorities = Authorities::none().trust_pem(Scope::AnyRegion, &read(files.ca)?)?;
        Self::from_pem(identity, authorities, &read(files.certificate)?, &read(files.key)?, now)
    }

    /// Makes an authority and a certificate that live in memory only, for a dev agent and for tests.
    ///
    /// # Errors
    ///
    /// When the operating system has no entropy.
    pub fn ephemeral(identity: Identity, host: &dyn Host) -> Result<Self, CredentialsError> {
        let authority = Authority::make(identity.region.clone(), EPHEMERAL_LIFETIME, host.unix_time())?;
        Self::issued_by(&authority, identity, EPHEMERAL_LIFETIME, host)
    }

    /// Makes what an agent begins with that has no certificate yet: one that nobody stands behind, and trust in nobody. It
    /// opens the join plane, both ways, and no other.
    ///
    /// # Errors
    ///
    /// When the operating system has no entropy.
    pub fn provisional(identity: Identity, host: &dyn Host) -> Result<Self, CredentialsError> {
        let made = Self::ephemeral(identity, host)?;
        Ok(Self { authorities: Authorities::none(), provisional: true, ..made })
    }

    /// Makes a key and has `authority` certify it at once, for the server that holds the authority.
    ///
    /// # Errors
    ///
    /// When the authority is of another region.
    pub fn issued_by(
        authority: &Authority,
        identity: Identity,
        lifetime: Duration,
        host: &dyn Host,
    ) -> Result<Self, CredentialsError> {
        let now = host.unix_time();
        let key = LeafKey::generate()?;
        let scope = Scope::Region(identity.region.clone());
        let chain_pem = authority.issue(&Leaf::for_agent(identity.clone(), lifetime), &key.public(), now)?;
        let authorities = Authorities::none().trust_pem(scope, authority.certificate_pem())?;
        let chain = read_certificates("certificate", &chain_pem)?;
        let credentials = Self { identity, authorities, chain, key: key.der(), provisional: false };
        credentials.check(now)?;
        Ok(credentials)
    }

    /// Trusts further authorities, such as those of other regions.
    ///
    /// # Errors
    ///
    /// As [`Authorities::trust_pem`].
    pub fn trusting(mut self, scope: Scope, pem: &str) -> Result<Self, CredentialsError> {
        self.authorities = self.authorities.trust_pem(scope, pem)?;
        Ok(self)
    }

    /// Who the agent is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The authority that stands behind them, if they are more than provisional: it is in the chain that agents of ours
    /// show, else it is the first one that is trusted for the agent's region.
    pub(crate) fn issuer(&self) -> Option<Fingerprint> {
        if self.provisional {
            return None;
        }
        let own = |(scope, _): &&(Scope, CertificateDer<'static>)| scope.covers(&self.identity.region);
        let shown = self.chain.iter().skip(1).next_back();
        shown
            .or_else(|| self.authorities.iter().find(own).map(|(_, der)| der))
            .map(|der| Fingerprint::of(der))
    }

    /// Whether they open nothing but the join plane.
    pub fn is_provisional(&self) -> bool {
        self.provisional
    }

    /// From when until when the agent's own certificate is valid.
    ///
    /// # Errors
    ///
    /// When it can not be read, which a certificate that was accepted always can.
    pub fn validity(&self) -> Result<Validity, CredentialsError> {
        let leaf = self.chain.first().ok_or(CredentialsError::Empty { what: "certificate" })?;
        Validity::of_der(leaf)
    }

    fn check(&self, now: Duration) -> Result<(), CredentialsError> {
        let signer = provider()
            .key_provider
            .load_private_key(self.key.clone_key())
            .map_err(|error| CredentialsError::Read { what: "key", why: error.to_string() })?;
        CertifiedKey::new(self.chain.clone(), signer)
            .keys_match()
            .map_err(|error| CredentialsError::KeyMismatch(error.to_string()))?;
        let (leaf, rest) = self.chain.split_first().ok_or(CredentialsError::Empty { what: "certificate" })?;
        let now = UnixTime::since_unix_epoch(now);
        let trust =
            Trust::new(&self.authorities).map_err(|error| CredentialsError::Authority(error.to_string()))?;
        let mut usages = vec![KeyUsage::client_auth()];
        if self.identity.role == Role::Server {
            usages.push(KeyUsage::server_auth());
        }
        for usage in usages {
            let name = trust
                .verify(leaf, rest, now, usage)
                .map_err(|error| CredentialsError::Untrusted(error.to_string()))?;
            self.check_name(name)?;
        }
        Ok(())
    }

    /// Checks that they are for the agent that is to use them; the name is for people and may change.
    pub(crate) fn check_same_agent(&self, expected: &Identity) -> Result<(), ReloadError> {
        let found = &self.identity;
        let of = |identity: &Identity| (identity.node_id, identity.role, identity.region.clone());
        if of(found) == of(expected) {
            return Ok(());
        }
        Err(ReloadError::OtherAgent { expected: Box::new(expected.clone()), found: Box::new(found.clone()) })
    }

    fn check_name(&self, certified: CertifiedName) -> Result<(), CredentialsError> {
        let identity = &self.identity;
        let node_fits = certified.node_id.is_none_or(|id| id == identity.node_id);
        if certified.role == identity.role && certified.region == identity.region && node_fits {
            return Ok(());
        }
        let node = certified.node_id.map_or_else(|| "any node".to_owned(), |id| id.to_string());
        let found = format!("{} of {} ({node})", certified.role, certified.region);
        Err(CredentialsError::WrongIdentity { found, expected: Box::new(identity.clone()) })
    }
}

impl Clone for Credentials {
    fn clone(&self) -> Self {
        let Self { identity, authorities, chain, key, provisional } = self;
        let (identity, authorities, chain) = (identity.clone(), authorities.clone(), chain.clone());
        Self { identity, authorities, chain, key: key.clone_key(), provisional: *provisional }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("identity", &self.identity).finish_non_exhaustive()
    }
}

/// The user's own files.
#[derive(Clone, Copy, Debug)]
pub struct Files<'a> {
    /// The authority's certificates.
    pub ca: &'a Path,
    /// The agent's certificate, perhaps followed by intermediate ones.
    pub certificate: &'a Path,
    /// The agent's key.
    pub key: &'a Path,
}

fn read_certificates(
    what: &'static str,
    pem: &str,
) -> Result<Vec<CertificateDer<'static>>, CredentialsError> {
    let certificates = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| CredentialsError::Read { what, why: error.to_string() })?;
    if certificates.is_empty() {
        return Err(CredentialsError::Empty { what });
    }
    Ok(certificates)
}

/// Why credentials can not be used. Those in use before stay in use.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// A file can not be read.
    #[error("could not read {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A text can not be read.
    #[error("could not read the {what}: {why}")]
    Read {
        /// Which.
        what: &'static str,
        /// What is wrong.
        why: String,
    },
    /// A text holds no certificate.
    #[error("the {what} text holds no certificate")]
    Empty {
        /// Which.
        what: &'static str,
    },
    /// A certificate can not be an authority.
    #[error("the authority can not be used: {0}")]
    Authority(String),
    /// The key belongs to another certificate.
    #[error("the key does not belong to the certificate: {0}")]
    KeyMismatch(String),
    /// The agent's own authorities would turn it away.
    #[error("the agent's own authorities do not accept its certificate: {0}")]
    Untrusted(String),
    /// The certificate is another agent's.
    #[error("the certificate is of a {found}, this agent is {expected}")]
    WrongIdentity {
        /// Whom the certificate names.
        found: String,
        /// Who the agent is.
        expected: Box<Identity>,
    },
    /// The certificate could not be made.
    #[error("could not make a certificate")]
    Make(#[from] AuthorityError),
}
