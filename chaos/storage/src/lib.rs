//! Damages what servers and clients keep on their disks, place by place, and sees what comes of it.
//!
//! A [`Subject`] makes its files with the product's own code and tells what a start on damaged ones comes to. Each
//! [`Damage`] is done to a fresh copy: one flipped bit, a shorter file, two files swapped, an older file put back, a
//! file gone. It has to be noticed or to make no difference ([`Verdict`]); what is served as if nothing had happened is a
//! finding. This crate never touches files that it did not make.
//!
//! Read [`sweep`] first.

mod client_files;
mod damage;
mod files;
mod server_files;
mod sweep;

pub use client_files::ClientFiles;
pub use damage::Damage;
pub use files::Files;
pub use server_files::ServerFiles;
pub use sweep::{Findings, Rehearsal, Subject, Verdict, sweep};
