use std::fmt;

/// The name of an image as a job writes it, with its parts told apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ImageName {
    /// The name without tag and digest, such as `ghcr.io/me/app`.
    pub repository: String,
    /// The tag, or the digest with `@sha256:` before it.
    version: Version,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Version {
    Tag(String),
    Digest(String),
    /// The name is the id of an image that is already there.
    Id,
}

impl ImageName {
    /// Reads a name. Without a tag it means `latest`. A leading `https://` is dropped.
    pub fn parse(text: &str) -> Self {
        let text = text.trim();
        let text = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or(text);
        if text.starts_with("sha256:") {
            return Self { repository: text.to_owned(), version: Version::Id };
        }
        if let Some((name, digest)) = text.split_once('@') {
            return Self { repository: name.to_owned(), version: Version::Digest(digest.to_owned()) };
        }
        // A colon before the last slash belongs to the port of a registry.
        let tag_at = text.rfind(':').filter(|at| !text[*at..].contains('/'));
        let (repository, tag) = tag_at.map_or((text, "latest"), |at| (&text[..at], &text[at + 1..]));
        let tag = if tag.is_empty() { "latest" } else { tag };
        Self { repository: repository.to_owned(), version: Version::Tag(tag.to_owned()) }
    }

    /// Returns what the engine's pull takes as tag.
    pub fn tag(&self) -> Option<&str> {
        match &self.version {
            Version::Tag(text) | Version::Digest(text) => Some(text),
            Version::Id => None,
        }
    }

    /// Tells whether the name means another image from time to time, so that it must be asked for each time.
    pub fn is_moving(&self) -> bool {
        self.version == Version::Tag("latest".to_owned())
    }

    /// Returns the registry's address, or none for Docker Hub.
    pub fn registry(&self) -> Option<&str> {
        let (first, _) = self.repository.split_once('/')?;
        let is_host = first.contains('.') || first.contains(':') || first == "localhost";
        (is_host && !matches!(first, "docker.io" | "index.docker.io")).then_some(first)
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.version {
            Version::Tag(tag) => write!(f, "{}:{tag}", self.repository),
            Version::Digest(digest) => write!(f, "{}@{digest}", self.repository),
            Version::Id => f.write_str(&self.repository),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart() {
        for (text, whole, registry) in [
            ("redis", "redis:latest", None),
            ("redis:7", "redis:7", None),
            ("me/app", "me/app:latest", None),
            ("docker.io/library/redis:7", "docker.io/library/redis:7", None),
            ("localhost:5000/a", "localhost:5000/a:latest", Some("localhost:5000")),
            ("https://ghcr.io/a/b:c", "ghcr.io/a/b:c", Some("ghcr.io")),
            ("ghcr.io/a@sha256:ff", "ghcr.io/a@sha256:ff", Some("ghcr.io")),
            ("sha256:ff", "sha256:ff", None),
        ] {
            let name = ImageName::parse(text);
            assert_eq!((name.to_string().as_str(), name.registry()), (whole, registry), "{text}");
        }
        assert!(ImageName::parse("redis").is_moving());
        assert!(!ImageName::parse("redis:7").is_moving());
        assert_eq!(ImageName::parse("a@sha256:ff").tag(), Some("sha256:ff"));
    }
}
