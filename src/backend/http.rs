//! The HTTP mode: every path answers 200, `/status/NNN` answers that status.

use std::{convert::Infallible, io, sync::OnceLock, time::Duration};

use axum::body::Body;
use hyper::{Request, Response, StatusCode, body::Bytes, header, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;

/// The body, repeated or cut where it has a size.
const TEXT: &[u8] = b"a ringway backend\n";

/// Serves one connection until its client leaves, waiting before each answer.
pub async fn serve(stream: TcpStream, delay: Duration, size: Option<u64>) -> io::Result<()> {
    let answer = service_fn(|request: Request<_>| async move {
        tokio::time::sleep(delay).await;
        Ok::<_, Infallible>(answer(&request, size))
    });
    hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        // A client that has sent its last request still gets its answer.
        .half_close(true)
        .serve_connection(TokioIo::new(stream), answer)
        .await
        .map_err(io::Error::other)
}

fn answer(request: &Request<hyper::body::Incoming>, size: Option<u64>) -> Response<Body> {
    let (status, body) = match request.uri().path().strip_prefix("/status/") {
        None => (StatusCode::OK, body(size)),
        Some(written) => match status(written) {
            Some(status) => (status, body(size)),
            None => (
                StatusCode::BAD_REQUEST,
                format!("{written}: not a status (write /status/200 to /status/599)\n").into(),
            ),
        },
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let text = header::HeaderValue::from_static("text/plain");
    response.headers_mut().insert(header::CONTENT_TYPE, text);
    response
}

/// A status that may end an answer; those below 200 announce one.
fn status(written: &str) -> Option<StatusCode> {
    let code = written.parse().ok().filter(|code| (200..=599).contains(code))?;
    StatusCode::from_u16(code).ok()
}

/// Made once, and shared by all connections; `size` is the same for all of them.
fn body(size: Option<u64>) -> Bytes {
    static BODY: OnceLock<Bytes> = OnceLock::new();
    let size = size.map_or(TEXT.len(), |size| size as usize);
    BODY.get_or_init(|| TEXT.iter().copied().cycle().take(size).collect()).clone()
}
