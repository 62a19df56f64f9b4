use std::sync::Arc;

use rand::{RngExt, rngs::SmallRng, seq::SliceRandom};
use runtime::{Backoff, Duration, Env};
use tracing::{error, info, warn};
use transport::{
    Expect, Identity, Opened, Plane, ReloadError, Transport, Validity,
    ca::{AuthorityError, BACKDATE, LeafKey},
};

use crate::{
    AuthMode, Config, Files, FilesError, Kept, Refusal, Registry,
    ask::{ASK_TIMEOUT, AskError, ask},
    files::{Given, Proof},
    service::{issue, unix_time},
    wire::{Answer, Ask, Renewed},
};

/// Agents that joined together do not all renew together: each up to this part of the lifetime earlier.
const JITTER: f64 = 0.1;
/// Between tries, at the least and at the most; with short lifetimes a fiftieth of them is enough.
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(300);
/// How long before the end of a certificate of the user's it is said, once a day.
const OWN_NOTICE: Duration = Duration::from_secs(7 * 86_400);
/// Servers that are asked in one try.
const SERVERS_MAX: usize = 5;

/// Tells what was renewed: certificate, keys and the other regions.
pub type OnRenewed = Arc<dyn Fn(&Kept) + Send + Sync>;

/// Renews an agent's certificate at two thirds of its life, for as long as the agent runs.
///
/// A server issues to itself; a client asks any server, on the Rpc plane, with the certificate that it has. Sessions stay.
pub struct Renewal {
    env: Env,
    config: Arc<Config>,
    transport: Arc<dyn Transport>,
    files: Files,
    registry: Arc<dyn Registry>,
    auth: AuthMode,
    on_renewed: OnRenewed,
}

/// Why renewing has ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RenewalEnd {
    /// The agent ends.
    Shutdown,
    /// The certificate has expired: no server takes it any more, so the agent has to join anew.
    Expired,
}

impl Renewal {
    /// Makes the renewal of an agent that has joined as `auth`.
    pub fn new(
        env: Env,
        config: Arc<Config>,
        transport: Arc<dyn Transport>,
        files: Files,
        registry: Arc<dyn Registry>,
        auth: AuthMode,
        on_renewed: OnRenewed,
    ) -> Self {
        Self { env, config, transport, files, registry, auth, on_renewed }
    }

    /// Renews, again and again. `validity` is that of the certificate in use. Certificates of the user's are renewed by the
    /// user: then this only waits for their end, and says loudly that it comes; start another one after a reload.
    pub async fn run(self, mut validity: Validity) -> RenewalEnd {
        if self.auth == AuthMode::Tls {
            return self.watch_own(validity).await;
        }
        let mut rng = self.env.rng();
        loop {
            let due = due(validity, rng.random_range(0.0..JITTER));
            if self.wait_until(due).await == Waited::Shutdown {
                return RenewalEnd::Shutdown;
            }
            match self.renew_until(validity, &mut rng).await {
                Ok(renewed) => validity = renewed,
                Err(end) => return end,
            }
        }
    }

    /// Says in time, and again and again, that the user has to replace a certificate.
    async fn watch_own(&self, validity: Validity) -> RenewalEnd {
        let lifetime = validity.not_after.saturating_sub(validity.not_before);
        let notice = OWN_NOTICE.min(lifetime / 6);
        let mut next = validity.end().saturating_sub(notice);
        loop {
            if self.wait_until(next).await == Waited::Shutdown {
                return RenewalEnd::Shutdown;
            }
            let left = validity.end().saturating_sub(unix_time(&self.env));
            if left.is_zero() {
                error!("the certificate of the tls block has expired: no agent takes it any more");
                return RenewalEnd::Expired;
            }
            error!(?left, "the certificate of the tls block expires: replace its files and send SIGHUP");
            next = (unix_time(&self.env) + notice / 7).min(validity.end());
        }
    }

    async fn renew_until(&self, validity: Validity, rng: &mut SmallRng) -> Result<Validity, RenewalEnd> {
        let lifetime = validity.not_after.saturating_sub(validity.not_before + BACKDATE);
        let first = (lifetime / 200).clamp(RETRY_MIN, RETRY_MAX);
        let mut backoff = Backoff::new(first, (lifetime / 50).clamp(RETRY_MIN, RETRY_MAX));
        loop {
            let failed = match self.renew(rng).await {
                Ok(renewed) => return Ok(renewed),
                Err(failed) => failed,
            };
            let left = validity.end().saturating_sub(unix_time(&self.env));
            if left.is_zero() {
                error!(reason = %failed, "certificate expired and was not renewed: no agent takes it any more");
                return Err(RenewalEnd::Expired);
            }
            if left < lifetime / 6 {
                error!(reason = %failed, ?left, "certificate expires soon and could not be renewed");
            } else {
                warn!(reason = %failed, ?left, "certificate could not be renewed, trying again");
            }
            let wait = unix_time(&self.env) + backoff.next_wait(rng).min(left);
            if self.wait_until(wait).await == Waited::Shutdown {
                return Err(RenewalEnd::Shutdown);
            }
        }
    }

    async fn wait_until(&self, due: Duration) -> Waited {
        // Wall time may jump, so the wait is cut into pieces.
        loop {
            let left = due.saturating_sub(unix_time(&self.env));
            if left.is_zero() {
                return Waited::Due;
            }
            tokio::select! {
                biased;
                () = self.env.shutdown().wait() => return Waited::Shutdown,
                () = self.env.sleep(left.min(RETRY_MAX)) => {}
            }
        }
    }

