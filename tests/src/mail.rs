//! Real mail: Dovecot and Exim as throwaway servers on loopback ports, with users, certificates and
//! faults on demand.
//!
//! Both run as an ordinary user with a configuration of their own beside whatever the machine runs, and
//! end with the test. The daemon reaches them through [lines](Line) that can be slowed and cut;
//! customers reach them directly.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mail_parser::MessageParser;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::{Gid, Group, Pid, Uid, User};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpStream;

use crate::daemon::{Folder, free_port, root, run, tell};
use crate::line::Line;
use crate::{PATIENCE, until};

/// The mailbox that the daemon serves.
pub const SUPPORT: &str = "support@shop.example";
/// A customer.
pub const ANN: &str = "ann@customer.example";
/// Another one.
pub const BOB: &str = "bob@customer.example";
/// Somebody who writes as if he were another.
pub const MALLORY: &str = "mallory@evil.example";
/// Everybody with a mailbox. Mail to `name+anything@` arrives there too; mail to others bounces.
pub const USERS: [&str; 4] = [SUPPORT, ANN, BOB, MALLORY];

/// The receiver that says in `Authentication-Results` whether a mail is from whom it says.
pub const RECEIVER: &str = "mx.shop.example";

const EXIM: &str = include_str!("mail/exim.conf");
const DOVECOT_2_3: &str = include_str!("mail/dovecot-2.3.conf");
const DOVECOT_2_4: &str = include_str!("mail/dovecot-2.4.conf");
const SERVER_NAMES: &str = "subjectAltName=DNS:localhost,DNS:mx.shop.example,IP:127.0.0.1\n\
    basicConstraints=critical,CA:FALSE\nextendedKeyUsage=serverAuth\n";

/// The password of a user.
pub fn password(user: &str) -> String {
    format!("{user} knows")
}

/// A mail in a mailbox, as its owner's program sees it.
#[derive(Debug, Clone)]
pub struct Mail {
    /// The file.
    pub path: PathBuf,
    /// Its bytes.
    pub raw: Vec<u8>,
    /// The sender on the envelope; empty for a report.
    pub envelope_from: String,
    /// The recipient on the envelope, with its tag.
    pub envelope_to: String,
    /// `Message-ID`, with its brackets.
    pub message_id: Option<String>,
    /// `In-Reply-To`, with its brackets.
    pub in_reply_to: Option<String>,
    /// `References`, oldest first.
    pub references: Vec<String>,
    /// The address that it says it is from.
    pub from: Option<String>,
    /// Where an answer goes, when not there.
    pub reply_to: Option<String>,
    /// `Subject`, decoded.
    pub subject: Option<String>,
    /// The text, or the HTML as text.
    pub text: String,
    /// Names and contents of what is attached.
    pub attachments: Vec<(String, Vec<u8>)>,
    headers: Vec<(String, String)>,
}

impl Mail {
    fn read(path: PathBuf, raw: Vec<u8>) -> Self {
        let parsed = MessageParser::default().parse(&raw);
        let mut mail = Self {
            path,
            envelope_from: String::new(),
            envelope_to: String::new(),
            message_id: None,
            in_reply_to: None,
            references: Vec::new(),
            from: None,
            reply_to: None,
            subject: None,
            text: String::new(),
            attachments: Vec::new(),
            headers: Vec::new(),
            raw: Vec::new(),
        };
        if let Some(parsed) = &parsed {
            let unfold = |value: &str| value.split_whitespace().collect::<Vec<_>>().join(" ");
            mail.headers = parsed.headers_raw().map(|(name, value)| (name.to_owned(), unfold(value))).collect();
            let address = |list: Option<&mail_parser::Address>| Some(list?.first()?.address()?.to_owned());
            mail.from = address(parsed.from());
            mail.reply_to = address(parsed.reply_to());
            mail.subject = parsed.subject().map(str::to_owned);
            mail.text = parsed.body_text(0).unwrap_or_default().into_owned();
            mail.attachments = parsed
                .attachments()
                .map(|part| {
                    let name = mail_parser::MimeHeaders::attachment_name(part).unwrap_or_default();
                    (name.to_owned(), part.contents().to_vec())
                })
                .collect();
        }
        let bare = |value: Option<&str>| value.unwrap_or_default().trim_matches(['<', '>']).to_owned();
        mail.envelope_from = bare(mail.header("Return-path"));
        mail.envelope_to = bare(mail.header("Envelope-to"));
        mail.message_id = mail.header("Message-ID").map(str::to_owned);
        mail.in_reply_to = mail.header("In-Reply-To").map(str::to_owned);
        mail.references = mail.header("References").unwrap_or_default().split(' ').map(str::to_owned).collect();
        mail.references.retain(|id| !id.is_empty());
        mail.raw = raw;
        mail
    }

