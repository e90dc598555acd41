//! A systemd credential provider for 1Password.
