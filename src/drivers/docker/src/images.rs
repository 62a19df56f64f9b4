use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use bollard::{
    auth::DockerCredentials,
    models::CreateImageInfo,
    query_parameters::{CreateImageOptions, ImportImageOptions, RemoveImageOptions},
};
use bytes::Bytes;
use futures_util::StreamExt;
use parking_lot::Mutex;
use runtime::{Env, Shutdown};
use tokio::{io::AsyncReadExt, sync::watch};
use tracing::{debug, info};

use crate::{
    engine::{ASK, Engine, EngineError},
    image_name::ImageName,
};

/// How often someone who waits for a pull is told of its progress.
const PROGRESS_PERIOD: Duration = Duration::from_secs(10);
/// Bytes read at a time from the file of an image.
const CHUNK: usize = 256 * 1024;
/// How long loading an image from a file may take: gigabytes from a slow disk.
const LOAD: Duration = Duration::from_secs(600);

/// Brings images here and takes those away that no task uses any more.
pub(crate) struct Images {
    env: Env,
    engine: Engine,
    shutdown: Shutdown,
    /// How long an unused image stays; none keeps all.
    delay: Option<Duration>,
    pulls: Mutex<HashMap<PullKey, watch::Receiver<PullState>>>,
    uses: Mutex<HashMap<String, Uses>>,
}

type PullKey = (ImageName, Option<String>);

/// How many tasks use an image, and how often that changed.
#[derive(Default)]
struct Uses {
    count: u32,
    changes: u64,
}

#[derive(Clone)]
enum PullState {
    Running(String),
    Done(Result<(), PullError>),
}

/// Why an image could not be brought here.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct PullError {
    pub message: String,
    pub recoverable: bool,
}

/// How long a pull may take, in all and without progress.
#[derive(Clone, Copy)]
pub(crate) struct PullLimits {
    pub total: Duration,
    pub silence: Duration,
}

impl Images {
    pub fn new(env: Env, engine: Engine, shutdown: Shutdown, delay: Option<Duration>) -> Arc<Self> {
        Arc::new(Self { env, engine, shutdown, delay, pulls: Mutex::default(), uses: Mutex::default() })
    }

    /// Counts a task that is going to use an image, so that it is not taken away.
    pub fn acquire(&self, image: &str) {
        let mut uses = self.uses.lock();
        let entry = uses.entry(image.to_owned()).or_default();
        entry.count += 1;
        entry.changes += 1;
    }

    /// Counts a task that no longer uses an image. The last one starts the time after which it goes.
    pub fn release(self: &Arc<Self>, image: &str) {
        let changes = {
            let mut uses = self.uses.lock();
            let Some(entry) = uses.get_mut(image) else { return };
            entry.count = entry.count.saturating_sub(1);
            entry.changes += 1;
            if entry.count > 0 {
                return;
            }
            entry.changes
        };
        let Some(delay) = self.delay else { return };
        let (this, image) = (Arc::clone(self), image.to_owned());
        self.env.spawn("docker-image-gc", async move {
            tokio::select! {
                biased;
                () = this.shutdown.wait() => return,
                () = this.env.sleep(delay) => {}
            }
            if this.forget_unused(&image, changes) {
                this.remove(&image).await;
            }
        });
    }

    /// Forgets an image that nobody has used since.
    fn forget_unused(&self, image: &str, changes: u64) -> bool {
        let mut uses = self.uses.lock();
        let unused = uses.get(image).is_some_and(|uses| uses.count == 0 && uses.changes == changes);
        if unused {
            uses.remove(image);
        }
        unused
    }

    async fn remove(&self, image: &str) {
        // Without force: the engine refuses while any container uses it, ours or not.
        let removed = self.engine.call(ASK, |client| {
            let image = image.to_owned();
            async move { client.remove_image(&image, None::<RemoveImageOptions>, None).await }
        });
        match removed.await {
            Ok(_) => info!(image, "removed unused image"),
            Err(error) => debug!(image, %error, "image stays"),
        }
    }

