//! The region's own certificate authority: makes itself, issues certificates to agents, and has a fingerprint that a
//! join token can carry.

use std::{fmt, net::IpAddr, str::FromStr, time::Duration};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SignatureAlgorithm, SigningKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use webpki::KeyUsage;

use crate::{
    credentials::CredentialsError,
    identity::{Identity, Region, certificate_dns_name, certificate_uri},
    verify::Trust,
};

/// ECDSA on P-256, as Nomad's own certificates: browsers and other tools accept it too.
static ALGORITHM: &SignatureAlgorithm = &rcgen::PKCS_ECDSA_P256_SHA256;
/// An uncompressed point on P-256.
const PUBLIC_KEY_LEN: usize = 65;
/// Certificates are valid from this long before they are made, for peers whose clocks are behind.
pub const BACKDATE: Duration = Duration::from_secs(60 * 60);
/// X.509 allows no longer common name.
const COMMON_NAME_LEN_MAX: usize = 64;

/// The SHA-256 of an authority's certificate. Written in hexadecimal.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// Computes the fingerprint of a certificate in DER.
    pub fn of(der: &[u8]) -> Self {
        let digest = ring::digest::digest(&ring::digest::SHA256, der);
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest.as_ref());
        Self(bytes)
    }
}

impl Fingerprint {
    /// Computes the fingerprint of the first certificate of a PEM text.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn of_pem(pem: &str) -> Result<Self, CredentialsError> {
        CertificateDer::from_pem_slice(pem.as_bytes())
            .map(|der| Self::of(&der))
            .map_err(|error| CredentialsError::Read { what: "certificate", why: error.to_string() })
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Fingerprint {
    type Err = AuthorityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || AuthorityError::Fingerprint { text: text.to_owned() };
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        let mut bytes = [0; 32];
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[index * 2..index * 2 + 2], 16).map_err(|_| wrong())?;
        }
        Ok(Self(bytes))
    }
}

/// An agent's own key. It never leaves the agent: only its [`PublicKey`] travels to the authority.
pub struct LeafKey(KeyPair);

impl LeafKey {
    /// Makes a key.
    ///
    /// # Errors
    ///
    /// When the operating system has no entropy.
    pub fn generate() -> Result<Self, AuthorityError> {
        KeyPair::generate_for(ALGORITHM).map(Self).map_err(AuthorityError::Make)
    }

    /// Takes back a key that was kept.
    ///
    /// # Errors
    ///
    /// When the text is not one that [`expose_pem`](Self::expose_pem) wrote.
    pub fn from_pem(pem: &str) -> Result<Self, AuthorityError> {
        let key = KeyPair::from_pem_and_sign_algo(pem, ALGORITHM);
        key.map(Self).map_err(|error| AuthorityError::Read { what: "key", why: error.to_string() })
    }

    /// The half that the authority certifies.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.der_bytes().to_vec())
    }

    /// The key in PEM, to be kept where only the agent reads it.
    pub fn expose_pem(&self) -> String {
        self.0.serialize_pem()
    }

    pub(crate) fn der(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(self.0.serialize_der().into())
    }
}

impl fmt::Debug for LeafKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LeafKey")
    }
}

/// A public key that waits for its certificate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PublicKey(Vec<u8>);

impl PublicKey {
    /// Takes a key that a joiner sent. A key that is not a point of the curve gives a certificate that nobody can use.
    ///
    /// # Errors
    ///
    /// When it does not have the form of one.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, AuthorityError> {
        if bytes.len() != PUBLIC_KEY_LEN || bytes.first() != Some(&4) {
            return Err(AuthorityError::PublicKey { len: bytes.len() });
        }
        Ok(Self(bytes.to_vec()))
    }

    /// The bytes to send.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl PublicKeyData for PublicKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        ALGORITHM
    }
}

/// What a certificate is to say, and for how long.
#[derive(Clone, Debug)]
pub struct Leaf {
    /// Its holder.
    pub identity: Identity,
    /// Further host names, for the HTTP API.
    pub dns_names: Vec<String>,
    /// Addresses, for the HTTP API.
    pub ip_addresses: Vec<IpAddr>,
    /// How long it is valid.
    pub lifetime: Duration,
}

