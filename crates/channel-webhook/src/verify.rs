//! Whether a request is from whom the account is for: every check of its file holds, over the raw bytes.

use std::path::Path;

use adapter::contract::Timestamp;
use adapter::http::StatusCode;
use adapter::runtime::secret::{Secret, SecretString};
use adapter::verify::{self, Encoding};
use adapter::webhook::Request;
use hmac::{Hmac, Mac};
use sha1::Sha1;
use sha2::{Sha256, Sha512};

use crate::source::Problems;
use crate::table::Table;
use crate::time;

/// How far a signed time may be off, in seconds, unless the file says otherwise.
const WINDOW_SECONDS: u64 = 300;
/// Most signatures of one header that are tried.
const SIGNATURES_MAX: usize = 8;

/// One check as the file says it.
#[derive(Debug, Clone)]
pub(crate) enum Scheme {
    /// A signature over parts of the request.
    Hmac(Box<Signature>),
    /// `Authorization: Bearer …`.
    Bearer(Vec<Secret>),
    /// `Authorization: Basic …`.
    Basic { user: String, passwords: Vec<Secret> },
    /// A header whose value is the secret.
    Header { header: String, secrets: Vec<Secret> },
    /// The subject of the client's certificate.
    Mtls(Vec<String>),
    /// Nobody in particular: everybody may write.
    Open,
}

/// How a signature is made.
#[derive(Debug, Clone)]
pub(crate) struct Signature {
    algorithm: Algorithm,
    encoding: Encoding,
    header: String,
    /// What stands before it in the header.
    prefix: String,
    /// Several in one header are separated by this.
    separator: Option<String>,
    /// The header is `name=value,name=value`: under which name the signature is.
    field: Option<String>,
    /// What is signed.
    signed: Vec<Piece>,
    /// Where the signed time is.
    timestamp: Option<Place>,
    window_ms: u64,
    secrets: Vec<Secret>,
    secret_prefix: String,
    secret_encoding: Option<Encoding>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Algorithm {
    Sha1,
    Sha256,
    Sha512,
}

#[derive(Debug, Clone)]
enum Place {
    Header(String),
    /// Within the signature's header.
    Field(String),
}

/// A piece of what is signed.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Body,
    Timestamp,
    Method,
    Url,
    Target,
    Path,
    Query,
    Header(String),
}

const ENCODINGS: [(&str, Encoding); 3] =
    [("hex", Encoding::Hex), ("base64", Encoding::Base64), ("base64url", Encoding::Base64Url)];
const ALGORITHMS: [(&str, Algorithm); 3] =
    [("sha256", Algorithm::Sha256), ("sha1", Algorithm::Sha1), ("sha512", Algorithm::Sha512)];

impl Scheme {
    /// Reads one table of `verify`.
    pub(crate) fn read(mut table: Table, dir: &Path, problems: &mut Problems) -> Option<Self> {
        let names = ["hmac", "bearer", "basic", "header", "mtls", "open"];
        let scheme = table.needed("scheme", problems)?;
        let read = match scheme.as_str() {
            "hmac" => Signature::read(&mut table, dir, problems).map(|found| Self::Hmac(Box::new(found))),
            "bearer" => Some(Self::Bearer(table.secrets("secrets", dir, problems))),
            "basic" => {
                let user = table.needed("user", problems);
                let passwords = table.secrets("secrets", dir, problems);
                user.map(|user| Self::Basic { user, passwords })
            }
            "header" => {
                let header = header_name(&mut table, "header", problems);
                let secrets = table.secrets("secrets", dir, problems);
                header.map(|header| Self::Header { header, secrets })
            }
            "mtls" => match table.texts("subjects", 16, problems) {
                Some(subjects) => Some(Self::Mtls(subjects)),
                None => {
                    table.refuse("subjects", "is needed: the subjects of the certificates, as in CN=pos-1", problems)
                }
            },
            "open" => Some(Self::Open),
            _ => table.refuse("scheme", &format!("must be one of: {}", names.join(", ")), problems),
        };
        table.finish(problems);
        read
    }

