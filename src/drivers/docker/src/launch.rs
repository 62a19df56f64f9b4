//! Makes and starts containers, and removes them.

use std::{sync::Arc, time::Duration};

use bollard::{
    models::{ContainerCreateBody, ContainerInspectResponse},
    query_parameters::{CreateContainerOptions, RemoveContainerOptions, StartContainerOptions},
};
use driver::{DriverNetwork, EventSender, StartTaskError, TaskConfig, TaskEvent};
use runtime::Backoff;

use crate::{
    Config, auth,
    engine::{EngineError, WORK},
    image_name::ImageName,
    images::{Images, PullError, PullLimits},
    labels, mounts,
    options::Options,
    request::{self, Facts, Host, Request},
    task::{LogRecord, Record, Watcher, nanoseconds},
};

/// How often an image that vanished before its container was made is pulled again: once for its absence, once for a
/// removal at that very moment.
const PULLS_MAX: u32 = 2;
/// How soon a taken name is tried again, at first and at most.
const NAME_RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// How long a container that is being removed may take to be gone.
const REMOVAL_POLL: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));
/// How often it is looked for until then.
const REMOVAL_POLLS_MAX: u32 = 60;

/// What a launch works with.
pub(crate) struct Launcher {
    pub watcher: Watcher,
    pub images: Arc<Images>,
    pub events: EventSender,
    pub config: Arc<Config>,
}

impl Launcher {
    /// Starts a container for a task. The image is counted as used when this succeeds.
    pub async fn launch(
        &self,
        task: &TaskConfig,
        options: &Options,
        facts: Facts,
    ) -> Result<Record, StartTaskError> {
        let request = {
            let (task, options, config) = (task.clone(), options.clone(), Arc::clone(&self.config));
            let build = move || request::build(&task, &options, &config, &facts, Host::machine());
            self.watcher
                .env
                .spawn_blocking(build)
                .await
                .map_err(|error| StartTaskError::fatal(error.to_string()))??
        };
        let image = ImageName::parse(&options.image);
        self.images.acquire(&image.to_string());
        let started = self.run(task, options, &image, request).await;
        if started.is_err() {
            self.images.release(&image.to_string());
        }
        started
    }

    async fn run(
        &self,
        task: &TaskConfig,
        options: &Options,
        image: &ImageName,
        request: Request,
    ) -> Result<Record, StartTaskError> {
        if !options.load.is_empty() {
            self.load(task, options).await?;
        } else if options.force_pull || image.is_moving() {
            self.pull(task, options, image).await?;
        }
        if let Some(lines) = &request.hosts {
            write_hosts(task, lines)?;
        }
        let container = self.create(task, options, image, &request).await?;
        let started = self.start(task, options, &container).await;
        if started.is_err() {
            // What cannot be removed is found by the census; the failure of the start is the one to tell.
            let _ = self.remove(&container).await;
        }
        started
    }

    async fn load(&self, task: &TaskConfig, options: &Options) -> Result<(), StartTaskError> {
        let real = Host::machine().real;
        let local = format!("local/{}", options.load);
        let in_local =
            mounts::host_path(&local, &task.dirs, &self.config, real).ok().filter(|path| path.exists());
        let path = match in_local {
            Some(path) => path,
            None => mounts::host_path(&options.load, &task.dirs, &self.config, real)?,
        };
        self.images.load(path).await.map_err(of_pull)
    }

    async fn pull(
        &self,
        task: &TaskConfig,
        options: &Options,
        image: &ImageName,
    ) -> Result<(), StartTaskError> {
        self.tell(task, "Downloading image", &[("image", image.to_string())]);
        let found = auth::credentials(&self.config.auth, options.auth.as_ref(), image).await;
        let credentials = match found {
            Ok(found) => found,
            Err(_) if options.auth_soft_fail => None,
            Err(reason) => {
                return Err(StartTaskError::retry(format!(
                    "Failed to find docker auth for repo {image}: {reason}"
                )));
            }
        };
        let own =
            options.image_pull_timeout.as_deref().and_then(|text| crate::config::read_duration(text).ok());
        let limits = PullLimits {
            total: own.unwrap_or(self.config.image_pull_timeout),
            silence: self.config.pull_activity_timeout,
        };
        let progress = |text: String| self.tell(task, &text, &[("image", image.to_string())]);
        let with_credentials = credentials.is_some();
        let pulled = self.images.pull(image, credentials, limits, progress).await;
        match pulled {
            Err(_) if with_credentials && options.auth_soft_fail => {
                self.images.pull(image, None, limits, progress).await.map_err(of_pull)
            }
            other => other.map_err(of_pull),
        }
    }

