//! One active check: asks a backend once and says what was wrong.
//!
//! This room refuses to know what follows from an answer.

use std::{error::Error, io, net::SocketAddr, pin::pin, time::Duration};

use hyper::{Request, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::{Instant, error::Elapsed, timeout_at},
};

use crate::{
    config::{HealthCheck, HttpProbe, Probe, SendProxy, TcpProbe},
    errno::cause,
    health::CheckFailure,
    proxy_header::Header,
    sock,
};

/// Bytes of the head of an answer; the body is never read.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// How long a server may take to end a check that is over: until then our end of it stays.
const FINISH_MAX: Duration = Duration::from_millis(100);

/// Bytes of a bad answer that are told.
const SHOWN_BYTES_MAX: usize = 40;

/// Bytes that are read of a server that talks on when it was asked to end.
const REST_BYTES_MAX: u64 = 64 << 10;

/// Who asks.
const USER_AGENT: &str = concat!("ringway/", env!("CARGO_PKG_VERSION"), " health check");

/// Why a check came to nothing.
pub enum Failed {
    /// It says something about the backend.
    Backend(CheckFailure),
    /// This host ran short of something of its own: nothing is known of the backend.
    Shortage(String),
}

/// Where a backend at `address` is asked.
pub fn place(address: SocketAddr, check: &HealthCheck) -> SocketAddr {
    let mut place = address;
    // What else an IPv6 address says, its scope, stays.
    place.set_port(check.port.unwrap_or(address.port()));
    place
}

/// Asks once at `address`, within the timeout of `check`; `send_proxy` is the pool's.
///
/// # Errors
/// What was wrong, for the log: the kernel's reason, no answer in time, or a bad answer.
pub async fn probe(
    address: SocketAddr,
    check: &HealthCheck,
    send_proxy: SendProxy,
) -> Result<(), Failed> {
    let (limit, until) = (check.timeout, Instant::now() + check.timeout);
    let connected = timeout_at(until, connect(address)).await;
    let stream =
        in_time(connected, limit).map_err(|error| match sock::dial_is_short(&error, address) {
            true => Failed::Shortage(cause(&error)),
            false => Failed::Backend(CheckFailure::Connect(cause(&error))),
        })?;
    let asked = async {
        match &check.probe {
            Probe::Tcp(tcp) => talk(stream, tcp, send_proxy).await,
            Probe::Http(http) => ask(stream, address, http, send_proxy).await,
        }
    };
    let answered = in_time(timeout_at(until, asked).await, limit);
    answered.map_err(|e| failed(&e, CheckFailure::AfterConnect))
}

fn in_time<T>(came: Result<io::Result<T>, Elapsed>, limit: Duration) -> io::Result<T> {
    came.unwrap_or_else(|_| {
        Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer in {limit:?}")))
    })
}

fn failed(error: &io::Error, kind: fn(String) -> CheckFailure) -> Failed {
    match sock::is_shortage(error) {
        true => Failed::Shortage(cause(error)),
        false => Failed::Backend(kind(cause(error))),
    }
}

/// A connection that is closed with a reset: a FIN would leave a socket in TIME_WAIT for each
/// check.
async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_zero_linger()?;
    let stream = socket.connect(address).await?;
    // Nobody listens there, and we have met ourselves.
    if sock::is_its_own_peer(&stream, address) {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    Ok(stream)
}

/// Says something, waits for what is expected, and ends in order where anything was to be said: a
/// server that answers would take a reset for a failure of its own.
async fn talk(mut stream: TcpStream, tcp: &TcpProbe, send_proxy: SendProxy) -> io::Result<()> {
    if tcp.send.0.is_empty() && tcp.expect.0.is_empty() {
        return Ok(());
    }
    if let Some(header) = Header::of_ourselves(send_proxy) {
        stream.write_all(header.bytes()).await?;
    }
    stream.write_all(&tcp.send.0).await?;
    let heard = hear(&mut stream, &tcp.expect.0).await?;
    SockRef::from(&stream).set_linger(None)?;
    stream.shutdown().await?;
    // The verdict does not wait for it.
    tokio::spawn(finish(stream));
    heard
}

/// Reads what is still to come, or the kernel would reset the connection after all.
async fn finish(stream: TcpStream) {
    let (mut rest, mut nowhere) = (stream.take(REST_BYTES_MAX), tokio::io::sink());
    let _ = tokio::time::timeout(FINISH_MAX, tokio::io::copy(&mut rest, &mut nowhere)).await;
}

