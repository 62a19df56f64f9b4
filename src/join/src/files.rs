use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use transport::{
    Authorities, ClusterId, Credentials, CredentialsError, Identity, Region, Role, Scope, Validity,
    ca::{Authority, AuthorityError, LeafKey},
};

use crate::{
    AuthMode, HandedKeys, Server,
    founding::{Found, Record},
    record,
    service::issue,
    wire::Issued,
};

const AGENT: &str = "agent.pem";
const AUTHORITY: &str = "authority.pem";
const AUTHORITY_KEY: &str = "authority-key.pem";
const KEYS: &str = "gossip-keys";
const REGIONS: &str = "regions";
const MEMBERSHIP: &str = "membership";
const FOUNDING: &str = "founding";
/// The key of an agent that asks to be admitted, so that one whose answer was lost asks with the same key again.
const JOINING_KEY: &str = "joining-key.pem";

/// The directory `<data_dir>/tls`: what makes an agent part of its region. Every file is replaced as a whole and synced.
///
/// `agent.pem` is the certificate and its key, `authority.pem` the region's authority, `authority-key.pem` its key (servers
/// only), `joining-key.pem` the key of an agent that waits to be admitted, `gossip-keys`, `regions` the authorities of other regions, `membership` how the agent joined, `founding` what a
/// server has promised. `membership` is written last: without it the agent has not joined.
#[derive(Clone, Debug)]
pub struct Files {
    dir: PathBuf,
}

