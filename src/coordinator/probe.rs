//! One active check: asks a backend once and says what was wrong.
//!
//! This room refuses to know what follows from an answer.

use std::{error::Error, io, net::SocketAddr, pin::pin};

use hyper::{Request, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use tokio::{
    io::AsyncWriteExt,
    net::{TcpSocket, TcpStream},
};

use crate::{
    config::{HealthCheck, HttpProbe, Probe, SendProxy},
    proxy_header::Header,
};

/// Bytes of the head of an answer; the body is never read.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// Who asks.
const USER_AGENT: &str = concat!("ringway/", env!("CARGO_PKG_VERSION"), " health check");

/// Asks the backend at `address` once, within the timeout of `check`; `send_proxy` is its pool's.
///
/// # Errors
/// What was wrong, for the log: the kernel's reason, no answer in time, or a bad answer.
pub async fn probe(
    address: SocketAddr,
    check: &HealthCheck,
    send_proxy: SendProxy,
) -> io::Result<()> {
    let limit = check.timeout;
    let asking = async {
        let stream = connect(address).await?;
        match &check.probe {
            Probe::Tcp => Ok(()),
            Probe::Http(http) => ask(stream, address, http, send_proxy).await,
        }
    };
    tokio::time::timeout(limit, asking).await.unwrap_or_else(|_| {
        Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer in {limit:?}")))
    })
}

/// A connection that is closed with a reset: a FIN would leave a socket in TIME_WAIT for each
/// check.
async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_zero_linger()?;
    socket.connect(address).await
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