    /// The topmost header of a name, unfolded.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers(name).first().copied()
    }

    /// The headers of a name from the top, unfolded.
    pub fn headers(&self, name: &str) -> Vec<&str> {
        let found = self.headers.iter().filter(|(found, _)| found.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str()).collect()
    }
}

#[derive(Debug)]
struct Ports {
    imap: u16,
    imaps: u16,
    mx: u16,
    submission: u16,
    submissions: u16,
    /// Where a test may put a token server.
    tokens: u16,
}

/// Who the servers run as: not the administrator, because they need not.
#[derive(Debug)]
struct Runner {
    uid: Uid,
    gid: Gid,
    user: String,
    group: String,
}

impl Runner {
    fn find() -> Self {
        let user =
            if Uid::effective().is_root() { User::from_name("nobody") } else { User::from_uid(Uid::effective()) };
        let user = user.expect("the list of users").expect("a user to run as");
        let group = Group::from_gid(user.gid).expect("the list of groups").expect("the group of that user");
        Self { uid: user.uid, gid: user.gid, user: user.name, group: group.name }
    }

    fn owns(&self, path: &Path) {
        if Uid::effective().is_root() {
            chown(path, Some(self.uid.as_raw()), Some(self.gid.as_raw())).expect("a file for the mail servers");
        }
    }

    /// A program in a process group of its own.
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.stdin(Stdio::null()).process_group(0);
        if Uid::effective().is_root() {
            command.uid(self.uid.as_raw()).gid(self.gid.as_raw());
        }
        command
    }
}

/// A server in a process group of its own, which ends with the test even when that is killed.
#[derive(Debug)]
struct Server {
    child: Child,
    /// Waits for the end of its input, which is ours, and kills the group.
    guard: Child,
}

impl Server {
    fn new(child: Child) -> Self {
        let mut guard = Command::new("sh");
        guard.args(["-c", "cat; kill -s KILL -- \"-$0\"", &child.id().to_string()]);
        let guard = guard.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        let guard = guard.spawn().expect("a shell");
        Self { child, guard }
    }

