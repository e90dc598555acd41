//! Compares the active configuration with the files that it was loaded from, which may have changed or
//! contain errors.

use crate::config::{self, Paths};
use crate::provider::base::active_config::ActiveConfig;

/// The relation between the active configuration and the files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// The files have not changed.
    Current,
    /// The files are valid and differ from the active configuration: they were not loaded yet.
    Changed,
    /// The files cannot be used, for this reason.
    Rejected(String),
    /// No configuration is active.
    None,
}

impl Standing {
    /// Compares the files with the active configuration. Reads them, which may take some time.
    pub fn of(active: &ActiveConfig, paths: &Paths) -> Self {
        if active.error.is_some() {
            return Self::None;
        }
        let texts = match config::read_texts(paths) {
            Ok(texts) if texts.digest() == active.digest => return Self::Current,
            Ok(texts) => texts,
            Err(report) => return Self::Rejected(report.first_error()),
        };
        match config::from_texts(&texts) {
            Ok(_) => Self::Changed,
            Err(report) => Self::Rejected(report.first_error()),
        }
    }

    /// The name of this state on D-Bus.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Changed => "changed",
            Self::Rejected(_) => "rejected",
            Self::None => "none",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_the_files_say_is_compared_with_what_is_active() {
        let folder = tempfile::tempdir().unwrap();
        let (main, parts) = (folder.path().join("secrets.json"), folder.path().join("secrets.d"));
        let paths = Paths { dir: folder.path().to_owned() };
        let text = r#"{ "secrets": [ { "name": "a", "reference": "op://v/i/f", "units": ["a"] } ] }"#;
        fs::write(&main, text).unwrap();
        let loaded = config::load(&paths).unwrap();
        let active = ActiveConfig::of_files(loaded.settings, loaded.texts.digest(), 1);
        assert_eq!(Standing::of(&active, &paths), Standing::Current);
        fs::write(&main, text.replace("op://v/", "op://w/")).unwrap();
        assert_eq!(Standing::of(&active, &paths), Standing::Changed);
        fs::write(&main, text.replace("units", "unit")).unwrap();
        let Standing::Rejected(why) = Standing::of(&active, &paths) else { panic!("it has an error") };
        assert!(why.contains("secrets.json:1:") && why.contains("\"unit\""), "{why}");
        fs::write(&main, text).unwrap();
        assert_eq!(Standing::of(&active, &paths), Standing::Current, "it is again what it was");
        fs::create_dir(&parts).unwrap();
        fs::write(parts.join("more.json"), "{}").unwrap();
        assert_eq!(Standing::of(&active, &paths), Standing::Changed, "a part has come");
        fs::remove_dir_all(folder.path()).unwrap();
        assert!(matches!(Standing::of(&active, &paths), Standing::Rejected(_)), "nothing is left");
        assert_eq!(Standing::of(&ActiveConfig::broken("x".into()), &paths), Standing::None);
    }
}
