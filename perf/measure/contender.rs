//! Who is measured: how each relay is configured and started.

use std::{
    fmt::Write as _,
    fs,
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError, Sender},
    thread,
    time::{Duration, Instant},
};

use ringway::{
    child::{Guarded, free_address},
    demo::stats,
};
use serde_json::{Value, json};

/// Where nginx keeps its stream module when it is not built in.
const NGINX_STREAM: [&str; 2] = [
    "/usr/lib/nginx/modules/ngx_stream_module.so",
    "/usr/lib64/nginx/modules/ngx_stream_module.so",
];

pub const NAMES: [&str; 10] = [
    "floor-copy",
    "floor-splice",
    "ringway-io_uring",
    "ringway-io_uring-watched",
    "ringway-epoll",
    "ringway-epoll-watched",
    "haproxy",
    "haproxy-splice",
    "nginx",
    "envoy",
];

/// A running relay.
pub struct Relay {
    pub process: Guarded,
    /// Where it listens, in the order of the backends it was given.
    pub listeners: Vec<SocketAddr>,
    /// Ringway's admin endpoint.
    pub admin: Option<SocketAddr>,
    /// Whoever looks at it all the time.
    _watcher: Option<Watcher>,
}

/// Asks once a second for what Prometheus and the page ask for; ends when dropped.
struct Watcher {
    _end: Sender<()>,
}

impl Watcher {
    fn start(admin: SocketAddr) -> Watcher {
        let (end, ended) = mpsc::channel();
        thread::spawn(move || {
            for second in 0.. {
                let news = ["/stats/history", "/stats/events"];
                let news = news.map(|page| format!("{page}?after={second}"));
                for page in ["/metrics", "/stats", &news[0], &news[1]] {
                    // The last ones may come after the end.
                    let _ = stats::get(admin, page);
                }
                let wait = ended.recv_timeout(Duration::from_secs(1));
                if wait != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        });
        Watcher { _end: end }
    }
}

/// Where programs and files are.
pub struct Place {
    /// The directory of `ringway`; its `examples` has `floor`.
    pub programs: PathBuf,
    /// A private directory for configurations.
    pub files: PathBuf,
}

/// Starts the contender `name` with one listener for each backend.
pub fn start(place: &Place, name: &str, backends: &[SocketAddr]) -> Result<Relay, String> {
    match name {
        "floor-copy" => floor(place, "copy", backends),
        "floor-splice" => floor(place, "splice", backends),
        "ringway-io_uring" => ringway(place, "io_uring", backends),
        "ringway-io_uring-watched" => watched(place, "io_uring", backends),
        "ringway-epoll" => ringway(place, "epoll", backends),
        "ringway-epoll-watched" => watched(place, "epoll", backends),
        "haproxy" => haproxy(place, false, backends),
        "haproxy-splice" => haproxy(place, true, backends),
        "nginx" => nginx(place, backends),
        "envoy" => envoy(place, backends),
        _ => Err(format!("{name}: no such contender (there are {})", NAMES.join(", "))),
    }
}

fn floor(place: &Place, mode: &str, backends: &[SocketAddr]) -> Result<Relay, String> {
    let [backend] = backends else {
        return Err("the floor has one listener (leave it out here)".to_owned());
    };
    let mut command = Command::new(place.programs.join("examples/floor"));
    command.args(["--listen", "127.0.0.1:0", "--mode", mode]);
    command.args(["--backend", &backend.to_string()]);
    let (process, ready) = Guarded::start_ready("floor", &mut command)?;
    let listeners = vec![ready.address("relay")?];
    Ok(Relay { process, listeners, admin: None, _watcher: None })
}

fn ringway(place: &Place, driver: &str, backends: &[SocketAddr]) -> Result<Relay, String> {
    logging_ringway(place, (driver, "off"), backends)
}

/// With everything on that looks: an access log, a scraper, somebody with the page open.
fn watched(place: &Place, driver: &str, backends: &[SocketAddr]) -> Result<Relay, String> {
    let log = place.files.join("access.log");
    let log = log.to_str().ok_or("the folder for files has a strange name")?;
    let relay = logging_ringway(place, (driver, log), backends)?;
    Ok(Relay { _watcher: relay.admin.map(Watcher::start), ..relay })
}

fn logging_ringway(
    place: &Place,
    (driver, access): (&str, &str),
    backends: &[SocketAddr],
) -> Result<Relay, String> {
    let mut text = format!(
        "[runtime]\nshards = 1\ndriver = \"{driver}\"\npin_cpus = false\n\n\
         [admin]\nlisten = \"127.0.0.1:0\"\n\n\
         [log]\nlevel = \"warn\"\nreport = \"0s\"\naccess = \"{access}\"\n"
    );
    for (at, backend) in backends.iter().enumerate() {
        _ = write!(
            text,
            "\n[[listener]]\nname = \"l{at}\"\nmode = \"tcp\"\nlisten = [\"127.0.0.1:0\"]\n\
             pool = \"p{at}\"\nsplice = \"auto\"\n\n[[pool]]\nname = \"p{at}\"\n\n\
             [pool.health_check]\nkind = \"none\"\n\n[[pool.backend]]\naddress = \"{backend}\"\n"
        );
    }
    let config = save(place, "ringway.toml", &text)?;
    let mut command = Command::new(place.programs.join("ringway"));
    command.args(["run", "--config"]).arg(config);
    let (process, ready) = Guarded::start_ready("ringway", &mut command)?;
    let listeners = (0..backends.len()).map(|at| ready.address(&format!("l{at}")));
    let listeners = listeners.collect::<Result<Vec<_>, _>>()?;
    Ok(Relay { process, listeners, admin: Some(ready.address("admin")?), _watcher: None })
}

fn haproxy(place: &Place, splice: bool, backends: &[SocketAddr]) -> Result<Relay, String> {
    let mut text = "global\n  nbthread 1\n  maxconn 9000\n".to_owned();
    if splice {
        text.push_str("  tune.pipesize 262144\n  maxpipes 256\n");
    }
    text.push_str("defaults\n  mode tcp\n  timeout connect 5s\n");
    text.push_str("  timeout client 60s\n  timeout server 60s\n");
    if splice {
        text.push_str("  option splice-auto\n  option splice-request\n  option splice-response\n");
    }
    let listeners = addresses(backends.len())?;
    for (at, (listen, backend)) in listeners.iter().zip(backends).enumerate() {
        _ = write!(text, "listen l{at}\n  bind {listen}\n  server s {backend}\n");
    }
    let config = save(place, "haproxy.cfg", &text)?;
    let mut command = Command::new("haproxy");
    command.args(["-db", "-q", "-f"]).arg(config).stdout(Stdio::null());
    serving(Guarded::start("haproxy", &mut command)?, listeners)
}

fn nginx(place: &Place, backends: &[SocketAddr]) -> Result<Relay, String> {
    let mut text = String::new();
    if let Some(module) = NGINX_STREAM.iter().find(|module| Path::new(module).exists()) {
        _ = writeln!(text, "load_module {module};");
    }
    text.push_str("daemon off;\nmaster_process off;\nerror_log stderr error;\n");
    _ = writeln!(text, "pid {};", place.files.join("nginx.pid").display());
    text.push_str("events { worker_connections 19000; }\nstream {\n");
    let listeners = addresses(backends.len())?;
    for (listen, backend) in listeners.iter().zip(backends) {
        _ = writeln!(text, "  server {{ listen {listen}; proxy_pass {backend}; }}");
    }
    text.push_str("}\n");
    let config = save(place, "nginx.conf", &text)?;
    let mut command = Command::new("nginx");
    command.arg("-p").arg(&place.files).args(["-e", "stderr", "-c"]).arg(config);
    command.stdout(Stdio::null());
    serving(Guarded::start("nginx", &mut command)?, listeners)
}

/// One worker: the others have one thread too.
fn envoy(place: &Place, backends: &[SocketAddr]) -> Result<Relay, String> {
    let listeners = addresses(backends.len())?;
    let names = (0..backends.len()).map(|at| format!("l{at}"));
    let parts = names.zip(&listeners).zip(backends);
    let (served, clusters): (Vec<_>, Vec<_>) = parts
        .map(|((name, listen), backend)| {
            (envoy_listener(&name, *listen), envoy_cluster(&name, *backend))
        })
        .unzip();
    let text = json!({ "static_resources": { "listeners": served, "clusters": clusters } });
    let config = save(place, "envoy.json", &text.to_string())?;
    let mut command = Command::new("envoy");
    command.args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "error", "-c"]);
    command.arg(config).stdout(Stdio::null());
    serving(Guarded::start("envoy", &mut command)?, listeners)
}

