//! Who takes part, and how one of them is started.

use std::{
    io::{self, Write as _},
    net::{SocketAddr, TcpListener},
    os::fd::AsFd,
    path::Path,
    process::Command,
};

use ringway::child::Guarded;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use crate::{
    on_monoio, on_tokio, on_tokio_uring, ring,
    ring::{Knobs, Send},
};

/// Bytes of each buffer of the runtimes that read into buffers of their own.
pub const BUFFER_BYTES: usize = 16 << 10;
/// As much as the floor's.
const BACKLOG: i32 = 4096;

/// Serves for ever, or says why it cannot.
type Serve = fn(TcpListener, SocketAddr) -> io::Result<()>;

/// What a name stands for.
#[derive(Clone, Copy)]
enum Engine {
    /// The bare epoll loop of `perf/floor.rs`, in this mode.
    Floor(&'static str),
    Runtime(Serve),
    Ring(Knobs),
    /// The product itself, with one shard and this driver.
    Product(&'static str),
}

const RING: Knobs =
    Knobs { send: Send::Skipped, deferred: true, fixed_files: false, ring_fd: false };

/// All of them, with what they are good for: messages, bulk.
const ENGINES: &[(&str, Engine, bool, bool)] = &[
    ("floor-copy", Engine::Floor("copy"), true, true),
    ("floor-splice", Engine::Floor("splice"), false, true),
    ("tokio", Engine::Runtime(on_tokio::serve), true, true),
    ("tokio-uring", Engine::Runtime(on_tokio_uring::serve), true, true),
    ("monoio-operations", Engine::Runtime(on_monoio::serve_operations), true, true),
    ("monoio-readiness", Engine::Runtime(on_monoio::serve_readiness), true, true),
    ("monoio-splice", Engine::Runtime(on_monoio::serve_splice), false, true),
    ("ringway-io_uring", Engine::Product("io_uring"), true, true),
    ("ringway-epoll", Engine::Product("epoll"), true, true),
    ("ring", Engine::Ring(RING), true, true),
    ("ring-completions", Engine::Ring(Knobs { send: Send::Completed, ..RING }), true, true),
    ("ring-direct", Engine::Ring(Knobs { send: Send::Direct, ..RING }), true, true),
    ("ring-coop", Engine::Ring(Knobs { deferred: false, ..RING }), true, false),
    ("ring-files", Engine::Ring(Knobs { fixed_files: true, ..RING }), true, false),
    ("ring-fd", Engine::Ring(Knobs { ring_fd: true, ..RING }), true, false),
    (
        "ring-files-fd",
        Engine::Ring(Knobs { fixed_files: true, ring_fd: true, ..RING }),
        true,
        false,
    ),
];

/// Arguments of one relay.
#[derive(clap::Args)]
pub struct Args {
    #[arg(long)]
    engine: String,
    #[arg(long)]
    backend: SocketAddr,
}

/// The names of those that can carry messages, or bulk.
pub fn names(bulk: bool) -> impl Iterator<Item = &'static str> {
    let fit = move |messages: bool, streams: bool| if bulk { streams } else { messages };
    ENGINES.iter().filter(move |engine| fit(engine.2, engine.3)).map(|engine| engine.0)
}

/// Refuses names that nobody has.
pub fn check(names: &[String]) -> Result<(), String> {
    names.iter().try_for_each(|name| find(name).map(drop))
}

fn find(name: &str) -> Result<Engine, String> {
    let found = ENGINES.iter().find(|engine| engine.0 == name);
    found.map(|engine| engine.1).ok_or_else(|| {
        let known: Vec<_> = ENGINES.iter().map(|engine| engine.0).collect();
        format!("{name}: no such contender (there are {})", known.join(", "))
    })
}

/// Starts a contender as a process of its own.
pub fn start(name: &str, backend: SocketAddr) -> Result<(Guarded, SocketAddr), String> {
    let mut command = match find(name)? {
        Engine::Floor(mode) => {
            let mut command = Command::new(env!("CARGO_BIN_EXE_floor"));
            command.args(["--listen", "127.0.0.1:0", "--mode", mode]);
            command
        }
        Engine::Runtime(_) | Engine::Ring(_) | Engine::Product(_) => {
            let program = std::env::current_exe().map_err(|error| error.to_string())?;
            let mut command = Command::new(program);
            command.args(["relay", "--engine", name]);
            command
        }
    };
    command.args(["--backend", &backend.to_string()]);
    let (process, ready) = Guarded::start_ready(name, &mut command)?;
    Ok((process, ready.address("relay")?))
}

/// Serves as one contender.
pub fn run(args: &Args) -> Result<(), String> {
    let engine = find(&args.engine)?;
    if let Engine::Product(driver) = engine {
        return product(driver, args.backend);
    }
    let served = listen().and_then(|listener| match engine {
        Engine::Floor(_) | Engine::Product(_) => Err(io::Error::other("it is no relay of ours")),
        Engine::Runtime(serve) => serve(listener, args.backend),
        Engine::Ring(knobs) => ring::serve(listener, args.backend, knobs),
    });
    served.map_err(|error| format!("{} cannot relay: {error}", args.engine))
}

/// Serves as the product does, with everything that it counts and watches.
fn product(driver: &str, backend: SocketAddr) -> Result<(), String> {
    let text = format!(
        "[runtime]\ndriver = \"{driver}\"\nshards = 1\npin_cpus = false\n\
         [admin]\nlisten = \"127.0.0.1:0\"\n[log]\nreport = \"0s\"\n\
         [[listener]]\nname = \"relay\"\nlisten = [\"127.0.0.1:0\"]\npool = \"only\"\n\
         [[pool]]\nname = \"only\"\n[pool.health_check]\nkind = \"none\"\n\
         [[pool.backend]]\naddress = \"{backend}\"\n"
    );
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let file = folder.join(format!("{driver}-{}.toml", backend.port()));
    std::fs::write(&file, text).map_err(|error| format!("{}: {error}", file.display()))?;
    ringway::run::run(&file);
    Err(format!("ringway-{driver} could not serve"))
}

fn listen() -> io::Result<TcpListener> {
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    rustix::net::bind(&socket, &SocketAddr::from(([127, 0, 0, 1], 0)))?;
    rustix::net::listen(&socket, BACKLOG)?;
    let listener = TcpListener::from(socket);
    writeln!(io::stdout(), "ready relay={}", listener.local_addr()?)?;
    Ok(listener)
}

/// TCP_NODELAY on both sides.
pub fn no_delay(client: impl AsFd, server: impl AsFd) -> io::Result<()> {
    sockopt::set_tcp_nodelay(client, true)?;
    Ok(sockopt::set_tcp_nodelay(server, true)?)
}