    /// Pulls an image. Those who want the same image at the same time share one pull; it goes on when the first of them
    /// leaves. `progress` hears how it goes, every few seconds.
    pub async fn pull(
        self: &Arc<Self>,
        image: &ImageName,
        credentials: Option<DockerCredentials>,
        limits: PullLimits,
        mut progress: impl FnMut(String),
    ) -> Result<(), PullError> {
        let mut state = self.join_pull(image, credentials, limits);
        loop {
            let tick = self.env.sleep(PROGRESS_PERIOD);
            let outcome = tokio::select! {
                biased;
                done = state.wait_for(|state| matches!(state, PullState::Done(_))) => {
                    Some(done.map(|state| state.clone()))
                }
                () = tick => None,
            };
            match outcome {
                Some(Ok(PullState::Done(result))) => return result,
                Some(Ok(PullState::Running(_))) => {}
                Some(Err(_)) => return Err(failed(image, "the agent is shutting down", true)),
                None => {
                    let text = match &*state.borrow() {
                        PullState::Running(text) => text.clone(),
                        PullState::Done(_) => String::new(),
                    };
                    if !text.is_empty() {
                        progress(text);
                    }
                }
            }
        }
    }

    fn join_pull(
        self: &Arc<Self>,
        image: &ImageName,
        credentials: Option<DockerCredentials>,
        limits: PullLimits,
    ) -> watch::Receiver<PullState> {
        let secret = credentials.as_ref().and_then(|found| serde_json::to_string(found).ok());
        let key = (image.clone(), secret);
        let mut pulls = self.pulls.lock();
        if let Some(state) = pulls.get(&key) {
            return state.clone();
        }
        let (tell, state) = watch::channel(PullState::Running(String::new()));
        pulls.insert(key.clone(), state.clone());
        let this = Arc::clone(self);
        self.env.spawn("docker-pull", async move {
            let pulled = tokio::select! {
                biased;
                () = this.shutdown.wait() => Err(failed(&key.0, "the agent is shutting down", true)),
                pulled = tokio::time::timeout(limits.total, this.pull_alone(&key.0, credentials, limits, &tell)) => {
                    pulled.unwrap_or_else(|_| {
                        let text = format!("context deadline exceeded: it took longer than {:?}", limits.total);
                        Err(failed(&key.0, &text, true))
                    })
                }
            };
            this.pulls.lock().remove(&key);
            tell.send_replace(PullState::Done(pulled));
        });
        state
    }

    async fn pull_alone(
        &self,
        image: &ImageName,
        credentials: Option<DockerCredentials>,
        limits: PullLimits,
        tell: &watch::Sender<PullState>,
    ) -> Result<(), PullError> {
        let of_engine = |error: EngineError| failed(image, &error.to_string(), is_recoverable(&error));
        let client = self.engine.client().await.map_err(of_engine)?;
        let options = CreateImageOptions {
            from_image: Some(image.repository.clone()),
            tag: image.tag().map(str::to_owned),
            ..CreateImageOptions::default()
        };
        let mut stream = client.create_image(Some(options), None, credentials);
        let mut layers = Layers::default();
        loop {
            let Ok(item) = tokio::time::timeout(limits.silence, stream.next()).await else {
                let text = format!("no progress for {:?}", limits.silence);
                return Err(failed(image, &text, true));
            };
            match item {
                None => return Ok(()),
                Some(Ok(news)) => {
                    layers.hear(&news);
                    tell.send_replace(PullState::Running(layers.text()));
                }
                Some(Err(error)) => return Err(of_engine(self.engine.heard(error))),
            }
        }
    }

    /// Loads images from a file that an engine has saved.
    pub async fn load(&self, path: PathBuf) -> Result<(), PullError> {
        let shown = path.display().to_string();
        let wrong = |recoverable| {
            let shown = shown.clone();
            move |reason: String| {
                let message = format!("unable to load image from tarball {shown}: {reason}");
                PullError { message, recoverable }
            }
        };
        let file = tokio::fs::File::open(&path).await.map_err(|error| wrong(false)(error.to_string()))?;
        let content = futures_util::stream::unfold(file, |mut file| async move {
            let mut chunk = vec![0; CHUNK];
            match file.read(&mut chunk).await {
                Ok(0) => None,
                Ok(n) => {
                    chunk.truncate(n);
                    Some((Ok(Bytes::from(chunk)), file))
                }
                Err(error) => Some((Err(error), file)),
            }
        });
        let client = self.engine.client().await.map_err(|error| wrong(true)(error.to_string()))?;
        let mut stream = Box::pin(client.import_image_stream(ImportImageOptions::default(), content, None));
        let loaded = tokio::time::timeout(LOAD, async {
            while let Some(item) = stream.next().await {
                item.map_err(|error| wrong(false)(self.engine.heard(error).to_string()))?;
            }
            Ok(())
        });
        loaded.await.unwrap_or_else(|_| Err(wrong(true)(format!("it took longer than {LOAD:?}"))))
    }
}

