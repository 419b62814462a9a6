//! Chromium without a screen, in a host, driven by its DevTools protocol over a pipe.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::host::Host;
use crate::monitor::{Monitor, PASSWORD};
use crate::scene::PATIENCE;
use crate::wait;

/// How long a page may take that a click leads to, before it is clicked again.
const BRIEF: Duration = Duration::from_secs(5);

/// It reads commands from its third descriptor and answers on its fourth. Nobody is to be kept out of it but its host.
const START: &str = "exec chromium --headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run \
    --disable-extensions --disable-background-networking --disable-component-update --hide-scrollbars \
    --remote-debugging-pipe --user-data-dir=\"$1\" about:blank 3<&0 4>&1 </dev/null >/dev/null 2>\"$2\"";

/// A browser with one page open; it ends with this value.
pub struct Browser {
    running: Child,
    commands: Option<ChildStdin>,
    messages: Receiver<Value>,
    /// Of the page.
    session: Option<String>,
    number: u64,
    /// Whether a page has been loaded since it was last looked.
    loaded: bool,
    faults: Vec<String>,
    _profile: TempDir,
}

/// How a page is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub width: u32,
    pub dark: bool,
}

impl Browser {
    pub fn start(host: &Host) -> Result<Self> {
        let profile = tempfile::Builder::new().prefix("profile-").tempdir_in(host.directory())?;
        let mut command = Command::new("sh");
        let complaints = host.path("chromium.stderr");
        command.args(["-c", START, "sh"]).arg(profile.path()).arg(&complaints);
        command.env("HOME", profile.path()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut running = host.spawn(&mut command)?;
        let output = BufReader::new(running.stdout.take().context("it says nothing")?);
        let (say, messages) = channel();
        thread::spawn(move || {
            for message in output.split(0) {
                let value = message.ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
                if value.is_none_or(|value: Value| say.send(value).is_err()) {
                    return;
                }
            }
        });
        let commands = running.stdin.take();
        let mut browser = Self {
            running,
            commands,
            messages,
            session: None,
            number: 0,
            loaded: false,
            faults: Vec::new(),
            _profile: profile,
        };
        let attached = browser.attach();
        attached.with_context(|| std::fs::read_to_string(complaints).unwrap_or_default())?;
        Ok(browser)
    }

    fn attach(&mut self) -> Result<()> {
        let targets = self.call("Target.getTargets", &json!({}))?["targetInfos"].take();
        let mut targets = targets.as_array().into_iter().flatten();
        let page = targets.find(|target| target["type"] == "page").context("no page is open")?;
        let attach = json!({ "targetId": page["targetId"], "flatten": true });
        let session = self.call("Target.attachToTarget", &attach)?["sessionId"].take();
        self.session = session.as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log"] {
            self.call(&format!("{domain}.enable"), &json!({}))?;
        }
        Ok(())
    }

    /// Has it do something; what it answers.
    fn call(&mut self, method: &str, parameters: &Value) -> Result<Value> {
        self.number += 1;
        let mut message = json!({ "id": self.number, "method": method, "params": parameters });
        if let Some(session) = &self.session {
            message["sessionId"] = session.as_str().into();
        }
        let mut bytes = serde_json::to_vec(&message)?;
        bytes.push(0);
        self.commands.as_mut().context("the browser has ended")?.write_all(&bytes)?;
        loop {
            let mut answer = self.hear().with_context(|| method.to_owned())?;
            if answer["id"] == self.number {
                return match answer.get("error") {
                    Some(error) => bail!("{method}: {error}"),
                    None => Ok(answer["result"].take()),
                };
            }
        }
    }

    /// The next message; what it says about the page is noted.
    fn hear(&mut self) -> Result<Value> {
        let patience = PATIENCE * wait::slowness();
        let message = self.messages.recv_timeout(patience).context("the browser says nothing")?;
        let about = &message["params"];
        let fault = match message["method"].as_str().unwrap_or_default() {
            "Page.loadEventFired" => {
                self.loaded = true;
                None
            }
            "Page.javascriptDialogOpening" => Some(("dialog", &about["message"])),
            "Runtime.exceptionThrown" => Some(("exception", &about["exceptionDetails"])),
            "Runtime.consoleAPICalled" => Some(("console", &about["args"])),
            "Log.entryAdded" if about["entry"]["level"] != "info" => Some(("log", &about["entry"])),
            _ => None,
        };
        if let Some((kind, what)) = fault {
            let fault = format!("{kind}: {what}");
            self.faults.push(fault);
        }
        Ok(message)
    }

    /// What scripts and the browser have complained about since it was last asked, dialogs among it.
    pub fn take_faults(&mut self) -> Vec<String> {
        std::mem::take(&mut self.faults)
    }

    /// Opens a page, and waits until all of it is there.
    pub fn open(&mut self, url: &str) -> Result<()> {
        self.loaded = false;
        let answer = self.call("Page.navigate", &json!({ "url": url }))?;
        if let Some(error) = answer.get("errorText") {
            bail!("{url}: {error}");
        }
        while !self.loaded {
            self.hear()?;
        }
        Ok(())
    }

