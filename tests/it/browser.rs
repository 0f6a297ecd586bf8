//! A real browser: the demo page with the widget, and the supervisors' wall.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use throughline_tests::daemon::{Folder, free_port, root};
use throughline_tests::{AgentTool, Daemon, PATIENCE, http, until};
use tokio::process::{Child, Command};

/// A browser that is driven, closed when it is dropped.
pub(crate) struct Browser {
    address: String,
    session: String,
    process: Option<i32>,
    _driver: Child,
    _profile: Folder,
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver's end is not the browser's.
        if let Some(process) = self.process {
            let _ = kill(Pid::from_raw(process), Signal::SIGKILL);
        }
    }
}

fn find(names: &[&str]) -> PathBuf {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let found =
        names.iter().find_map(|name| std::env::split_paths(&paths).map(|dir| dir.join(name)).find(|p| p.is_file()));
    found.unwrap_or_else(|| panic!("none of {names:?} is on PATH: run `make test`, which installs what the tests need"))
}

impl Browser {
    pub(crate) async fn open(width: u32, height: u32) -> Self {
        let profile = Folder::new();
        let port = free_port();
        let driver = Command::new(find(&["chromedriver"]))
            .arg(format!("--port={port}"))
            .env("HOME", profile.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("chromedriver starts");
        let address = format!("127.0.0.1:{port}");
        until(PATIENCE, "chromedriver to be ready", async || {
            let status = http::get(&address, "/status").await.ok()?;
            let status: Value = serde_json::from_str(&status.body).ok()?;
            status["value"]["ready"].as_bool().filter(|ready| *ready)
        })
        .await;
        let arguments = json!([
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--lang=en-US",
            format!("--window-size={width},{height}"),
            format!("--user-data-dir={}", profile.path().join("profile").display()),
        ]);
        let binary = find(&["chromium", "chromium-browser", "google-chrome"]);
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome",
            "goog:loggingPrefs": { "browser": "ALL" },
            "goog:chromeOptions": { "args": arguments, "binary": binary },
        } } });
        let limit = Duration::from_secs(60);
        let made =
            http::request(&address, "POST", "/session", Some(&wanted.to_string()), limit).await.expect("a session");
        let made: Value = serde_json::from_str(&made.body).expect("JSON");
        let session = made["value"]["sessionId"].as_str().unwrap_or_else(|| panic!("no session: {made}")).to_owned();
        let process = made["value"]["capabilities"]["goog:processID"].as_i64().and_then(|pid| i32::try_from(pid).ok());
        Self { address, session, process, _driver: driver, _profile: profile }
    }

    async fn ask(&self, method: &str, what: &str, body: Option<Value>) -> Value {
        let path = format!("/session/{}{what}", self.session);
        let body = body.map(|body| body.to_string());
        let answer = http::request(&self.address, method, &path, body.as_deref(), Duration::from_secs(60)).await;
        let answer = answer.expect("chromedriver answers");
        let value: Value = serde_json::from_str(&answer.body).expect("JSON");
        assert_eq!(answer.status, 200, "{method} {what}: {value}");
        value["value"].clone()
    }

    pub(crate) async fn goto(&self, url: &str) {
        self.ask("POST", "/url", Some(json!({ "url": url }))).await;
    }

    async fn reload(&self) {
        self.ask("POST", "/refresh", Some(json!({}))).await;
    }

    /// Runs a function's body in the page.
    pub(crate) async fn run(&self, script: &str) -> Value {
        self.ask("POST", "/execute/sync", Some(json!({ "script": script, "args": [] }))).await
    }

    /// Waits until a function's body is true of the page.
    pub(crate) async fn until(&self, what: &str, script: &str) {
        until(PATIENCE, what, async || self.run(script).await.as_bool().filter(|is| *is)).await;
    }

    /// Keys, as a person presses them, into what has the focus.
    pub(crate) async fn types(&self, text: &str) {
        let keys = |kind| text.chars().map(move |c| json!({ "type": kind, "value": c.to_string() }));
        let actions: Vec<Value> = keys("keyDown").zip(keys("keyUp")).flat_map(|(down, up)| [down, up]).collect();
        let actions = json!({ "actions": [{ "type": "key", "id": "keyboard", "actions": actions }] });
        self.ask("POST", "/actions", Some(actions)).await;
    }

    /// A picture for a person to look at, once nothing moves any more.
    pub(crate) async fn screenshot(&self, name: &str) {
        let still = "const panel = document.getElementById('throughline-chat')?.shadowRoot.querySelector('.panel'); \
                     return !panel || panel.getAnimations().every(a => a.playState === 'finished');";
        self.until("the page to be still", still).await;
        let picture = self.ask("GET", "/screenshot", None).await;
        let folder = screenshots();
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join(format!("{name}.png")), base64(picture.as_str().unwrap_or_default()))
            .expect("a file");
    }

    /// What the page's console complained of since the last look.
    async fn complaints(&self) -> Vec<String> {
        let entries = self.ask("POST", "/se/log", Some(json!({ "type": "browser" }))).await;
        let entries = entries.as_array().cloned().unwrap_or_default();
        let severe = entries.iter().filter(|entry| entry["level"] == "SEVERE");
        severe.map(|entry| entry["message"].as_str().unwrap_or_default().to_owned()).collect()
    }

    pub(crate) async fn close(mut self) {
        self.ask("DELETE", "", None).await;
        self.process = None;
    }
}