    /// Kills it with everything that it started.
    fn end(mut self) {
        let _ = self.guard.kill();
        let _ = self.guard.wait();
        let group = Pid::from_raw(i32::try_from(self.child.id()).expect("a process id"));
        let _ = killpg(group, Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

/// Both servers with their folder. They end when it is dropped.
#[derive(Debug)]
pub struct MailServer {
    imap: Option<Server>,
    smtp: Option<Server>,
    runner: Runner,
    ports: Ports,
    imap_line: Line,
    smtp_line: Line,
    folder: Folder,
}

impl MailServer {
    /// Starts both and waits until they answer.
    ///
    /// # Panics
    /// When they are not installed, or do not start.
    pub async fn start() -> Self {
        let ports = Ports {
            imap: free_port(),
            imaps: free_port(),
            mx: free_port(),
            submission: free_port(),
            submissions: free_port(),
            tokens: free_port(),
        };
        let (imap_line, smtp_line) = (Line::to(ports.imap).await, Line::to(ports.submission).await);
        let runner = Runner::find();
        let mut server = Self { imap: None, smtp: None, runner, ports, imap_line, smtp_line, folder: Folder::new() };
        server.prepare().await;
        server.start_smtp().await;
        server.start_imap().await;
        server
    }

    async fn prepare(&self) {
        let dir = self.path();
        self.runner.owns(dir);
        for name in ["control", "logs", "mail", "run", "spool", "tls"] {
            let path = dir.join(name);
            fs::create_dir_all(&path).expect("a folder");
            self.runner.owns(&path);
        }
        certificates(&dir.join("tls")).await;
        for entry in fs::read_dir(dir.join("tls")).expect("certificates").flatten() {
            self.runner.owns(&entry.path());
        }
        let lines = |line: &dyn Fn(&str) -> String| USERS.map(line).concat();
        self.write("control/mailboxes", &lines(&|user| format!("{user}: {}\n", self.maildir(user).display())));
        self.write("control/passwords", &lines(&|user| format!("{user}: {}\n", password(user))));
        self.write("control/passwd", &lines(&|user| format!("{user}:{{PLAIN}}{}\n", password(user))));
        self.write("control/support.secret", &password(SUPPORT));
        self.write("control/defer", "");
        self.write("control/refuse", "");
        for user in USERS {
            let maildir = self.maildir(user);
            for name in ["", "cur", "new", "tmp"] {
                fs::create_dir_all(maildir.join(name)).expect("a mailbox");
                self.runner.owns(&maildir.join(name));
            }
        }
        let fill = |template: &str| {
            let ports = &self.ports;
            let values = [
                ("DIR", dir.display().to_string()),
                ("USER", self.runner.user.clone()),
                ("GROUP", self.runner.group.clone()),
                ("IMAP", ports.imap.to_string()),
                ("IMAPS", ports.imaps.to_string()),
                ("MX", ports.mx.to_string()),
                ("SUBMISSION", ports.submission.to_string()),
                ("SUBMISSIONS", ports.submissions.to_string()),
                ("TOKENS", ports.tokens.to_string()),
            ];
            values.iter().fold(template.to_owned(), |text, (name, value)| text.replace(&format!("@{name}@"), value))
        };
        let introspect = format!("http://127.0.0.1:{}/introspect?token=", self.ports.tokens);
        self.write(
            "control/oauth2.conf",
            &format!(
                "introspection_mode = get\nintrospection_url = {introspect}\nusername_attribute = username\n\
                 active_attribute = active\nactive_value = true\n"
            ),
        );
        self.write("exim.conf", &fill(EXIM));
        let mut version = Command::new(program("dovecot"));
        version.arg("--version");
        let version = run(version, "dovecot --version").await.ok();
        self.write("dovecot.conf", &fill(if version.starts_with("2.3") { DOVECOT_2_3 } else { DOVECOT_2_4 }));
        // A copy runs as whoever starts it; the installed one insists on being the administrator. Another
        // process makes it: what a process that forks has open for writing may not be run for a moment.
        let exim = dir.join("exim");
        let mut copy = Command::new("cp");
        copy.arg(program("exim4")).arg(&exim);
        run(copy, "cp exim4").await.ok();
        fs::set_permissions(&exim, fs::Permissions::from_mode(0o755)).expect("a copy of Exim");
        self.runner.owns(&exim);
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path().join(name);
        fs::write(&path, text).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("a file");
        self.runner.owns(&path);
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn maildir(&self, user: &str) -> PathBuf {
        self.path().join("mail").join(user)
    }

    fn spawn(&self, program: &Path, name: &str, arguments: &[&str]) -> Server {
        let log = |end: &str| {
            let path = self.path().join("logs").join(format!("{name}.{end}"));
            fs::OpenOptions::new().create(true).append(true).open(path).expect("a log file")
        };
        let child = self.runner.command(program).args(arguments).stdout(log("out")).stderr(log("err")).spawn();
        Server::new(child.unwrap_or_else(|error| panic!("{} does not start: {error}", program.display())))
    }

    /// Starts the IMAP server and waits until it answers.
    ///
    /// # Panics
    /// When it runs already, or does not answer.
    pub async fn start_imap(&mut self) {
        assert!(self.imap.is_none(), "the IMAP server runs");
        let config = self.path().join("dovecot.conf").display().to_string();
        self.imap = Some(self.spawn(&program("dovecot"), "dovecot", &["-F", "-c", &config]));
        greets(self.ports.imap, "* OK").await;
    }

    /// Starts the SMTP server and waits until it answers.
    ///
    /// # Panics
    /// When it runs already, or does not answer.
    pub async fn start_smtp(&mut self) {
        assert!(self.smtp.is_none(), "the SMTP server runs");
        let config = self.path().join("exim.conf").display().to_string();
        self.smtp = Some(self.spawn(&self.path().join("exim"), "exim", &["-C", &config, "-bdf", "-q2s"]));
        greets(self.ports.submission, "220").await;
    }

    /// Kills the IMAP server with every session.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill9_imap(&mut self) {
        self.imap.take().expect("the IMAP server runs").end();
    }

    /// Kills the SMTP server with every session. What it accepted is on its disk.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill9_smtp(&mut self) {
        self.smtp.take().expect("the SMTP server runs").end();
        self.end_stray();
    }

    /// The line by which the daemon reaches the IMAP server.
    pub fn imap_line(&self) -> &Line {
        &self.imap_line
    }

    /// The line by which the daemon reaches the SMTP server.
    pub fn smtp_line(&self) -> &Line {
        &self.smtp_line
    }

    /// The certificate that both servers are to be checked by.
    pub fn ca_file(&self) -> PathBuf {
        self.path().join("tls/ca.pem")
    }

    /// An account file of the email channel for [`SUPPORT`] at these servers, over STARTTLS; `more` are
    /// further settings of its own.
    pub fn account(&self, more: &str) -> String {
        let ca = self.ca_file().display().to_string();
        let secret = self.path().join("control/support.secret").display().to_string();
        let (imap, smtp) = (self.imap_line.port(), self.smtp_line.port());
        format!(
            "kind = \"email\"\naccount = \"support\"\n\n\
             [settings]\naddress = \"{SUPPORT}\"\nname = \"Shop support\"\nauthserv_id = \"{RECEIVER}\"\n{more}\n\n\
             [settings.imap]\nhost = \"localhost\"\nport = {imap}\nsecurity = \"starttls\"\nuser = \"{SUPPORT}\"\n\
             password = {{ file = {secret:?} }}\nca_file = {ca:?}\npoll_seconds = 2\ntimeout_seconds = 5\n\
             first_run = \"all\"\n\n\
             [settings.smtp]\nhost = \"localhost\"\nport = {smtp}\nsecurity = \"starttls\"\nuser = \"{SUPPORT}\"\n\
             password = {{ file = {secret:?} }}\nca_file = {ca:?}\ntimeout_seconds = 5\n"
        )
    }

    /// Whether the IMAP server asks a token server who somebody is.
    pub fn takes_tokens(&self) -> bool {
        fs::read_to_string(self.path().join("dovecot.conf")).is_ok_and(|text| text.contains("oauth2"))
    }

    /// Where both servers ask whether an access token counts: `GET /introspect?token=…`.
    pub fn tokens_port(&self) -> u16 {
        self.ports.tokens
    }

    /// An account file as [`account`](Self::account), over TLS from the start and with OAuth instead of passwords.
    pub fn account_by_oauth(&self, token_url: &str, refresh_token: &str) -> String {
        let ca = self.ca_file().display().to_string();
        self.write("control/refresh.secret", refresh_token);
        let secret = self.path().join("control/refresh.secret").display().to_string();
        let (imap, smtp) = (self.ports.imaps, self.ports.submissions);
        format!(
            "kind = \"email\"\naccount = \"support\"\n\n\
             [settings]\naddress = \"{SUPPORT}\"\nauthserv_id = \"{RECEIVER}\"\n\n\
             [settings.imap]\nhost = \"localhost\"\nport = {imap}\nsecurity = \"tls\"\nuser = \"{SUPPORT}\"\n\
             ca_file = {ca:?}\npoll_seconds = 2\ntimeout_seconds = 5\nfirst_run = \"all\"\n\n\
             [settings.smtp]\nhost = \"localhost\"\nport = {smtp}\nsecurity = \"tls\"\nca_file = {ca:?}\n\
             timeout_seconds = 5\n\n\
             [settings.oauth]\ntoken_url = {token_url:?}\nclient_id = \"shop\"\nrefresh_token = {{ file = {secret:?} }}\n"
        )
    }

    /// Whether mail to an address is put off for now (451), by whoever hands it in.
    pub fn defers(&self, address: &str, yes: bool) {
        self.list("control/defer", address, yes);
    }

    /// Whether mail to an address is refused for good (550), by whoever hands it in.
    pub fn refuses(&self, address: &str, yes: bool) {
        self.list("control/refuse", address, yes);
    }

    fn list(&self, name: &str, address: &str, yes: bool) {
        let text = fs::read_to_string(self.path().join(name)).expect("a list");
        let mut lines: Vec<&str> = text.lines().filter(|line| *line != address).collect();
        if yes {
            lines.push(address);
        }
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        // Put in its place whole: a server may be reading.
        self.write(&format!("{name}.new"), &text);
        fs::rename(self.path().join(format!("{name}.new")), self.path().join(name)).expect("a list");
    }

    /// Puts bytes into a mailbox as they are, whatever they are.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn put(&self, user: &str, raw: &[u8]) {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let now = runtime::clock::now();
        let count = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}.H{}P{}.put{count}", now / 1000, now % 1000 * 1000, std::process::id());
        let maildir = self.maildir(user);
        let path = maildir.join("tmp").join(&name);
        fs::write(&path, raw).expect("a mail");
        self.runner.owns(&path);
        fs::rename(path, maildir.join("new").join(name)).expect("a mail");
    }

