//! The agent's log: to standard error, to a file, and to whoever follows `/v1/agent/monitor`.

use std::{
    fs::OpenOptions,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::sync::{broadcast, mpsc};
use tracing::{Level, Subscriber};
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::{FilterExt, dynamic_filter_fn},
    fmt::{MakeWriter, format::Writer, time::FormatTime},
    layer::{Context, SubscriberExt},
    registry::LookupSpan,
};

/// Lines kept for a follower that is slow; beyond it the oldest are lost, and the follower is told how many.
const LINES_MAX: usize = 512;

/// A line of the log, in both forms.
#[derive(Clone, Debug)]
struct Line {
    level: Level,
    text: String,
    json: String,
}

/// Where followers get their lines.
#[derive(Clone, Debug)]
pub struct Monitor {
    lines: broadcast::Sender<Arc<Line>>,
    following: Following,
}

/// How many follow the log. While nobody does, what only followers would see is not even made: every task has a span.
#[derive(Clone, Debug, Default)]
struct Following(Arc<AtomicUsize>);

impl Following {
    fn begin(&self) -> Follower {
        self.0.fetch_add(1, Ordering::Relaxed);
        Follower(self.clone())
    }

    fn anybody(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }
}

/// One who follows, until it is dropped.
struct Follower(Following);