    fn tell(&self, task: &TaskConfig, message: &str, details: &[(&str, String)]) {
        self.events.send(TaskEvent {
            id: task.id.clone(),
            at: self.watcher.env.wall(),
            message: message.to_owned(),
            details: details.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
        });
    }

    /// Makes the container. Its image is pulled when the engine does not have it; the name is freed when a container
    /// of the same allocation holds it.
    async fn create(
        &self,
        task: &TaskConfig,
        options: &Options,
        image: &ImageName,
        request: &Request,
    ) -> Result<String, StartTaskError> {
        let attempts = options.container_exists_attempts.unwrap_or(self.config.container_exists_attempts);
        let (mut pulls, mut conflicts) = (0, 0);
        let mut backoff = Backoff::new(NAME_RETRY.0, NAME_RETRY.1);
        let mut rng = self.watcher.env.rng();
        loop {
            let error = match self.create_once(&request.name, &request.body).await {
                Ok(container) => return Ok(container),
                Err(error) => error,
            };
            if error.is_missing_image() && pulls < PULLS_MAX && options.load.is_empty() {
                pulls += 1;
                self.pull(task, options, image).await?;
            } else if error.is_conflict() && conflicts < attempts {
                conflicts += 1;
                self.free_name(task, &request.name).await?;
                self.watcher.env.sleep(backoff.next_wait(&mut rng)).await;
            } else {
                let message = format!("Failed to create container {}: {error}", request.name);
                return Err(StartTaskError::Failed { message, recoverable: error.is_unreachable() });
            }
        }
    }

    /// Makes a container, as it is asked for.
    pub async fn create_once(&self, name: &str, body: &ContainerCreateBody) -> Result<String, EngineError> {
        let options =
            CreateContainerOptions { name: Some(name.to_owned()), ..CreateContainerOptions::default() };
        let created = self.watcher.engine.call(WORK, |client| {
            let body = body.clone();
            async move { client.create_container(Some(options), body).await }
        });
        Ok(created.await?.id)
    }

    /// Removes what an earlier launch of the same task left. Anything else with that name is not ours to touch.
    async fn free_name(&self, task: &TaskConfig, name: &str) -> Result<(), StartTaskError> {
        let found = match self.watcher.inspect(name).await {
            Ok(found) => found,
            Err(error) if error.is_missing() => return Ok(()),
            Err(error) => {
                return Err(StartTaskError::retry(format!("Failed to look at container {name}: {error}")));
            }
        };
        let of_alloc = found.config.and_then(|config| config.labels).unwrap_or_default();
        if of_alloc.get(labels::ALLOC_ID).map(String::as_str) != Some(task.alloc_id()) {
            let message = format!("the container name {name} is in use by a container of somebody else");
            return Err(StartTaskError::fatal(message));
        }
        let id = found.id.unwrap_or_default();
        let failed = |error| StartTaskError::retry(format!("Failed to purge container {name}: {error}"));
        self.remove(&id).await.map_err(failed)
    }

    async fn start(
        &self,
        task: &TaskConfig,
        options: &Options,
        container: &str,
    ) -> Result<Record, StartTaskError> {
        self.start_once(container).await.map_err(|error| {
            let text = error.to_string().to_ascii_lowercase();
            let passing = ["port is already allocated", "address already in use"];
            StartTaskError::Failed {
                message: format!("Failed to start container {container}: {error}"),
                recoverable: error.is_unreachable() || passing.iter().any(|part| text.contains(part)),
            }
        })?;
        let seen = self.watcher.inspect(container).await.map_err(|error| {
            StartTaskError::retry(format!("Failed to inspect container {container}: {error}"))
        })?;
        Ok(self.record(task, options, container, &seen))
    }

    /// Finds the container of a launch that an earlier agent began, if it runs; removes it if it does not. The image is counted
    /// as used when there is one.
    pub async fn find(&self, task: &TaskConfig, options: &Options) -> Result<Option<Record>, StartTaskError> {
        let name = request::container_name(task);
        let seen = match self.watcher.inspect(&name).await {
            Ok(seen) => seen,
            Err(error) if error.is_missing() => return Ok(None),
            Err(error) => {
                let message = format!("Failed to look for container {name}: {error}");
                return Err(StartTaskError::Failed { message, recoverable: error.is_unreachable() });
            }
        };
        let marks = seen.config.as_ref().and_then(|config| config.labels.as_ref());
        if marks.and_then(labels::task_id).as_ref() != Some(&task.id) {
            return Ok(None);
        }
        let id = seen.id.clone().unwrap_or_default();
        if seen.state.as_ref().and_then(|state| state.running) == Some(true) {
            self.images.acquire(&ImageName::parse(&options.image).to_string());
            return Ok(Some(self.record(task, options, &id, &seen)));
        }
        self.remove(&id).await.map_err(|error| StartTaskError::Failed {
            message: format!("Failed to remove container {name}, which was never started: {error}"),
            recoverable: error.is_unreachable(),
        })?;
        Ok(None)
    }

