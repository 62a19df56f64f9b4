//! Settings of the schedulers, namespaces and node pools.

use model::{AutopilotConfig, Namespace, NodePool, SchedulerConfig, Text};
use protocol::{Command, Named};
use state::Refusal;

use super::RequestError;
use crate::{Server, SubmitError};

/// Longest name of a namespace or a node pool.
const NAME_CHARS_MAX: usize = 128;
/// Longest description of either.
const DESCRIPTION_CHARS_MAX: usize = 256;

impl Server {
    /// Changes the settings of the schedulers; with `cas`, only if their modify index is that. Returns whether they
    /// changed, and the index.
    ///
    /// # Errors
    ///
    /// When it could not be committed.
    pub async fn set_scheduler_config(
        &self,
        config: SchedulerConfig,
        cas: Option<u64>,
    ) -> Result<(bool, u64), RequestError> {
        match self.submit(&Command::SetSchedulerConfig { config: Named(config), cas }).await {
            Ok(submitted) => Ok((true, submitted.index)),
            Err(SubmitError::Refused(Refusal::SchedulerConfigChanged { .. })) => {
                Ok((false, self.snapshot().index()))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Changes the settings of how servers are kept; with `cas`, only if their modify index is that. Returns whether they
    /// changed, and the index.
    ///
    /// # Errors
    ///
    /// When it could not be committed.
    pub async fn set_autopilot_config(
        &self,
        config: AutopilotConfig,
        cas: Option<u64>,
    ) -> Result<(bool, u64), RequestError> {
        match self.submit(&Command::SetAutopilotConfig { config: Named(config), cas }).await {
            Ok(submitted) => Ok((true, submitted.index)),
            Err(SubmitError::Refused(Refusal::AutopilotConfigChanged { .. })) => {
                Ok((false, self.snapshot().index()))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Makes a namespace, or changes it, and returns the index.
    ///
    /// # Errors
    ///
    /// When its name or description is not one.
    pub async fn upsert_namespace(&self, namespace: Namespace) -> Result<u64, RequestError> {
        let name = &namespace.name;
        let mut errors = Vec::new();
        if !is_name(name, "-") {
            errors.push(format!("invalid name {name:?}. Must match regex ^[a-zA-Z0-9-]{{1,128}}$"));
        }
        errors.extend(description_error(&namespace.description));
        if !errors.is_empty() {
            return Err(RequestError::Failed(format!("Invalid namespace {name:?}: {}", list(&errors))));
        }
        Ok(self.submit(&Command::UpsertNamespaces { namespaces: vec![Named(namespace)] }).await?.index)
    }

    /// Removes a namespace and returns the index.
    ///
    /// # Errors
    ///
    /// When there is no such namespace, it is built in, or something lives in it.
    pub async fn delete_namespace(&self, name: Text) -> Result<u64, RequestError> {
        let region = &self.config().region;
        match self.submit(&Command::DeleteNamespaces { names: vec![name] }).await {
            Ok(submitted) => Ok(submitted.index),
            Err(SubmitError::Refused(Refusal::NamespaceInUse { name, what })) => {
                let errors: Vec<_> = what
                    .lines()
                    .map(|what| format!("namespace {name:?} has {what} in regions: [{region}]"))
                    .collect();
                Err(RequestError::Failed(list(&errors)))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Makes a node pool, or changes it, and returns the index.
    ///
    /// # Errors
    ///
    /// When its name or description is not one, or it is built in.
    pub async fn upsert_node_pool(&self, pool: NodePool) -> Result<u64, RequestError> {
        let name = &pool.name;
        let mut errors = Vec::new();
        if !is_name(name, "-_") {
            errors.push(format!("invalid name {name:?}, must match regex ^[a-zA-Z0-9-_]{{1,128}}$"));
        }
        errors.extend(description_error(&pool.description));
        if !errors.is_empty() {
            return Err(RequestError::Wrong(format!("invalid node pool {name:?}: {}", list(&errors))));
        }
        match self.submit(&Command::UpsertNodePools { pools: vec![Named(pool)] }).await {
            Ok(submitted) => Ok(submitted.index),
            Err(SubmitError::Refused(refusal @ Refusal::BuiltInPoolChanged { .. })) => {
                Err(RequestError::Wrong(refusal.to_string()))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Removes a node pool and returns the index.
    ///
    /// # Errors
    ///
    /// When there is no such pool, it is built in, or something uses it.
    pub async fn delete_node_pool(&self, name: Text) -> Result<u64, RequestError> {
        Ok(self.submit(&Command::DeleteNodePools { names: vec![name] }).await?.index)
    }
}

fn is_name(name: &str, beside: &str) -> bool {
    let allowed = |character: char| character.is_ascii_alphanumeric() || beside.contains(character);
    (1..=NAME_CHARS_MAX).contains(&name.chars().count()) && name.chars().all(allowed)
}

fn description_error(description: &str) -> Option<String> {
    let long = description.chars().count() > DESCRIPTION_CHARS_MAX;
    long.then(|| format!("description longer than {DESCRIPTION_CHARS_MAX}"))
}

fn list(errors: &[String]) -> String {
    let plural = if errors.len() == 1 { "error" } else { "errors" };
    let lines: Vec<_> = errors.iter().map(|error| format!("\t* {error}")).collect();
    format!("{} {plural} occurred:\n{}\n\n", errors.len(), lines.join("\n"))
}
