//! A credential provider for systemd: units get secrets from 1Password by `LoadCredential=ID:/run/onecred/credential.sock`.
//!
//! # The path of a request
//!
//! | step | module | what happens |
//! |---|---|---|
//! | accept | [`provider::request::listener`] | systemd connects from an address that names unit and credential ID; from here on the connection must get an answer |
//! | attest | [`provider::request::attestation`] | the peer must be root, in the cgroup of the unit that it claims or of the service manager |
//! | authorise | [`domain::policy`] | may this unit have this credential, and which reference is it? Denied unless an entry of the configuration allows it |
//! | look up | [`provider::fetch::assemble`], [`provider::store`] | if the snapshot in the ramfs is fresh, it is used at once |
//! | fetch | [`provider::fetch::broker`] | otherwise one flight per item asks the resolver ([`ipc`]), within the deadline |
//! | resolve | [`resolver`] | the other process, which has the network and the token, looks the item up in 1Password |
//! | fill in | [`provider::fetch::assemble`] | a [`template`](domain::template) is filled in with values of one version |
//! | seal | [`provider::base::sealer`] | for the sealed socket the value is encrypted with the host key, so that a unit gets all of it or does not start |
//! | pace | `provider::request::sealed_pace` | on systemd 258 and later a sealed answer waits until systemd can decrypt it |
//! | reply | [`provider::request::reply`] | the whole value, then EOF; or a refusal, until the peer hangs up |
//! | log | [`provider::request::request_log`] | a refusal or a long wait is logged in the journal of the unit that asked |
//!
//! [`provider::request::handler`] has these steps in this order.
//! If the provider dies, its [`provider::request::keeper`] refuses the open connections, so that no unit starts with an empty or truncated value.
//!
//! # Background work
//!
//! [`provider::fetch::rotation`] keeps secrets fresh. Changes are [`provider::base::events`]. [`provider::publish`] then replaces files,
//! [`provider::consumers::restarts`] restarts or reloads units, and [`provider::dbus`] sends signals. [`provider::consumers::recovery`] starts units again
//! that were refused during an outage. [`provider::observe`] counts, and has the states and metrics that administrators see.
//!
//! # Modules
//!
//! - [`domain`]: names, references, secrets, templates, the policy and the sealed form, without I/O
//! - [`config`]: the configuration as written, merged and checked
//! - [`host`]: Linux and systemd: sockets, notifications, the journal, the manager, the clock, and system calls
//! - [`ipc`]: the protocol between the two processes, [`provider`] and [`resolver`], which share nothing else
//! - [`cli`]: one module for each verb
//!
//! Only `host::sys` and `resolver::service_account::sdk`, the C ABI of 1Password's core, contain `unsafe` code.
//! ARCHITECTURE.md has the order in which modules may import each other.

pub mod cli;
pub mod config;
pub mod domain;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
#[path = "../fuzz/rules/mod.rs"]
pub mod fuzzing;
pub mod host;
pub mod ipc;
pub mod provider;
pub mod resolver;
