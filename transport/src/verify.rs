//! Judges the certificates of peers: one set of rules for both directions.

use std::sync::Arc;

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use crate::{
    ca::Fingerprint,
    credentials::{Authorities, Scope},
    identity::{CertifiedName, IdentityError},
};

/// The one provider of cryptography, always passed and never installed.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Why a certificate is not accepted.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum VerifyError {
    #[error("{0}")]
    Name(#[from] IdentityError),
    #[error("{0}")]
    Chain(#[from] webpki::Error),
    #[error("no authority with fingerprint {0} stands behind it")]
    Fingerprint(Fingerprint),
}

impl From<VerifyError> for rustls::Error {
    fn from(error: VerifyError) -> Self {
        let why = match &error {
            VerifyError::Chain(webpki::Error::CertExpired { .. }) => CertificateError::Expired,
            VerifyError::Chain(webpki::Error::CertNotValidYet { .. }) => CertificateError::NotValidYet,
            VerifyError::Chain(webpki::Error::UnknownIssuer) => CertificateError::UnknownIssuer,
            VerifyError::Chain(webpki::Error::BadDer) => CertificateError::BadEncoding,
            VerifyError::Chain(_) | VerifyError::Name(_) | VerifyError::Fingerprint(_) => {
                CertificateError::Other(OtherError(Arc::new(error)))
            }
        };
        Self::InvalidCertificate(why)
    }
}

/// The authorities that we trust, each for its regions.
#[derive(Debug)]
pub(crate) struct Trust {
    anchors: Vec<(Scope, TrustAnchor<'static>)>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Trust {
    pub(crate) fn new(authorities: &Authorities) -> Result<Self, VerifyError> {
        let anchors = authorities
            .iter()
            .map(|(scope, der)| Ok((scope.clone(), anchor_from_trusted_cert(der)?.to_owned())))
            .collect::<Result<_, webpki::Error>>()?;
        Ok(Self { anchors, algorithms: provider().signature_verification_algorithms })
    }

    pub(crate) fn single(der: &CertificateDer<'_>) -> Result<Self, VerifyError> {
        let anchors = vec![(Scope::AnyRegion, anchor_from_trusted_cert(der)?.to_owned())];
        Ok(Self { anchors, algorithms: provider().signature_verification_algorithms })
    }

    /// Checks that an authority that may speak for the region in the certificate stands behind it.
    pub(crate) fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        usage: KeyUsage,
    ) -> Result<CertifiedName, VerifyError> {
        let name = certified_name(leaf)?;
        let anchors: Vec<TrustAnchor<'_>> = self
            .anchors
            .iter()
            .filter(|(scope, _)| scope.covers(&name.region))
            .map(|(_, anchor)| anchor.clone())
            .collect();
        EndEntityCert::try_from(leaf)?.verify_for_usage(
            self.algorithms.all,
            &anchors,
            intermediates,
            now,
            usage,
            None,
            None,
        )?;
        Ok(name)
    }
}

/// Reads whom a certificate names, without judging it.
pub(crate) fn certified_name(leaf: &CertificateDer<'_>) -> Result<CertifiedName, VerifyError> {
    let certificate = EndEntityCert::try_from(leaf)?;
    Ok(CertifiedName::from_names(certificate.valid_uri_names(), certificate.valid_dns_names())?)
}

/// How a dialler judges the server that answers.
#[derive(Clone, Debug)]
pub(crate) enum ServerTrust {
    /// By the authorities that we know.
    Known(Arc<Trust>),
    /// By the fingerprint of an authority that must be in the chain.
    Fingerprint(Fingerprint),
    /// Not at all; the server still proves that it has the key of its certificate.
    FirstContact,
}

#[derive(Debug)]
pub(crate) struct ServerVerifier {
    trust: ServerTrust,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerVerifier {
    pub(crate) fn new(trust: ServerTrust) -> Self {
        Self { trust, algorithms: provider().signature_verification_algorithms }
    }

    fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), VerifyError> {
        match &self.trust {
            ServerTrust::Known(trust) => {
                trust.verify(leaf, intermediates, now, KeyUsage::server_auth())?;
            }
            ServerTrust::Fingerprint(fingerprint) => {
                let authority = intermediates
                    .iter()
                    .find(|der| Fingerprint::of(der) == *fingerprint)
                    .ok_or(VerifyError::Fingerprint(*fingerprint))?;
                Trust::single(authority)?.verify(leaf, intermediates, now, KeyUsage::server_auth())?;
            }
            ServerTrust::FirstContact => {
                certified_name(leaf)?;
            }
        }
        Ok(())
    }
}

impl ServerCertVerifier for ServerVerifier {
    /// The name that was dialled plays no part: role, region and node id are checked once the handshake is done.
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.verify(end_entity, intermediates, now)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not spoken here".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// How a listener judges those who dial. No certificate is fine in TLS, because the join plane needs none; every other
/// plane turns such a peer away.
#[derive(Debug)]
pub(crate) struct ClientVerifier {
    trust: Arc<Trust>,
}

impl ClientVerifier {
    pub(crate) fn new(trust: Arc<Trust>) -> Self {
        Self { trust }
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.trust.verify(end_entity, intermediates, now, KeyUsage::client_auth())?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not spoken here".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.trust.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trust.algorithms.supported_schemes()
    }
}
