//! The real binary, running.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    net::{SocketAddr, TcpStream},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Instant,
};

use rustix::process::{Pid, Signal};

use super::{DEADLINE, End, Stats, http, peer, wait_for};

/// What is tested.
pub const BINARY: &str = env!("CARGO_BIN_EXE_ringway");

/// The user without privileges.
pub const NOBODY: u32 = 65534;

/// A folder that goes away.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Folder {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("ringway-test-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        Folder(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A ringway process; killed when dropped.
pub struct Proxy {
    child: Child,
    stderr: Arc<Mutex<String>>,
    stdout: Arc<Mutex<String>>,
    pub ready_line: String,
    pub admin: SocketAddr,
    /// The addresses of `edge`.
    pub edge: Vec<SocketAddr>,
    _folder: Folder,
}

/// Runs the binary with a configuration to its end, which must come: exit code, stdout, stderr.
pub fn run_to_end(text: &str) -> (Option<i32>, String, String) {
    run_to_end_while(text, |_| {})
}

/// The same as a user without privileges, by a program that runs the command behind its own
/// arguments.
pub fn run_to_end_as_nobody_by(program: &[&str], text: &str) -> (Option<i32>, String, String) {
    let folder = Folder::new();
    to_end(spawn(as_nobody(by(program, &folder)), &folder, text), |_| {})
}

/// The same, and does something with the process meanwhile.
pub fn run_to_end_while(text: &str, act: impl FnOnce(Pid)) -> (Option<i32>, String, String) {
    let folder = Folder::new();
    to_end(spawn(Command::new(BINARY), &folder, text), act)
}

fn to_end(mut child: Child, act: impl FnOnce(Pid)) -> (Option<i32>, String, String) {
    let stderr = collect(child.stderr.take().unwrap());
    act(Pid::from_child(&child));
    let status = wait_for("the end of the process", || child.try_wait().unwrap());
    let mut stdout = String::new();
    child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
    let stderr = settled(&stderr);
    (status.code(), stdout, stderr)
}

/// Runs a command that ends with the binary.
fn spawn(mut command: Command, folder: &Folder, text: &str) -> Child {
    let file = folder.0.join("config.toml");
    fs::write(&file, text).unwrap();
    command.args(["run", "--config"]).arg(&file);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// A copy of the binary that everybody may run.
fn copy_into(folder: &Folder) -> PathBuf {
    let copy = folder.0.join("ringway");
    // By another process: a child that another test forks meanwhile would inherit our open copy,
    // and a file that is open for writing cannot be executed.
    let copied = Command::new("cp").arg(BINARY).arg(&copy).status();
    assert!(copied.unwrap().success(), "cannot copy the binary");
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
    copy
}

/// A program that runs a copy of the binary behind its own arguments.
fn by(program: &[&str], folder: &Folder) -> Command {
    let mut command = Command::new(program[0]);
    command.args(&program[1..]).arg(copy_into(folder));
    command
}

/// A command for the user without privileges; ours may have none already.
fn as_nobody(mut command: Command) -> Command {
    if rustix::process::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

/// Reads a stream on a thread; the last reference but ours goes with its end.
fn collect(stream: impl Read + Send + 'static) -> Arc<Mutex<String>> {
    let text = Arc::new(Mutex::new(String::new()));
    let collected = Arc::clone(&text);
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            let mut text = collected.lock().unwrap();
            text.push_str(&line);
            text.push('\n');
        }
    });
    text
}

/// What was collected, once all of it was.
fn settled(text: &Arc<Mutex<String>>) -> String {
    super::wait_until("the end of stderr", || Arc::strong_count(text) == 1);
    text.lock().unwrap().clone()
}

impl Proxy {
    /// Starts with this configuration and waits until it serves.
    pub fn start(text: &str) -> Proxy {
        Proxy::launch(Command::new(BINARY), Folder::new(), text)
    }

    /// By a program that runs the command behind its own arguments, in its own process: from a
    /// copy, because whom that program makes us may not reach the original.
    pub fn start_by(program: &[&str], text: &str) -> Proxy {
        let folder = Folder::new();
        Proxy::launch(by(program, &folder), folder, text)
    }

    /// As a user without privileges: from a copy, because that user may not reach the original.
    pub fn start_as_nobody(text: &str) -> Proxy {
        Proxy::start_as_nobody_by(&["env"], text)
    }