    /// Its name, for people.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Hmac(_) => "hmac",
            Self::Bearer(_) => "bearer",
            Self::Basic { .. } => "basic",
            Self::Header { .. } => "header",
            Self::Mtls(_) => "mtls",
            Self::Open => "open",
        }
    }

    /// The headers that hold a secret or a proof, which nothing else is to see.
    pub(crate) fn secret_header(&self) -> Option<String> {
        match self {
            Self::Hmac(signature) => Some(signature.header.to_ascii_lowercase()),
            Self::Header { header, .. } => Some(header.to_ascii_lowercase()),
            _ => None,
        }
    }

    /// Reads its secrets.
    ///
    /// # Errors
    /// When one cannot be had.
    pub(crate) fn open(&self) -> Result<Check, String> {
        let open = |secrets: &[Secret]| -> Result<Vec<SecretString>, String> {
            secrets.iter().map(|secret| secret.resolve().map_err(|error| error.to_string())).collect()
        };
        Ok(match self {
            Self::Hmac(signature) => {
                let secrets = open(&signature.secrets)?;
                let keys = secrets.iter().map(|secret| signature.key(secret)).collect::<Result<_, _>>()?;
                Check::Hmac(signature.clone(), Keys(keys))
            }
            Self::Bearer(secrets) => Check::Bearer(open(secrets)?),
            Self::Basic { user, passwords } => Check::Basic(user.clone(), open(passwords)?),
            Self::Header { header, secrets } => Check::Header(header.clone(), open(secrets)?),
            Self::Mtls(subjects) => Check::Mtls(subjects.clone()),
            Self::Open => Check::Open,
        })
    }
}

/// A header's name that is one.
pub(crate) fn header_name(table: &mut Table, name: &'static str, problems: &mut Problems) -> Option<String> {
    let text = table.needed(name, problems)?;
    if adapter::http::HeaderName::from_bytes(text.as_bytes()).is_ok() {
        return Some(text);
    }
    table.refuse(name, "is no name of a header", problems)
}

impl Signature {
    fn read(table: &mut Table, dir: &Path, problems: &mut Problems) -> Option<Self> {
        let header = header_name(table, "header", problems);
        let algorithm = table.word("algorithm", &ALGORITHMS, problems);
        let encoding = table.word("encoding", &ENCODINGS, problems);
        let prefix = table.text("prefix", problems).unwrap_or_default();
        let separator = table.text("separator", problems);
        let field = table.text("field", problems);
        let signed = table.text("signed", problems).unwrap_or_else(|| "{body}".to_owned());
        let in_header = table.text("timestamp_header", problems).map(Place::Header);
        let in_field = table.text("timestamp_field", problems).map(Place::Field);
        let window = table.whole("window_seconds", 1, 3600, problems).unwrap_or(WINDOW_SECONDS);
        let secrets = table.secrets("secrets", dir, problems);
        let secret_prefix = table.text("secret_prefix", problems).unwrap_or_default();
        let secret_encoding = table.word("secret_encoding", &ENCODINGS, problems);
        if in_header.is_some() && in_field.is_some() {
            return table.refuse("timestamp_field", "the time is either here or in timestamp_header", problems);
        }
        if in_field.is_some() && field.is_none() {
            return table.refuse("field", "is needed with timestamp_field", problems);
        }
        let timestamp = in_header.or(in_field);
        let signed = match pieces(&signed) {
            Ok(signed) => signed,
            Err(why) => return table.refuse("signed", &why, problems),
        };
        if !signed.contains(&Piece::Body)
            && !signed.iter().any(|piece| matches!(piece, Piece::Url | Piece::Target | Piece::Query))
        {
            let why = "covers neither {body} nor {url}, {target} or {query}: one signature would fit every request";
            return table.refuse("signed", why, problems);
        }
        if signed.contains(&Piece::Timestamp) != timestamp.is_some() {
            let why = "{timestamp} in signed and timestamp_header or timestamp_field go together: a time that is not \
                       signed proves nothing";
            return table.refuse("signed", why, problems);
        }
        Some(Self {
            algorithm: algorithm.unwrap_or(Algorithm::Sha256),
            encoding: encoding.unwrap_or(Encoding::Hex),
            header: header?,
            prefix,
            separator,
            field,
            signed,
            timestamp,
            window_ms: window * 1000,
            secrets,
            secret_prefix,
            secret_encoding,
        })
    }

