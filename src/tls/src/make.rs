//! Certificates for those who have no authority of their own: `tls ca create` and `tls cert create`.

use std::{net::IpAddr, path::Path, time::Duration};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, GeneralSubtree,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints, SanType,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use webpki::anchor_from_trusted_cert;

use crate::{
    TlsError,
    der::{INTEGER, OCTETS, SEQUENCE, put, take},
    name,
};

/// Certificates are valid from this long before they are made, for machines whose clocks are behind.
const BACKDATE: Duration = Duration::from_secs(60 * 60);

/// A certificate and its key, in PEM.
#[derive(Clone, Debug)]
pub struct Made {
    /// The certificate.
    pub certificate: String,
    /// The key. For its holder's eyes only.
    pub key: String,
}

/// What an authority's certificate says.
#[derive(Clone, Debug)]
pub struct AuthorityWish {
    /// Its name.
    pub common_name: String,
    /// Country, postal code, province, locality, street address, organization, organizational unit; empty ones are left out.
    pub subject: Subject,
    /// The only domains that it may certify; any when there are none.
    pub domains: Vec<String>,
    /// How long it is valid.
    pub lifetime: Duration,
    /// Time since the Unix epoch.
    pub now: Duration,
}

/// The parts of a name beside the common one.
#[derive(Clone, Debug, Default)]
pub struct Subject {
    /// `C`.
    pub country: String,
    /// Of the address.
    pub postal_code: String,
    /// `ST`.
    pub province: String,
    /// `L`.
    pub locality: String,
    /// Of the address.
    pub street_address: String,
    /// `O`.
    pub organization: String,
    /// `OU`.
    pub organizational_unit: String,
}

/// What an agent's or a caller's certificate says.
#[derive(Clone, Debug)]
pub struct LeafWish {
    /// Its name; the first of the names that it is valid for as well.
    pub common_name: String,
    /// Further names.
    pub dns_names: Vec<String>,
    /// Addresses.
    pub ip_addresses: Vec<IpAddr>,
    /// Whether others connect to its holder.
    pub serves: bool,
    /// How long it is valid.
    pub lifetime: Duration,
    /// Time since the Unix epoch.
    pub now: Duration,
}

fn failed(error: rcgen::Error) -> TlsError {
    TlsError::Make(error.to_string())
}

/// Makes an authority.
///
/// # Errors
///
/// When a name can not stand in a certificate.
pub fn authority(wish: &AuthorityWish) -> Result<Made, TlsError> {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(failed)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = wish.subject.named(&wish.common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages =
        vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    if !wish.domains.is_empty() {
        let permitted_subtrees = wish.domains.iter().cloned().map(GeneralSubtree::DnsName).collect();
        params.name_constraints = Some(NameConstraints { permitted_subtrees, excluded_subtrees: Vec::new() });
    }
    set_validity(&mut params, wish.lifetime, wish.now);
    let certificate = params.self_signed(&key).map_err(failed)?;
    Ok(Made { certificate: certificate.pem(), key: key.serialize_pem() })
}

/// Has an authority certify a fresh key.
///
/// # Errors
///
/// When the authority's texts can not be used, do not belong together, or a name can not stand in a certificate.
pub fn leaf(
    authority_file: &Path,
    authority: &str,
    authority_key: &str,
    wish: &LeafWish,
) -> Result<Made, TlsError> {
    let unusable = |why: String| TlsError::Unusable { path: authority_file.to_owned(), why };
    let der = CertificateDer::from_pem_slice(authority.as_bytes());
    let der = der.map_err(|_| TlsError::Missing { path: authority_file.to_owned(), what: "certificate" })?;
    let anchor = anchor_from_trusted_cert(&der).map_err(|error| unusable(error.to_string()))?;
    let signer = signer(authority_key, anchor.subject_public_key_info.as_ref())
        .ok_or_else(|| unusable("its key is not one that can be read".to_owned()))?;
    let own_key = rcgen::PublicKeyData::subject_public_key_info(&signer);
    if !own_key.ends_with(anchor.subject_public_key_info.as_ref()) {
        return Err(unusable("the key is not that of the certificate".to_owned()));
    }
    let mut issuer = CertificateParams::default();
    issuer.distinguished_name = name::read(anchor.subject.as_ref())
        .ok_or_else(|| unusable("its name is of a kind that can not be signed under".to_owned()))?;
    let issuer = Issuer::new(issuer, signer);
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(failed)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = Subject::default().named(&wish.common_name);
    let mut names = vec![wish.common_name.clone()];
    names.extend(wish.dns_names.iter().filter(|name| **name != wish.common_name).cloned());
    for name in names {
        params.subject_alt_names.push(SanType::DnsName(name.try_into().map_err(failed)?));
    }
    params.subject_alt_names.extend(wish.ip_addresses.iter().copied().map(SanType::IpAddress));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    if wish.serves {
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
    }
    set_validity(&mut params, wish.lifetime, wish.now);
    let certificate = params.signed_by(&key, &issuer).map_err(failed)?;
    Ok(Made { certificate: certificate.pem(), key: key.serialize_pem() })
}

/// Reads an authority's key, in PKCS #8 or in the older forms, which Nomad's authorities have.
fn signer(pem: &str, public_key_info: &[u8]) -> Option<KeyPair> {
    let key = match PrivateKeyDer::from_pem_slice(pem.as_bytes()).ok()? {
        PrivateKeyDer::Sec1(key) => in_pkcs8(key.secret_sec1_der(), public_key_info)?.into(),
        PrivateKeyDer::Pkcs1(key) => in_pkcs8(key.secret_pkcs1_der(), public_key_info)?.into(),
        PrivateKeyDer::Pkcs8(key) => key,
        _ => return None,
    };
    KeyPair::try_from(&key).ok()
}

/// Puts a key of an older form into PKCS #8: what the key is for is said beside it, as its certificate says it.
fn in_pkcs8(key: &[u8], public_key_info: &[u8]) -> Option<Vec<u8>> {
    let (_, after) = take(public_key_info, SEQUENCE)?;
    let algorithm = &public_key_info[..public_key_info.len() - after.len()];
    Some(put(SEQUENCE, &[&put(INTEGER, &[0]), algorithm, &put(OCTETS, key)].concat()))
}

impl Subject {
    fn named(&self, common_name: &str) -> DistinguishedName {
        let mut name = DistinguishedName::new();
        // Ids of what has no constant of its own: postal code and street address.
        for (kind, text) in [
            (DnType::CountryName, &self.country),
            (DnType::from_oid(&[2, 5, 4, 17]), &self.postal_code),
            (DnType::StateOrProvinceName, &self.province),
            (DnType::LocalityName, &self.locality),
            (DnType::from_oid(&[2, 5, 4, 9]), &self.street_address),
            (DnType::OrganizationName, &self.organization),
            (DnType::OrganizationalUnitName, &self.organizational_unit),
        ] {
            if !text.is_empty() {
                name.push(kind, text.as_str());
            }
        }
        name.push(DnType::CommonName, common_name);
        name
    }
}

fn set_validity(params: &mut CertificateParams, lifetime: Duration, now: Duration) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + now.saturating_sub(BACKDATE);
    params.not_after = epoch + now.saturating_add(lifetime);
}
