//! How an agent becomes part of a region, and stays it.
//!
//! A region begins once, when enough servers have found each other ([`founding`]); every other agent is given its
//! certificate by a server of the region ([`Joiner`] asks, [`Service`] answers), proves itself by a certificate of the
//! user's, a [`Token`], the region's key or nothing ([`AuthMode`]), keeps what it was given in [`Files`], and has its
//! certificate renewed in time ([`Renewal`]). What the answering side needs to know of the region it asks a [`Registry`].
//!
//! This crate never decides who is alive, never writes the region's state itself, and never founds a region where one
//! may be already. It sends nothing secret to a peer that has not proven itself, unless the configuration asks for trust on
//! first contact, and then it says so.
//!
//! Read [`Joiner`] first, then [`Registry`].

pub mod founding;

mod admission;
mod ask;
mod config;
mod files;
mod invite;
mod joiner;
mod keys;
mod own;
mod rate;
mod record;
mod registry;
mod renewal;
mod service;
mod token;
mod wire;

pub use ask::{AskError, Federation, exchange, federate};
pub use config::{Config, Lifetimes, Retry};
pub use files::{Bootstrap, Files, FilesError, GivenError, Kept};
pub use invite::invite;
pub use joiner::{JoinError, Joined, Joiner, Locate, Resolve, system_resolver};
pub use keys::{HandedKeys, KeyError, KeyOrigin, KeyRing, PacketKey, RegionKey};
pub use own::{OwnFiles, ReloadFilesError, reload_files};
pub use registry::{Occupant, Registry, Settings, TokenUsage, TrustRegionError, TrustWish, UseTokenError};
pub use renewal::{OnRenewed, ReloadRegionsError, Renewal, RenewalEnd, fetch_keys, reload_regions};
pub use service::Service;
pub use token::{NewToken, Token, TokenError};
pub use wire::{Abroad, AuthMode, Refusal, Server};
