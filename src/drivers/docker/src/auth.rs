use std::{collections::BTreeMap, path::PathBuf, process::Stdio, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bollard::auth::DockerCredentials;
use serde::Deserialize;
use tokio::io::AsyncWriteExt;

use crate::{image_name::ImageName, options::Auth};

/// How long a credential helper may think; some ask a cloud service.
const HELPER_TIMEOUT: Duration = Duration::from_secs(30);
/// What Docker Hub is called in files of credentials.
const HUB: &str = "https://index.docker.io/v1/";

/// Where credentials for registries come from when a task has none.
#[derive(Clone, Debug, Default)]
pub struct AuthConfig {
    /// A file like `~/.docker/config.json`.
    pub file: Option<PathBuf>,
    /// A credential helper: `x` means the program `docker-credential-x`.
    pub helper: Option<String>,
}

/// What a file of credentials says about a registry.
#[derive(Debug, PartialEq)]
enum Entry {
    Credentials(Box<DockerCredentials>),
    Helper(String),
    Nothing,
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    auths: BTreeMap<String, FileAuth>,
    #[serde(default, rename = "credHelpers")]
    helpers: BTreeMap<String, String>,
    #[serde(default, rename = "credsStore")]
    store: String,
}

#[derive(Deserialize)]
struct FileAuth {
    #[serde(default)]
    auth: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    identitytoken: String,
}

/// Finds the credentials for an image: the task's own, else those of the operator's file, else those of the helper.
///
/// # Errors
///
/// What could not be read or run. Holds no secret.
pub(crate) async fn credentials(
    auth: &AuthConfig,
    own: Option<&Auth>,
    image: &ImageName,
) -> Result<Option<DockerCredentials>, String> {
    let registry = image.registry().unwrap_or(HUB);
    if let Some(own) = own.filter(|own| !own.username.is_empty()) {
        let server = if own.server_address.is_empty() { registry } else { &own.server_address };
        return Ok(Some(DockerCredentials {
            username: Some(own.username.clone()),
            password: Some(own.password.clone()),
            email: Some(own.email.clone()).filter(|email| !email.is_empty()),
            serveraddress: Some(server.to_owned()),
            ..DockerCredentials::default()
        }));
    }
    if let Some(path) = &auth.file {
        let text = tokio::fs::read_to_string(path).await;
        let text =
            text.map_err(|error| format!("failed to open auth config file {}: {error}", path.display()))?;
        match entry(&text, registry).map_err(|error| format!("{}: {error}", path.display()))? {
            Entry::Credentials(found) => return Ok(Some(*found)),
            Entry::Helper(name) => {
                if let Some(found) = ask_helper(&name, registry).await? {
                    return Ok(Some(found));
                }
            }
            Entry::Nothing => {}
        }
    }
    match &auth.helper {
        Some(name) => ask_helper(name, registry).await,
        None => Ok(None),
    }
}

fn entry(text: &str, registry: &str) -> Result<Entry, String> {
    let file: File = serde_json::from_str(text).map_err(|error| format!("failed to read it: {error}"))?;
    let wanted = host(registry);
    if let Some((_, helper)) = file.helpers.iter().find(|(name, _)| host(name) == wanted) {
        return Ok(Entry::Helper(helper.clone()));
    }
    if let Some((_, found)) = file.auths.iter().find(|(name, _)| host(name) == wanted)
        && let Some(credentials) = of_entry(found, registry)?
    {
        return Ok(Entry::Credentials(Box::new(credentials)));
    }
    if file.store.is_empty() { Ok(Entry::Nothing) } else { Ok(Entry::Helper(file.store)) }
}

fn of_entry(found: &FileAuth, registry: &str) -> Result<Option<DockerCredentials>, String> {
    let (mut username, mut password) = (found.username.clone(), found.password.clone());
    if !found.auth.is_empty() {
        let wrong = || format!("the entry of {registry} is not base64 of user:password");
        let bytes = STANDARD.decode(found.auth.trim()).map_err(|_| wrong())?;
        let text = String::from_utf8(bytes).map_err(|_| wrong())?;
        let (user, pass) = text.split_once(':').ok_or_else(wrong)?;
        (username, password) = (user.to_owned(), pass.trim_end_matches('\0').to_owned());
    }
    if username.is_empty() && found.identitytoken.is_empty() {
        return Ok(None);
    }
    Ok(Some(DockerCredentials {
        username: Some(username),
        password: Some(password),
        identitytoken: Some(found.identitytoken.clone()).filter(|token| !token.is_empty()),
        serveraddress: Some(registry.to_owned()),
        ..DockerCredentials::default()
    }))
}

/// Brings the many spellings of a registry's address to its host.
fn host(address: &str) -> &str {
    let bare = address.split_once("://").map_or(address, |(_, rest)| rest);
    let host = bare.split('/').next().unwrap_or(bare);
    if matches!(host, "docker.io" | "registry-1.docker.io") { "index.docker.io" } else { host }
}

async fn ask_helper(name: &str, registry: &str) -> Result<Option<DockerCredentials>, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        username: String,
        secret: String,
    }
    let program = format!("docker-credential-{name}");
    let failed = |what: String| format!("auth helper {program} failed: {what}");
    let mut command = tokio::process::Command::new(&program);
    command.arg("get").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| failed(error.to_string()))?;
    let asked = async {
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(registry.as_bytes()).await?;
        }
        child.wait_with_output().await
    };
    let output = tokio::time::timeout(HELPER_TIMEOUT, asked).await;
    let output =
        output.map_err(|_| failed("no answer".to_owned()))?.map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stdout).to_lowercase();
        // Helpers say this in their output when they know nothing about a registry.
        if said.contains("credentials not found") {
            return Ok(None);
        }
        return Err(failed(output.status.to_string()));
    }
    let answer: Answer =
        serde_json::from_slice(&output.stdout).map_err(|_| failed("its answer is unreadable".to_owned()))?;
    let is_token = answer.username == "<token>";
    Ok(Some(DockerCredentials {
        username: (!is_token).then(|| answer.username.clone()),
        password: (!is_token).then(|| answer.secret.clone()),
        identitytoken: is_token.then_some(answer.secret),
        serveraddress: Some(registry.to_owned()),
        ..DockerCredentials::default()
    }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_registry_is_found_in_every_spelling() {
        let file = json!({
            "auths": {"https://index.docker.io/v1/": {"auth": STANDARD.encode("me:se:cret")},
                      "http://r.example:5000/v2/": {"username": "u", "password": "p"}, "empty.example": {}},
            "credHelpers": {"ecr.example": "ecr-login"},
        })
        .to_string();
        let user = |registry: &str| match entry(&file, registry) {
            Ok(Entry::Credentials(found)) => found.username.clone().zip(found.password.clone()),
            _ => None,
        };
        assert_eq!(user("docker.io"), Some(("me".into(), "se:cret".into())));
        assert_eq!(user("r.example:5000"), Some(("u".into(), "p".into())));
        assert_eq!(entry(&file, "empty.example"), Ok(Entry::Nothing));
        assert_eq!(entry(&file, "ecr.example"), Ok(Entry::Helper("ecr-login".into())));
        let stored = json!({"credsStore": "pass"}).to_string();
        assert_eq!(entry(&stored, "any"), Ok(Entry::Helper("pass".into())));
    }

    #[test]
    fn a_broken_file_is_an_error_without_its_secrets() {
        let text = json!({"auths": {"r.example": {"auth": "!!secret"}}}).to_string();
        let error = entry(&text, "r.example").expect_err("it is broken");
        assert!(error.contains("r.example") && !error.contains("secret"), "{error}");
        assert!(entry("{", "r.example").is_err());
    }
}