    /// What a script in the page says.
    pub fn evaluate(&mut self, script: &str) -> Result<Value> {
        let parameters =
            json!({ "expression": script, "returnByValue": true, "awaitPromise": true });
        let mut answer = self.call("Runtime.evaluate", &parameters)?;
        if let Some(exception) = answer.get("exceptionDetails") {
            bail!("{script}: {exception}");
        }
        Ok(answer["result"]["value"].take())
    }

    /// The text that is shown.
    pub fn text(&mut self) -> Result<String> {
        let text = self.evaluate("document.body.innerText")?;
        Ok(text.as_str().unwrap_or_default().to_owned())
    }

    /// Waits until the page shows this, by itself.
    pub fn await_text(&mut self, wanted: &str) -> Result<()> {
        let mut last = String::new();
        wait::until(&format!("the page to show {wanted:?}"), PATIENCE, || {
            // Between two pages there is none.
            last = self.text().unwrap_or_default();
            Ok(last.contains(wanted).then_some(()))
        })
        .with_context(|| last.clone())
    }

    /// Logs in at a monitor, as a person does.
    pub fn log_in(&mut self, monitor: &Monitor<'_>, name: &str) -> Result<()> {
        self.open(&monitor.url())?;
        self.fill("input[name=name]", name)?;
        self.fill("input[name=password]", PASSWORD)?;
        self.click("form.login button")?;
        self.await_text("Up to date by itself")
    }

    /// Clicks on what a person would see there, with a mouse.
    pub fn click(&mut self, selector: &str) -> Result<()> {
        let script = format!(
            "(() => {{
                const one = document.querySelector({selector:?});
                if (!one) return null;
                one.scrollIntoView({{ block: 'center', behavior: 'instant' }});
                const {{ x, y, width, height }} = one.getBoundingClientRect();
                const [a, b] = [x + width / 2, y + height / 2];
                return one.contains(document.elementFromPoint(a, b)) ? [a, b] : null;
            }})()"
        );
        let place = wait::until(&format!("{selector} to be seen"), PATIENCE, || {
            let place = self.evaluate(&script).unwrap_or_default();
            Ok(place.is_array().then_some(place))
        })?;
        for kind in ["mousePressed", "mouseReleased"] {
            let event = json!({ "type": kind, "x": place[0], "y": place[1], "button": "left", "clickCount": 1 });
            self.call("Input.dispatchMouseEvent", &event)?;
        }
        Ok(())
    }

    /// Clicks on a link until the page shows this: what is renewed between the look and the click may have moved.
    pub fn follow(&mut self, link: &str, wanted: &str) -> Result<()> {
        let there = format!("document.querySelector({link:?}) !== null");
        wait::until(&format!("{link} to lead to {wanted:?}"), PATIENCE, || {
            if self.evaluate(&there).is_ok_and(|there| there == true) {
                self.click(link)?;
            }
            let shown = wait::until(wanted, BRIEF, || {
                Ok(self.text().unwrap_or_default().contains(wanted).then_some(()))
            });
            Ok(shown.ok())
        })
    }

    /// Clicks into a field and types.
    pub fn fill(&mut self, selector: &str, text: &str) -> Result<()> {
        self.click(selector)?;
        self.type_text(text)
    }

    /// Types into what has the focus.
    pub fn type_text(&mut self, text: &str) -> Result<()> {
        self.call("Input.insertText", &json!({ "text": text })).map(drop)
    }

    /// Presses a key: `Tab`, `Enter` or `Space`.
    pub fn press(&mut self, key: &str) -> Result<()> {
        let (name, code, text) = match key {
            "Enter" => ("Enter", 13, "\r"),
            "Space" => (" ", 32, " "),
            _ => (key, 9, ""),
        };
        for kind in ["keyDown", "keyUp"] {
            let text = if kind == "keyDown" { text } else { "" };
            let event = json!({ "type": kind, "key": name, "code": key, "text": text,
                "windowsVirtualKeyCode": code });
            self.call("Input.dispatchKeyEvent", &event)?;
        }
        Ok(())
    }

    /// Looks at it like that from now on.
    pub fn shape(&mut self, shape: Shape) -> Result<()> {
        let scheme = if shape.dark { "dark" } else { "light" };
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.call("Emulation.setEmulatedMedia", &json!({ "features": features }))?;
        let size =
            json!({ "width": shape.width, "height": 900, "deviceScaleFactor": 1, "mobile": false });
        self.call("Emulation.setDeviceMetricsOverride", &size).map(drop)
    }

    /// A picture of the whole page below the directory that `DETECTOR_SCREENSHOTS` names, where it names one.
    pub fn picture(&mut self, name: &str) -> Result<()> {
        let Some(directory) = std::env::var_os("DETECTOR_SCREENSHOTS") else { return Ok(()) };
        let whole = json!({ "format": "png", "captureBeyondViewport": true });
        let picture = self.call("Page.captureScreenshot", &whole)?;
        let bytes = BASE64_STANDARD.decode(picture["data"].as_str().unwrap_or_default())?;
        let path = PathBuf::from(directory).join(format!("{name}.png"));
        std::fs::write(&path, bytes).with_context(|| path.display().to_string())
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It ends when nobody speaks to it any more. The host ends it otherwise.
        drop(self.commands.take());
        let _ = self.running.wait();
    }
}
