//! Certificates and credentials, and a connection that is dead without saying so.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use throughline_bus::{Bus, Connection, Credentials, Error, ErrorKind, Options, Tls};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::sync::watch;

use crate::support::{Folder, World, binary, message, soon, streams};

/// A server with a configuration of the test's own; it ends with the test.
struct Plain {
    url: String,
    folder: Folder,
    _child: Child,
}

impl Plain {
    /// `configure` gets the folder and returns what the configuration holds besides the address.
    async fn start(configure: impl FnOnce(&Path) -> String) -> Self {
        let folder = Folder::new();
        let path = folder.path();
        let config = format!("listen: \"127.0.0.1:-1\"\nports_file_dir: \"{}\"\n{}\n", path.display(), configure(path));
        std::fs::write(path.join("server.conf"), config).unwrap();
        let program = binary()
            .or_else(|| std::env::var_os("THROUGHLINE_NATS_SERVER").map(PathBuf::from))
            .unwrap_or_else(|| "nats-server".into());
        let log = std::fs::File::create(path.join("log")).unwrap();
        let child = Command::new(program)
            .arg("-c")
            .arg(path.join("server.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let ports = path.join(format!("nats-server_{}.ports", child.id().unwrap()));
        let port = soon(async {
            loop {
                // Its name says which process wrote it; it is there before it is whole.
                if let Some(port) = std::fs::read_to_string(&ports).ok().and_then(|text| port(&text)) {
                    break port;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        Self { url: format!("nats://127.0.0.1:{port}"), folder, _child: child }
    }

    fn options(&self, credentials: Credentials, tls: Tls) -> Options {
        Options { servers: vec![self.url.clone()], credentials, tls, ..Options::default() }
    }

    fn file(&self, name: &str) -> Option<PathBuf> {
        Some(self.folder.path().join(name))
    }

    /// Trusts the server's authority.
    fn trusting(&self) -> Tls {
        Tls { ca_file: self.file("ca.pem"), required: true, ..Tls::default() }
    }
}

/// The port in `{"nats":["tls://127.0.0.1:46157"]}`.
fn port(text: &str) -> Option<u16> {
    let digits = text.split("127.0.0.1:").nth(1)?;
    digits.split_once('"')?.0.parse().ok()
}

/// Writes an authority `<name>.pem`, and a certificate of it for this machine and one for a client.
fn certificates(folder: &Path, authority: &str) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    params.distinguished_name.push(rcgen::DnType::CommonName, authority);
    std::fs::write(folder.join(format!("{authority}.pem")), params.self_signed(&key).unwrap().pem()).unwrap();
    let issuer = Issuer::new(params, key);
    for (name, purpose) in
        [("server", ExtendedKeyUsagePurpose::ServerAuth), ("client", ExtendedKeyUsagePurpose::ClientAuth)]
    {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.extended_key_usages = vec![purpose];
        let certificate = params.signed_by(&key, &issuer).unwrap();
        std::fs::write(folder.join(format!("{authority}-{name}.pem")), certificate.pem()).unwrap();
        std::fs::write(folder.join(format!("{authority}-{name}.key")), key.serialize_pem()).unwrap();
    }
}

/// The server's part of TLS.
fn tls(folder: &Path, verify: bool) -> String {
    certificates(folder, "ca");
    certificates(folder, "stranger");
    let at = |name: &str| folder.join(name).display().to_string();
    format!(
        "tls {{ cert_file: \"{}\", key_file: \"{}\", ca_file: \"{}\", verify: {verify} }}",
        at("ca-server.pem"),
        at("ca-server.key"),
        at("ca.pem")
    )
}

/// Must work, both ways.
async fn works(options: Options) {
    let bus = soon(Bus::connect(options)).await.unwrap();
    let mut heard = bus.subscribe("a.b").await.unwrap();
    bus.send(message("a.b", "hello")).await.unwrap();
    assert_eq!(&soon(heard.next()).await.unwrap().payload[..], b"hello");
}

/// Must fail, and at once: nobody mends it by waiting.
async fn fails(options: Options, kind: ErrorKind) -> Error {
    let begin = Instant::now();
    let error = soon(Bus::connect(options)).await.unwrap_err();
    assert_eq!(error.kind, kind, "{error}");
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}: {error}", begin.elapsed());
    error
}

#[tokio::test]
async fn tls_is_spoken_with_whom_we_trust() {
    let server = Plain::start(|folder| tls(folder, false)).await;
    works(server.options(Credentials::None, server.trusting())).await;
    // The server asks for TLS: the settings need not.
    works(server.options(Credentials::None, Tls { required: false, ..server.trusting() })).await;
    let by_scheme = server.url.replace("nats://", "tls://");
    works(Options { servers: vec![by_scheme], ..server.options(Credentials::None, server.trusting()) }).await;

    let stranger = Tls { ca_file: server.file("stranger.pem"), ..server.trusting() };
    let error = fails(server.options(Credentials::None, stranger), ErrorKind::Config).await;
    assert!(error.to_string().contains("certificate") && error.to_string().contains(&server.url), "{error}");
    // The certificate is for an address, not for a name.
    let by_name = vec![server.url.replace("127.0.0.1", "localhost")];
    let options = Options { servers: by_name, ..server.options(Credentials::None, server.trusting()) };
    let error = fails(options, ErrorKind::Config).await;
    assert!(error.to_string().contains("certificate"), "{error}");

    let missing = Tls { ca_file: server.file("nowhere.pem"), ..server.trusting() };
    let error = fails(server.options(Credentials::None, missing), ErrorKind::Config).await;
    assert!(error.to_string().contains("nowhere.pem"), "{error}");
    let half = Tls { cert_file: server.file("ca-client.pem"), ..server.trusting() };
    fails(server.options(Credentials::None, half), ErrorKind::Config).await;
}

#[tokio::test]
async fn a_server_without_tls_is_refused_where_tls_is_required() {
    let server = Plain::start(|folder| {
        certificates(folder, "ca");
        String::new()
    })
    .await;
    works(server.options(Credentials::None, Tls::default())).await;
    fails(server.options(Credentials::None, server.trusting()), ErrorKind::Config).await;
}

#[tokio::test]
async fn a_client_certificate_is_shown_and_must_be_the_right_one() {
    let server = Plain::start(|folder| tls(folder, true)).await;
    let with = |authority: &str| Tls {
        cert_file: server.file(&format!("{authority}-client.pem")),
        key_file: server.file(&format!("{authority}-client.key")),
        ..server.trusting()
    };
    works(server.options(Credentials::None, with("ca"))).await;
    let error = fails(server.options(Credentials::None, server.trusting()), ErrorKind::Config).await;
    assert!(error.to_string().to_lowercase().contains("certificate"), "{error}");
    fails(server.options(Credentials::None, with("stranger")), ErrorKind::Config).await;
    let crossed = Tls { key_file: server.file("stranger-client.key"), ..with("ca") };
    fails(server.options(Credentials::None, crossed), ErrorKind::Config).await;
}

#[tokio::test]
async fn credentials_of_every_sort_are_taken_or_refused_at_once() {
    let password = |password: &str| Credentials::Password { user: "anna".into(), password: password.into() };
    let by_password =
        Plain::start(|_| "authorization { users: [{ user: anna, password: \"right\" }] }".to_owned()).await;
    works(by_password.options(password("right"), Tls::default())).await;
    let error = fails(by_password.options(password("hunter2"), Tls::default()), ErrorKind::Forbidden).await;
    assert!(!error.to_string().contains("hunter2"), "{error}");
    fails(by_password.options(Credentials::None, Tls::default()), ErrorKind::Forbidden).await;

    let by_token = Plain::start(|_| "authorization { token: \"right\" }".to_owned()).await;
    works(by_token.options(Credentials::Token("right".into()), Tls::default())).await;
    fails(by_token.options(Credentials::Token("wrong".into()), Tls::default()), ErrorKind::Forbidden).await;

    let (ours, other) = (nkeys::KeyPair::new_user(), nkeys::KeyPair::new_user());
    let public = ours.public_key();
    let by_nkey = Plain::start(|_| format!("authorization {{ users: [{{ nkey: {public} }}] }}")).await;
    works(by_nkey.options(Credentials::Nkey(ours.seed().unwrap()), Tls::default())).await;
    fails(by_nkey.options(Credentials::Nkey(other.seed().unwrap()), Tls::default()), ErrorKind::Forbidden).await;
    let error =
        fails(by_nkey.options(Credentials::Nkey("SUnonsense".into()), Tls::default()), ErrorKind::Forbidden).await;
    assert!(!error.to_string().contains("SUnonsense"), "{error}");

    let nowhere = Credentials::File("/nowhere/x.creds".into());
    let error = fails(by_nkey.options(nowhere, Tls::default()), ErrorKind::Config).await;
    assert!(error.to_string().contains("/nowhere/x.creds"), "{error}");
}

/// What an operator, an account or a user is, signed by whoever vouches for it.
fn jwt(by: &nkeys::KeyPair, of: &nkeys::KeyPair, name: &str, what: serde_json::Value) -> String {
    use base64::Engine as _;
    let encode = |bytes: &[u8]| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes);
    let head = serde_json::json!({ "typ": "JWT", "alg": "ed25519-nkey" });
    let claims = serde_json::json!({ "jti": name, "iat": 1_767_225_600, "iss": by.public_key(), "sub": of.public_key(),
        "name": name, "nats": what });
    let said = format!("{}.{}", encode(head.to_string().as_bytes()), encode(claims.to_string().as_bytes()));
    let signature = by.sign(said.as_bytes()).unwrap();
    format!("{said}.{}", encode(&signature))
}

/// A `.creds` file.
fn creds(account: &nkeys::KeyPair, user: &nkeys::KeyPair) -> String {
    let all = serde_json::json!({ "type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1 });
    let (jwt, seed) = (jwt(account, user, "anna", all), user.seed().unwrap());
    format!(
        "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\nKeep this to yourself.\n\n\
         -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    )
}

/// The server hangs up on who is there, as when it is started anew, and lets in whom it knows now.
async fn is_back(bus: &Bus, proxy: &Proxy, change: impl AsyncFnOnce()) {
    let mut connection = bus.connection();
    proxy.hang_up.send_replace(true);
    soon(connection.wait_for(|state| *state == Connection::Down)).await.unwrap();
    change().await;
    proxy.hang_up.send_replace(false);
    soon(connection.wait_for(|state| *state == Connection::Up)).await.unwrap();
    let mut heard = soon(bus.subscribe("a.b")).await.unwrap();
    bus.send(message("a.b", "hello")).await.unwrap();
    assert_eq!(&soon(heard.next()).await.unwrap().payload[..], b"hello");
}

#[tokio::test]
async fn a_token_and_a_creds_file_are_read_again_for_every_connection() {
    let [before, after] = ["first", "second"].map(|token| format!("authorization {{ token: \"{token}\" }}"));
    let (old, new) = (Plain::start(|_| before).await, Plain::start(|_| after).await);
    let file = old.folder.path().join("token");
    std::fs::write(&file, "first\n").unwrap();
    let proxy = Proxy::start(&old.url).await;
    let options = |credentials| Options { servers: vec![proxy.url.clone()], credentials, ..Options::default() };
    let bus = soon(Bus::connect(options(Credentials::TokenFile(file.clone())))).await.unwrap();
    is_back(&bus, &proxy, async || {
        proxy.leads_to(&new.url);
        std::fs::write(&file, "second\n").unwrap();
    })
    .await;

    let keys = [nkeys::KeyPair::new_operator(), nkeys::KeyPair::new_account(), nkeys::KeyPair::new_account()];
    let [operator, accounts @ ..] = &keys;
    let operator_is = jwt(operator, operator, "operator", serde_json::json!({ "type": "operator", "version": 2 }));
    let limits = serde_json::json!({ "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1,
        "wildcards": true, "conn": -1, "leaf": -1 });
    let of = |account: &nkeys::KeyPair| {
        let what = serde_json::json!({ "type": "account", "version": 2, "limits": limits });
        let jwt = jwt(operator, account, "account", what);
        format!(
            "operator: \"{operator_is}\"\nresolver: MEMORY\nresolver_preload: {{ {}: \"{jwt}\" }}",
            account.public_key()
        )
    };
    // Of each only its own account is known.
    let (old, new) = (Plain::start(|_| of(&accounts[0])).await, Plain::start(|_| of(&accounts[1])).await);
    let file = old.folder.path().join("us.creds");
    std::fs::write(&file, creds(&accounts[0], &nkeys::KeyPair::new_user())).unwrap();
    proxy.leads_to(&old.url);
    let bus = soon(Bus::connect(options(Credentials::File(file.clone())))).await.unwrap();
    is_back(&bus, &proxy, async || {
        proxy.leads_to(&new.url);
        std::fs::write(&file, creds(&accounts[1], &nkeys::KeyPair::new_user())).unwrap();
    })
    .await;

    fails(old.options(Credentials::File(file.clone()), Tls::default()), ErrorKind::Forbidden).await;
}

/// Carries bytes both ways while it is open; shut, it is silent and takes everything.
struct Proxy {
    url: String,
    open: watch::Sender<bool>,
    /// Hangs up on everybody, and on whoever comes.
    hang_up: watch::Sender<bool>,
    server: Arc<Mutex<String>>,
}

impl Proxy {
    async fn start(to: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("nats://{}", listener.local_addr().unwrap());
        let leads_to = Arc::new(Mutex::new(String::new()));
        let (open, hang_up) = (watch::Sender::new(true), watch::Sender::new(false));
        let (valve, hung_up, server) = (open.subscribe(), hang_up.subscribe(), Arc::clone(&leads_to));
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let address = server.lock().unwrap().clone();
                let server = tokio::net::TcpStream::connect(&address).await.unwrap();
                let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
                for ended in [
                    tokio::spawn(carry(from_client, to_server, valve.clone())),
                    tokio::spawn(carry(from_server, to_client, valve.clone())),
                ] {
                    let mut hung_up = hung_up.clone();
                    tokio::spawn(async move {
                        let _ = hung_up.wait_for(|hung_up| *hung_up).await;
                        ended.abort();
                    });
                }
            }
        });
        let proxy = Self { url, open, hang_up, server: leads_to };
        proxy.leads_to(to);
        proxy
    }

    /// From now on whoever comes is led to another server.
    fn leads_to(&self, server: &str) {
        server.trim_start_matches("nats://").clone_into(&mut self.server.lock().unwrap());
    }
}

async fn carry(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    mut valve: watch::Receiver<bool>,
) {
    let mut bytes = vec![0; 64 * 1024];
    loop {
        let Ok(count @ 1..) = from.read(&mut bytes).await else { return };
        if valve.wait_for(|open| *open).await.is_err() || to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}

/// Slow by its nature: it waits for pings that are not answered.
#[tokio::test]
async fn a_connection_that_died_in_silence_is_noticed_and_replaced() {
    let world = World::start().await;
    let proxy = Proxy::start(world.server().url()).await;
    let credentials = world.server().credentials("router").unwrap();
    let options = Options { servers: vec![proxy.url.clone()], credentials, ..Options::default() };
    let bus = Bus::connect(options).await.unwrap();
    bus.ensure(&streams(&[("S", "tl.v1.s.>")])).await.unwrap();
    let mut connection = bus.connection();

    proxy.open.send_replace(false);
    let begin = Instant::now();
    // A publish says at once that it does not know, long before the connection is known to be dead.
    assert_eq!(bus.publish(message("tl.v1.s.a", 1)).await.unwrap_err().kind, ErrorKind::Ambiguous);
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
    let down = connection.wait_for(|state| *state == Connection::Down);
    tokio::time::timeout(Duration::from_secs(20), down).await.expect("nobody noticed").unwrap();
    println!("noticed after {:?}", begin.elapsed());

    proxy.open.send_replace(true);
    soon(connection.wait_for(|state| *state == Connection::Up)).await.unwrap();
    crate::support::publish_surely(&bus, message("tl.v1.s.a", 2)).await;
    world.end().await;
}
