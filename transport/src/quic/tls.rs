use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::{
    client::Resumption, server::NoServerSessionStorage, time_provider::TimeProvider, version::TLS13,
};
use rustls_pki_types::UnixTime;

use super::settings;
use crate::{
    config::Config,
    credentials::Credentials,
    host::Host,
    plane::{self, Plane},
    verify::{ClientVerifier, ServerTrust, ServerVerifier, Trust, provider},
};

/// Everything that a handshake needs, made from one set of credentials and replaced as a whole.
///
/// Sessions are never resumed: each handshake shows certificates again, so that rotation and expiry take effect.
pub(super) struct Tls {
    pub(super) server: quinn::ServerConfig,
    pub(super) provisional: bool,
    clients: Vec<(Plane, quinn::ClientConfig)>,
}

impl Tls {
    pub(super) fn build(
        credentials: &Credentials,
        config: &Config,
        host: &Arc<dyn Host>,
    ) -> Result<Self, rustls::Error> {
        let trust = Trust::new(&credentials.authorities)
            .map_err(|error| rustls::Error::General(error.to_string()))
            .map(Arc::new)?;
        let server = server(credentials, trust.clone(), config, host)?;
        let mut clients = Vec::with_capacity(Plane::ALL.len());
        for plane in Plane::ALL {
            // A joiner that knows the authority already still shows no certificate on the join plane.
            let own = (plane != Plane::Join).then_some(credentials);
            clients.push((plane, client(own, ServerTrust::Known(trust.clone()), plane, config, host)?));
        }
        Ok(Self { server, provisional: credentials.is_provisional(), clients })
    }

    pub(super) fn client(&self, plane: Plane) -> quinn::ClientConfig {
        let found = self.clients.iter().find(|(own, _)| *own == plane);
        found.expect("one was made for each plane").1.clone()
    }
}

/// The settings of a joiner, which trusts otherwise than by its credentials.
pub(super) fn joiner(
    trust: ServerTrust,
    config: &Config,
    host: &Arc<dyn Host>,
) -> Result<quinn::ClientConfig, rustls::Error> {
    client(None, trust, Plane::Join, config, host)
}

fn server(
    credentials: &Credentials,
    trust: Arc<Trust>,
    config: &Config,
    host: &Arc<dyn Host>,
) -> Result<quinn::ServerConfig, rustls::Error> {
    let clock = Arc::new(Clock(host.clone()));
    let mut tls = rustls::ServerConfig::builder_with_details(provider(), clock.clone())
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(Arc::new(ClientVerifier::new(trust)))
        .with_single_cert(credentials.chain.clone(), credentials.key.clone_key())?;
    // A plane that is not offered can not be agreed on: the handshake fails before anything is said.
    let served = plane::served(credentials.identity().role, credentials.is_provisional());
    tls.alpn_protocols = served.iter().map(|plane| plane.alpn().to_vec()).collect();
    tls.session_storage = Arc::new(NoServerSessionStorage {});
    tls.send_tls13_tickets = 0;
    let tls = QuicServerConfig::try_from(tls).map_err(|error| rustls::Error::General(error.to_string()))?;
    let mut server = quinn::ServerConfig::with_crypto(Arc::new(tls));
    server
        .transport_config(settings::for_accepted(config))
        // A client behind a translator that changes its port keeps its session.
        .migration(true)
        .max_incoming(config.handshakes_max)
        .time_source(clock);
    Ok(server)
}

fn client(
    own: Option<&Credentials>,
    trust: ServerTrust,
    plane: Plane,
    config: &Config,
    host: &Arc<dyn Host>,
) -> Result<quinn::ClientConfig, rustls::Error> {
    let builder = rustls::ClientConfig::builder_with_details(provider(), Arc::new(Clock(host.clone())))
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(ServerVerifier::new(trust)));
    let mut tls = match own {
        Some(own) => builder.with_client_auth_cert(own.chain.clone(), own.key.clone_key())?,
        None => builder.with_no_client_auth(),
    };
    tls.alpn_protocols = vec![plane.alpn().to_vec()];
    tls.resumption = Resumption::disabled();
    let tls = QuicClientConfig::try_from(tls).map_err(|error| rustls::Error::General(error.to_string()))?;
    let mut client = quinn::ClientConfig::new(Arc::new(tls));
    client.transport_config(settings::for_dialled(config, plane));
    Ok(client)
}

/// Certificates are judged by the agent's own clock.
struct Clock(Arc<dyn Host>);

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(self.0.unix_time()))
    }
}

impl quinn::TimeSource for Clock {
    fn now(&self) -> SystemTime {
        // Whole seconds are enough for a token, and never beyond what the type holds.
        SystemTime::UNIX_EPOCH + Duration::from_secs(self.0.unix_time().as_secs())
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}