    /// The key that a secret stands for.
    fn key(&self, secret: &SecretString) -> Result<Vec<u8>, String> {
        let text = secret.expose();
        let text = text.strip_prefix(self.secret_prefix.as_str()).unwrap_or(text);
        let key = match self.secret_encoding {
            Some(encoding) => verify::decode(encoding, text).ok_or("secrets: one is not in secret_encoding")?,
            None => text.as_bytes().to_vec(),
        };
        if key.is_empty() { Err("secrets: one is empty".to_owned()) } else { Ok(key) }
    }

    /// Only the body is covered: what else the request says, the path and query among it, nobody signed.
    fn covers_body(&self) -> bool {
        self.signed.contains(&Piece::Body)
    }
}

/// Takes `v0:{timestamp}:{body}` apart.
fn pieces(text: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, after) = after.split_once('}').ok_or("has a { without a }")?;
        if !before.is_empty() {
            pieces.push(Piece::Text(before.to_owned()));
        }
        pieces.push(match name {
            "body" => Piece::Body,
            "timestamp" => Piece::Timestamp,
            "method" => Piece::Method,
            "url" => Piece::Url,
            "target" => Piece::Target,
            "path" => Piece::Path,
            "query" => Piece::Query,
            _ => match name.strip_prefix("header:") {
                Some(header) => Piece::Header(header.to_owned()),
                None => {
                    return Err(format!(
                        "does not know {{{name}}}; there are {{body}}, {{timestamp}}, {{method}}, {{url}}, {{target}}, \
                         {{path}}, {{query}} and {{header:NAME}}"
                    ));
                }
            },
        });
        rest = after;
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest.to_owned()));
    }
    Ok(pieces)
}

/// One check with its secrets.
pub(crate) enum Check {
    Hmac(Box<Signature>, Keys),
    Bearer(Vec<SecretString>),
    Basic(String, Vec<SecretString>),
    Header(String, Vec<SecretString>),
    Mtls(Vec<String>),
    Open,
}

/// Keys of signatures; they are never printed.
pub(crate) struct Keys(Vec<Vec<u8>>);

impl std::fmt::Debug for Check {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Check(***)")
    }
}

impl Check {
    /// Judges a request.
    ///
    /// # Errors
    /// With what is answered, and why for the operator.
    pub(crate) fn judge(&self, request: &Request) -> Result<(), (StatusCode, &'static str)> {
        let unauthorized = |why| Err((StatusCode::UNAUTHORIZED, why));
        match self {
            Self::Hmac(signature, keys) => signed(signature, keys, request),
            Self::Bearer(secrets) => match authorization(request, "bearer") {
                Some(given) if verify::token(secrets, given) => Ok(()),
                Some(_) => unauthorized("wrong token"),
                None => unauthorized("no token"),
            },
            Self::Basic(user, passwords) => {
                let given = authorization(request, "basic").and_then(|text| verify::decode(Encoding::Base64, text));
                let given = given.and_then(|bytes| String::from_utf8(bytes).ok());
                match given.as_deref().and_then(|text| text.split_once(':')) {
                    // Both are looked at, whatever the first says.
                    Some((name, password))
                        if verify::token(&[SecretString::new(user.as_str())], name)
                            & verify::token(passwords, password) =>
                    {
                        Ok(())
                    }
                    Some(_) => unauthorized("wrong password"),
                    None => unauthorized("no password"),
                }
            }
            Self::Header(header, secrets) => match request.header(header) {
                Some(given) if verify::token(secrets, given) => Ok(()),
                Some(_) => unauthorized("wrong token"),
                None => unauthorized("no token"),
            },
            Self::Mtls(subjects) => match &request.client_subject {
                Some(subject) if subjects.contains(subject) => Ok(()),
                Some(_) => Err((StatusCode::FORBIDDEN, "another certificate")),
                None => unauthorized("no certificate"),
            },
            Self::Open => Ok(()),
        }
    }
}