/// Everything that an agent keeps of being part of a region.
#[derive(Debug)]
pub struct Kept {
    /// What it shows, and whom it trusts.
    pub credentials: Credentials,
    /// What issues certificates; servers have it, unless the user makes them.
    pub authority: Option<Arc<Authority>>,
    /// How it joined.
    pub auth: AuthMode,
    /// The region's id.
    pub cluster: ClusterId,
    /// The gossip keys.
    pub keys: HandedKeys,
    /// Other regions that are trusted, with their authorities in PEM.
    pub regions: Vec<(Region, String)>,
    /// The servers that were known when it joined, or when they were last written down.
    pub servers: Vec<Server>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Membership {
    cluster: ClusterId,
    auth: AuthMode,
    servers: Vec<Server>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct FoundingFile {
    record: Record,
    /// Raft has begun: it must never begin again from this file.
    bootstrapped: bool,
}

/// What an agent was given, before it is written down.
pub(crate) struct Given {
    pub(crate) proof: Proof,
    pub(crate) auth: AuthMode,
    pub(crate) cluster: ClusterId,
    pub(crate) keys: HandedKeys,
    pub(crate) regions: Vec<(Region, String)>,
    pub(crate) servers: Vec<Server>,
}

/// What an agent shows from then on.
pub(crate) enum Proof {
    /// A certificate that was issued to it, and its key.
    Issued { issued: Issued, key_pem: String },
    /// What the user gave it.
    Own(Credentials),
}

impl Files {
    /// Opens the directory, and makes it if need be.
    ///
    /// # Errors
    ///
    /// When it can not be made.
    pub fn open(data_dir: &Path) -> Result<Self, FilesError> {
        let dir = data_dir.join("tls");
        record::make_dir(&dir).map_err(|source| FilesError::Write { path: dir.clone(), source })?;
        Ok(Self { dir })
    }

    /// Loads what an earlier start kept; `None` if the agent has not joined. `own` are the credentials that the user gives,
    /// which count instead of kept ones. `now` is time since the Unix epoch.
    ///
    /// # Errors
    ///
    /// Says what is damaged, missing or expired, and what to do. Nothing is changed.
    pub fn load(
        &self,
        identity: &Identity,
        own: Option<Credentials>,
        now: Duration,
    ) -> Result<Option<Kept>, FilesError> {
        let Some(membership) = self.read_record::<Membership>(MEMBERSHIP)? else {
            return Ok(None);
        };
        let Membership { cluster, auth, servers } = membership;
        let keys = self.read_record(KEYS)?.ok_or_else(|| self.missing(KEYS))?;
        let regions = self.read_record(REGIONS)?.unwrap_or_default();
        let proof = match own {
            Some(own) => Proof::Own(own),
            None => self.read_issued(identity.role)?,
        };
        if let Proof::Issued { issued, .. } = &proof {
            let validity =
                Validity::of_pem(&issued.chain_pem).map_err(|source| self.unusable(AGENT, source))?;
            if validity.end() <= now {
                return Err(FilesError::Expired { dir: self.dir.clone(), since: now - validity.end() });
            }
        }
        let given = Given { proof, auth, cluster, keys, regions, servers };
        given.check(identity, now).map(Some).map_err(|error| self.damaged(error))
    }

    fn read_issued(&self, role: Role) -> Result<Proof, FilesError> {
        let chain_pem = self.read(AGENT)?.ok_or_else(|| self.missing(AGENT))?;
        let authority_pem = self.read(AUTHORITY)?.ok_or_else(|| self.missing(AUTHORITY))?;
        let authority_key_pem = match role {
            Role::Server => Some(self.read(AUTHORITY_KEY)?.ok_or_else(|| self.missing(AUTHORITY_KEY))?),
            Role::Client => None,
        };
        let key_pem = chain_pem.clone();
        Ok(Proof::Issued { issued: Issued { chain_pem, authority_pem, authority_key_pem }, key_pem })
    }

    /// Writes down what the agent was given and returns it checked. A crash on the way leaves an agent that has not joined.
    pub(crate) fn keep(&self, identity: &Identity, given: Given, now: Duration) -> Result<Kept, FilesError> {
        let texts = match &given.proof {
            Proof::Issued { issued, key_pem } => Some((issued.clone(), key_pem.clone())),
            Proof::Own(_) => None,
        };
        let kept = given.check(identity, now).map_err(FilesError::NotKept)?;
        let before = self.read_record::<Membership>(MEMBERSHIP).ok().flatten();
        if before.is_none_or(|before| before.cluster != kept.cluster) {
            self.writing(MEMBERSHIP, record::remove)?;
        }
        if let Some((issued, key_pem)) = texts {
            self.writing(AUTHORITY, |path| record::write(path, issued.authority_pem.as_bytes()))?;
            if let Some(key) = &issued.authority_key_pem {
                self.writing(AUTHORITY_KEY, |path| record::write(path, key.as_bytes()))?;
            }
            let agent = format!("{}{key_pem}", issued.chain_pem);
            self.writing(AGENT, |path| record::write(path, agent.as_bytes()))?;
        }
        self.keep_keys(&kept.keys)?;
        self.keep_regions(&kept.regions)?;
        let membership = Membership { cluster: kept.cluster, auth: kept.auth, servers: kept.servers.clone() };
        self.writing(MEMBERSHIP, |path| record::write_record(path, MEMBERSHIP, &membership))?;
        self.writing(JOINING_KEY, record::remove)?;
        Ok(kept)
    }

    /// Issues a server its next certificate by the authority that it holds, after it was down for so long that the last one
    /// expired. `None` if it has not joined or the user makes the region's certificates.
    ///
    /// # Errors
    ///
    /// When the files are damaged or can not be written.
    pub fn reissue(
        &self,
        identity: &Identity,
        lifetime: Duration,
        now: Duration,
    ) -> Result<Option<Kept>, FilesError> {
        let Some(membership) = self.read_record::<Membership>(MEMBERSHIP)? else { return Ok(None) };
        let Some(key_pem) = self.read(AUTHORITY_KEY)? else { return Ok(None) };
        let authority_pem = self.read(AUTHORITY)?.ok_or_else(|| self.missing(AUTHORITY))?;
        let issue_anew = || {
            let authority = Authority::load(identity.region.clone(), &authority_pem, &key_pem, now)?;
            let key = LeafKey::generate()?;
            let issued = issue(&authority, identity.clone(), &key.public(), lifetime, now)?;
            Ok(Proof::Issued { issued, key_pem: key.expose_pem() })
        };
        let proof = issue_anew().map_err(|error: AuthorityError| self.damaged(error.into()))?;
        let keys = self.read_record(KEYS)?.ok_or_else(|| self.missing(KEYS))?;
        let regions = self.read_record(REGIONS)?.unwrap_or_default();
        let Membership { cluster, auth, servers } = membership;
        self.keep(identity, Given { proof, auth, cluster, keys, regions, servers }, now).map(Some)
    }

    /// The cluster that the agent is part of, whether its certificate is still good or not.
    pub(crate) fn cluster(&self) -> Result<Option<ClusterId>, FilesError> {
        Ok(self.read_record::<Membership>(MEMBERSHIP)?.map(|membership| membership.cluster))
    }

    /// Replaces the gossip keys, after a rotation.
    ///
    /// # Errors
    ///
    /// When they can not be written; those before are kept.
    pub fn keep_keys(&self, keys: &HandedKeys) -> Result<(), FilesError> {
        self.writing(KEYS, |path| record::write_record(path, KEYS, keys))
    }

    /// Replaces the other regions that are trusted.
    ///
    /// # Errors
    ///
    /// When they can not be written; those before are kept.
    pub fn keep_regions(&self, regions: &[(Region, String)]) -> Result<(), FilesError> {
        self.writing(REGIONS, |path| record::write_record(path, REGIONS, &regions))
    }

    /// Replaces the servers that the next start tries first.
    ///
    /// # Errors
    ///
    /// When the agent has not joined, or they can not be written.
    pub fn keep_servers(&self, servers: &[Server]) -> Result<(), FilesError> {
        let membership: Membership = self.read_record(MEMBERSHIP)?.ok_or_else(|| self.missing(MEMBERSHIP))?;
        let membership = Membership { servers: servers.to_vec(), ..membership };
        self.writing(MEMBERSHIP, |path| record::write_record(path, MEMBERSHIP, &membership))
    }

    /// The region that this server has founded, and whether Raft still has to begin with its members.
    ///
    /// # Errors
    ///
    /// When the file is damaged.
    pub fn founded(&self) -> Result<Option<(Found, Bootstrap)>, FilesError> {
        let file: FoundingFile = self.read_record(FOUNDING)?.unwrap_or_default();
        let bootstrap = if file.bootstrapped { Bootstrap::Done } else { Bootstrap::Pending };
        Ok(file.record.founded.map(|found| (found, bootstrap)))
    }

    /// Notes that Raft has begun with the members of the region that this server founded: it never does again.
    ///
    /// # Errors
    ///
    /// When it can not be written.
    pub fn keep_bootstrapped(&self) -> Result<(), FilesError> {
        let file: FoundingFile = self.read_record(FOUNDING)?.unwrap_or_default();
        let file = FoundingFile { bootstrapped: true, ..file };
        self.writing(FOUNDING, |path| record::write_record(path, FOUNDING, &file))
    }

    /// The key that the agent asks to be admitted with: the same in each try until it is.
    pub(crate) fn joining_key(&self) -> Result<LeafKey, FilesError> {
        let path = self.dir.join(JOINING_KEY);
        if let Some(key) = self.read(JOINING_KEY)?.and_then(|pem| LeafKey::from_pem(&pem).ok()) {
            return Ok(key);
        }
        let key = LeafKey::generate().map_err(|error| FilesError::NotKept(error.into()))?;
        record::write(&path, key.expose_pem().as_bytes())
            .map_err(|source| FilesError::Write { path, source })?;
        Ok(key)
    }

    pub(crate) fn founding(&self) -> Result<Record, FilesError> {
        Ok(self.read_record::<FoundingFile>(FOUNDING)?.unwrap_or_default().record)
    }

    pub(crate) fn keep_founding(&self, record: &Record) -> Result<(), FilesError> {
        let file = FoundingFile { record: record.clone(), bootstrapped: false };
        self.writing(FOUNDING, |path| record::write_record(path, FOUNDING, &file))
    }

    fn writing(&self, name: &str, write: impl FnOnce(&Path) -> io::Result<()>) -> Result<(), FilesError> {
        let path = self.dir.join(name);
        write(&path).map_err(|source| FilesError::Write { path, source })
    }

    fn read(&self, name: &str) -> Result<Option<String>, FilesError> {
        let path = self.dir.join(name);
        record::read(&path).map_err(|source| FilesError::Read { path, source })
    }

    fn read_record<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<Option<T>, FilesError> {
        let path = self.dir.join(name);
        match record::read_record(&path, name) {
            Ok(None) => Ok(None),
            Ok(Some(Ok(record))) => Ok(Some(record)),
            Ok(Some(Err(why))) => Err(FilesError::Damaged { path, why }),
            Err(source) => Err(FilesError::Read { path, source }),
        }
    }

    fn missing(&self, name: &str) -> FilesError {
        FilesError::Damaged { path: self.dir.join(name), why: "it is not there, and others are".into() }
    }

    fn unusable(&self, name: &str, source: CredentialsError) -> FilesError {
        FilesError::Damaged { path: self.dir.join(name), why: source.to_string() }
    }

    fn damaged(&self, error: GivenError) -> FilesError {
        let name = match &error {
            GivenError::Credentials(_) => AGENT,
            GivenError::Trust(_) => AUTHORITY,
            GivenError::Authority(_) => AUTHORITY_KEY,
            GivenError::Keys => KEYS,
        };
        FilesError::Damaged { path: self.dir.join(name), why: error.to_string() }
    }
}

/// Whether Raft has begun with the members of a region that was founded here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Bootstrap {
    /// It is to begin.
    Pending,
    /// It has, and never does again.
    Done,
}

impl Given {
    /// Checks that all parts fit together and make this agent part of its region.
    fn check(self, identity: &Identity, now: Duration) -> Result<Kept, GivenError> {
        let Self { proof, auth, cluster, keys, regions, servers } = self;
        if keys.ring().is_some() != (identity.role == Role::Server) || keys.packet_keys().is_empty() {
            return Err(GivenError::Keys);
        }
        let (mut credentials, authority) = match proof {
            Proof::Own(own) => (own, None),
            Proof::Issued { issued, key_pem } => {
                let scope = Scope::Region(identity.region.clone());
                let authorities =
                    Authorities::none().trust_pem(scope, &issued.authority_pem).map_err(GivenError::Trust)?;
                let chain = &issued.chain_pem;
                let credentials = Credentials::from_pem(identity.clone(), authorities, chain, &key_pem, now)?;
                let load = |key: &String| {
                    let region = identity.region.clone();
                    Authority::load(region, &issued.authority_pem, key, now).map(Arc::new)
                };
                (credentials, issued.authority_key_pem.as_ref().map(load).transpose()?)
            }
        };
        for (region, pem) in &regions {
            credentials = credentials.trusting(Scope::Region(region.clone()), pem)?;
        }
        Ok(Kept { credentials, authority, auth, cluster, keys, regions, servers })
    }
}

/// What an agent was given does not make it part of its region. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum GivenError {
    /// The certificate, its key and the authorities do not fit.
    #[error("{0}")]
    Credentials(#[from] CredentialsError),
    /// The authority's certificate is none.
    #[error("{0}")]
    Trust(CredentialsError),
    /// The authority and its key do not fit.
    #[error("{0}")]
    Authority(#[from] AuthorityError),
    /// The gossip keys are those of another role, or none.
    #[error("the gossip keys are not those of the agent's role")]
    Keys,
}

/// Why the files under `<data_dir>/tls` can not be used. None was changed, or all that were are whole.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// A file can not be read.
    #[error("could not read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file can not be written.
    #[error("could not write {}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is not what was written.
    #[error(
        "{} is damaged: {why}; restore the directory from a backup, or remove it and join again with -join",
        path.display()
    )]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The certificate was not renewed in time.
    #[error("the certificate in {} expired {since:?} ago; join again, with a token if the region demands one", dir.display())]
    Expired {
        /// The directory.
        dir: PathBuf,
        /// How long ago.
        since: Duration,
    },
    /// What the agent was given is no good.
    #[error("what the region gave can not be used: {0}")]
    NotKept(GivenError),
}
