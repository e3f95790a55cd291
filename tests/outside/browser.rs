//! A real Chromium, driven over WebDriver.

use std::{
    env, fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    process::{Child, Command, Stdio},
    thread,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::{
    kit::{Folder, http, wait_for, wait_until},
    programs::program,
};

/// A browser with one page; gone when dropped.
pub struct Browser {
    driver: Child,
    address: SocketAddr,
    session: String,
    _files: Folder,
}

impl Browser {
    /// Opens a page; the browser logs what its console says and what it asks of the network.
    pub fn open(url: &str) -> Browser {
        let files = Folder::new();
        let mut driver = Command::new(program("chromedriver"))
            .arg("--port=0")
            // The browser's profile, and what it forgets there.
            .env("TMPDIR", files.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port = lines.by_ref().find_map(|line| {
            line.unwrap().split_once("successfully on port ")?.1.trim_end_matches('.').parse().ok()
        });
        let port: u16 = port.expect("chromedriver names its port");
        // What it writes later must go somewhere, or it ends.
        thread::spawn(move || lines.count());
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let mut browser = Browser { driver, address, session: String::new(), _files: files };
        // Chromium refuses its sandbox to root; shared memory is scarce in containers.
        let mut args = vec!["--headless=new", "--disable-dev-shm-usage", "--no-proxy-server"];
        args.extend(rustix::process::geteuid().is_root().then_some("--no-sandbox"));
        let session = browser.ask(
            "",
            json!({"capabilities": {"alwaysMatch": {
                "goog:chromeOptions": {"args": args},
                "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
            }}}),
        );
        browser.session = format!("/{}", session["sessionId"].as_str().unwrap());
        browser.ask("/url", json!({"url": url}));
        browser
    }

    /// A command of the session.
    fn ask(&self, path: &str, body: Value) -> Value {
        let path = format!("/session{}{path}", self.session);
        let answer = http::send(self.address, "POST", &path, &body.to_string());
        let told = answer.json()["value"].take();
        assert_eq!(answer.status, 200, "{path}: {told:#}");
        told
    }

    /// What a function body returns in the page; its policy does not bind us.
    pub fn run(&self, script: &str) -> Value {
        self.ask("/execute/sync", json!({"script": script, "args": []}))
    }

    /// What a function body returns as a promise.
    pub fn wait(&self, script: &str) -> Value {
        let script =
            format!("const done = arguments[0]; (async () => {{ {script} }})().then(done)");
        self.ask("/execute/async", json!({"script": script, "args": []}))
    }

    /// The text of the first element that a selector finds; empty without one.
    pub fn text(&self, selector: &str) -> String {
        let script = format!("return document.querySelector({selector:?})?.innerText ?? ''");
        self.run(&script).as_str().unwrap().to_owned()
    }

    /// Waits until an element says so.
    pub fn wait_text(&self, selector: &str, so: impl Fn(&str) -> bool) {
        let mut last = String::new();
        let seen = || {
            last = self.text(selector);
            so(&last)
        };
        let what = format!("the right words in {selector}");
        let waited = catch_unwind(AssertUnwindSafe(|| wait_until(&what, seen)));
        if let Err(panic) = waited {
            eprintln!("{selector} says {:?}", self.text(selector));
            resume_unwind(panic);
        }
    }

    /// Presses keys, one after the other.
    pub fn press(&self, keys: &[char]) {
        let press = |key: &char| {
            [json!({"type": "keyDown", "value": key}), json!({"type": "keyUp", "value": key})]
        };
        let actions: Vec<Value> = keys.iter().flat_map(press).collect();
        self.ask(
            "/actions",
            json!({"actions": [{"type": "key", "id": "keys", "actions": actions}]}),
        );
    }

    /// A short tap of a finger in an element, at a share of its width.
    pub fn tap(&self, selector: &str, share: f64) {
        let place = self.run(&format!(
            "const element = document.querySelector({selector:?});
             element.scrollIntoView({{ block: 'center' }});
             const {{ left, top, width, height }} = element.getBoundingClientRect();
             return [Math.round(left + width * {share}), Math.round(top + height / 2)]"
        ));
        let at = json!({"type": "pointerMove", "x": place[0], "y": place[1]});
        let (down, up) = (json!({"type": "pointerDown"}), json!({"type": "pointerUp"}));
        let finger = json!({"type": "pointer", "id": "finger",
            "parameters": {"pointerType": "touch"}, "actions": [at, down, up]});
        self.ask("/actions", json!({"actions": [finger]}));
    }

    /// Loads the page again; `alter`, the body of a function of `path` and `answer`, changes what
    /// it is told from now on.
    pub fn alter(&self, alter: &str) {
        let source = format!(
            "const real = window.fetch;
             const alter = (path, answer) => {{ {alter} }};
             window.fetch = async (path, ...rest) => {{
               const answer = await (await real(path, ...rest)).json();
               alter(path, answer);
               return new Response(JSON.stringify(answer));
             }};"
        );
        self.devtools("Page.addScriptToEvaluateOnNewDocument", json!({"source": source}));
        self.ask("/refresh", json!({}));
    }

    fn devtools(&self, command: &str, params: Value) {
        self.ask("/goog/cdp/execute", json!({"cmd": command, "params": params}));
    }

    /// The size of the screen, from now on.
    pub fn resize(&self, width: u32) {
        let size =
            json!({"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500});
        self.devtools("Emulation.setDeviceMetricsOverride", size);
        wait_until("the new width", || self.run("return innerWidth") == width);
    }

    /// `light` or `dark`, from now on.
    pub fn prefer(&self, scheme: &str) {
        let feature = json!({"name": "prefers-color-scheme", "value": scheme});
        self.devtools("Emulation.setEmulatedMedia", json!({"features": [feature]}));
    }

    fn log(&self, kind: &str) -> Vec<Value> {
        let mut entries = self.ask("/se/log", json!({"type": kind}));
        std::mem::take(entries.as_array_mut().unwrap())
    }

    /// Errors of the console since the last look; what the policy refuses is one.
    pub fn errors(&self) -> Vec<String> {
        let severe = self.log("browser").into_iter().filter(|entry| entry["level"] == "SEVERE");
        severe.map(|entry| entry["message"].as_str().unwrap().to_owned()).collect()
    }

    /// Where the page has asked since the last look.
    pub fn asked(&self) -> Vec<String> {
        let asked = self.log("performance").into_iter().filter_map(|entry| {
            let message: Value = serde_json::from_str(entry["message"].as_str()?).unwrap();
            let sent = message["message"]["method"] == "Network.requestWillBeSent";
            let url = message["message"]["params"]["request"]["url"].as_str()?.to_owned();
            sent.then_some(url)
        });
        asked.collect()
    }

    /// What axe-core finds, of impact `serious` or `critical`; `.ci/run` says where it is.
    pub fn hard_to_use(&self) -> Value {
        let file = env::var_os("RINGWAY_AXE").unwrap_or_else(|| {
            panic!(
                "RINGWAY_AXE is not set: this test needs axe.min.js of axe-core (.ci/run gets it)"
            )
        });
        let axe = fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        self.run(&axe);
        let found = self.wait(
            "const { passes, violations } = await axe.run();
             if (passes.length < 20) return 'few rules passed';
             return violations.filter(({ impact }) => ['serious', 'critical'].includes(impact))
               .map(({ id, nodes }) => [id, ...nodes.slice(0, 3).map((node) => node.html)]);",
        );
        assert!(found.is_array(), "axe-core was blind: {found}");
        found
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // chromedriver alone would leave its browser behind.
        let session = format!("/session{}", self.session);
        let _ = catch_unwind(|| http::send(self.address, "DELETE", &session, ""));
        let _ = kill_process(Pid::from_child(&self.driver), Signal::TERM);
        wait_for("the end of chromedriver", || self.driver.try_wait().unwrap());
    }
}
