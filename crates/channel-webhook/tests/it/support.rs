//! An account's file, and requests to it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use adapter::contract::{Envelope, Timestamp};
use adapter::http::{HeaderMap, HeaderName, HeaderValue, Method};
use adapter::webhook::{Hook, Item, Reply, Request, Siblings, Verdict};
use adapter::{AccountFile, Prepared, Problem};
use serde_json::Value;

/// When every request comes.
pub(crate) const NOW: u64 = 1_764_000_400_000;
/// The secret of every test, and the one it is changed for.
pub(crate) const SECRET: &str = "a secret of the tests";
pub(crate) const NEXT_SECRET: &str = "the next secret of the tests";

/// Where the repository's examples are.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A folder with the files `secret` and `next`.
fn secrets() -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    static DIR: std::sync::OnceLock<PathBuf> = std::sync::OnceLock::new();
    DIR.get_or_init(|| {
        let dir = std::env::temp_dir().join(format!("throughline-channel-webhook-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        for (name, text) in [("secret", SECRET), ("next", NEXT_SECRET), ("encoded", "whsec_c2VjcmV0IGJ5dGVz")] {
            std::fs::write(dir.join(name), text).unwrap();
            std::fs::set_permissions(dir.join(name), std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        dir
    })
    .clone()
}

pub(crate) fn file(text: &str) -> AccountFile {
    let text = if text.contains("kind = \"webhook\"") {
        text.to_owned()
    } else {
        format!("kind = \"webhook\"\naccount = \"shop\"\n{text}")
    };
    AccountFile::from_table(&adapter::toml::from_str(&text).unwrap(), &secrets().join("shop.toml")).unwrap()
}

pub(crate) fn prepare(text: &str) -> Result<Box<dyn Prepared>, Vec<Problem>> {
    throughline_channel_webhook::register().prepare(&file(text))
}

/// The hook of a file, with its secrets.
pub(crate) fn hook(text: &str) -> Arc<dyn Hook> {
    open(text, false)
}

/// The hook of a file that believes everything.
pub(crate) fn trusting(text: &str) -> Arc<dyn Hook> {
    open(text, true)
}

fn open(text: &str, trusting: bool) -> Arc<dyn Hook> {
    let file = file(text);
    let prepared =
        throughline_channel_webhook::register().prepare(&file).unwrap_or_else(|problems| panic!("{problems:?}"));
    let rehearsal = prepared.rehearse(&file.tenant, &file.envelope_account(), trusting).unwrap();
    rehearsal.unwrap_or_else(|error| panic!("{error}")).hook
}

pub(crate) fn post(body: &[u8], headers: &[(&str, &str)]) -> Request {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
    }
    let target = "/hook/webhook/shop".to_owned();
    Request {
        method: Method::POST,
        suffix: String::new(),
        query: None,
        headers: map,
        body: body.to_vec().into(),
        peer: [192, 0, 2, 7].into(),
        url: format!("https://hooks.shop.example{target}"),
        target,
        client_subject: None,
        at: Timestamp(NOW),
    }
}

pub(crate) fn get(query: &str) -> Request {
    let target = format!("/hook/webhook/shop?{query}");
    Request {
        method: Method::GET,
        query: Some(query.to_owned()),
        url: format!("https://hooks.shop.example{target}"),
        target,
        ..post(b"", &[])
    }
}

pub(crate) fn receive(hook: &Arc<dyn Hook>, request: &Request) -> Verdict {
    hook.receive(request, &Siblings::of([]))
}

/// Why a request is refused, with its status.
pub(crate) fn refusal(hook: &Arc<dyn Hook>, request: &Request) -> Option<(u16, &'static str)> {
    match receive(hook, request) {
        Verdict::Refuse { status, why } => Some((status.as_u16(), why)),
        _ => None,
    }
}

pub(crate) fn taken(hook: &Arc<dyn Hook>, request: &Request) -> (Vec<Item>, Reply) {
    match receive(hook, request) {
        Verdict::Take { items, reply } => (items, reply),
        other => panic!("{other:?}"),
    }
}

/// What a body becomes: envelopes as JSON, and the reasons of dead letters.
pub(crate) fn items(hook: &Arc<dyn Hook>, body: &[u8]) -> Vec<Result<Value, String>> {
    let (items, _) = taken(hook, &post(body, &[]));
    items
        .into_iter()
        .map(|item| match item {
            Item::Envelope { envelope, .. } => {
                envelope.validate().unwrap();
                Ok(serde_json::to_value(&*envelope).unwrap())
            }
            Item::Dead { reason, .. } => Err(reason),
        })
        .collect()
}

pub(crate) fn envelope(hook: &Arc<dyn Hook>, body: &Value) -> Envelope {
    let mut items = items(hook, body.to_string().as_bytes());
    assert_eq!(items.len(), 1);
    serde_json::from_value(items.remove(0).unwrap()).unwrap()
}