/// What follows the scheme in the one `Authorization` header.
fn authorization<'a>(request: &'a Request, scheme: &str) -> Option<&'a str> {
    let (given, rest) = request.header("authorization")?.split_once(' ')?;
    given.eq_ignore_ascii_case(scheme).then(|| rest.trim())
}

fn signed(signature: &Signature, keys: &Keys, request: &Request) -> Result<(), (StatusCode, &'static str)> {
    let refuse = |why| Err((StatusCode::UNAUTHORIZED, why));
    let Some(header) = request.header(&signature.header) else { return refuse("no signature") };
    let timestamp = match &signature.timestamp {
        None => None,
        Some(Place::Header(name)) => Some(request.header(name)),
        Some(Place::Field(name)) => Some(fields(header, name).next()),
    };
    let timestamp = match timestamp {
        None => "",
        Some(None) => return refuse("no signed time"),
        Some(Some(text)) => {
            let Some(Timestamp(at)) = time::read(&text.into()) else { return refuse("no signed time") };
            if at.abs_diff(request.at.0) > signature.window_ms {
                return refuse("signed too long ago");
            }
            text
        }
    };
    let given: Vec<&str> = match (&signature.field, &signature.separator) {
        (Some(name), _) => fields(header, name).take(SIGNATURES_MAX).collect(),
        (None, Some(separator)) => header.split(separator.as_str()).map(str::trim).take(SIGNATURES_MAX).collect(),
        (None, None) => vec![header],
    };
    let mut message: Vec<&[u8]> = Vec::new();
    for piece in &signature.signed {
        let (path, query) = request.target.split_once('?').unwrap_or((request.target.as_str(), ""));
        message.push(match piece {
            Piece::Text(text) => text.as_bytes(),
            Piece::Body => &request.body,
            Piece::Timestamp => timestamp.as_bytes(),
            Piece::Method => request.method.as_str().as_bytes(),
            Piece::Url => request.url.as_bytes(),
            Piece::Target => request.target.as_bytes(),
            Piece::Path => path.as_bytes(),
            Piece::Query => query.as_bytes(),
            Piece::Header(name) => match request.header(name) {
                Some(value) => value.as_bytes(),
                None => return refuse("a signed header is not there"),
            },
        });
    }
    // A body that nobody signed is not to be believed.
    if !signature.covers_body() && !request.body.is_empty() {
        return refuse("a body that is not signed");
    }
    let holds = given.iter().any(|given| {
        let given = given.strip_prefix(signature.prefix.as_str());
        let given = given.and_then(|given| verify::decode(signature.encoding, given));
        given.is_some_and(|given| keys.0.iter().any(|key| holds(signature.algorithm, key, &message, &given)))
    });
    if holds { Ok(()) } else { refuse("wrong signature") }
}

fn holds(algorithm: Algorithm, key: &[u8], message: &[&[u8]], given: &[u8]) -> bool {
    match algorithm {
        Algorithm::Sha1 => mac_holds::<Hmac<Sha1>>(key, message, given),
        Algorithm::Sha256 => mac_holds::<Hmac<Sha256>>(key, message, given),
        Algorithm::Sha512 => mac_holds::<Hmac<Sha512>>(key, message, given),
    }
}

fn mac_holds<M: Mac + hmac::digest::KeyInit>(key: &[u8], message: &[&[u8]], given: &[u8]) -> bool {
    let Ok(mut mac) = <M as Mac>::new_from_slice(key) else { return false };
    for part in message {
        mac.update(part);
    }
    // In constant time.
    mac.verify_slice(given).is_ok()
}

/// The values of one name in `name=value, name=value`.
fn fields<'a>(header: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
    let fields = header.split(',').filter_map(|field| field.trim().split_once('='));
    fields.filter(move |(known, _)| *known == name).map(|(_, value)| value)
}
