//! The network that the tasks of an allocation share: a container that does nothing but hold it open.

use std::collections::HashMap;

use bollard::{
    models::{ContainerCreateBody, HostConfig},
    query_parameters::CreateImageOptions,
};
use bytes::Bytes;
use driver::{NetworkError, NetworkIsolation, NetworkRequest};
use futures_util::StreamExt;

use crate::{
    engine::{EngineError, WORK},
    image_name::ImageName,
    images::PullLimits,
    labels,
    launch::Launcher,
};

/// The label under which tasks find the container whose network they join.
pub(crate) const SANDBOX_LABEL: &str = "docker_sandbox_container_id";
/// The image that is made here, so that nothing has to be downloaded for a network.
const OWN_IMAGE: &str = "wayfarer/pause:1";

/// A program of one system call in a loop, for processors that call themselves `x86_64`: `pause`.
const PAUSE_X86_64: &[u8] = &[0xb8, 0x22, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf7];
/// The same for `aarch64`, which has no `pause`: `ppoll` on nothing, for ever.
const PAUSE_AARCH64: &[u8] = &[
    0x00, 0x00, 0x80, 0xd2, 0x01, 0x00, 0x80, 0xd2, 0x02, 0x00, 0x80, 0xd2, 0x03, 0x00, 0x80, 0xd2, 0x28,
    0x09, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4, 0xfa, 0xff, 0xff, 0x17,
];

impl Launcher {
    /// Makes the network of an allocation, or finds it.
    pub(crate) async fn create_network(
        &self,
        request: &NetworkRequest,
        node_id: Option<&str>,
    ) -> Result<NetworkIsolation, NetworkError> {
        let failed = |error: EngineError| NetworkError::Failed {
            message: format!("failed to create the allocation's network: {error}"),
            recoverable: error.is_unreachable(),
        };
        let name = format!("nomad_init_{}", request.alloc_id);
        let body = self.pause_container(request, node_id);
        let container = match self.create_once(&name, &body).await {
            Ok(container) => container,
            Err(error) if error.is_conflict() => self.own_pause(&name, &request.alloc_id).await?,
            Err(error) if error.is_missing_image() => {
                self.bring_pause_image().await?;
                self.create_once(&name, &body).await.map_err(failed)?
            }
            Err(error) => return Err(failed(error)),
        };
        let made = async {
            self.start_once(&container).await?;
            self.watcher.inspect(&container).await
        };
        let seen = match made.await {
            Ok(seen) => seen,
            Err(error) => {
                // What stays is found by the census.
                let _ = self.remove(&container).await;
                return Err(failed(error));
            }
        };
        let path =
            seen.network_settings.and_then(|settings| settings.sandbox_key).filter(|key| !key.is_empty());
        Ok(NetworkIsolation {
            path: path.map(Into::into),
            labels: [(SANDBOX_LABEL.to_owned(), container)].into(),
            hostname: request.hostname.clone(),
            hosts: Vec::new(),
        })
    }