fn envoy_listener(name: &str, listen: SocketAddr) -> Value {
    let kind = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";
    let relay = json!({ "@type": kind, "stat_prefix": name, "cluster": name });
    let filter = json!({ "name": "envoy.filters.network.tcp_proxy", "typed_config": relay });
    let chains = json!([{ "filters": [filter] }]);
    json!({ "name": name, "address": envoy_address(listen), "filter_chains": chains })
}

fn envoy_cluster(name: &str, backend: SocketAddr) -> Value {
    let endpoint = json!({ "endpoint": { "address": envoy_address(backend) } });
    json!({
        "name": name,
        "connect_timeout": "5s",
        // It takes no more than 1,024 connections otherwise.
        "circuit_breakers": {
            "thresholds": [{ "max_connections": 20_000, "max_pending_requests": 20_000 }],
        },
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{ "lb_endpoints": [endpoint] }],
        },
    })
}

fn envoy_address(address: SocketAddr) -> Value {
    json!({ "socket_address": { "address": address.ip(), "port_value": address.port() } })
}

fn addresses(count: usize) -> Result<Vec<SocketAddr>, String> {
    (0..count).map(|_| free_address(SocketAddr::from(([127, 0, 0, 1], 0)))).collect()
}

fn save(place: &Place, name: &str, text: &str) -> Result<PathBuf, String> {
    let path = place.files.join(name);
    let saved = fs::write(&path, text);
    saved.map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    Ok(path)
}

/// Waits until a relay that says nothing takes connections.
fn serving(process: Guarded, listeners: Vec<SocketAddr>) -> Result<Relay, String> {
    let deadline = Instant::now() + Duration::from_secs(5);
    for listener in &listeners {
        while TcpStream::connect(listener).is_err() {
            if Instant::now() > deadline {
                return Err(format!("nothing listens on {listener} (see its own words above)"));
            }
            thread::park_timeout(Duration::from_millis(5));
        }
    }
    Ok(Relay { process, listeners, admin: None, _watcher: None })
}
