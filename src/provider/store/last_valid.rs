//! The last valid configuration of this boot. It is kept in the store, and stays active if the files have
//! errors at a restart.
//!
//! The store has the texts of the files, not the parsed form, because another version of onecred parses them by
//! its own rules. The texts are written before the configuration becomes active, so if the provider is killed
//! in between, the newer version remains. The resolver does not read this: each question of the provider
//! contains the definition of its source.

use std::fs;

use serde::{Deserialize, Serialize};

use crate::config::{self, Paths, Problem, Report, Settings, Texts};
use crate::host::clock;
use crate::provider::base::active_config::ActiveConfig;
use crate::provider::store::Store;

/// The content of the store.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    /// The boot that it belongs to, if the kernel reports it: /proc/sys is hidden from the unit. A ramfs does
    /// not survive a reboot anyway.
    boot: Option<String>,
    /// When it was first loaded, in seconds since the Unix epoch.
    loaded: u64,
    texts: Texts,
}

/// The current content of the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Files {
    Valid,
    /// They have errors or cannot be read.
    Unusable,
    /// They do not exist.
    Missing,
}

/// The configuration in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Last {
    /// None that can be used.
    None,
    /// A configuration with `"strict": true`.
    Strict,
    /// Any other configuration.
    Usable,
}

/// What becomes active.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Choice {
    Files,
    Last,
    /// Nothing: every unit is refused.
    Nothing,
}

/// Chooses what becomes active. A removed configuration was removed on purpose. A configuration with errors
/// is a mistake, and must not stop what worked before.
fn choose(files: Files, last: Last) -> Choice {
    match (files, last) {
        (Files::Valid, _) => Choice::Files,
        (Files::Unusable, Last::Usable) => Choice::Last,
        (Files::Unusable, Last::None | Last::Strict) | (Files::Missing, _) => Choice::Nothing,
    }
}

/// What a provider starts with.
pub enum Start {
    /// The configuration in the files, with warnings.
    Files(ActiveConfig, Vec<Problem>),
    /// The last valid configuration, and why the files cannot be used.
    Last(ActiveConfig, Report),
    /// Nothing, for this reason.
    Nothing(Report),
}

/// Chooses what a provider starts with, and stores that for the next one.
pub fn start(paths: &Paths, store: &Store) -> Start {
    let loaded = config::load(paths);
    let files = match &loaded {
        Ok(_) => Files::Valid,
        Err(_) if config::is_missing(paths) => Files::Missing,
        Err(_) => Files::Unusable,
    };
    let recalled = if files == Files::Unusable { recall(store) } else { None };
    let last = match &recalled {
        None => Last::None,
        Some((settings, ..)) if settings.strict => Last::Strict,
        Some(_) => Last::Usable,
    };
    match (choose(files, last), loaded, recalled) {
        (_, Ok(loaded), _) => {
            let (digest, at) = keep(store, &loaded.texts);
            Start::Files(ActiveConfig::of_files(loaded.settings, digest, at), loaded.warnings)
        }
        (Choice::Last, Err(report), Some((settings, digest, at))) => {
            Start::Last(ActiveConfig::of_files(settings, digest, at), report)
        }
        (_, Err(report), _) => {
            if files == Files::Missing {
                // a later configuration may have errors, and this one must not return then
                store.forget_configuration();
            }
            Start::Nothing(report)
        }
    }
}

/// Stores the texts of a configuration that is about to become active. Returns their digest, and when they
/// were first loaded.
pub fn keep(store: &Store, texts: &Texts) -> (String, u64) {
    let (digest, now) = (texts.digest(), clock::unix());
    if !store.exists() {
        return (digest, now);
    }
    if let Some(kept) = read(store).filter(|kept| kept.texts == *texts) {
        return (digest, kept.loaded);
    }
    let kept = Kept { boot: boot(), loaded: now, texts: texts.clone() };
    let written = serde_json::to_vec(&kept).map_err(std::io::Error::other);
    if let Err(error) = written.and_then(|bytes| store.set_configuration(&bytes)) {
        store.forget_configuration(); // an older configuration may grant what this one revokes
        tracing::warn!(
            "the configuration can't be kept in the store: {error}; it is active, but a restart with errors in the files would refuse every unit"
        );
    }
    (digest, now)
}

/// The last valid configuration of this boot, with its digest and when it was first loaded.
fn recall(store: &Store) -> Option<(Settings, String, u64)> {
    let kept = read(store)?;
    match config::from_texts(&kept.texts) {
        Ok(loaded) => Some((loaded.settings, kept.texts.digest(), kept.loaded)),
        Err(report) => {
            let error = report.first_error();
            tracing::warn!("this version of onecred can't use the last valid configuration: {error}");
            None
        }
    }
}

fn read(store: &Store) -> Option<Kept> {
    let kept: Kept = serde_json::from_slice(&store.configuration()?).ok()?;
    (kept.boot == boot()).then_some(kept)
}

fn boot() -> Option<String> {
    Some(fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?.trim().to_owned())
}

#[cfg(test)]
mod tests;
