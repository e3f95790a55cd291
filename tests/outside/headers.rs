//! Servers of others that read the PROXY header.

use std::net::SocketAddr;

use crate::{
    kit::{Config, each_driver_alone, wait_for, wait_until},
    programs::{Outside, client, run},
};

/// Asks for a page from an address of this host; it has to come.
fn ask(from: &str, to: SocketAddr) {
    let options = ["--silent", "--show-error", "--fail", "--noproxy", "*", "--interface", from];
    run(client("curl").args(options).arg(format!("http://{to}/asked-by-{from}")));
}

/// What the log says of who asked from `from`: the word behind `client=`.
fn logged(server: &Outside, from: &str) -> String {
    wait_for("a line in the log", || {
        let log = server.log();
        let line = log.lines().find(|line| line.contains(&format!("/asked-by-{from} ")))?;
        Some(line.split_once("client=")?.1.split_whitespace().next()?.to_owned())
    })
}

/// 1. A server behind the proxy expects the header; versions 1 and 2. 2. Clients ask from an
///    address of IPv4 that nobody else has, and over IPv6, which the server does not speak. 3. Each
///    gets its page, and the server's log has its address. 4. Checks over HTTP, whose header names
///    nobody, pass too.
fn logs_the_address_of_each_client(start: fn() -> Outside) {
    each_driver_alone(|driver| {
        for version in ["v1", "v2"] {
            let server = start();
            let proxy = Config::new(driver)
                .listen(&["127.0.0.1:0", "[::1]:0"])
                .pool(&format!("send_proxy = \"{version}\""))
                .health("kind = \"http\"\ninterval = \"50ms\"\nunhealthy_after = 1")
                .backend(server.address)
                .start();
            for (from, to) in ["127.0.0.7", "::1"].into_iter().zip(&proxy.edge) {
                ask(from, *to);
                assert_eq!(logged(&server, from), from, "{driver} {version}");
            }
            wait_until("checks", || server.log().matches("/healthz ").count() >= 3);
            assert_eq!(proxy.stats().state(0), "healthy");
        }
    });
}

#[test]
#[ignore = "needs outside programs: scripts/check --all"]
fn nginx_logs_the_address_of_each_client() {
    logs_the_address_of_each_client(Outside::nginx_behind_proxy);
}

#[test]
#[ignore = "needs outside programs: scripts/check --all"]
fn haproxy_logs_the_address_of_each_client() {
    logs_the_address_of_each_client(Outside::haproxy_behind_proxy);
}
