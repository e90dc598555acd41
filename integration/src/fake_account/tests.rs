//! The fake, asked without a core: what needs no decryption.