impl Leaf {
    /// A certificate for the planes of the cluster alone.
    pub fn for_agent(identity: Identity, lifetime: Duration) -> Self {
        Self { identity, dns_names: Vec::new(), ip_addresses: Vec::new(), lifetime }
    }
}

/// Issues the certificates of one region.
pub struct Authority {
    region: Region,
    certificate: CertificateDer<'static>,
    certificate_pem: String,
    key: KeyPair,
}

impl Authority {
    /// Makes the authority of a region. `now` is time since the Unix epoch.
    ///
    /// # Errors
    ///
    /// When the operating system has no entropy.
    pub fn make(region: Region, lifetime: Duration, now: Duration) -> Result<Self, AuthorityError> {
        let key = KeyPair::generate_for(ALGORITHM).map_err(AuthorityError::Make)?;
        let mut params = Self::params(&region);
        set_validity(&mut params, lifetime, now);
        let certificate = params.self_signed(&key).map_err(AuthorityError::Make)?;
        let certificate_pem = certificate.pem();
        Ok(Self { region, certificate: certificate.der().clone(), certificate_pem, key })
    }

    /// Takes back an authority that [`make`](Self::make) made and that was kept as PEM. Its own term is not looked at:
    /// who trusts an authority trusts it until told otherwise, and replaces it in time.
    ///
    /// # Errors
    ///
    /// When the texts are not PEM, do not belong together, or belong to another region.
    pub fn load(
        region: Region,
        certificate_pem: &str,
        key_pem: &str,
        now: Duration,
    ) -> Result<Self, AuthorityError> {
        let certificate = CertificateDer::from_pem_slice(certificate_pem.as_bytes())
            .map_err(|error| AuthorityError::Read { what: "certificate", why: error.to_string() })?;
        let key = KeyPair::from_pem(key_pem)
            .map_err(|error| AuthorityError::Read { what: "key", why: error.to_string() })?;
        let authority = Self { region, certificate, certificate_pem: certificate_pem.to_owned(), key };
        authority.prove(now)?;
        Ok(authority)
    }

    /// Issues a certificate to see that it would be accepted: that the key, the certificate and the region fit.
    fn prove(&self, now: Duration) -> Result<(), AuthorityError> {
        let identity = Identity {
            role: crate::identity::Role::Client,
            region: self.region.clone(),
            node_id: crate::identity::NodeId([0; 16]),
            name: String::new(),
        };
        let leaf = Leaf::for_agent(identity, Duration::from_secs(60));
        let probe = self.sign(&leaf, &self.key, now)?;
        let trust =
            Trust::single(&self.certificate).map_err(|error| AuthorityError::Mismatch(error.to_string()))?;
        let now = rustls_pki_types::UnixTime::since_unix_epoch(now);
        match trust.verify(probe.der(), &[], now, KeyUsage::client_auth()) {
            Ok(_) => Ok(()),
            Err(error) => Err(AuthorityError::Mismatch(error.to_string())),
        }
    }

    /// Issues a certificate and returns the chain in PEM: the holder's own, then the authority's.
    ///
    /// Whether the holder is who it says is the caller's to know.
    ///
    /// # Errors
    ///
    /// When the identity is of another region or a name can not stand in a certificate.
    pub fn issue(&self, leaf: &Leaf, key: &PublicKey, now: Duration) -> Result<String, AuthorityError> {
        if leaf.identity.region != self.region {
            let (ours, theirs) = (self.region.clone(), leaf.identity.region.clone());
            return Err(AuthorityError::Region { ours, theirs });
        }
        let certificate = self.sign(leaf, key, now)?;
        Ok(format!("{}{}", certificate.pem(), self.certificate_pem))
    }

