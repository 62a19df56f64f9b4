//! What users and operators see, on the built binary: each test has an agent of its own.

mod any_command;
mod any_request;
mod bad_input;
mod commands;
mod dev;
mod docker;
mod events;
mod examples;
mod full_disk;
mod jobs;
mod python;
mod restarts;
mod snapshot;