    /// Every mail of a user's inbox, in the order of arrival.
    pub fn mailbox(&self, user: &str) -> Vec<Mail> {
        let mut found: BTreeMap<(u64, u64, String), PathBuf> = BTreeMap::new();
        for name in ["new", "cur"] {
            for entry in fs::read_dir(self.maildir(user).join(name)).into_iter().flatten().flatten() {
                // The flags behind the colon change; and a mail moves on while we look.
                let name = entry.file_name().to_string_lossy().into_owned();
                let unique = name.split(':').next().unwrap_or_default().to_owned();
                let number = |text: Option<&str>| -> u64 {
                    let digits: String = text.unwrap_or_default().chars().take_while(char::is_ascii_digit).collect();
                    digits.parse().unwrap_or_default()
                };
                let key = (number(Some(&unique)), number(unique.split(".H").nth(1)), unique);
                found.insert(key, entry.path());
            }
        }
        let mut mails = Vec::new();
        for path in found.into_values() {
            match fs::read(&path) {
                Ok(raw) => mails.push(Mail::read(path, raw)),
                // It was just moved, so the names are to be read again.
                Err(_) => return self.mailbox(user),
            }
        }
        mails
    }

    /// Waits for a mail in a user's inbox; one that is there already counts.
    ///
    /// # Panics
    /// When it does not come.
    pub async fn arrives(&self, user: &str, what: &str, pick: impl Fn(&Mail) -> bool) -> Mail {
        self.mails(user, what, |mails| mails.iter().find(|mail| pick(mail)).cloned()).await
    }