    /// As that user, by a program that runs the command behind its own arguments.
    pub fn start_as_nobody_by(program: &[&str], text: &str) -> Proxy {
        let folder = Folder::new();
        Proxy::launch(as_nobody(by(program, &folder)), folder, text)
    }

    fn launch(command: Command, folder: Folder, text: &str) -> Proxy {
        let mut child = spawn(command, &folder, text);
        let stderr = collect(child.stderr.take().unwrap());
        let stdout = collect(child.stdout.take().unwrap());
        let deadline = Instant::now() + DEADLINE;
        let ready_line = loop {
            let first = stdout.lock().unwrap().split_inclusive('\n').next().map(str::to_owned);
            let over = Arc::strong_count(&stdout) == 1 || Instant::now() > deadline;
            match first {
                Some(line) => break line,
                None if over => break String::new(),
                None => super::pause(super::LOOK_AGAIN),
            }
        };
        let Some((admin, edge)) = parse_ready(&ready_line) else {
            let _ = child.kill();
            let _ = child.wait();
            panic!("not ready: {ready_line:?}\n{text}\n{}", stderr.lock().unwrap());
        };
        Proxy { child, stderr, stdout, ready_line, admin, edge, _folder: folder }
    }

    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// The first address of a listener.
    pub fn address_of(&self, listener: &str) -> SocketAddr {
        let found = self.ready_line.split_whitespace().find_map(|word| {
            word.strip_prefix(listener)?.strip_prefix('=')?.split(',').next()?.parse().ok()
        });
        found.unwrap_or_else(|| panic!("no {listener} in {}", self.ready_line))
    }

    /// A connection of a client.
    pub fn connect(&self) -> TcpStream {
        peer::connect(self.edge[0])
    }

    /// How a client ends that is served by nobody.
    pub fn turns_away(&self) -> End {
        peer::turned_away(self.edge[0])
    }

    pub fn get(&self, path: &str) -> http::Answer {
        http::get(self.admin, path)
    }

    /// Asks for a change of a backend of the pool `web`.
    pub fn change(&self, backend: &str, body: &str) -> http::Answer {
        http::patch(self.admin, &format!("/pools/web/backends/{backend}"), body)
    }

    pub fn stats(&self) -> Stats {
        Stats(self.get("/stats").json())
    }

    /// Asks until the statistics are so.
    pub fn wait_stats(&self, what: &str, mut so: impl FnMut(&Stats) -> bool) -> Stats {
        let mut last = None;
        let looked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait_for(what, || {
                let stats = self.stats();
                let good = so(&stats);
                last = Some(stats.clone());
                good.then_some(stats)
            })
        }));
        looked.unwrap_or_else(|panic| {
            if let Some(last) = &last {
                eprintln!("last statistics: {:#}", last.without_latency());
            }
            std::panic::resume_unwind(panic)
        })
    }

    /// Waits until that many connections have ended for `reason`, and nothing else has ended.
    pub fn wait_ended_only(&self, reason: &str, count: u64) -> Stats {
        let stats =
            self.wait_stats(&format!("{count} ended, all {reason}"), |s| s.ended_in_all() >= count);
        assert_eq!(stats.ended(reason), count, "{}", stats.without_latency());
        assert_eq!(stats.ended_in_all(), count, "{}", stats.without_latency());
        stats
    }

    pub fn signal(&self, signal: Signal) {
        rustix::process::kill_process(self.pid(), signal).unwrap();
    }

    /// Waits for the end of the process.
    pub fn wait_exit(&mut self) -> ExitStatus {
        let child = &mut self.child;
        wait_for("the end of the process", || child.try_wait().unwrap())
    }

    pub fn stdout(&self) -> String {
        self.stdout.lock().unwrap().clone()
    }

    pub fn stderr(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    /// All of stderr, after the end of the process.
    pub fn last_words(&mut self) -> String {
        self.wait_exit();
        settled(&self.stderr)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("stderr of the proxy:\n{}", self.stderr.lock().unwrap());
        }
    }
}

fn parse_ready(line: &str) -> Option<(SocketAddr, Vec<SocketAddr>)> {
    let mut words = line.strip_prefix("ready ")?.split_whitespace();
    let admin = words.next()?.strip_prefix("admin=")?.parse().ok()?;
    let edge = words.next()?.strip_prefix("edge=")?;
    let edge: Result<Vec<SocketAddr>, _> = edge.split(',').map(str::parse).collect();
    Some((admin, edge.ok()?))
}
