//! Gives jobs to a cluster and watches them.

use std::{sync::Arc, time::Duration};

use anyhow::{anyhow, bail};
use futures_util::{StreamExt, stream};
use runtime::{Env, Instant};
use serde_json::Value;

use crate::{
    api::{AllocRow, Api, Progress},
    report::Point,
};

/// Registrations under way at once.
const REGISTRATIONS_MAX: usize = 64;

/// Bounds of the time between two looks at the jobs.
const LOOK_EVERY: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(2));

/// A look may cost one part in so many of the time between two: watching must not become the work.
const LOOK_SHARE: u32 = 20;

/// No step forward for so long means that nothing will come any more.
const STANDSTILL_MAX: Duration = Duration::from_secs(90);

/// Between two lines about how far it is.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// Up to so many allocations, the moments are read from the allocations themselves; beyond, from the looks.
const ROWS_MAX: usize = 50_000;

/// When something was reached.
#[derive(Clone, Debug, Default)]
pub struct Course {
    /// All jobs were accepted.
    pub registered: Duration,
    /// All allocations were placed.
    pub placed: Duration,
    /// All were acknowledged as running.
    pub running: Duration,
    /// How it went.
    pub curve: Vec<Point>,
}

/// Registers jobs, some at a time.
///
/// # Errors
///
/// When one is refused.
pub async fn register_all(api: &Api, jobs: impl Iterator<Item = Value>) -> anyhow::Result<()> {
    let mut under_way = stream::iter(jobs.enumerate())
        .map(|(number, job)| async move { api.register(number, &job).await })
        .buffer_unordered(REGISTRATIONS_MAX);
    while let Some(done) = under_way.next().await {
        done?;
    }
    Ok(())
}

/// Registers jobs whose ids begin with `prefix` and waits until all of their allocations run.
///
/// # Errors
///
/// When a job is refused, or nothing moves for long.
pub async fn run_all(
    env: &Env,
    api: &Api,
    prefix: &str,
    jobs: Vec<Value>,
    wanted: usize,
) -> anyhow::Result<Course> {
    let (started, wall) = (env.now(), env.wall());
    let registering = async {
        register_all(api, jobs.into_iter()).await?;
        anyhow::Ok(started.elapsed())
    };
    let watching = watch(env, api, prefix, wanted, started);
    let (registered, mut course) = tokio::try_join!(registering, watching)?;
    course.registered = registered;
    if wanted <= ROWS_MAX {
        let reached = since(wall, &api.allocations(prefix).await?);
        (course.placed, course.running) = (reached.placed, reached.running);
    }
    Ok(course)
}

/// Finds when the last of these allocations was placed and when it was known to run, since a moment of wall time.
pub fn since(wall: i64, rows: &[AllocRow]) -> Course {
    let since = |moment: i64| Duration::from_nanos(u64::try_from(moment - wall).unwrap_or(0));
    let last = |time: fn(&AllocRow) -> i64| rows.iter().map(time).max().map_or(Duration::ZERO, since);
    let (placed, running) = (last(AllocRow::created), last(AllocRow::modified));
    Course { placed, running, ..Course::default() }
}

/// Waits until so many allocations run.
///
/// # Errors
///
/// When nothing moves for long.
pub async fn watch(
    env: &Env,
    api: &Api,
    prefix: &str,
    wanted: usize,
    started: Instant,
) -> anyhow::Result<Course> {
    let mut course = Course::default();
    let mut last = (Progress::default(), env.now());
    let mut told = env.now();
    loop {
        let asked = env.now();
        let progress = api.progress(prefix).await?;
        let at = started.elapsed();
        let Progress { placed, running } = progress;
        course.curve.push(Point { at: at.as_secs_f64(), placed, running });
        if placed >= wanted && course.placed.is_zero() {
            course.placed = at;
        }
        if running >= wanted {
            course.running = at;
            return Ok(course);
        }
        if told.elapsed() > TELL_EVERY {
            told = env.now();
            eprintln!("  {:.0} s: {placed} of {wanted} placed, {running} running", at.as_secs_f64());
        }
        if progress != last.0 {
            last = (progress, env.now());
        }
        if last.1.elapsed() > STANDSTILL_MAX {
            bail!("nothing moves: {placed} of {wanted} placed, {running} running");
        }
        env.sleep((asked.elapsed() * LOOK_SHARE).clamp(LOOK_EVERY.0, LOOK_EVERY.1)).await;
    }
}

/// Waits for something that is asked for again and again.
///
/// # Errors
///
/// When it does not come in time, saying what was waited for.
pub async fn until<F: Future<Output = anyhow::Result<Option<T>>>, T>(
    env: &Env,
    what: &str,
    limit: Duration,
    mut ask: impl FnMut() -> F,
) -> anyhow::Result<(T, Duration)> {
    let started = env.now();
    loop {
        let asked = env.now();
        if let Some(found) = ask().await? {
            return Ok((found, started.elapsed()));
        }
        if started.elapsed() > limit {
            return Err(anyhow!("waited in vain until {what}"));
        }
        env.sleep((asked.elapsed() * LOOK_SHARE).clamp(LOOK_EVERY.0, LOOK_EVERY.1)).await;
    }
}

/// Purges jobs, some at a time.
///
/// # Errors
///
/// When one can not be purged.
pub async fn purge_all(api: &Api, ids: Vec<String>) -> anyhow::Result<()> {
    let api = Arc::new(api.clone());
    let mut under_way = stream::iter(ids.into_iter().enumerate())
        .map(|(number, id)| {
            let api = api.clone();
            async move { api.purge(number, &id).await }
        })
        .buffer_unordered(REGISTRATIONS_MAX);
    while let Some(done) = under_way.next().await {
        done?;
    }
    Ok(())
}
