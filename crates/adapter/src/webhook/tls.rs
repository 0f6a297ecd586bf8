//! TLS of the listener, and who a client's certificate says it is.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

use super::Tls;
use crate::channel::OpenError;

/// What accepts TLS; `None`: the listener speaks plain HTTP.
pub(super) fn acceptor(settings: &Tls) -> Result<Option<TlsAcceptor>, OpenError> {
    let (Some(cert_file), Some(key_file)) = (&settings.cert_file, &settings.key_file) else { return Ok(None) };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| OpenError::new("TLS", error))?;
    let builder = match &settings.client_ca_file {
        None => builder.with_no_client_auth(),
        Some(file) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(file)? {
                roots.add(certificate).map_err(|error| OpenError::new(&file.display().to_string(), error))?;
            }
            // Who shows none is heard too; an account that wants one looks at the subject.
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .allow_unauthenticated()
                .build()
                .map_err(|error| OpenError::new(&file.display().to_string(), error))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let key = PrivateKeyDer::from_pem_file(key_file)
        .map_err(|error| OpenError::new(&key_file.display().to_string(), error))?;
    let mut config = builder
        .with_single_cert(certificates(cert_file)?, key)
        .map_err(|error| OpenError::new(&cert_file.display().to_string(), error))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Some(TlsAcceptor::from(Arc::new(config))))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, OpenError> {
    let unreadable = |error: rustls::pki_types::pem::Error| OpenError::new(&file.display().to_string(), error);
    let found = CertificateDer::pem_file_iter(file).map_err(unreadable)?;
    let found: Vec<_> = found.collect::<Result<_, _>>().map_err(unreadable)?;
    if found.is_empty() {
        return Err(OpenError::new(&file.display().to_string(), "holds no certificate"));
    }
    Ok(found)
}

/// The subject of a certificate as RFC 4514 writes it: `CN=device-7,O=Example`. The certificate was verified before.
pub(super) fn subject(certificate: &[u8]) -> Option<String> {
    let (certificate, _) = read(certificate, SEQUENCE)?;
    let (mut fields, _) = read(certificate, SEQUENCE)?;
    if fields.first() == Some(&VERSION) {
        (_, fields) = read(fields, VERSION)?;
    }
    // Number, algorithm, issuer, validity.
    for tag in [INTEGER, SEQUENCE, SEQUENCE, SEQUENCE] {
        (_, fields) = read(fields, tag)?;
    }
    let (mut names, _) = read(fields, SEQUENCE)?;
    let mut written = Vec::new();
    while !names.is_empty() {
        let mut set;
        (set, names) = read(names, SET)?;
        let mut attributes = Vec::new();
        while !set.is_empty() {
            let attribute;
            (attribute, set) = read(set, SEQUENCE)?;
            let (kind, value) = read(attribute, OBJECT_ID)?;
            attributes.push(format!("{}={}", name_of(kind)?, text_of(value)?));
        }
        written.push(attributes.join("+"));
    }
    written.reverse();
    Some(written.join(","))
}

const INTEGER: u8 = 0x02;
const OBJECT_ID: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const VERSION: u8 = 0xa0;

/// The content of the DER element at the beginning, and what follows it.
fn read(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, length, rest) = head(bytes)?;
    (found == tag && length <= rest.len()).then(|| rest.split_at(length))
}

fn head(bytes: &[u8]) -> Option<(u8, usize, &[u8])> {
    let [tag, first, rest @ ..] = bytes else { return None };
    if *first < 0x80 {
        return Some((*tag, usize::from(*first), rest));
    }
    let count = usize::from(first & 0x7f);
    if count == 0 || count > 4 || count > rest.len() {
        return None;
    }
    let (length, rest) = rest.split_at(count);
    Some((*tag, length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest))
}

/// The short name of an attribute, or its number.
fn name_of(id: &[u8]) -> Option<String> {
    let known = match id {
        [0x55, 0x04, 0x03] => "CN",
        [0x55, 0x04, 0x06] => "C",
        [0x55, 0x04, 0x07] => "L",
        [0x55, 0x04, 0x08] => "ST",
        [0x55, 0x04, 0x09] => "STREET",
        [0x55, 0x04, 0x0a] => "O",
        [0x55, 0x04, 0x0b] => "OU",
        [0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 0x01, 0x19] => "DC",
        [0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 0x01, 0x01] => "UID",
        _ => "",
    };
    if !known.is_empty() {
        return Some(known.to_owned());
    }
    let mut numbers = Vec::new();
    let mut number = 0_u64;
    for byte in id {
        number = number.checked_mul(128)? + u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            numbers.push(std::mem::take(&mut number));
        }
    }
    let first = *numbers.first()?;
    let (root, second) = if first < 80 { (first / 40, first % 40) } else { (2, first - 80) };
    let rest = numbers.iter().skip(1).map(u64::to_string);
    Some([root.to_string(), second.to_string()].into_iter().chain(rest).collect::<Vec<_>>().join("."))
}

/// An attribute's value, escaped. What is no text in UTF-8 or ASCII makes the whole unreadable: it would not be known
/// whom one compares.
fn text_of(value: &[u8]) -> Option<String> {
    let (tag, length, rest) = head(value)?;
    let content = rest.get(..length).filter(|_| matches!(tag, 0x0c | 0x12 | 0x13 | 0x16))?;
    let text = std::str::from_utf8(content).ok()?;
    let mut written = String::with_capacity(text.len());
    let last = text.chars().count().saturating_sub(1);
    for (at, char) in text.chars().enumerate() {
        let special = matches!(char, '"' | '+' | ',' | ';' | '<' | '>' | '\\')
            || (at == 0 && matches!(char, '#' | ' '))
            || (at == last && char == ' ');
        if char == '\0' {
            written.push_str("\\00");
            continue;
        }
        if special {
            written.push('\\');
        }
        written.push(char);
    }
    Some(written)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

    use super::*;

    #[test]
    fn subjects_as_the_rfc_writes_them() {
        let mut params = CertificateParams::new(vec!["device.example".to_owned()]).unwrap();
        let mut name = DistinguishedName::new();
        name.push(DnType::OrganizationName, "Example, Inc.");
        name.push(DnType::CommonName, "device 7");
        name.push(DnType::CustomDnType(vec![1, 2, 840, 113549, 1, 9, 1]), "a@example.com");
        params.distinguished_name = name;
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let written = subject(certificate.der()).unwrap();
        let mut parts: Vec<_> = written.split(",C").collect();
        parts.sort_unstable();
        assert!(written.contains("CN=device 7") && written.contains("O=Example\\, Inc."), "{written}");
        assert!(written.contains("1.2.840.113549.1.9.1=a@example.com"), "{written}");
    }

    #[test]
    fn half_a_certificate_has_no_subject() {
        let certificate =
            CertificateParams::new(vec!["a".to_owned()]).unwrap().self_signed(&KeyPair::generate().unwrap()).unwrap();
        let der = certificate.der();
        for length in [0, 1, 2, 10, 40, 60] {
            assert_eq!(subject(&der[..length]), None);
        }
    }
}
