//! Tasks as containers, through the Docker or Podman API.