fn failed(image: &ImageName, reason: &str, recoverable: bool) -> PullError {
    PullError { message: format!("Failed to pull `{image}`: {reason}"), recoverable }
}

/// Tells whether another try may help: not when the registry knows no such image or refuses the credentials.
fn is_recoverable(error: &EngineError) -> bool {
    let EngineError::Refused { message, .. } = error else { return true };
    let text = message.to_ascii_lowercase();
    let hopeless =
        ["not found", "manifest unknown", "unauthorized", "denied", "invalid reference", "no basic auth"];
    !hopeless.iter().any(|part| text.contains(part)) || text.contains("no such host")
}

/// What a pull has said about each layer.
#[derive(Default)]
struct Layers(BTreeMap<String, Layer>);

#[derive(Default)]
struct Layer {
    current: i64,
    total: i64,
    done: bool,
}

impl Layers {
    fn hear(&mut self, news: &CreateImageInfo) {
        let (Some(id), Some(status)) = (&news.id, &news.status) else { return };
        // The first line carries the tag as its id.
        if status.starts_with("Pulling from") {
            return;
        }
        let layer = self.0.entry(id.clone()).or_default();
        layer.done = matches!(status.as_str(), "Pull complete" | "Already exists");
        if status == "Downloading"
            && let Some(detail) = &news.progress_detail
        {
            layer.current = detail.current.unwrap_or(layer.current);
            layer.total = detail.total.unwrap_or(layer.total);
        }
    }

    fn text(&self) -> String {
        let done = self.0.values().filter(|layer| layer.done).count();
        let mebibytes = |part: fn(&Layer) -> i64| self.0.values().map(part).sum::<i64>() >> 20;
        let (current, total) = (mebibytes(|layer| layer.current), mebibytes(|layer| layer.total));
        format!("Docker image pull progress: Pulled {done}/{} layers ({current}MiB/{total}MiB)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(message: &str) -> EngineError {
        EngineError::Refused { status: 500, message: message.to_owned() }
    }

    #[test]
    fn only_what_may_change_is_tried_again() {
        let dns = "Get \"https://x/v2/\": dial tcp: lookup x on 192.0.2.53:53: no such host";
        assert!(is_recoverable(&refused(dns)));
        assert!(is_recoverable(&refused("toomanyrequests: rate limit")));
        for text in
            ["manifest for x:1 not found: manifest unknown", "pull access denied for x", "unauthorized: no"]
        {
            assert!(!is_recoverable(&refused(text)), "{text}");
        }
        let error = failed(&ImageName::parse("nowhere.invalid/none:1"), &refused(dns).to_string(), true);
        assert_eq!(
            error.message,
            format!("Failed to pull `nowhere.invalid/none:1`: Error response from daemon: {dns}")
        );
    }

    #[test]
    fn an_image_is_forgotten_only_when_nobody_came_back() {
        let env = Env::with(runtime::WallClock::System, 1, Shutdown::new());
        let engine = Engine::new(env.clone(), crate::Endpoint::Unix("/no".into()));
        let images = Images::new(env, engine, Shutdown::new(), None);
        images.acquire("a");
        images.acquire("a");
        images.release("a");
        assert!(!images.forget_unused("a", 3), "one task uses it");
        images.release("a");
        assert!(!images.forget_unused("a", 3), "that was an earlier release");
        assert!(images.forget_unused("a", 4));
    }

    #[test]
    fn progress_is_summed_over_layers() {
        let news = |id: &str, status: &str, current, total| CreateImageInfo {
            id: Some(id.to_owned()),
            status: Some(status.to_owned()),
            progress_detail: Some(bollard::models::ProgressDetail {
                current: Some(current),
                total: Some(total),
            }),
            ..CreateImageInfo::default()
        };
        let mut layers = Layers::default();
        layers.hear(&news("7", "Pulling from library/redis", 0, 0));
        layers.hear(&news("a", "Downloading", 1 << 20, 4 << 20));
        layers.hear(&news("b", "Already exists", 0, 0));
        assert_eq!(layers.text(), "Docker image pull progress: Pulled 1/2 layers (1MiB/4MiB)");
    }
}