    fn sign(
        &self,
        leaf: &Leaf,
        key: &impl PublicKeyData,
        now: Duration,
    ) -> Result<Certificate, AuthorityError> {
        let identity = &leaf.identity;
        let name = |text: String| text.try_into().map_err(AuthorityError::Make);
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name(&identity.name);
        let own_name = certificate_dns_name(identity.role, &identity.region);
        params.subject_alt_names =
            vec![SanType::URI(name(certificate_uri(identity))?), SanType::DnsName(name(own_name)?)];
        for dns_name in &leaf.dns_names {
            params.subject_alt_names.push(SanType::DnsName(name(dns_name.clone())?));
        }
        params.subject_alt_names.extend(leaf.ip_addresses.iter().copied().map(SanType::IpAddress));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        set_validity(&mut params, leaf.lifetime, now);
        let issuer = Issuer::new(Self::params(&self.region), SignWith(&self.key));
        params.signed_by(key, &issuer).map_err(AuthorityError::Make)
    }

    /// The same for the same region, so that an authority that was kept signs under the name in its certificate.
    fn params(region: &Region) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name(&format!("Wayfarer {region}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params
    }

    /// The region that it issues for.
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// The certificate in PEM, for everyone.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The key in PEM. Who has it is the region's authority: keep it where only servers read it, and sealed.
    pub fn expose_key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    /// What a join token carries to name this authority.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.certificate)
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("region", &self.region).finish_non_exhaustive()
    }
}

/// Lends the key to an issuer, which would take it.
struct SignWith<'a>(&'a KeyPair);

impl PublicKeyData for SignWith<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.0.der_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.0.algorithm()
    }
}

impl SigningKey for SignWith<'_> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.0.sign(message)
    }
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    let short: String = name.chars().take(COMMON_NAME_LEN_MAX).collect();
    distinguished.push(DnType::CommonName, short);
    distinguished
}

fn set_validity(params: &mut CertificateParams, lifetime: Duration, now: Duration) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + now.saturating_sub(BACKDATE);
    params.not_after = epoch + now.saturating_add(lifetime);
}

/// Why an authority could not be made, read, or used. Nothing was issued.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// Keys or certificates could not be made.
    #[error("could not make a key or certificate")]
    Make(#[source] rcgen::Error),
    /// A kept text can not be read.
    #[error("could not read the authority's {what}: {why}")]
    Read {
        /// Which of them.
        what: &'static str,
        /// What is wrong.
        why: String,
    },
    /// Certificate, key and region do not belong together.
    #[error("the authority's certificate, key and region do not fit: {0}")]
    Mismatch(String),
    /// Only its own region.
    #[error("the authority of region {ours} does not issue for region {theirs}")]
    Region {
        /// The authority's.
        ours: Region,
        /// The one asked for.
        theirs: Region,
    },
    /// Not a public key of ours.
    #[error("public key of {len} bytes is not an uncompressed P-256 point of 65")]
    PublicKey {
        /// Its length.
        len: usize,
    },
    /// Not a fingerprint.
    #[error("fingerprint {text:?} is not 64 hexadecimal digits")]
    Fingerprint {
        /// What was given.
        text: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1_800_000_000);
    const YEAR: Duration = Duration::from_secs(365 * 86_400);

    fn region(name: &str) -> Region {
        Region::new(name).expect("a good name")
    }

    #[test]
    fn a_kept_authority_issues_as_before() {
        let made = Authority::make(region("here"), YEAR, NOW).expect("entropy");
        let key = made.expose_key_pem();
        let loaded =
            Authority::load(region("here"), made.certificate_pem(), &key, NOW).expect("its own texts");
        assert_eq!(loaded.fingerprint(), made.fingerprint());
        assert_eq!(
            made.fingerprint().to_string().parse::<Fingerprint>().expect("its own text"),
            made.fingerprint()
        );
    }

    #[test]
    fn an_authority_does_not_load_with_foreign_parts() {
        let (here, there) = (
            Authority::make(region("here"), YEAR, NOW).expect("entropy"),
            Authority::make(region("there"), YEAR, NOW).expect("entropy"),
        );
        let load = |name, certificate: &Authority, key: &Authority| {
            Authority::load(region(name), certificate.certificate_pem(), &key.expose_key_pem(), NOW).is_ok()
        };
        assert!(load("here", &here, &here));
        assert!(!load("here", &here, &there));
        assert!(!load("there", &here, &here));
    }
}
