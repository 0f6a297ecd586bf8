//! What stands in `deploy/` fits the program: the service manager is told, metrics that are watched exist.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use throughline_tests::daemon::{Folder, binary, command, free_port, nats_server, root};
use throughline_tests::{Daemon, Output, PATIENCE, http, until};

/// What the daemon tells its manager next; `None` when it is silent for too long.
fn heard(manager: &UnixDatagram) -> Option<String> {
    let mut buffer = [0; 1024];
    let read = manager.recv(&mut buffer).ok()?;
    Some(String::from_utf8_lossy(&buffer[..read]).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn deploy_the_service_manager_hears_of_start_life_and_end() {
    let name = format!("throughline-manager-{}", std::process::id());
    let manager = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let daemon = Daemon::builder().env("NOTIFY_SOCKET", &format!("@{name}")).env("WATCHDOG_USEC", "400000");
    let mut daemon = daemon.start().await;
    // It is ready by its pages: what it has said by then is waiting.
    let (mut before, mut alive) = (Vec::new(), 0);
    loop {
        let notice = heard(&manager).expect("it says that it is ready");
        if notice.starts_with("READY=1") {
            break;
        }
        before.push(notice);
    }
    let starting = |notice: &String| notice.starts_with("EXTEND_TIMEOUT_USEC=") || notice == "WATCHDOG=1";
    assert!(before.iter().any(|notice| notice.contains("STATUS=starting")), "{before:?}");
    assert!(before.iter().all(starting), "{before:?}");
    while alive < 3 {
        assert_eq!(heard(&manager).as_deref(), Some("WATCHDOG=1"));
        alive += 1;
    }
    assert!(daemon.terminate().await.success());
    let mut stopping = false;
    manager.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
    while let Some(notice) = heard(&manager) {
        stopping |= notice.starts_with("STOPPING=1");
    }
    assert!(stopping);
}

/// Every file of ours below a folder that ends so.
fn texts(folder: &Path, end: &str, into: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            texts(&path, end, into);
        } else if path.to_string_lossy().ends_with(end) {
            into.push_str(&std::fs::read_to_string(path).unwrap());
        }
    }
}

/// Names of metrics as they stand in a text.
fn metrics(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'));
    let families = ["router_", "adapter_", "bus_", "process_", "chat_", "email_"];
    let named = words.filter(|word| families.iter().any(|family| word.starts_with(family)));
    let of_histograms = |word: &str| word.trim_end_matches("_bucket").to_owned();
    named.map(of_histograms).filter(|word| word.matches('_').count() > 1 || word.starts_with("router_")).collect()
}

#[test]
fn deploy_what_is_watched_is_measured() {
    let mut code = String::new();
    texts(&root().join("crates"), ".rs", &mut code);
    let mut watched = String::new();
    texts(&root().join("deploy"), ".rules.yml", &mut watched);
    texts(&root().join("deploy"), ".json", &mut watched);
    let watched = metrics(&watched);
    assert!(watched.len() > 15, "{watched:?}");
    let unknown: Vec<_> = watched.iter().filter(|name| !code.contains(name.as_str())).collect();
    assert!(unknown.is_empty(), "deploy/ watches what nobody measures: {unknown:?}");
    let dashboard = std::fs::read_to_string(root().join("deploy/grafana/throughline.json")).unwrap();
    serde_json::from_str::<serde_json::Value>(&dashboard).unwrap();
}

#[test]
fn deploy_alerts_fire_when_they_should() {
    let tests = root().join("deploy/prometheus/throughline.rules.test.yml");
    let checked = Command::new("promtool").args(["test", "rules"]).arg(tests).output();
    let checked = checked.expect("promtool of the package prometheus; `tools/test-deps.sh`");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
}

/// An alert that nobody has seen fire may be one that cannot.
#[test]
fn deploy_every_alert_was_seen_to_fire_and_to_be_silent() {
    let read = |name: &str| fs::read_to_string(root().join("deploy/prometheus").join(name)).unwrap();
    let (rules, tests) = (read("throughline.rules.yml"), read("throughline.rules.test.yml"));
    let alerts: BTreeSet<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() > 10, "{alerts:?}");
    let (mut fired, mut silent, mut alert) = (BTreeSet::new(), BTreeSet::new(), "");
    for line in tests.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("alertname: ") {
            alert = name;
        }
        match line {
            "exp_alerts:" => fired.insert(alert),
            "exp_alerts: []" => silent.insert(alert),
            _ => false,
        };
    }
    assert_eq!(fired, alerts, "each fires in the rules' test");
    assert_eq!(silent, alerts, "and is silent in another case");
}