/// Whether the server says something that begins so; the outer error ends the check at once.
async fn hear(stream: &mut TcpStream, expected: &[u8]) -> io::Result<io::Result<()>> {
    let mut heard = vec![0; expected.len()];
    let mut count = 0;
    while count < expected.len() {
        let more = stream.read(&mut heard[count..]).await?;
        count += more;
        if more == 0 || heard[..count] != expected[..count] {
            return Ok(Err(unexpected(&heard[..count], expected)));
        }
    }
    Ok(Ok(()))
}

fn unexpected(heard: &[u8], expected: &[u8]) -> io::Error {
    let shown = |bytes: &[u8]| bytes[..bytes.len().min(SHOWN_BYTES_MAX)].escape_ascii().to_string();
    let heard = match heard {
        [] => "closed without a word".to_owned(),
        heard => format!("answered \"{}\"", shown(heard)),
    };
    io::Error::other(format!("{heard}, expected \"{}\"", shown(expected)))
}

/// Asks for a page and looks at the status of the answer.
async fn ask(
    mut stream: TcpStream,
    address: SocketAddr,
    http: &HttpProbe,
    send_proxy: SendProxy,
) -> io::Result<()> {
    // A backend that expects the header would refuse a request without one.
    if let Some(header) = Header::of_ourselves(send_proxy) {
        stream.write_all(header.bytes()).await?;
    }
    let host = http.host.clone().unwrap_or_else(|| address.to_string());
    let request = Request::get(&http.path)
        .header(header::HOST, host)
        .header(header::USER_AGENT, USER_AGENT)
        .header(header::CONNECTION, "close")
        .body(String::new())
        .map_err(io::Error::other)?;
    let mut builder = http1::Builder::new();
    builder.max_buf_size(HEAD_BYTES_MAX);
    let (mut sender, connection) =
        builder.handshake(TokioIo::new(stream)).await.map_err(no_answer)?;
    let mut answer = pin!(sender.send_request(request));
    // The connection does the work. It may be over with the answer delivered, or with its reason.
    let answer = tokio::select! {
        answer = &mut answer => answer,
        _ = connection => answer.await,
    };
    let status = answer.map_err(no_answer)?.status().as_u16();
    match http.expect.contain(status) {
        true => Ok(()),
        false => Err(io::Error::other(format!("status {status}, expected {}", http.expect))),
    }
}

/// The kernel's reason where there is one, else what was wrong with the answer.
fn no_answer(error: hyper::Error) -> io::Error {
    let io_error = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    match io_error.and_then(io::Error::raw_os_error) {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::other(format!("no answer of HTTP: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        net::{TcpListener, TcpStream},
        thread,
    };

    use super::*;

    fn outcome(address: SocketAddr, probe_for: Probe) -> Result<(), Failed> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let timeout = Duration::from_millis(200);
        let check = HealthCheck { probe: probe_for, timeout, ..HealthCheck::default() };
        runtime.block_on(probe(address, &check, SendProxy::Off))
    }

    /// A server whose one client is answered by `answer`.
    fn server(answer: impl FnOnce(&mut TcpStream) + Send + 'static) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let mut client = listener.accept().unwrap().0;
            answer(&mut client);
            // Until it is gone.
            let _ = io::copy(&mut client, &mut io::sink());
        });
        address
    }

    /// 1. Nobody listens. 2. A server answers with a bad status. 3. One says nothing. 4. One is
    ///    well.
    #[test]
    fn a_failure_says_whether_a_connection_stood() {
        let http = || Probe::Http(HttpProbe::default());
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let refused = outcome(closed, http());
        assert!(matches!(refused, Err(Failed::Backend(CheckFailure::Connect(_)))));
        let bad = server(|c| c.write_all(b"HTTP/1.1 500 No\r\n\r\n").unwrap());
        let silent = server(|_| {});
        for address in [bad, silent] {
            let failed = outcome(address, http());
            assert!(matches!(failed, Err(Failed::Backend(CheckFailure::AfterConnect(_)))));
        }
        let well = server(|c| c.write_all(b"HTTP/1.1 200 Yes\r\n\r\n").unwrap());
        assert!(outcome(well, http()).is_ok());
    }
}