    async fn renew(&self, rng: &mut SmallRng) -> Result<Validity, RenewError> {
        let identity = self.config.identity.clone();
        let key = LeafKey::generate()?;
        let renewed = match self.registry.authority() {
            Some(authority) => {
                let (lifetime, now) = (self.config.lifetimes.certificate, unix_time(&self.env));
                let issued = issue(&authority, identity.clone(), &key.public(), lifetime, now)?;
                Renewed { issued, keys: self.registry.keys(), regions: self.registry.regions() }
            }
            None => self.ask_servers(&key, rng).await?,
        };
        let Renewed { issued, keys, regions } = renewed;
        let given = Given {
            proof: Proof::Issued { issued, key_pem: key.expose_pem() },
            auth: self.auth,
            cluster: self.registry.cluster(),
            keys,
            regions,
            servers: self.registry.servers(),
        };
        let (files, now) = (self.files.clone(), unix_time(&self.env));
        let keeping = self.env.spawn_blocking(move || files.keep(&identity, given, now));
        let kept = keeping.await.map_err(|_| RenewError::Shutdown)??;
        self.transport.reload(&kept.credentials)?;
        let validity = kept
            .credentials
            .validity()
            .map_err(|error| RenewError::Files(FilesError::NotKept(error.into())))?;
        info!(not_after = ?validity.not_after, "certificate renewed");
        (self.on_renewed)(&kept);
        Ok(validity)
    }

    async fn ask_servers(&self, key: &LeafKey, rng: &mut SmallRng) -> Result<Renewed, RenewError> {
        let mut servers = self.registry.servers();
        servers.shuffle(rng);
        let question = Ask::Renew { public_key: key.public().as_bytes().to_vec() };
        let mut failed = RenewError::NoServers;
        for server in servers.iter().take(SERVERS_MAX) {
            let deadline = self.env.now() + ASK_TIMEOUT;
            let asked = async {
                let expect = Expect::Node(server.node_id);
                let Opened { connection, inbound: _inbound } =
                    self.transport.dial(server.rpc, Plane::Rpc, expect).await?;
                ask(&connection, &question, None, deadline).await
            };
            match asked.await {
                Ok(Answer::Renewed(renewed)) => return Ok(renewed),
                Ok(_) => failed = AskError::Unexpected.into(),
                Err(error) => failed = error.into(),
            }
        }
        Err(failed)
    }
}

/// Asks the servers for the region's keys, after a rotation that the agent has missed. It needs a certificate.
///
/// # Errors
///
/// When none of the servers answers.
pub async fn fetch_keys(
    env: &Env,
    transport: &dyn Transport,
    registry: &dyn Registry,
) -> Result<crate::HandedKeys, AskError> {
    let mut failed = AskError::Refused(Refusal::NotServer);
    for server in registry.servers().iter().take(SERVERS_MAX) {
        let asked = async {
            let expect = Expect::Node(server.node_id);
            let Opened { connection, inbound: _inbound } =
                transport.dial(server.rpc, Plane::Rpc, expect).await?;
            ask(&connection, &Ask::Keys, None, env.now() + ASK_TIMEOUT).await
        };
        match asked.await {
            Ok(Answer::Keys(keys)) => return Ok(keys),
            Ok(_) => failed = AskError::Unexpected,
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// Two thirds of the life that the certificate was issued for, less the jitter.
fn due(validity: Validity, jitter: f64) -> Duration {
    let issued = validity.not_before + BACKDATE;
    let lifetime = validity.not_after.saturating_sub(issued);
    issued + lifetime.mul_f64(2.0 / 3.0 - jitter)
}

#[derive(Debug, Eq, PartialEq)]
enum Waited {
    Due,
    Shutdown,
}

#[derive(Debug, thiserror::Error)]
enum RenewError {
    #[error("no server is known")]
    NoServers,
    #[error("{0}")]
    Ask(#[from] AskError),
    #[error("{0}")]
    Make(#[from] AuthorityError),
    #[error("{0}")]
    Files(#[from] FilesError),
    #[error("{0}")]
    Reload(#[from] ReloadError),
    #[error("the agent is shutting down")]
    Shutdown,
}

/// Builds the credentials of an agent anew, from what it keeps, after another region became trusted or was forgotten.
///
/// # Errors
///
/// When the files can not be read or written, or the endpoint does not take them; those before stay in use.
pub fn reload_regions(
    transport: &dyn Transport,
    files: &Files,
    own: Option<transport::Credentials>,
    regions: &[(transport::Region, String)],
    now: Duration,
) -> Result<(), ReloadRegionsError> {
    let identity: Identity = transport.identity();
    files.keep_regions(regions)?;
    if let Some(kept) = files.load(&identity, own, now)? {
        transport.reload(&kept.credentials)?;
    }
    Ok(())
}

/// Why another set of trusted regions was not put in place.
#[derive(Debug, thiserror::Error)]
pub enum ReloadRegionsError {
    /// Files can not be read or written.
    #[error("the files under <data_dir>/tls can not be used")]
    Files(#[from] FilesError),
    /// The endpoint does not take the credentials.
    #[error("the credentials were not taken")]
    Reload(#[from] ReloadError),
}
