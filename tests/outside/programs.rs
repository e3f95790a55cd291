//! Programs of others: found in PATH, started on free ports with files of their own, and ended by
//! the signal they want.

use std::{
    env, fs,
    net::{SocketAddr, TcpStream},
    os::unix::{
        fs::{PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::kit::{Folder, FreePort, proxy::NOBODY, wait_for, wait_until};

/// Where a program is.
pub fn program(name: &str) -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path).map(|folder| folder.join(name)).find(|file| {
        fs::metadata(file).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
    });
    found.unwrap_or_else(|| {
        panic!("{name} is not in PATH: this test needs it (scripts/check --all, after .ci/run)")
    })
}

/// A program that comes to its end by itself, soon.
pub fn client(name: &str) -> Command {
    let mut command = Command::new(program("timeout"));
    command.arg("60").arg(program(name));
    command
}

/// Runs a command to its end, which must be good.
pub fn run(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.stdin(Stdio::null()).output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{command:?}: {status}\n{stdout}\n{stderr}");
    format!("{stdout}\n{stderr}")
}

/// A server of others; ended when dropped.
pub struct Outside {
    pub address: SocketAddr,
    child: Child,
    end: Signal,
    folder: Folder,
    _port: FreePort,
}

impl Outside {
    fn start(command: &mut Command, end: Signal, folder: Folder, port: FreePort) -> Outside {
        // Appended to, because a server may open it once more for its accesses.
        let log = folder.path().join("log");
        let log = fs::File::options().create(true).append(true).open(log).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
        Outside { address: port.address, child, end, folder, _port: port }
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// What it wrote to its log, stdout or stderr.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// Waits until it answers.
    fn serving(mut self, mut answers: impl FnMut(SocketAddr) -> bool) -> Outside {
        wait_until("a server of others", || {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "it ended at once: {ended:?}");
            answers(self.address)
        });
        self
    }

    /// nginx, with the files of a folder.
    pub fn nginx(files: &Path) -> Outside {
        Outside::nginx_with(|address| {
            let files = files.display();
            format!("access_log off;\nserver {{ listen {address}; root {files}; }}\n")
        })
    }

    /// nginx that expects the PROXY header and logs whom it names.
    pub fn nginx_behind_proxy() -> Outside {
        Outside::nginx_with(|address| {
            format!(
                "log_format who '$request_uri client=$proxy_protocol_addr';\n\
                 access_log log who;\n\
                 server {{ listen {address} proxy_protocol; return 200 hello; }}\n"
            )
        })
    }

    /// nginx, with these lines for its HTTP part.
    fn nginx_with(lines: impl FnOnce(SocketAddr) -> String) -> Outside {
        let (folder, port) = (Folder::new(), FreePort::new());
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .iter()
            .map(|kind| format!("{kind}_temp_path {kind};\n"))
            .collect();
        // One process, so that ending it leaves nothing behind.
        let text = format!(
            "daemon off;\nmaster_process off;\npid nginx.pid;\nerror_log stderr;\nevents {{}}\n\
             http {{\nsendfile on;\n{temporary}{}}}\n",
            lines(port.address)
        );
        fs::write(folder.path().join("nginx.conf"), text).unwrap();
        let mut command = Command::new(program("nginx"));
        command.args(["-e", "stderr", "-c", "nginx.conf", "-p"]).arg(folder.path());
        Outside::start(&mut command, Signal::TERM, folder, port).serving(accepts)
    }

    /// HAProxy that expects the PROXY header, answers by itself and logs whom the header names.
    pub fn haproxy_behind_proxy() -> Outside {
        let (folder, port) = (Folder::new(), FreePort::new());
        let text = format!(
            "global\nlog stdout format raw local0\n\
             defaults\nmode http\ntimeout client 30s\nlog global\n\
             frontend who\nbind {} accept-proxy\nlog-format \"%HU client=%ci\"\n\
             http-request return status 200 content-type text/plain string hello\n",
            port.address
        );
        fs::write(folder.path().join("haproxy.cfg"), text).unwrap();
        let mut command = Command::new(program("haproxy"));
        command.args(["-db", "-f"]).arg(folder.path().join("haproxy.cfg"));
        Outside::start(&mut command, Signal::TERM, folder, port).serving(accepts)
    }

    /// dnsmasq that knows `internal` and nobody to ask. Its hosts are in a file of this folder,
    /// which it reads again at SIGHUP; what it says lasts a second.
    pub fn dnsmasq(files: &Path, more: &[String]) -> Outside {
        let (folder, port) = (Folder::new(), FreePort::with_udp());
        let mut command = Command::new(program("dnsmasq"));
        // In the foreground, as who we are, and with nothing of this host's.
        command.args(["--no-daemon", "--conf-file=/dev/null", "--no-resolv", "--no-hosts"]);
        command.args(["--listen-address=127.0.0.1", "--bind-interfaces", "--local=/internal/"]);
        command.args([format!("--port={}", port.address.port()), "--local-ttl=1".into()]);
        command.arg(format!("--addn-hosts={}", files.join("hosts").display())).args(more);
        Outside::start(&mut command, Signal::TERM, folder, port).serving(accepts)
    }

    /// Prometheus with the `prometheus.yml` that `configure` writes. It cannot take a free port by
    /// itself and tell which, so it gets one that is kept free for it.
    pub fn prometheus(words: &[&str], configure: impl FnOnce(&Path)) -> Outside {
        let (folder, port) = (Folder::new(), FreePort::new());
        configure(folder.path());
        let mut command = Command::new(program("prometheus"));
        command.current_dir(folder.path()).args(["--config.file=prometheus.yml"]);
        command.arg("--storage.tsdb.path=data");
        command.arg(format!("--web.listen-address={}", port.address)).args(words);
        Outside::start(&mut command, Signal::TERM, folder, port).serving(|address| {
            // It listens before it answers.
            let mut curl = client("curl");
            curl.args(["--silent", "--fail", "--noproxy", "*"]);
            let ready = curl.arg(format!("http://{address}/-/ready")).stdout(Stdio::null());
            ready.status().unwrap().success()
        })
    }

    /// A redis that keeps nothing.
    pub fn redis() -> Outside {
        let (folder, port) = (Folder::new(), FreePort::new());
        let mut command = Command::new(program("redis-server"));
        command.args(["--bind", "127.0.0.1", "--port", &port.address.port().to_string()]);
        command.args(["--save", "", "--appendonly", "no", "--daemonize", "no", "--dir"]);
        command.arg(folder.path());
        Outside::start(&mut command, Signal::TERM, folder, port).serving(accepts)
    }

    /// A new PostgreSQL cluster. It refuses to run as root.
    pub fn postgres() -> Outside {
        let (folder, port) = (Folder::new(), FreePort::new());
        let data = folder.path().join("data");
        if rustix::process::geteuid().is_root() {
            chown(folder.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let trust = ["-U", "ringway", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "-D"];
        run(as_plain_user("initdb", folder.path()).args(trust).arg(&data));
        let mut command = as_plain_user("postgres", folder.path());
        command.arg("-D").arg(&data).arg("-k").arg(folder.path());
        command.args(["-p", &port.address.port().to_string(), "-c", "listen_addresses=127.0.0.1"]);
        // What is measured is the way there, not the disk.
        command.args(["-c", "fsync=off"]);
        Outside::start(&mut command, Signal::INT, folder, port).serving(|address| {
            let mut command = client("pg_isready");
            command.args(postgres_at(address)).stdout(Stdio::null());
            command.status().unwrap().success()
        })
    }
}

/// How a PostgreSQL client finds its server.
pub fn postgres_at(address: SocketAddr) -> Vec<String> {
    let (host, port) = (address.ip().to_string(), address.port().to_string());
    vec!["-h".into(), host, "-p".into(), port, "-U".into(), "ringway".into()]
}

fn as_plain_user(name: &str, folder: &Path) -> Command {
    let mut command = Command::new(program(name));
    command.current_dir(folder);
    if rustix::process::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

fn accepts(address: SocketAddr) -> bool {
    TcpStream::connect(address).is_ok()
}

impl Drop for Outside {
    fn drop(&mut self) {
        if thread::panicking() {
            let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            eprintln!("log of the server at {}:\n{log}", self.address);
        }
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            let _ = kill_process(Pid::from_child(&self.child), self.end);
            // One that a test has stopped ends once it goes on.
            let _ = kill_process(Pid::from_child(&self.child), Signal::CONT);
        }
        wait_for("the end of a server of others", || self.child.try_wait().unwrap());
    }
}