impl Drop for Follower {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl api::Monitor for Monitor {
    fn subscribe(&self, level: &str, json: bool) -> Result<mpsc::Receiver<String>, String> {
        let level = parse_level(level).ok_or_else(|| format!("Unknown log level: {level}"))?;
        let mut lines = self.lines.subscribe();
        let (sender, receiver) = mpsc::channel(LINES_MAX);
        let follower = self.following.begin();
        // A follower is no part of the agent's work, and ends with its reader.
        #[allow(clippy::disallowed_methods)]
        tokio::spawn(async move {
            let _follower = follower;
            loop {
                let line = match lines.recv().await {
                    Ok(line) if line.level > level => continue,
                    Ok(line) => {
                        if json {
                            line.json.clone()
                        } else {
                            line.text.clone()
                        }
                    }
                    Err(broadcast::error::RecvError::Lagged(count)) => format!("{count} log lines dropped\n"),
                    Err(broadcast::error::RecvError::Closed) => return,
                };
                if sender.send(line).await.is_err() {
                    return;
                }
            }
        });
        Ok(receiver)
    }
}

/// Reads a level as the configuration spells it; nothing for an unknown one.
pub fn parse_level(name: &str) -> Option<Level> {
    Some(match name.to_ascii_lowercase().as_str() {
        "trace" => Level::TRACE,
        "debug" => Level::DEBUG,
        "info" => Level::INFO,
        "warn" | "warning" => Level::WARN,
        "error" | "err" => Level::ERROR,
        _ => return None,
    })
}

/// Starts the log. Standard error gets text or JSON; the file, if any, gets the same.
///
/// # Errors
///
/// When the file can not be opened.
pub fn start(level: &str, json: bool, file: Option<PathBuf>) -> io::Result<Monitor> {
    let output = Output { file: open(file)?, stderr: true };
    Ok(install(level, json, output))
}

/// Starts the log into a file alone: standard output and error belong to whoever shows something else there.
///
/// # Errors
///
/// When the file can not be opened.
pub fn start_to_file(level: &str, path: &Path) -> io::Result<Monitor> {
    let output = Output { file: open(Some(path.to_owned()))?, stderr: false };
    Ok(install(level, false, output))
}

fn open(path: Option<PathBuf>) -> io::Result<Arc<Mutex<Option<std::fs::File>>>> {
    let file = match path {
        Some(path) => Some(OpenOptions::new().append(true).create(true).open(path)?),
        None => None,
    };
    Ok(Arc::new(Mutex::new(file)))
}

fn install(level: &str, json: bool, output: Output) -> Monitor {
    let lines = broadcast::Sender::new(LINES_MAX);
    let following = Following::default();
    let monitor = Monitor { lines: lines.clone(), following: following.clone() };
    let level = if level.eq_ignore_ascii_case("off") { "off".to_owned() } else { level.to_ascii_lowercase() };
    // Libraries below the agent speak up only when something is wrong.
    let filter = format!(
        "{level},openraft=error,fjall=warn,lsm_tree=warn,quinn=warn,rustls=warn,hyper=warn,bollard=warn,h2=warn"
    );
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let text =
        tracing_subscriber::fmt::layer().with_ansi(false).with_timer(LogTime).with_writer(output.clone());
    let layer: Box<dyn Layer<_> + Send + Sync> =
        if json { text.json().flatten_event(true).boxed() } else { text.with_target(true).boxed() };
    let followers = Followers { lines };
    let of_ours = EnvFilter::new(
        "trace,openraft=error,fjall=warn,lsm_tree=warn,quinn=warn,quinn_proto=warn,rustls=warn,hyper=warn",
    );
    let followed = dynamic_filter_fn(move |_, _| following.anybody());
    let subscriber = tracing_subscriber::registry()
        .with(layer.with_filter(filter))
        .with(followers.with_filter(followed.and(of_ours)));
    // A second agent in one process, as in a test, keeps the first one's log.
    let _ = tracing::subscriber::set_global_default(subscriber);
    monitor
}

/// Standard error and the file.
#[derive(Clone)]
struct Output {
    file: Arc<Mutex<Option<std::fs::File>>>,
    stderr: bool,
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(file) = &mut *self.file.lock() {
            file.write_all(bytes)?;
        }
        if self.stderr {
            io::stderr().write_all(bytes)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

impl<'a> MakeWriter<'a> for Output {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// Times of log lines: local to nobody, so that lines of several machines can be laid side by side.
struct LogTime;

impl FormatTime for LogTime {
    fn format_time(&self, writer: &mut Writer<'_>) -> std::fmt::Result {
        // The log is read by people beside other logs of the machine, so it shows the machine's clock.
        #[allow(clippy::disallowed_methods)]
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let time = api_types::Time(i64::try_from(now.as_nanos()).unwrap_or(0));
        write!(writer, "{time}")
    }
}

/// Hands every line to followers.
struct Followers {
    lines: broadcast::Sender<Arc<Line>>,
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Followers {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let meta = event.metadata();
        let mut fields = Fields::default();
        event.record(&mut fields);
        let mut time = String::new();
        // Writing into a text does not fail.
        let _ = LogTime.format_time(&mut Writer::new(&mut time));
        let level = *meta.level();
        let text = line_text(&time, level, meta.target(), &fields);
        let mut json = serde_json::Map::new();
        json.insert("@level".to_owned(), level.to_string().to_ascii_lowercase().into());
        json.insert("@message".to_owned(), fields.message.clone().into());
        json.insert("@module".to_owned(), meta.target().into());
        json.insert("@timestamp".to_owned(), time.into());
        for (name, value) in &fields.pairs {
            json.insert(name.clone(), value.clone().into());
        }
        let json = format!("{}\n", serde_json::Value::Object(json));
        // Followers may have gone meanwhile.
        let _ = self.lines.send(Arc::new(Line { level, text, json }));
    }
}

/// Writes a line as tools that follow Nomad's log know it: whole milliseconds, the level in brackets, a colon before
/// the fields.
fn line_text(time: &str, level: Level, target: &str, fields: &Fields) -> String {
    let (seconds, fraction) = time.trim_end_matches('Z').split_once('.').unwrap_or((time, ""));
    let (colon, rest) = if fields.pairs.is_empty() { ("", String::new()) } else { (":", fields.rest()) };
    format!(
        "{seconds}.{fraction:0<3.3}Z {:<7} {target}: {}{colon}{rest}\n",
        format!("[{level}]"),
        fields.message
    )
}

#[derive(Default)]
struct Fields {
    message: String,
    pairs: Vec<(String, String)>,
}

impl Fields {
    fn rest(&self) -> String {
        self.pairs.iter().map(|(name, value)| format!(" {name}={value}")).collect()
    }
}

impl tracing::field::Visit for Fields {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        let text = format!("{value:?}");
        if field.name() == "message" {
            self.message = text;
        } else {
            self.pairs.push((field.name().to_owned(), text));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn followed_lines_read_as_tools_expect() {
        let mut fields = Fields { message: "request complete".to_owned(), pairs: Vec::new() };
        let time = "2026-11-22T14:49:55.51921Z";
        assert_eq!(
            line_text(time, Level::INFO, "http", &fields),
            "2026-11-22T14:49:55.519Z [INFO]  http: request complete\n"
        );
        fields.pairs.push(("method".to_owned(), "GET".to_owned()));
        assert_eq!(
            line_text("2026-11-22T14:49:55.5Z", Level::DEBUG, "http", &fields),
            "2026-11-22T14:49:55.500Z [DEBUG] http: request complete: method=GET\n"
        );
    }
}
