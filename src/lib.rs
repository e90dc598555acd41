//! A credential provider for systemd: units get their secrets from 1Password by `LoadCredential=ID:/run/onecred/credential.sock`.
//!
//! # The path of one request
//!
//! | step | room | what happens |
//! |---|---|---|
//! | accept | [`provider::server`] | systemd has connected from an address that says unit and ID; the connection is owed an answer from here on |
//! | attest | [`provider::peer`] | the peer is root, and its cgroup is that of the unit it claims, or the service manager's own; else it is a stranger |
//! | judge | [`domain::policy`] | may this unit have this credential, and which reference is it? No, unless a line says so |
//! | put together | [`provider::assemble`] | one value, or a [`template`](domain::template) that is filled in with several, all of one generation |
//! | look | [`provider::freshness`], [`provider::store`] | the snapshot in the ramfs is fresh: answer at once |
//! | get | [`provider::broker`] | else one flight per item asks the resolver ([`ipc`]), within the deadline |
//! | resolve | [`resolver`] | the other process, with the network and the token, looks it up in 1Password |
//! | put together | [`provider::assemble`] | a template is filled in, once all of its parts are there |
//! | seal | [`provider::sealer`] | at the sealed socket: encrypted with the host key, so that nothing but the whole of it can start a unit |
//! | pace | `provider::request::sealed_pace` | on systemd 258 and later a sealed answer waits until systemd can decrypt it |
//! | answer | [`provider::reply`] | the whole value, then EOF; or a refusal, until the peer hangs up |
//! | tell | [`provider::report`] | a refusal or a long wait is a line in the journal of the unit that asked |
//!
//! If the provider dies on the way, its [`provider::keeper`] refuses what is open, so that no unit ever starts with an empty or cut value.
//!
//! # Beside the path
//!
//! What happens to a secret is told as [`provider::events`]. Who follows them: [`provider::publish`] replaces files, [`provider::restarts`]
//! tells units, [`provider::bus`] tells everybody, by D-Bus, and lets those who may ask and refresh. [`provider::rotation`] keeps secrets fresh by itself.
//! [`provider::recovery`] starts units again that were refused for a cause that has passed. [`provider::tally`] counts, [`provider::metrics`] is its text for
//! Prometheus, and [`provider::statuses`] knows how the sources are.
//!
//! # Modules
//!
//! - [`domain`]: names, references, secrets, templates, the policy and the sealed form, without I/O
//! - [`config`]: the configuration as written, merged and checked
//! - [`host`]: what Linux and systemd offer: sockets, notifications, the journal, the manager, the clock, and system calls that need `unsafe`
//! - [`ipc`]: the protocol between the two processes, [`provider`] and [`resolver`], which share nothing else
//! - [`cli`]: one module for each verb

pub mod cli;
pub mod config;
pub mod domain;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
pub mod host;
pub mod ipc;
pub mod provider;
pub mod resolver;
