//! A real browser, told what to do over its pipe by the DevTools protocol.
//!
//! It is Debian's `chromium`, or what `FISHWAY_CHROMIUM` names. Nothing here sleeps: a page says itself
//! when something has come true, looked at before each frame.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use base64::Engine;
use serde_json::{Value, json};

/// How long a page may take until something comes true. A bound for what never does, no promise.
const PATIENCE_MS: u64 = 60_000;

/// Several at a time would wait for each other's frames.
static ALONE: Mutex<()> = Mutex::new(());

/// A browser with one page.
pub struct Browser {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    calls: u64,
    session: Option<String>,
    /// Addresses that the page has asked.
    pub asked: Vec<String>,
    /// What it complained of: exceptions, and what its policy forbade.
    pub complaints: Vec<String>,
    _directory: tempfile::TempDir,
    _alone: MutexGuard<'static, ()>,
}

impl Browser {
    pub fn open() -> Browser {
        let program = std::env::var("FISHWAY_CHROMIUM").unwrap_or_else(|_| "chromium".to_owned());
        let there = Command::new(&program).arg("--version").output();
        assert!(
            there.is_ok_and(|output| output.status.success()),
            "there is no browser \"{program}\": apt-get install chromium, or name one in FISHWAY_CHROMIUM"
        );
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let directory = tempfile::tempdir().unwrap();
        // The browser reads from 3 and writes to 4; a shell can say so.
        let mut child = Command::new("sh")
            .args([
                "-c",
                "exec \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1",
                "sh",
            ])
            .arg(program)
            .args([
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
            ])
            .args([
                "--no-first-run",
                "--disable-background-networking",
                "--remote-debugging-pipe",
            ])
            .arg(format!("--user-data-dir={}", directory.path().display()))
            .arg("about:blank")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut browser = Browser {
            to: child.stdin.take().unwrap(),
            from: BufReader::new(child.stdout.take().unwrap()),
            child,
            calls: 0,
            session: None,
            asked: Vec::new(),
            complaints: Vec::new(),
            _directory: directory,
            _alone: alone,
        };
        let page = browser.call("Target.createTarget", json!({ "url": "about:blank" }));
        let id = &page["targetId"];
        let session = browser.call(
            "Target.attachToTarget",
            json!({ "targetId": id, "flatten": true }),
        );
        browser.session = session["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Network", "Log"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        browser.size(1280, 800);
        browser
    }

    /// Call a method of the protocol.
    pub fn call(&mut self, method: &str, parameters: Value) -> Value {
        let message = self.ask(method, parameters);
        assert_eq!(message["error"], Value::Null, "{method}");
        message["result"].clone()
    }

    fn message(&mut self) -> Value {
        let mut text = Vec::new();
        self.from.read_until(0, &mut text).unwrap();
        assert_eq!(text.pop(), Some(0), "the browser has ended");
        let message: Value = serde_json::from_slice(&text).unwrap();
        let about = &message["params"];
        match message["method"].as_str() {
            Some("Network.requestWillBeSent") => {
                let url = about["request"]["url"].as_str().unwrap_or_default();
                self.asked.push(url.to_owned());
            }
            Some("Runtime.exceptionThrown") => {
                let details = &about["exceptionDetails"];
                self.complaints.push(details.to_string());
            }
            Some("Log.entryAdded") if about["entry"]["source"] == "security" => {
                self.complaints.push(about["entry"]["text"].to_string());
            }
            _ => {}
        }
        message
    }

    pub fn size(&mut self, width: u32, height: u32) {
        self.call(
            "Emulation.setDeviceMetricsOverride",
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false }),
        );
    }

    /// What the system prefers: light or dark.
    pub fn scheme(&mut self, scheme: &str) {
        let feature = json!({ "name": "prefers-color-scheme", "value": scheme });
        self.call(
            "Emulation.setEmulatedMedia",
            json!({ "features": [feature] }),
        );
    }

    pub fn go(&mut self, url: &str) {
        self.call("Page.navigate", json!({ "url": url }));
    }

    /// Ask for the page again; goes on in the new one.
    pub fn reload(&mut self) {
        self.look("window.before = true");
        self.call("Page.reload", json!({}));
        self.until("window.before === undefined && document.body");
    }

    /// What an expression gives in the page.
    pub fn look(&mut self, expression: &str) -> Value {
        let asked =
            json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let found = self.call("Runtime.evaluate", asked);
        assert_eq!(found["exceptionDetails"], Value::Null, "{expression}");
        found["result"]["value"].clone()
    }

    /// Go on when an expression is true in the page.
    pub fn until(&mut self, expression: &str) {
        let wait = format!(
            "new Promise((done) => {{
                const began = performance.now();
                const look = () => {{
                    let found = false;
                    try {{ found = Boolean({expression}); }} catch {{ /* not yet */ }}
                    if (found || performance.now() - began > {PATIENCE_MS}) done(found);
                    else requestAnimationFrame(look);
                }};
                look();
            }})"
        );
        // While a page comes in the place of another, a look at the old one ends in nothing.
        for _ in 0..5 {
            let asked = json!({ "expression": wait, "awaitPromise": true, "returnByValue": true });
            let message = self.ask("Runtime.evaluate", asked);
            if message["error"] == Value::Null {
                if message["result"]["result"]["value"] == true {
                    return;
                }
                break;
            }
        }
        let shown = self.look("document.body.innerText");
        panic!("never true: {expression}\n{shown}");
    }

    /// As [`Browser::call`], with the error as part of the answer.
    fn ask(&mut self, method: &str, parameters: Value) -> Value {
        self.calls += 1;
        let mut call = json!({ "id": self.calls, "method": method, "params": parameters });
        if let Some(session) = &self.session {
            call["sessionId"] = json!(session);
        }
        let mut text = call.to_string().into_bytes();
        text.push(0);
        self.to.write_all(&text).unwrap();
        loop {
            let message = self.message();
            if message["id"] == json!(self.calls) {
                return message;
            }
        }
    }

    /// Go on when a text is on the page.
    pub fn sees(&mut self, text: &str) {
        self.until(&format!(
            "document.body.innerText.includes({})",
            json!(text)
        ));
    }

    /// Press the mouse on the first element of a selector with that text.
    pub fn click(&mut self, selector: &str, text: &str) {
        let find = format!(
            "[...document.querySelectorAll({})].find((one) => !one.disabled && one.innerText.trim().startsWith({}))",
            json!(selector),
            json!(text)
        );
        self.until(&find);
        let place = self.look(&format!(
            "(() => {{ const one = {find}; one.scrollIntoView({{ block: 'nearest' }}); \
              const box = one.getBoundingClientRect(); return [box.x + box.width / 2, box.y + box.height / 2]; }})()"
        ));
        for kind in ["mousePressed", "mouseReleased"] {
            let event = json!({ "type": kind, "x": place[0], "y": place[1], "button": "left", "clickCount": 1 });
            self.call("Input.dispatchMouseEvent", event);
        }
    }

    /// Press a key.
    pub fn key(&mut self, key: &str) {
        let (text, code) = match key {
            "Enter" => ("\r", 13),
            "Escape" => ("", 27),
            "Tab" => ("", 9),
            one => (one, 0),
        };
        let mut event =
            json!({ "type": "keyDown", "key": key, "text": text, "windowsVirtualKeyCode": code });
        self.call("Input.dispatchKeyEvent", event.clone());
        event["type"] = json!("keyUp");
        event["text"] = json!("");
        self.call("Input.dispatchKeyEvent", event);
    }

    /// Type into what has the focus.
    pub fn text(&mut self, text: &str) {
        self.call("Input.insertText", json!({ "text": text }));
    }

    /// Keep a picture of the page, for whoever looks, where `FISHWAY_PICTURES` says.
    pub fn picture(&mut self, name: &str) {
        let Some(directory) = std::env::var_os("FISHWAY_PICTURES") else {
            return;
        };
        let picture = self.call("Page.captureScreenshot", json!({ "format": "png" }));
        let picture = picture["data"].as_str().unwrap();
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(picture)
            .unwrap();
        let file = std::path::Path::new(&directory).join(format!("{name}.png"));
        std::fs::write(file, bytes).unwrap();
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
