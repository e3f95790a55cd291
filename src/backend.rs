//! `ringway backend`: a test server that echoes, sends without end, swallows, or answers HTTP.
//!
//! This room refuses to know the proxy; it is the far end that tests, benchmarks and the demo dial.

mod http;

use std::{
    io::{self, ErrorKind, Write as _},
    net::SocketAddr,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use clap::ValueEnum;
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpSocket, TcpStream},
    signal::unix::{SignalKind, signal},
};

use crate::{args, errno};

/// Connections the kernel holds for us between two accepts.
const BACKLOG: u32 = 4096;
/// Bytes read at once, into a buffer shared by all connections of a thread.
const SCRATCH_BYTES: usize = 64 << 10;
/// Byte `i` of a source is `i % PATTERN_PERIOD`; a prime, so that no power of two hides a shift.
pub const PATTERN_PERIOD: usize = 251;
/// Bytes a source offers the kernel at once: whole periods, about 256 KiB.
const PATTERN_BYTES: usize = PATTERN_PERIOD * 1044;
/// How long accept pauses when the process is out of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// Arguments of `ringway backend`.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  ringway backend --listen 127.0.0.1:9001 --mode echo
  ringway backend --listen 127.0.0.1:0 --mode source --size 1GiB
  ringway backend --listen [::1]:9003 --mode echo --delay 5ms
  ringway backend --listen 127.0.0.1:9004 --mode http --size 10KiB

http keeps connections open; any path answers 200, /status/503 answers 503.

Once listening it prints one line on stdout: ready backend=127.0.0.1:9001; several addresses are
separated by commas.")]
pub struct Args {
    /// Address to listen on; port 0 takes a free one; may be given several times
    #[arg(long, value_name = "ADDRESS", required = true)]
    listen: Vec<SocketAddr>,
    /// What to do with each connection
    #[arg(long)]
    mode: Mode,
    /// Wait this long before the first byte of each connection is answered; http: before each
    /// answer
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = args::duration)]
    delay: Duration,
    /// source: bytes sent on each connection before the end of stream [default: without end];
    /// http: bytes of each body, held in memory [default: a short text]
    #[arg(long, value_name = "SIZE", value_parser = args::size)]
    size: Option<u64>,
}

/// What the server does with a connection.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Send back what comes; end when the peer ends
    Echo,
    /// Send a pattern, then end
    Source,
    /// Read and discard; close when the peer ends
    Sink,
    /// Answer requests of HTTP/1.1
    Http,
}

