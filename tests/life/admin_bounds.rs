//! Clients of the admin endpoint that do not read their answers.

use std::{
    fmt::Write as _,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
};

use socket2::{Domain, Socket, Type};

use crate::kit::{Config, DEADLINE, Proxy, Server, each_driver, wait_until};

/// Asks for a page, with little room for the answer.
fn ask_for_metrics(admin: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    // Before the connection: it decides how much the other side may send unread.
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&admin.into()).unwrap();
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: {admin}\r\n\r\n").unwrap();
    stream
}

fn status(stream: &mut TcpStream) -> String {
    let mut line = [0; "HTTP/1.1 200".len()];
    stream.read_exact(&mut line).unwrap();
    String::from_utf8_lossy(&line).into_owned()
}

/// 1. The pages have more than a megabyte; 64 clients ask for one and read nothing. 2. `/health`
///    and `/ready` answer; who asks for more is told that all places are taken. 3. Eight of the
///    clients were answered, so eight pages are in memory; the others are told that they were too
///    many. 4. The eight take nothing: they are reset, and whoever asks then gets the page.
#[test]
fn who_does_not_read_a_page_silences_no_probe_and_is_cut() {
    each_driver(|driver| {
        let server = Server::echo();
        let mut text = Config::new(driver).text();
        for i in 0..250 {
            let address = server.address;
            let _ = writeln!(text, "[[pool.backend]]\nname = \"b{i}\"\naddress = \"{address}\"");
        }
        let proxy = Proxy::start(&text);
        let whole = proxy.get("/metrics").bytes.len();
        assert!(whole > 1_000_000, "{whole} bytes");
        let mut readers: Vec<_> = (0..64).map(|_| ask_for_metrics(proxy.admin)).collect();
        for path in ["/health", "/ready"] {
            let answer = proxy.get(path);
            assert_eq!(answer.status, 200, "{path}: {}", answer.body);
            assert_eq!(answer.header("connection"), Some("close"));
        }
        let refused = proxy.get("/stats");
        assert_eq!(refused.status, 503, "{} bytes", refused.bytes.len());
        let sentence = "GET /stats: all 64 connections to this endpoint are taken";
        assert!(refused.body.starts_with(sentence), "{}", refused.body);
        assert!(refused.body.contains("/health and /ready"), "{}", refused.body);

        let statuses: Vec<_> = readers.iter_mut().map(status).collect();
        let count = |status| statuses.iter().filter(|seen| *seen == status).count();
        assert_eq!((count("HTTP/1.1 200"), count("HTTP/1.1 503")), (8, 56), "{statuses:?}");
        let mut given = statuses.iter().map(|status| status == "HTTP/1.1 200");
        readers.retain(|_| given.next().unwrap());
        wait_until("all eight reset", || {
            readers.retain(|reader| reader.take_error().unwrap().is_none());
            readers.is_empty()
        });
        let answer = proxy.get("/metrics");
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert!(answer.bytes.len() > 1_000_000, "{} bytes", answer.bytes.len());
    });
}