#[test]
fn deploy_the_settings_of_a_cluster_are_in_order() {
    let settings = root().join("deploy/kubernetes/settings/throughline.toml");
    let checked = run(command(&binary(), &settings, &[]).arg("check"));
    assert!(checked.stdout.starts_with("ok: "), "{checked:?}");
    checked.ok();
}

/// The first number behind a word in a file below `deploy/`.
fn number_behind(file: &str, word: &str) -> u64 {
    let text = fs::read_to_string(root().join(file)).unwrap();
    let rest = text.lines().find_map(|line| line.trim_start().strip_prefix(word));
    let rest = rest.unwrap_or_else(|| panic!("{file} does not say {word}")).trim_start_matches([' ', '=', ':']);
    rest.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
}

#[test]
fn deploy_whoever_stops_it_waits_for_the_drain() {
    let drain = number_behind("config/throughline.toml", "deadline_ms").div_ceil(1000);
    let pause = number_behind("deploy/kubernetes/channels.yaml", "seconds");
    let pods = number_behind("deploy/kubernetes/workload.yaml", "terminationGracePeriodSeconds");
    assert!(pods >= drain + pause + 10, "{pods} s for a drain of {drain} s");
    for (file, word) in
        [("deploy/systemd/throughline.service", "TimeoutStopSec"), ("deploy/compose/compose.yaml", "stop_grace_period")]
    {
        let waits = number_behind(file, word);
        assert!(waits >= drain + 10, "{file}: {waits} s for a drain of {drain} s");
    }
}

