//! Who may ask the admin endpoint: with a token, without one, from here and from elsewhere.

use std::{
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    os::unix::fs::PermissionsExt,
};

use crate::kit::{Config, DEADLINE, Folder, Proxy, Server, each_driver, http, wait_until};

pub const TOKEN: &str = "only-for-this-test-0123";

/// A proxy whose admin endpoint has a token; `listen` is where.
pub fn with_token(driver: &'static str, listen: &str, mode: u32) -> (Proxy, Server, Folder) {
    let folder = Folder::new();
    let file = folder.path().join("admin.token");
    fs::write(&file, format!("{TOKEN}\n")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
    let server = Server::echo();
    let lines = format!("listen = \"{listen}\"\ntoken_file = {file:?}");
    let proxy = Config::new(driver).admin(&lines).backend(server.address).start();
    (proxy, server, folder)
}

fn shown(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

/// 1. Somebody on this host reads without a token, and cannot change anything: 401, with the scheme
///    and the way out. 2. Nor with a wrong one. 3. With the right one the request gets as far as
///    the page, which knows no such method: 405. 4. A web page of another site gets nowhere.
#[test]
fn a_change_needs_the_token() {
    each_driver(|driver| {
        let (proxy, _server, _folder) = with_token(driver, "127.0.0.1:0", 0o600);
        let host = format!("Host: {}\r\n", proxy.admin);
        let ask = |method: &str, more: &str| {
            http::ask(proxy.admin, method, "/stats", &format!("{host}{more}"))
        };
        assert_eq!(ask("GET", "").status, 200);
        for (method, more) in [
            ("POST", String::new()),
            ("PATCH", shown("only-for-this-test-0124")),
            ("DELETE", shown("")),
            ("PUT", "Authorization: Basic b25seTo=\r\n".into()),
        ] {
            let refused = ask(method, &more);
            assert_eq!(refused.status, 401, "{method} {more}");
            assert_eq!(refused.header("www-authenticate"), Some("Bearer"));
            assert!(refused.body.contains("admin.token_file"), "{}", refused.body);
        }
        let taken = ask("POST", &shown(TOKEN));
        assert_eq!(taken.status, 405);
        assert!(taken.body.starts_with("POST /stats: "), "{}", taken.body);
        assert!(taken.header("allow").unwrap().contains("GET"));
        let foreign = format!("{}Origin: http://evil.example\r\n", shown(TOKEN));
        assert_eq!(ask("POST", &foreign).status, 403);
        let named = format!("Host: ringway.internal\r\n{}", shown(TOKEN));
        assert_eq!(http::get_with(proxy.admin, "/stats", &named).status, 200);
        let unnamed = http::get_with(proxy.admin, "/stats", "Host: ringway.internal\r\n");
        assert_eq!(unnamed.status, 403);
    });
}

/// 1. There is no token. 2. A change from this host gets as far as the page; from a page of another
///    site, or under another name, it is 403.
#[test]
fn without_a_token_this_host_may_change() {
    each_driver(|driver| {
        let server = Server::echo();
        let proxy = Config::new(driver).backend(server.address).start();
        let host = format!("Host: {}\r\n", proxy.admin);
        let post = |headers: &str| http::ask(proxy.admin, "POST", "/stats", headers).status;
        assert_eq!(post(&host), 405);
        assert_eq!(post("Host: ringway.internal\r\n"), 403);
        assert_eq!(post(&format!("{host}Origin: http://evil.example\r\n")), 403);
    });
}

/// Sends these bytes, and gives all that comes back until the connection is closed.
fn answer_to(admin: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(admin).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// 1. A request names two hosts, two origins or none, or its first line names another host than its
///    `Host`: 400, with a sentence. 2. A first line that names a host is judged like a `Host`.
#[test]
fn a_request_says_once_whom_it_is_for() {
    each_driver(|driver| {
        let server = Server::echo();
        let proxy = Config::new(driver).backend(server.address).start();
        let admin = proxy.admin;
        let (ours, evil) = (format!("Host: {admin}\r\n"), "Host: evil.example\r\n");
        let origin = format!("Origin: http://{admin}\r\n");
        let (path, full) = ("/stats", format!("http://{admin}/stats"));
        let foreign = "http://evil.example/stats";
        for (target, version, headers, status, sentence) in [
            (path, "1.1", [&ours, evil].concat(), 400, "there may be one"),
            (path, "1.1", [evil, &ours].concat(), 400, "there may be one"),
            (path, "1.1", [&*ours, &origin, &origin].concat(), 400, "there may be one"),
            (path, "1.1", String::new(), 400, "no Host"),
            (path, "1.0", String::new(), 200, "\"version\""),
            (&full, "1.1", ours.clone(), 200, "\"version\""),
            (&full, "1.1", evil.into(), 400, "request line"),
            (foreign, "1.1", ours.clone(), 400, "request line"),
            (foreign, "1.1", evil.into(), 403, "not this host"),
            (foreign, "1.0", String::new(), 403, "not this host"),
        ] {
            let request =
                format!("GET {target} HTTP/{version}\r\n{headers}Connection: close\r\n\r\n");
            let answer = answer_to(admin, &request);
            let is_it = answer.starts_with(&format!("HTTP/{version} {status} "));
            assert!(is_it && answer.contains(sentence), "{request}{answer}");
        }
    });
}

/// 1. A change is asked for whose body never comes. 2. The answer is 408 with the rule, the
///    connection is closed, and nothing has changed.
#[test]
fn a_request_that_never_ends_is_given_up() {
    each_driver(|driver| {
        let server = Server::echo();
        let proxy = Config::new(driver).backend(server.address).start();
        let head = format!("Host: {}\r\nContent-Length: 20\r\n\r\n", proxy.admin);
        let page = "/pools/web/backends/a";
        let answer = answer_to(proxy.admin, &format!("PATCH {page} HTTP/1.1\r\n{head}{{"));
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
        assert!(answer.contains(&format!("PATCH {page}: ")), "{answer}");
        assert!(answer.to_lowercase().contains("connection: close"), "{answer}");
        assert_eq!(proxy.stats().0["pools"][0]["backends"][0]["state"], "healthy");
    });
}

/// An address of this host that is not loopback, if it has one.
pub fn other_address() -> Option<Ipv4Addr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    // Nothing is sent: the kernel only chooses what it would send from.
    socket.connect("192.0.2.1:9").ok()?;
    match socket.local_addr().ok()? {
        SocketAddr::V4(address) if !address.ip().is_loopback() => Some(*address.ip()),
        _ => None,
    }
}

/// 1. The endpoint listens on all addresses. 2. Who asks from another one than loopback needs the
///    token for everything but `/health` and `/ready`, and may name the host as it likes.
#[test]
fn from_elsewhere_all_but_health_and_ready_needs_the_token() {
    let Some(address) = other_address() else {
        return eprintln!("NOT TESTED: this host has loopback only");
    };
    each_driver(|driver| {
        let (proxy, _server, _folder) = with_token(driver, "0.0.0.0:0", 0o600);
        let admin = SocketAddr::from((address, proxy.admin.port()));
        for (path, without) in
            [("/health", 200), ("/ready", 200), ("/stats", 401), ("/config", 401), ("/x", 401)]
        {
            assert_eq!(http::get(admin, path).status, without, "{path}");
        }
        let host = format!("Host: {admin}\r\n");
        for (path, without) in [("/health", 200), ("/ready", 200), ("/stats", 401)] {
            assert_eq!(http::ask(admin, "HEAD", path, &host).status, without, "HEAD {path}");
        }
        for (path, with) in [("/health", 200), ("/stats", 200), ("/x", 404)] {
            let answer = http::get_with(admin, path, &format!("{host}{}", shown(TOKEN)));
            assert_eq!(answer.status, with, "{path}");
        }
        let ask = |more: &str| {
            let headers = format!("{host}{}{more}", shown(TOKEN));
            http::ask(admin, "POST", "/stats", &headers).status
        };
        assert_eq!(ask(&format!("Origin: http://{admin}\r\n")), 405, "a page of ours");
        assert_eq!(ask("Origin: http://evil.example\r\n"), 403);
    });
}

/// 1. The token file may be read by everybody: a warning says so. 2. Neither the log nor `/config`
///    shows the token; `/config` shows the file.
#[test]
fn the_token_is_never_shown() {
    each_driver(|driver| {
        let (proxy, _server, folder) = with_token(driver, "127.0.0.1:0", 0o644);
        wait_until("the warning", || proxy.stderr().contains("may read the token file"));
        let config = proxy.get("/config");
        let file = config.json()["admin"]["token_file"].as_str().unwrap().to_owned();
        assert!(file.starts_with(folder.path().to_str().unwrap()), "{file}");
        assert!(!config.body.contains(TOKEN));
        assert!(!proxy.stderr().contains(TOKEN));
        let (quiet, _server, _folder) = with_token(driver, "127.0.0.1:0", 0o600);
        assert_eq!(quiet.get("/health").status, 200);
        assert!(!quiet.stderr().contains("may read"));
    });
}
