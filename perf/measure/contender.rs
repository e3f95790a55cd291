//! Starts contenders and the backends behind them.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::{Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError, Sender},
    thread,
    time::{Duration, Instant},
};

use ringway::{
    child::{Guarded, free_address},
    demo::stats,
};

use crate::{
    launch,
    settings::{self, Route, Settings},
};

/// Until a relay that says nothing takes connections.
const SERVING_MAX: Duration = Duration::from_secs(10);

/// Where programs, files and processes are.
pub struct Place {
    /// The directory of `ringway`; its `examples` has `floor`.
    pub programs: PathBuf,
    /// A private directory for configurations.
    pub files: PathBuf,
    /// Where proxies run; `None`: anywhere.
    pub proxy_cpu: Option<usize>,
}

/// A running relay.
pub struct Relay {
    pub process: Guarded,
    /// Where it listens, in the order of the pools it was given.
    pub listeners: Vec<SocketAddr>,
    /// Whoever looks at it all the time.
    _watcher: Option<Watcher>,
}

/// A running test server.
pub struct Backend {
    pub addresses: Vec<SocketAddr>,
    _process: Guarded,
}

impl Backend {
    /// A server with so many addresses; `mode` as on its command line.
    pub fn start(place: &Place, mode: &str, addresses: u32) -> Result<Backend, String> {
        let mut command = launch::command(place.programs.join("ringway"), None)?;
        command.args(["backend", "--mode", mode]);
        for _ in 0..addresses {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        let (process, ready) = Guarded::start_ready("ringway backend", &mut command)?;
        Ok(Backend { addresses: ready.addresses("backend")?.to_vec(), _process: process })
    }
}

/// Starts the contender `name` with one listener for each pool of backends.
pub fn start(place: &Place, name: &str, pools: &[&[SocketAddr]]) -> Result<Relay, String> {
    let speaks = ["ringway", "floor"].iter().any(|word| name.starts_with(word));
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let routes = pools.iter().map(|pool| {
        // Who says where it listens may choose; the others get a port that nobody has.
        let listen = if speaks { any } else { free_address(any)? };
        Ok::<Route, String>((listen, pool.to_vec()))
    });
    let routes = routes.collect::<Result<Vec<_>, _>>()?;
    let settings = settings::of(name, &routes)?;
    match settings.program {
        "floor" => floor(place, settings),
        "ringway" => ringway(place, settings, name.ends_with("-watched")),
        _ => silent(place, settings, routes.iter().map(|route| route.0).collect()),
    }
}

fn floor(place: &Place, settings: Settings) -> Result<Relay, String> {
    let mut command = command(place, settings)?;
    let (process, ready) = Guarded::start_ready("floor", &mut command)?;
    let listeners = vec![ready.address("relay")?];
    Ok(Relay { process, listeners, _watcher: None })
}

/// Watched: with everything on that looks, a scraper and somebody with the page open.
fn ringway(place: &Place, settings: Settings, watched: bool) -> Result<Relay, String> {
    let mut command = command(place, settings)?;
    let (process, ready) = Guarded::start_ready("ringway", &mut command)?;
    let listeners = (0..).map_while(|at| ready.address(&format!("l{at}")).ok()).collect();
    let watcher = match watched {
        true => Some(Watcher::start(ready.address("admin")?)),
        false => None,
    };
    Ok(Relay { process, listeners, _watcher: watcher })
}

/// A relay that says nothing serves when it takes connections.
fn silent(place: &Place, settings: Settings, listeners: Vec<SocketAddr>) -> Result<Relay, String> {
    let name = settings.program;
    let mut command = command(place, settings)?;
    command.stdout(Stdio::null());
    let mut process = Guarded::start(name, &mut command)?;
    let deadline = Instant::now() + SERVING_MAX;
    for listener in &listeners {
        while TcpStream::connect(listener).is_err() {
            if let Some(status) = process.ended() {
                return Err(format!("it ended with {status} (its own words are above)"));
            }
            if Instant::now() > deadline {
                return Err(format!("nothing listens on {listener} (its own words are above)"));
            }
            thread::park_timeout(Duration::from_millis(5));
        }
    }
    // Somebody else may have taken the port meanwhile: then it could not.
    match process.ended() {
        Some(status) => Err(format!("it ended with {status} (its own words are above)")),
        None => Ok(Relay { process, listeners, _watcher: None }),
    }
}

fn command(place: &Place, settings: Settings) -> Result<Command, String> {
    if let Some((file, text)) = settings.file {
        let path = place.files.join(file);
        let saved = fs::write(&path, text);
        saved.map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    let program = match settings.program {
        "floor" => place.programs.join("examples/floor"),
        "ringway" => place.programs.join("ringway"),
        other => PathBuf::from(other),
    };
    let mut command = launch::command(program, place.proxy_cpu)?;
    command.args(settings.args).current_dir(&place.files);
    Ok(command)
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