/// Runs a program to its end.
fn run(command: &mut Command) -> Output {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    Output {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// This machine's file system as a copy on write, with processes of its own. Both are gone with it.
struct Machine {
    holder: Child,
    root: PathBuf,
    folder: Folder,
}

impl Machine {
    fn start() -> Self {
        let folder = Folder::new();
        let script = r#"
            set -e
            mount -t tmpfs tmpfs "$1"
            mkdir "$1/upper" "$1/work" "$1/root"
            mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
            mount -t proc proc "$1/root/proc"
            mount --rbind /dev "$1/root/dev"
            echo ready
            exec cat
        "#;
        let mut command = Command::new("unshare");
        command.args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-c", script, "sh"]).arg(folder.path());
        let mut holder = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("unshare");
        let mut said = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(said, "ready\n", "no machine of its own");
        Self { holder, root: folder.path().join("root"), folder }
    }

    /// A file of it, as it is found from outside.
    fn at(&self, path: &str) -> PathBuf {
        let seen = PathBuf::from(format!("/proc/{}/root", self.holder.id()));
        seen.join(self.root.strip_prefix("/").unwrap()).join(path.trim_start_matches('/'))
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.at(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// A program in it, with a clean environment.
    fn command(&self, words: &[&str]) -> Command {
        let namespaces = format!("/proc/{}/ns", self.holder.id());
        let mut command = Command::new("nsenter");
        command.arg(format!("--mount={namespaces}/mnt")).arg(format!("--pid={namespaces}/pid_for_children"));
        command.arg("chroot").arg(&self.root).args(["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"]);
        command.args(["LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive"]).args(words);
        command
    }

    fn run(&self, words: &[&str]) -> Output {
        run(&mut self.command(words))
    }

    /// `throughline` as the service's user, on the service's settings.
    fn ask(&self, words: &[&str]) -> Output {
        let user = ["setpriv", "--reuid=throughline", "--regid=throughline", "--init-groups"];
        let program = ["throughline", "--config", "/etc/throughline/throughline.toml"];
        self.run(&[&user[..], &program, words].concat())
    }

    fn dpkg(&self, words: &[&str]) -> String {
        let usual = ["dpkg", "--force-unsafe-io", "--force-confold", "--no-triggers"];
        self.run(&[&usual[..], words].concat()).ok()
    }

    fn install(&self, package: &Path) {
        fs::copy(package, self.at("/tmp/throughline.deb")).unwrap();
        self.dpkg(&["--install", "/tmp/throughline.deb"]);
    }

    /// The number of a user or group, as `/etc/passwd` and `/etc/group` have it.
    fn number(&self, file: &str, name: &str) -> u32 {
        let text = self.read(file);
        let line = text.lines().find(|line| line.split(':').next() == Some(name));
        let line = line.unwrap_or_else(|| panic!("no {name} in {file}"));
        line.split(':').nth(2).unwrap().parse().unwrap()
    }

    /// Mode, user and group.
    fn access(&self, path: &str) -> (u32, u32, u32) {
        let found = fs::symlink_metadata(self.at(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        (found.mode() & 0o7777, found.uid(), found.gid())
    }

    /// Starts the service as its unit says, and waits until it is ready.
    async fn serve(&self, port: u16) -> Service<'_> {
        let unit = self.read("/usr/lib/systemd/system/throughline.service");
        let said = |key: &str| unit.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        let [user, group, folder, umask, program] =
            ["User", "Group", "WorkingDirectory", "UMask", "ExecStart"].map(|key| said(key).expect(key));
        assert!(said("Environment").is_none(), "the settings are in the settings file");
        let script = format!(
            "echo $$ > /run/service.pid; umask {umask}; cd {folder}; exec setpriv --reuid={user} --regid={group} \
             --init-groups --no-new-privs --inh-caps=-all {program}"
        );
        let log = self.folder.path().with_extension("log");
        let file = File::create(&log).unwrap();
        let mut command = self.command(&["sh", "-c", &script]);
        command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        let child = RefCell::new(command.spawn().unwrap());
        let address = format!("127.0.0.1:{port}");
        until(PATIENCE, "the service to be ready", async || {
            if let Some(status) = child.borrow_mut().try_wait().unwrap() {
                panic!("{status}: {}", fs::read_to_string(&log).unwrap_or_default());
            }
            http::get(&address, "/readyz").await.ok().filter(|answer| answer.status == 200).map(drop)
        })
        .await;
        Service { machine: self, child: child.into_inner(), log }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // The first process of its own; all others end with it.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

struct Service<'a> {
    machine: &'a Machine,
    child: Child,
    log: PathBuf,
}

impl Service<'_> {
    /// The process of its bus server, and the program that it is.
    fn bus(&self) -> (String, String) {
        let pid = self.machine.read("/var/lib/throughline/nats/nats-server.pid").trim().to_owned();
        let program = self.machine.run(&["readlink", &format!("/proc/{pid}/exe")]).ok();
        (pid, program.trim().to_owned())
    }

    async fn stop(mut self) {
        let (bus, _) = self.bus();
        let pid = self.machine.read("/run/service.pid");
        self.machine.run(&["kill", "-TERM", pid.trim()]).ok();
        let child = RefCell::new(&mut self.child);
        let status = until(PATIENCE, "the service to stop", async || child.borrow_mut().try_wait().unwrap()).await;
        assert!(status.success(), "{status}: {}", fs::read_to_string(&self.log).unwrap_or_default());
        assert!(!self.machine.at(&format!("/proc/{bus}")).exists(), "its bus server has stopped with it");
        let _ = fs::remove_file(&self.log);
    }
}

/// The package of the program under test; `None`, and why, where none can be built or installed.
fn package(folder: &Path) -> Option<PathBuf> {
    let missing = ["dpkg-deb", "dpkg-shlibdeps", "unshare", "nsenter", "setpriv", "systemd-sysusers"]
        .into_iter()
        .find(|tool| Command::new(tool).arg("--version").output().is_err());
    if let Some(why) = missing.or((!nix::unistd::geteuid().is_root()).then_some("root")) {
        println!("no {why} here; the package is not built and tried");
        return None;
    }
    let mut command = Command::new(root().join("tools/deb.sh"));
    command.arg(binary()).arg(folder).env("THROUGHLINE_DEB_COMPRESSION", "none");
    if let Some(server) = nats_server() {
        command.env("THROUGHLINE_NATS_SERVER", server);
    }
    let printed = run(&mut command).ok();
    Some(PathBuf::from(printed.trim()))
}

/// The same package as a later version, with other settings and another policy in it.
fn later(package: &Path, folder: &Path) -> PathBuf {
    let tree = folder.join("later");
    run(Command::new("dpkg-deb").arg("--raw-extract").arg(package).arg(&tree)).ok();
    let control = fs::read_to_string(tree.join("DEBIAN/control")).unwrap();
    let version = control.lines().find(|line| line.starts_with("Version: ")).unwrap();
    fs::write(tree.join("DEBIAN/control"), control.replace(version, &format!("{version}.1"))).unwrap();
    for file in ["throughline.toml", "policy/offers.toml"] {
        let mut file = File::options().append(true).open(tree.join("etc/throughline").join(file)).unwrap();
        file.write_all(b"# New in this version.\n").unwrap();
    }
    let built = folder.join("later.deb");
    run(Command::new("dpkg-deb").args(["--root-owner-group", "-Znone", "--build"]).arg(&tree).arg(&built)).ok();
    built
}

#[tokio::test(flavor = "multi_thread")]
async fn deploy_the_package_is_installed_upgraded_removed_and_purged() {
    let folder = Folder::new();
    let Some(package) = package(folder.path()) else { return };
    let listed = run(Command::new("dpkg-deb").arg("--contents").arg(&package)).ok();
    for line in listed.lines() {
        assert!(line.contains(" root/root "), "{line}");
        assert!(!line.contains("usr/local") && !line.contains("/./etc/throughline/secrets/"), "{line}");
    }
    for part in ["man1/throughline.1.gz", "doc/throughline/copyright", "_throughline", "licences-of-crates.gz"] {
        assert!(listed.contains(part), "{part} is missing:\n{listed}");
    }

    let machine = Machine::start();
    machine.install(&package);
    // Systems that want no documentation leave it out.
    let differs = machine.dpkg(&["--verify", "throughline"]);
    assert!(differs.lines().all(|line| line.contains(" /usr/share/")), "not as it was packed:\n{differs}");
    let (user, group) = (machine.number("/etc/passwd", "throughline"), machine.number("/etc/group", "throughline"));
    assert_ne!((user, group), (0, 0));
    assert_eq!(machine.access("/usr/bin/throughline"), (0o755, 0, 0));
    assert_eq!(machine.access("/usr/lib/throughline/nats-server"), (0o755, 0, 0));
    assert_eq!(machine.access("/var/lib/throughline"), (0o700, user, group));
    assert_eq!(machine.access("/etc/throughline/secrets"), (0o750, 0, group));
    machine.access("/etc/systemd/system/multi-user.target.wants/throughline.service");
    assert!(!machine.read("/usr/lib/systemd/system/throughline.service").contains("/usr/local"));
    assert!(!machine.read("/etc/throughline/channels/chat-web.toml").contains("demo = true"));
    machine.ask(&["check"]).ok();

    // The operator changes the settings, and the service runs with them.
    let (bus, pages) = (free_port(), free_port());
    let chat = "/etc/throughline/channels/chat-web.toml";
    fs::write(machine.at(chat), machine.read(chat).replace("127.0.0.1:8091", &format!("127.0.0.1:{}", free_port())))
        .unwrap();
    let settings = "/etc/throughline/throughline.toml";
    let changed = machine.read(settings).replace("[bus]", &format!("[bus]\nport = {bus}\nwebsocket_port = 0"));
    let changed = format!("{changed}\n[http]\nlisten = \"127.0.0.1:{pages}\"\n");
    fs::write(machine.at(settings), &changed).unwrap();
    let service = machine.serve(pages).await;
    let (_, server) = service.bus();
    assert_eq!(server, "/usr/lib/throughline/nats-server", "it brings its own server");
    let status = machine.ask(&["status", "--json"]).json();
    let epoch = status["value"]["shard"]["epoch"].as_u64().unwrap();
    service.stop().await;

    // A later version: what the operator changed stays, what they left alone is renewed, and it runs on the data.
    let later = later(&package, folder.path());
    machine.install(&later);
    assert_eq!(machine.read(settings), changed);
    assert!(machine.read(&format!("{settings}.dpkg-dist")).contains("New in this version"));
    assert!(machine.read("/etc/throughline/policy/offers.toml").contains("New in this version"));
    let service = machine.serve(pages).await;
    let status = machine.ask(&["status", "--json"]).json();
    assert!(status["value"]["shard"]["epoch"].as_u64().unwrap() > epoch, "{status}");
    service.stop().await;

    machine.dpkg(&["--remove", "throughline"]);
    assert!(!machine.at("/usr/bin/throughline").exists());
    assert_eq!(machine.read(settings), changed);
    assert!(machine.at("/var/lib/throughline/nats/store").exists(), "data stays");
    machine.dpkg(&["--purge", "throughline"]);
    for gone in ["/var/lib/throughline", "/etc/throughline", "/usr/lib/throughline"] {
        assert!(!machine.at(gone).exists(), "{gone} is still there");
    }
    let wants = machine.at("/etc/systemd/system/multi-user.target.wants/throughline.service");
    assert!(fs::symlink_metadata(wants).is_err(), "nothing starts at boot any more");
}
