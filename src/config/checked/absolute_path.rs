//! Paths that must be absolute.

use std::path::PathBuf;

use crate::config::at::At;
use crate::config::problem::Problems;

pub(super) fn absolute(key: &str, text: &At<String>, problems: &mut Problems) -> PathBuf {
    let path = PathBuf::from(text.as_str());
    if !path.is_absolute() || text.contains('\0') {
        problems.error(
            text.place,
            format!("the {key} {:?} is not absolute", text.value),
            "write the whole path, beginning with /",
        );
    }
    path
}