    /// Waits until a user's inbox is as wanted.
    ///
    /// # Panics
    /// With what is in it, when it does not get so.
    pub async fn mails<T>(&self, user: &str, what: &str, look: impl Fn(&[Mail]) -> Option<T>) -> T {
        let end = tokio::time::Instant::now() + PATIENCE;
        loop {
            let mails = self.mailbox(user);
            if let Some(found) = look(&mails) {
                return found;
            }
            if tokio::time::Instant::now() > end {
                let subjects: Vec<_> = mails.iter().map(|mail| (&mail.from, &mail.subject)).collect();
                panic!("waited {PATIENCE:?} for {what} to {user}; there are {subjects:?}\n{}", self.log());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Takes a mail out of its mailbox, as another program of its owner does.
    pub fn remove(&self, mail: &Mail) {
        let _ = fs::remove_file(&mail.path);
    }

    /// `UIDVALIDITY` of a user's inbox.
    ///
    /// # Panics
    /// When nobody has opened it yet.
    pub fn uid_validity(&self, user: &str) -> u32 {
        let text = fs::read_to_string(self.maildir(user).join("dovecot-uidlist")).expect("the list of UIDs");
        let number = text.split_whitespace().find_map(|word| word.strip_prefix('V'));
        number.and_then(|digits| digits.parse().ok()).expect("a UIDVALIDITY")
    }

    /// Gives a user's inbox another UIDVALIDITY and every mail a new UID, as a move to another machine
    /// does. The IMAP server is killed for it and, when it ran, started again.
    ///
    /// # Panics
    /// When nobody has opened the inbox yet.
    pub async fn change_uid_validity(&mut self, user: &str) {
        let before = self.uid_validity(user);
        let ran = self.imap.is_some();
        if ran {
            self.kill9_imap();
        }
        let maildir = self.maildir(user);
        for entry in fs::read_dir(&maildir).expect("a mailbox").flatten() {
            if entry.file_name().to_string_lossy().starts_with("dovecot") {
                let _ = fs::remove_file(entry.path());
            }
        }
        let list = format!("3 V{} N1 G{:032x}\n", before + 1000, u128::from(before));
        let path = maildir.join("dovecot-uidlist");
        fs::write(&path, list).expect("the list of UIDs");
        self.runner.owns(&path);
        if ran {
            self.start_imap().await;
        }
    }

    /// What both servers logged.
    pub fn log(&self) -> String {
        let mut paths: Vec<_> =
            fs::read_dir(self.path().join("logs")).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        paths.sort();
        paths.iter().map(|path| String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()).collect()
    }

    /// Waits until the log holds a text.
    ///
    /// # Panics
    /// When it does not come.
    pub async fn logged(&self, text: &str) {
        until(PATIENCE, &format!("{text:?} in the log"), async || self.log().contains(text).then_some(())).await;
    }

    /// Runs `tests/python/mail_customer.py` as the mail program of a user, and returns what it says.
    ///
    /// # Panics
    /// With what it says, when it fails.
    pub async fn customer(&self, user: &str, arguments: &[&str]) -> serde_json::Value {
        let python = std::env::var_os("THROUGHLINE_PYTHON").map_or_else(|| PathBuf::from("python3"), PathBuf::from);
        let mut command = Command::new(python);
        command
            .arg(root().join("tests/python/mail_customer.py"))
            .args(arguments)
            .env("MAIL_HOST", "localhost")
            .env("MAIL_SMTP_PORT", self.ports.submission.to_string())
            .env("MAIL_MX_PORT", self.ports.mx.to_string())
            .env("MAIL_IMAP_PORT", self.ports.imaps.to_string())
            .env("MAIL_CA", self.ca_file())
            .env("MAIL_USER", user)
            .env("MAIL_PASSWORD", password(user));
        run(command, &format!("mail_customer.py {}", arguments.join(" "))).await.json()
    }

    /// Sends a mail to [`SUPPORT`] from a customer's mail program, which keeps a copy. Returns its
    /// `Message-ID`.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn writes(&self, user: &str, subject: &str, text: &str) -> String {
        let arguments = ["send", "--copy", "--to", SUPPORT, "--subject", subject, "--text", text];
        let said = self.customer(user, &arguments).await;
        assert_eq!(said["refused"], serde_json::json!({}), "{said}");
        said["message_id"].as_str().expect("an id").to_owned()
    }

    /// Answers a mail of a customer's inbox from the customer's mail program, as it does: to `Reply-To`,
    /// quoted, with `In-Reply-To` and `References`. Returns the `Message-ID`.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn replies(&self, user: &str, to_id: &str, text: &str) -> String {
        let said = self.customer(user, &["reply", "--copy", "--to-id", to_id, "--text", text]).await;
        assert_eq!(said["refused"], serde_json::json!({}), "{said}");
        said["message_id"].as_str().expect("an id").to_owned()
    }

    /// Ends what Exim left running outside its group: whoever writes a report does not stay in it.
    fn end_stray(&self) {
        let own = self.path().join("exim");
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
            if fs::read_link(entry.path().join("exe")).is_ok_and(|path| path == own) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tell(&self.path().join("logs"));
        }
        for server in [self.imap.take(), self.smtp.take()].into_iter().flatten() {
            server.end();
        }
        self.end_stray();
    }
}