    /// What is kept of a container that runs.
    fn record(
        &self,
        task: &TaskConfig,
        options: &Options,
        container: &str,
        seen: &ContainerInspectResponse,
    ) -> Record {
        let started = seen.state.as_ref().and_then(|state| state.started_at.as_deref()).and_then(nanoseconds);
        let collect = !task.logs.disabled && !self.config.disable_log_collection;
        Record {
            container: container.to_owned(),
            image: ImageName::parse(&options.image).to_string(),
            node_id: task.node_id.clone(),
            started_at: started.unwrap_or_else(|| self.watcher.env.wall()),
            tty: options.tty,
            network: network_of(task, options, seen),
            logs: collect.then(|| LogRecord {
                dir: task.dirs.logs.clone(),
                max_files: task.logs.max_files,
                max_file_size_mb: task.logs.max_file_size_mb,
            }),
        }
    }

    /// Starts a container that was made.
    pub async fn start_once(&self, container: &str) -> Result<(), EngineError> {
        let start = self.watcher.engine.call(WORK, |client| async move {
            client.start_container(container, None::<StartContainerOptions>).await
        });
        start.await
    }

    /// Kills and removes a container with its unnamed volumes, and waits until it is gone.
    pub async fn remove(&self, container: &str) -> Result<(), EngineError> {
        let options = RemoveContainerOptions { v: true, force: true, link: false };
        let removed = self
            .watcher
            .engine
            .call(WORK, |client| async move { client.remove_container(container, Some(options)).await });
        match removed.await {
            Ok(()) => Ok(()),
            Err(error) if error.is_missing() => Ok(()),
            // Somebody else is removing it already.
            Err(error) if error.is_conflict() => self.gone(container, error).await,
            Err(error) => Err(error),
        }
    }

    async fn gone(&self, container: &str, conflict: EngineError) -> Result<(), EngineError> {
        let mut backoff = Backoff::new(REMOVAL_POLL.0, REMOVAL_POLL.1);
        let mut rng = self.watcher.env.rng();
        for _ in 0..REMOVAL_POLLS_MAX {
            match self.watcher.inspect(container).await {
                Err(error) if error.is_missing() => return Ok(()),
                Err(error) => return Err(error),
                Ok(_) => self.watcher.env.sleep(backoff.next_wait(&mut rng)).await,
            }
        }
        Err(conflict)
    }
}

fn of_pull(error: PullError) -> StartTaskError {
    StartTaskError::Failed { message: error.message, recoverable: error.recoverable }
}

fn write_hosts(task: &TaskConfig, lines: &str) -> Result<(), StartTaskError> {
    // The directory itself is never shown to the container, so nothing can have put a link there.
    std::fs::write(task.dirs.task.join("hosts"), lines)
        .map_err(|error| StartTaskError::retry(format!("failed to write the task's hosts file: {error}")))
}

/// Finds the address that the engine gave to a container.
fn network_of(
    task: &TaskConfig,
    options: &Options,
    seen: &ContainerInspectResponse,
) -> Option<DriverNetwork> {
    let networks = seen.network_settings.as_ref()?.networks.as_ref()?;
    let endpoint = networks.values().next()?;
    let own = |address: &Option<String>| address.clone().filter(|address| !address.is_empty());
    let v6 = options.advertise_ipv6_address.then(|| own(&endpoint.global_ipv6_address)).flatten();
    // On the engine's own bridge an address means nothing outside of this machine.
    let default = matches!(options.network_mode.as_str(), "" | "default" | "bridge" | "host" | "none");
    let auto_advertise = v6.is_some() || !default;
    let ip = v6.or_else(|| own(&endpoint.ip_address))?;
    let mapped = options.port_map.iter().map(|(label, port)| (label.clone(), *port));
    let published = options.ports.iter().filter_map(|label| {
        let port = task.ports.iter().find(|port| port.label == *label)?;
        Some((label.clone(), if port.to == 0 { port.host_port } else { port.to }))
    });
    Some(DriverNetwork { ip, auto_advertise, port_map: mapped.chain(published).collect() })
}
