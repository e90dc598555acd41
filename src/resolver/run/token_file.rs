//! Reads the tokens of sources.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use crate::domain::name::CredentialId;
use crate::domain::secret::SecretValue;

/// The maximum length of a token in bytes.
const TOKEN_MAX: u64 = 1 << 16;

/// Reads a token from a given file, or from the credentials of the resolver's unit. Removes surrounding
/// whitespace.
pub(super) fn token(name: &CredentialId, files: &BTreeMap<CredentialId, PathBuf>) -> Option<SecretValue> {
    let folder = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    let path = files.get(name).cloned().or_else(|| folder.map(|folder| folder.join(name.as_str())))?;
    match read_token(&path) {
        Ok(token) => Some(token).filter(|token| !token.is_empty()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            tracing::error!("token {name}: {} can't be read: {error}", path.display());
            None
        }
    }
}

fn read_token(path: &Path) -> io::Result<SecretValue> {
    use std::io::Read;
    let mut bytes = Vec::with_capacity(8192);
    std::fs::File::open(path)?.take(TOKEN_MAX).read_to_end(&mut bytes)?;
    let whole = SecretValue::new(bytes);
    // exposed: to remove surrounding whitespace
    Ok(SecretValue::new(whole.expose().trim_ascii().to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_without_the_space_around_it() {
        let folder = tempfile::tempdir().unwrap();
        let (name, file) = (CredentialId::parse("token").unwrap(), folder.path().join("t"));
        let files = BTreeMap::from([(name.clone(), file.clone())]);
        assert!(token(&name, &files).is_none());
        std::fs::write(&file, " \n").unwrap();
        assert!(token(&name, &files).is_none(), "an empty file is no token");
        std::fs::write(&file, "\tsecret\n\n").unwrap();
        assert_eq!(token(&name, &files).unwrap().expose(), b"secret");
    }
}