/// Waits until a server greets.
async fn greets(port: u16, with: &str) {
    until(PATIENCE, &format!("{with:?} at port {port}"), async || {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
        let mut line = String::new();
        let mut reader = BufReader::new(stream);
        let read = tokio::time::timeout(Duration::from_secs(2), reader.read_line(&mut line)).await;
        (matches!(read, Ok(Ok(_))) && line.starts_with(with)).then_some(())
    })
    .await;
}

/// Where a program is: servers are not always on the path of an ordinary user.
fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    folders.extend(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from));
    let found = folders.iter().map(|folder| folder.join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("{name} is not installed: run tools/test-deps.sh"))
}

/// A certificate authority of the moment and a certificate for the servers.
async fn certificates(dir: &Path) {
    const KEY: [&str; 5] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    fs::write(dir.join("names"), SERVER_NAMES).expect("a file");
    let openssl = async |arguments: &[&str]| {
        let mut command = Command::new(program("openssl"));
        command.current_dir(dir).args(arguments);
        run(command, &format!("openssl {}", arguments.join(" "))).await.ok();
    };
    let authority =
        ["req", "-x509", "-days", "2", "-subj", "/CN=Test authority", "-keyout", "ca.key", "-out", "ca.pem"];
    let uses = ["-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign"];
    openssl(&[&authority[..], &KEY, &uses].concat()).await;
    let request = ["req", "-subj", "/CN=localhost", "-keyout", "server.key", "-out", "server.csr"];
    openssl(&[&request[..], &KEY].concat()).await;
    let sign = ["x509", "-req", "-days", "2", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key"];
    openssl(&[&sign[..], &["-CAcreateserial", "-extfile", "names", "-out", "server.pem"]].concat()).await;
}