/// Serves until SIGTERM or SIGINT, which end it with exit code 0.
pub fn run(args: Args) -> ExitCode {
    if args.size.is_some() && !matches!(args.mode, Mode::Source | Mode::Http) {
        let way_out = "write --mode source or --mode http, or leave --size out";
        eprintln!("--size: only a source and an HTTP server have a size ({way_out})");
        return ExitCode::from(2);
    }
    crate::bench::raise_nofile();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let served = runtime
        .map_err(|error| format!("cannot start threads: {}", errno::cause(&error)))
        .and_then(|runtime| runtime.block_on(serve(args)));
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(args: Args) -> Result<(), String> {
    let unheard = |error: io::Error| format!("cannot listen for signals: {}", errno::cause(&error));
    let mut terminate = signal(SignalKind::terminate()).map_err(unheard)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(unheard)?;
    let listening = args.listen.iter().map(|address| {
        listen(*address).map_err(|error| {
            let cause = errno::cause(&error);
            format!("cannot listen on {address}: {cause} (choose another address, or port 0)")
        })
    });
    let listening = listening.collect::<Result<Vec<_>, _>>()?;
    let bound: Vec<String> = listening.iter().map(|(_, bound)| bound.to_string()).collect();
    // A reader that is gone is no reason to stop: whoever asked for port 9001 knows the address.
    let _ = writeln!(io::stdout(), "ready backend={}", bound.join(","));
    let args = Arc::new(args);
    for (listener, _) in listening {
        tokio::spawn(accept(listener, Arc::clone(&args)));
    }
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

fn listen(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?; // a restart on the same port meets old connections in TIME_WAIT
    socket.bind(address)?;
    let listener = socket.listen(BACKLOG)?;
    let bound = listener.local_addr()?;
    Ok((listener, bound))
}

async fn accept(listener: TcpListener, args: Arc<Args>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let args = Arc::clone(&args);
                // A connection that fails has failed at its peer, who sees it; nothing to say here.
                tokio::spawn(async move { converse(stream, &args).await });
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn converse(stream: TcpStream, args: &Args) -> io::Result<()> {
    stream.set_nodelay(true)?;
    match args.mode {
        Mode::Echo => echo(stream, args.delay).await,
        Mode::Source => source(stream, args.delay, args.size).await,
        Mode::Sink => sink(stream, args.delay).await,
        Mode::Http => http::serve(stream, args.delay, args.size).await,
    }
}

async fn echo(mut stream: TcpStream, delay: Duration) -> io::Result<()> {
    let mut pause = (!delay.is_zero()).then_some(delay);
    while let Some(rest) = echo_ready(&stream, pause.is_none()).await? {
        if let Some(pause) = pause.take() {
            tokio::time::sleep(pause).await;
        }
        stream.write_all(&rest).await?;
    }
    stream.shutdown().await
}

/// Echoes what is there through the thread's scratch buffer, so that an idle connection holds no
/// buffer of its own. Gives what could not (or, with `now` false, must not yet) be sent; `None` at
/// the end of the stream.
async fn echo_ready(stream: &TcpStream, now: bool) -> io::Result<Option<Vec<u8>>> {
    loop {
        stream.readable().await?;
        let moved: io::Result<Option<Vec<u8>>> = with_scratch(|scratch| {
            let read = stream.try_read(scratch)?;
            let sent = if now && read > 0 { try_write(stream, &scratch[..read])? } else { 0 };
            Ok((read > 0).then(|| scratch[sent..read].to_vec()))
        });
        match moved {
            Ok(Some(rest)) if rest.is_empty() => {}
            Ok(rest) => return Ok(rest),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

fn try_write(stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    match stream.try_write(bytes) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
        done => done,
    }
}

async fn source(mut stream: TcpStream, delay: Duration, size: Option<u64>) -> io::Result<()> {
    let pattern: Arc<[u8]> = pattern();
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    let mut left = size.unwrap_or(u64::MAX);
    while left > 0 {
        let chunk = left.min(PATTERN_BYTES as u64) as usize;
        stream.write_all(&pattern[..chunk]).await?;
        left -= if size.is_some() { chunk as u64 } else { 0 };
    }
    stream.shutdown().await?;
    // Closing with unread bytes would turn our end of stream into a reset.
    discard(&mut stream).await
}

async fn sink(mut stream: TcpStream, delay: Duration) -> io::Result<()> {
    discard(&mut stream).await?;
    tokio::time::sleep(delay).await;
    stream.shutdown().await
}

async fn discard(stream: &mut TcpStream) -> io::Result<()> {
    loop {
        stream.readable().await?;
        match with_scratch(|scratch| stream.try_read(scratch)) {
            Ok(0) => return Ok(()),
            Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error),
            _ => {}
        }
    }
}

fn with_scratch<T>(work: impl FnOnce(&mut [u8]) -> T) -> T {
    use std::cell::RefCell;
    thread_local! {
        static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; SCRATCH_BYTES]);
    }
    SCRATCH.with_borrow_mut(|scratch| work(scratch))
}

fn pattern() -> Arc<[u8]> {
    static PATTERN: std::sync::OnceLock<Arc<[u8]>> = std::sync::OnceLock::new();
    let fill = || (0..PATTERN_BYTES).map(|at| (at % PATTERN_PERIOD) as u8).collect();
    Arc::clone(PATTERN.get_or_init(fill))
}

const _: () = assert!(PATTERN_PERIOD <= 256 && PATTERN_BYTES.is_multiple_of(PATTERN_PERIOD));
