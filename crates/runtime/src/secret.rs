//! Secrets by reference: settings say where a secret is, never what it is.
//!
//! `{ env = "NAME" }` or `{ file = "path" }`. The content is read when it is needed, and nothing
//! prints it: not the reference, not the text, not an error.

use std::fmt;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// No secret is longer; a reference to a log or a disk image is a mistake.
const BYTES_MAX: u64 = 64 * 1024;
const EXPECTED: &str = "a table { env = \"NAME\" } or { file = \"path\" }";

/// Where a secret is.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Reference);

#[derive(Clone, PartialEq, Eq)]
enum Reference {
    Env(String),
    File(PathBuf),
}

impl Secret {
    /// The content of an environment variable.
    pub fn env(name: impl Into<String>) -> Self {
        Self(Reference::Env(name.into()))
    }

    /// The content of a file.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self(Reference::File(path.into()))
    }

    /// Where it is, for messages to the operator.
    #[must_use]
    pub fn whereabouts(&self) -> String {
        match &self.0 {
            Reference::Env(name) => format!("environment variable {name}"),
            Reference::File(path) => format!("file {}", path.display()),
        }
    }

    /// The file that it is in, where it is in one.
    #[must_use]
    pub fn file_path(&self) -> Option<&Path> {
        match &self.0 {
            Reference::File(path) => Some(path),
            Reference::Env(_) => None,
        }
    }

    /// The same secret, with a relative path taken from `dir`.
    #[must_use]
    pub fn relative_to(self, dir: &Path) -> Self {
        match self.0 {
            Reference::File(path) => Self(Reference::File(dir.join(path))),
            Reference::Env(name) => Self(Reference::Env(name)),
        }
    }

    /// Reads it. One line end at the end is not part of it.
    ///
    /// # Errors
    /// When it is missing, empty, not text or open to every user of the machine.
    pub fn resolve(&self) -> Result<SecretString, SecretError> {
        self.resolve_with(|name| std::env::var(name).ok())
    }

    /// Reads it with an environment of the caller's choice.
    ///
    /// # Errors
    /// As [`resolve`](Self::resolve).
    pub fn resolve_with(&self, env: impl FnOnce(&str) -> Option<String>) -> Result<SecretString, SecretError> {
        let refuse = |why: String| SecretError { whereabouts: self.whereabouts(), why };
        let text = match &self.0 {
            Reference::Env(name) => env(name).ok_or_else(|| refuse("is not set, or not text".to_owned()))?,
            Reference::File(path) => read(path).map_err(refuse)?,
        };
        let text = text.strip_suffix('\n').unwrap_or(&text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        if text.is_empty() {
            return Err(refuse("is empty".to_owned()));
        }
        Ok(SecretString(text.to_owned()))
    }
}

fn read(path: &Path) -> Result<String, String> {
    let mut file = std::fs::File::open(path).map_err(|error| format!("cannot be read: {error}"))?;
    // Of the open file, not of the path: nobody can swap it in between.
    let metadata = file.metadata().map_err(|error| format!("cannot be read: {error}"))?;
    if !metadata.is_file() {
        return Err("is not a file".to_owned());
    }
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o007 != 0 {
        return Err(format!("is open to every user of this machine (mode {mode:o}); run: chmod o= {}", path.display()));
    }
    if metadata.len() > BYTES_MAX {
        return Err(format!("is larger than {BYTES_MAX} bytes"));
    }
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(|error| format!("cannot be read: {error}"))?;
    Ok(text)
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret(***, from {})", self.whereabouts())
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Table;

        impl<'de> Visitor<'de> for Table {
            type Value = Secret;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(EXPECTED)
            }

            // Spelt out, because the usual message would repeat the text.
            fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<Secret, E> {
                Err(E::custom(format_args!("a secret does not stand in the settings; write {EXPECTED}")))
            }

            fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<Secret, E> {
                self.visit_str("")
            }

            fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<Secret, E> {
                self.visit_str("")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut table: A) -> Result<Secret, A::Error> {
                let wrong = || A::Error::custom(format_args!("expected {EXPECTED}"));
                let key: String = table.next_key()?.ok_or_else(wrong)?;
                let secret = match key.as_str() {
                    "env" => Secret::env(table.next_value::<Text>()?.0),
                    "file" => Secret::file(table.next_value::<Text>()?.0),
                    _ => return Err(wrong()),
                };
                if table.next_key::<String>()?.is_some() {
                    return Err(wrong());
                }
                Ok(secret)
            }
        }

        deserializer.deserialize_any(Table)
    }
}

/// A reference that is not empty.
struct Text(String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.is_empty() { Err(D::Error::custom("the reference is empty")) } else { Ok(Self(text)) }
    }
}

/// The content of a secret. To get at it one has to say so.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretString(String);

impl SecretString {
    /// Takes a text for a secret, as when one was generated.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself. Do not print it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for SecretString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Why a secret cannot be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretError {
    whereabouts: String,
    why: String,
}

impl fmt::Display for SecretError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.whereabouts, self.why)
    }
}

impl std::error::Error for SecretError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Settings {
        key: Secret,
    }

    fn parse(text: &str) -> Result<Secret, String> {
        toml::from_str::<Settings>(text).map(|settings| settings.key).map_err(|error| error.message().to_owned())
    }

    fn file(name: &str, text: &str, mode: u32) -> PathBuf {
        let path = std::env::temp_dir().join(format!("throughline-secret-{}-{name}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn only_references_are_taken_and_nothing_is_repeated() {
        assert_eq!(parse("key = { env = \"TOKEN\" }"), Ok(Secret::env("TOKEN")));
        assert_eq!(parse("key = { file = \"a/b\" }"), Ok(Secret::file("a/b")));
        for bad in [
            "key = \"hunter2\"",
            "key = 22222",
            "key = { env = \"A\", file = \"b\" }",
            "key = {}",
            "key = { text = \"hunter2\" }",
            "key = { env = \"\" }",
        ] {
            let error = parse(bad).unwrap_err();
            assert!(!error.contains("hunter2") && !error.contains("22222"), "{error}");
        }
    }

    #[test]
    fn nothing_prints_it() {
        let text = Secret::env("TOKEN").resolve_with(|_| Some("hunter2\n".to_owned())).unwrap();
        assert_eq!(text.expose(), "hunter2");
        assert_eq!(format!("{text} {text:?}"), "*** ***");
        assert_eq!(Secret::env("TOKEN").to_string(), "***");
        assert_eq!(format!("{:?}", Secret::env("TOKEN")), "Secret(***, from environment variable TOKEN)");
    }

    #[test]
    fn what_cannot_be_a_secret_is_refused() {
        let error = Secret::env("TOKEN").resolve_with(|_| None).unwrap_err();
        assert_eq!(error.to_string(), "environment variable TOKEN is not set, or not text");
        assert!(Secret::env("TOKEN").resolve_with(|_| Some("\n".to_owned())).is_err());
        assert_eq!(Secret::file(file("good", "a\n\n", 0o640)).resolve().unwrap().expose(), "a\n");
        let error = Secret::file(file("open", "hunter2", 0o644)).resolve().unwrap_err().to_string();
        assert!(error.contains("open to every user") && !error.contains("hunter2"), "{error}");
        assert!(Secret::file(file("empty", "", 0o600)).resolve().is_err());
        assert!(Secret::file("/dev/null").resolve().is_err());
        assert!(Secret::file("no/such").resolve().is_err());
    }
}
