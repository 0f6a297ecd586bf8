//! What the contract promises to programs in other languages: the published vectors and schemas, and
//! decoders that no payload can upset.
//!
//! `UPDATE=1 cargo test -p throughline-contract --features schema` writes schemas and vectors anew. A
//! published vector is only ever added to: a change of one is a change of the contract.

// `cfg(test)` tells clippy that helpers may unwrap too.
#[cfg(test)]
mod decoders;
#[cfg(test)]
mod kinds;
#[cfg(test)]
mod schemas;
#[cfg(test)]
mod strategies;
#[cfg(test)]
mod vectors;

/// Whether files are written instead of compared.
fn update() -> bool {
    std::env::var_os("UPDATE").is_some()
}

/// A folder of this crate.
fn folder(name: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}