    fn pause_container(&self, request: &NetworkRequest, node_id: Option<&str>) -> ContainerCreateBody {
        let dns = request.dns.clone().unwrap_or_default();
        let marks = [
            (labels::ALLOC_ID, Some(request.alloc_id.as_str())),
            (labels::NETWORK, Some(request.alloc_id.as_str())),
            (labels::NODE, node_id),
        ];
        let some = |list: Vec<String>| (!list.is_empty()).then_some(list);
        ContainerCreateBody {
            image: Some(self.config.infra_image.clone().unwrap_or_else(|| OWN_IMAGE.to_owned())),
            hostname: request.hostname.clone(),
            labels: Some(
                marks
                    .into_iter()
                    .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())))
                    .collect::<HashMap<_, _>>(),
            ),
            host_config: Some(HostConfig {
                network_mode: Some("none".to_owned()),
                dns: some(dns.servers),
                dns_search: some(dns.searches),
                dns_options: some(dns.options),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        }
    }

    /// Finds the container that an agent made before it could write that down.
    async fn own_pause(&self, name: &str, alloc_id: &str) -> Result<String, NetworkError> {
        let refused = |message: String, recoverable| NetworkError::Failed { message, recoverable };
        let seen = self.watcher.inspect(name).await.map_err(|error| refused(error.to_string(), true))?;
        let marks = seen.config.and_then(|config| config.labels).unwrap_or_default();
        match seen.id {
            Some(id) if marks.get(labels::NETWORK).map(String::as_str) == Some(alloc_id) => Ok(id),
            _ => Err(refused(
                format!("the container name {name} is in use by a container of somebody else"),
                false,
            )),
        }
    }

    async fn bring_pause_image(&self) -> Result<(), NetworkError> {
        let failed = |message: String, recoverable| NetworkError::Failed { message, recoverable };
        let Some(image) = &self.config.infra_image else {
            return self.make_pause_image().await.map_err(|error| {
                failed(format!("failed to make the image {OWN_IMAGE}: {error}"), error.is_unreachable())
            });
        };
        let image = ImageName::parse(image);
        let credentials = crate::auth::credentials(&self.config.auth, None, &image).await;
        let credentials = credentials.map_err(|reason| failed(reason, true))?;
        let limits = PullLimits {
            total: self.config.infra_image_pull_timeout,
            silence: self.config.pull_activity_timeout,
        };
        let pulled = self.images.pull(&image, credentials, limits, |_| {}).await;
        pulled.map_err(|error| failed(error.message, error.recoverable))
    }

    async fn make_pause_image(&self) -> Result<(), EngineError> {
        let engine = &self.watcher.engine;
        let info = engine.call(WORK, |client| async move { client.info().await }).await?;
        let architecture = info.architecture.unwrap_or_default();
        let Some(program) = program(&architecture) else {
            let text = format!("there is none for {architecture:?}; set infra_image in the plugin block");
            return Err(EngineError::Unreadable(text));
        };
        let archive = archive(&program);
        let options = CreateImageOptions {
            from_src: Some("-".to_owned()),
            repo: Some(OWN_IMAGE.to_owned()),
            changes: vec!["ENTRYPOINT [\"/pause\"]".to_owned()],
            ..CreateImageOptions::default()
        };
        let client = engine.client().await?;
        let mut said =
            client.create_image(Some(options), Some(bollard::body_full(Bytes::from(archive))), None);
        let made = tokio::time::timeout(WORK, async {
            while let Some(item) = said.next().await {
                item.map_err(|error| engine.heard(error))?;
            }
            Ok(())
        });
        made.await.unwrap_or_else(|_| Err(EngineError::Unreadable(format!("not done within {WORK:?}"))))
    }

    /// Removes the network of an allocation.
    pub(crate) async fn destroy_network(
        &self,
        alloc_id: &str,
        network: &NetworkIsolation,
    ) -> Result<(), NetworkError> {
        let Some(container) = network.labels.get(SANDBOX_LABEL) else { return Ok(()) };
        self.remove(container).await.map_err(|error| NetworkError::Failed {
            message: format!("failed to remove the network of allocation {alloc_id}: {error}"),
            recoverable: true,
        })
    }
}

/// Writes the smallest program that Linux executes: two headers and the code.
fn program(architecture: &str) -> Option<Vec<u8>> {
    const HEADERS: u64 = 64 + 56;
    const ADDRESS: u64 = 0x40_0000;
    let (machine, code): (u16, &[u8]) = match architecture {
        "x86_64" | "amd64" => (62, PAUSE_X86_64),
        "aarch64" | "arm64" => (183, PAUSE_AARCH64),
        _ => return None,
    };
    let mut bytes = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    bytes.extend(2_u16.to_le_bytes());
    bytes.extend(machine.to_le_bytes());
    bytes.extend(1_u32.to_le_bytes());
    for word in [ADDRESS + HEADERS, 64, 0] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.extend(0_u32.to_le_bytes());
    for half in [64_u16, 56, 1, 0, 0, 0] {
        bytes.extend(half.to_le_bytes());
    }
    // One segment: the whole file, readable and executable.
    bytes.extend(1_u32.to_le_bytes());
    bytes.extend(5_u32.to_le_bytes());
    let size = HEADERS + code.len() as u64;
    for word in [0, ADDRESS, ADDRESS, size, size, 0x1000] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.extend(code);
    Some(bytes)
}

/// Puts the program into an archive, as the only file of an image.
fn archive(program: &[u8]) -> Vec<u8> {
    const BLOCK: usize = 512;
    let mut header = [0_u8; BLOCK];
    let mut put = |at: usize, text: &[u8]| header[at..at + text.len()].copy_from_slice(text);
    put(0, b"pause");
    put(100, b"0000755\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{:011o}\0", program.len()).as_bytes());
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut bytes = header.to_vec();
    bytes.extend(program);
    bytes.resize(bytes.len().next_multiple_of(BLOCK) + 2 * BLOCK, 0);
    bytes
}