fn screenshots() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    target.join("screenshots")
}

fn base64(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0_u32, 0);
    for byte in text.bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => continue,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count & 0xff) as u8);
        }
    }
    bytes
}

/// The widget's root, as the beginning of a script.
pub(crate) const WIDGET: &str = "const root = document.getElementById('throughline-chat').shadowRoot;";

/// The texts of the transcript, each with who said it.
async fn transcript(browser: &Browser) -> Vec<String> {
    let script = format!(
        "{WIDGET} return [...root.querySelectorAll('li.msg')].map(m => \
         (m.classList.contains('agent') ? 'agent: ' : 'customer: ') + m.querySelector('.text').textContent);"
    );
    let texts = browser.run(&script).await;
    let texts = texts.as_array().cloned().unwrap_or_default();
    texts.iter().map(|text| text.as_str().unwrap_or_default().to_owned()).collect()
}

pub(crate) async fn shows(browser: &Browser, wanted: &[&str]) {
    let mut last = Vec::new();
    let end = tokio::time::Instant::now() + PATIENCE;
    while last != wanted {
        assert!(tokio::time::Instant::now() < end, "the page shows {last:#?}, not {wanted:#?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
        last = transcript(browser).await;
    }
}

/// Everything that was sent is stored: no bubble waits or failed.
async fn all_sent(browser: &Browser) {
    let script = format!(
        "{WIDGET} const own = [...root.querySelectorAll('li.msg.customer')]; \
         return own.length > 0 && own.every(m => m.querySelector('.meta').textContent.startsWith('Sent'));"
    );
    browser.until("everything to be sent", &script).await;
}

pub(crate) async fn open_widget(browser: &Browser, page: &str) {
    browser.goto(page).await;
    browser.until("the widget", "return !!document.getElementById('throughline-chat')?.shadowRoot").await;
    let open = format!(
        "{WIDGET} const panel = root.querySelector('.panel'); \
         if (panel.hidden) root.querySelector('.launch').click(); return !panel.hidden;"
    );
    browser.until("the widget to be open", &open).await;
    let focus = format!("{WIDGET} root.querySelector('textarea').focus(); return root.activeElement?.id === 'field';");
    browser.until("the field to have the focus", &focus).await;
}

pub(crate) const ENTER: &str = "\u{e007}";

#[tokio::test(flavor = "multi_thread")]
async fn browser_a_customer_and_an_agent_talk_through_a_crash() {
    let mut daemon = Daemon::builder().start().await;
    let anna = AgentTool::automatic(&daemon, "anna", |_| None).await;
    let browser = Browser::open(1280, 900).await;
    let page = format!("http://{}/chat/web/demo", daemon.chat());
    open_widget(&browser, &page).await;
    browser.screenshot("1-widget-open").await;

    browser.types("Which bike fits a 6'2\" rider?").await;
    browser.types(ENTER).await;
    let conversation = anna.hears("Which bike fits a 6'2\" rider?").await;
    anna.say(conversation, "The large frame. See https://example.com/frames for sizes.").await;
    let mut talk = vec![
        "customer: Which bike fits a 6'2\" rider?",
        "agent: The large frame. See https://example.com/frames for sizes.",
    ];
    shows(&browser, &talk).await;
    all_sent(&browser).await;
    browser.screenshot("2-answer").await;

    // Loaded anew, the page shows all of it once.
    browser.reload().await;
    open_widget(&browser, &page).await;
    shows(&browser, &talk).await;
    browser.screenshot("3-reloaded").await;
    assert_eq!(browser.complaints().await, Vec::<String>::new());

    // The daemon is killed with the page open; what is typed meanwhile arrives once, after it is back.
    daemon.kill9();
    let focus = format!("{WIDGET} root.querySelector('textarea').focus(); return root.activeElement?.id === 'field';");
    browser.until("the field to have the focus", &focus).await;
    browser.until("the page to notice", &format!("{WIDGET} return !root.querySelector('.notice').hidden;")).await;
    browser.types("Are you still there?").await;
    browser.types(ENTER).await;
    browser.screenshot("4-outage").await;
    daemon.start().await;
    assert_eq!(anna.hears("Are you still there?").await, conversation);
    anna.say(conversation, "Of course.").await;
    talk.extend(["customer: Are you still there?", "agent: Of course."]);
    shows(&browser, &talk).await;
    all_sent(&browser).await;
    browser.until("the notice to go", &format!("{WIDGET} return root.querySelector('.notice').hidden;")).await;
    browser.screenshot("5-back").await;
    assert_eq!(anna.heard().len(), 2, "{:?}", anna.heard());

    // While nobody answered, the browser complained of that.
    let outage = browser.complaints().await;
    assert!(outage.iter().all(|line| line.contains("WebSocket")), "{outage:?}");

    // The wall shows the conversation with its agent, and nothing of what is said.
    browser.goto(&format!("http://{}/", daemon.http())).await;
    let row = "return document.querySelector('#conversation-rows')?.textContent.includes('Anna') ?? false;";
    browser.until("the conversation on the wall", row).await;
    let text = browser.run("return document.body.innerText").await;
    assert!(!text.as_str().unwrap_or_default().contains("still there"), "{text}");
    browser.screenshot("6-wall").await;
    assert_eq!(browser.complaints().await, Vec::<String>::new());
    anna.close(conversation, "solved").await;
    browser.until("the wall to be empty", "return !document.querySelector('#no-conversations').hidden").await;

    // And the customer is told.
    open_widget(&browser, &page).await;
    shows(&browser, &talk).await;
    browser.screenshot("7-closed").await;
    browser.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn browser_a_phone_and_a_queue_on_the_wall() {
    let daemon = Daemon::builder().start().await;
    let browser = Browser::open(500, 900).await;
    let page = format!("http://{}/chat/web/demo", daemon.chat());
    browser.ask("POST", "/window/rect", Some(json!({ "width": 400, "height": 800 }))).await;
    open_widget(&browser, &page).await;
    let long = "averyveryverylongwordwithoutanyspace".repeat(4);
    for text in ["Hello <b>there</b> & \"you\"", "Grüße, 你好, שלום, 👋", long.as_str()] {
        browser.types(text).await;
        browser.types(ENTER).await;
    }
    let said: Vec<String> = ["Hello <b>there</b> & \"you\"", "Grüße, 你好, שלום, 👋", long.as_str()]
        .map(|t| format!("customer: {t}"))
        .into();
    shows(&browser, &said.iter().map(String::as_str).collect::<Vec<_>>()).await;
    all_sent(&browser).await;
    let fits = "return document.documentElement.scrollWidth <= window.innerWidth";
    assert_eq!(browser.run(fits).await, true, "the page does not fit a phone");
    browser.screenshot("8-phone").await;

    browser.goto(&format!("http://{}/", daemon.http())).await;
    let row = "return document.querySelector('#conversation-rows')?.textContent.includes('waiting') ?? false;";
    browser.until("the waiting conversation", row).await;
    browser.screenshot("9-wall-phone").await;
    assert_eq!(browser.run(fits).await, true, "the wall does not fit a phone");
    for width in [700, 900, 1000, 1080, 1100, 1300] {
        browser.ask("POST", "/window/rect", Some(json!({ "width": width, "height": 800 }))).await;
        let resized = format!("return Math.abs(window.innerWidth - {width}) < 60");
        browser.until("the window's new size", &resized).await;
        assert_eq!(browser.run(fits).await, true, "the wall does not fit a window of {width}");
    }
    assert!(Path::new(&screenshots()).join("9-wall-phone.png").is_file());
    browser.close().await;
}
