//! The truth: what clients and servers saw of their connections is what `/stats`, `/metrics` and
//! the access log say of them, to the last one.
//!
//! `RINGWAY_TRUTH=1000000 cargo test --release --test truth -- --nocapture` makes that many
//! connections for each driver; with `RINGWAY_TRUTH_TIMES=1` it compares percentiles of held
//! sessions too, which wants a quiet machine.

#[path = "truth/accounts.rs"]
mod accounts;
#[path = "truth/clients.rs"]
mod clients;
mod kit;
#[path = "truth/servers.rs"]
mod servers;

use std::path::Path;

use clients::{Clients, Kind};
use kit::{Blackhole, Folder, Proxy, Refusing, each_driver_alone, http, wait_until};
use rustix::process::Signal;
use servers::Servers;

/// For each driver, unless `RINGWAY_TRUTH` says otherwise.
const CONNECTIONS: u64 = 10_000;

/// Sessions whose time is compared, and only on demand: what a busy machine does to two clocks is
/// no property of ours.
const HELD: u64 = 20_000;

/// Connections that are open when the process is told to end.
const DRAINED: u64 = 50;

fn connections() -> u64 {
    std::env::var("RINGWAY_TRUTH").map_or(CONNECTIONS, |count| count.parse().unwrap())
}

fn times_are_wanted() -> bool {
    std::env::var_os("RINGWAY_TRUTH_TIMES").is_some()
}

/// Peers that are not there, each in its way.
struct Absent {
    refusing: Refusing,
    hole: Blackhole,
}

/// A listener for each way to end that needs a setting of its own.
fn configuration(driver: &str, log: &Path, servers: &Servers, absent: &Absent) -> String {
    let listener = |name: &str, pool: &str, line: &str| {
        // Many addresses: one would run out of ports that wait for their last segments.
        let addresses = (1..=8).map(|n| format!("\"127.0.0.{n}:0\"")).collect::<Vec<_>>().join(",");
        format!(
            "[[listener]]\nname = \"{name}\"\nlisten = [{addresses}]\npool = \"{pool}\"\n{line}\n"
        )
    };
    let pool = |name: &str, address: &str| {
        format!(
            "[[pool]]\nname = \"{name}\"\nmax_attempts = 1\nconnect_timeout = \"100ms\"\n\
             health_check = {{ kind = \"none\" }}\noutlier = {{ consecutive_failures = 0 }}\n\
             [[pool.backend]]\nname = \"a\"\naddress = \"{address}\"\n"
        )
    };
    let [first, second] = servers.addresses();
    let mut text = format!(
        "[runtime]\ndriver = \"{driver}\"\nshards = 2\npin_cpus = false\ndrain_timeout = \"0s\"\n\
         [admin]\nlisten = \"127.0.0.1:0\"\n\
         [log]\nreport = \"0s\"\nformat = \"json\"\naccess = \"{}\"\n",
        log.display()
    );
    text += &listener("edge", "web", "");
    text += &listener("held", "web", "");
    text += &listener("idle", "web", "idle_timeout = \"500ms\"");
    text += &listener("half", "web", "half_close_timeout = \"500ms\"");
    text += &listener("full", "web", "max_connections = 1");
    text += &listener("denied", "web", "deny = [\"127.0.0.0/8\"]");
    for name in ["refused", "timeout", "unreachable", "nobody"] {
        text += &listener(name, name, "");
    }
    text += &pool("web", &first.to_string()).replace("connect_timeout = \"100ms\"\n", "");
    text += &format!("[[pool.backend]]\nname = \"b\"\naddress = \"{second}\"\n");
    text += &pool("refused", &absent.refusing.address.to_string());
    text += &pool("timeout", &absent.hole.address.to_string());
    text += &pool("unreachable", "255.255.255.255:9");
    text += &pool("nobody", &first.to_string());
    text
}

/// 1. Clients make connections of every kind that can be provoked, most of them ordinary, with a
///    random number of bytes. 2. `/stats`, `/metrics` and the access log have as many of each end
///    as the clients, as many connections as the servers, and of those that ended in order the
///    bytes, exactly. 3. Nothing was dropped. 4. Some are open when the process ends: they are in
///    its last words and in the log as `drained`.
#[test]
fn every_account_says_the_same() {
    each_driver_alone(|driver| {
        let folder = Folder::new();
        let log = folder.path().join("access.log");
        let absent = Absent { refusing: Refusing::new(), hole: Blackhole::new() };
        let servers = Servers::start();
        let mut proxy = Proxy::start(&configuration(driver, &log, &servers, &absent));
        let drained = http::patch(proxy.admin, "/pools/nobody/backends/a", r#"{"state":"drain"}"#);
        assert_eq!(drained.status, 200);
        let clients = Clients::new(&proxy);
        clients.run(connections());
        clients.without_descriptors(&proxy, 5);
        if times_are_wanted() {
            clients.hold(HELD);
        }
        compare(&proxy, &log, &servers, &clients);
        let open = clients.leave_open(DRAINED);
        proxy.signal(Signal::TERM);
        assert_eq!(proxy.wait_exit().code(), Some(0));
        drop(open);
        let mut ends = clients.ends();
        ends.insert(("edge".into(), "drained".into()), DRAINED);
        assert_eq!(accounts::of_last_words(&proxy.last_words()), ends, "the last words");
        assert_eq!(accounts::of_log(&log).ends, ends, "the access log at the end");
    });
}

/// All accounts of what has been so far.
fn compare(proxy: &Proxy, log: &Path, servers: &Servers, clients: &Clients) {
    let ends = clients.ends();
    let total: u64 = ends.values().sum();
    let stats = proxy.wait_stats("all of them", |stats| {
        let log = &stats.0["access_log"];
        let lines = |key: &str| log[key].as_u64().unwrap();
        let accepted = stats.0["listeners"].as_array().unwrap().iter();
        let accepted: u64 = accepted.map(|l| l["accepted_total"].as_u64().unwrap()).sum();
        accepted >= total && lines("lines_total") + lines("dropped_total") >= total
    });
    assert_eq!(accounts::of_stats(&stats), ends, "/stats");
    assert_eq!(accounts::of_metrics(&proxy.get("/metrics").body), ends, "/metrics");
    let log = accounts::of_log(log);
    assert_eq!(log.ends, ends, "the access log");
    assert_eq!(stats.0["access_log"]["lines_total"], total);
    assert_eq!(stats.0["access_log"]["dropped_total"], 0);
    let (mut up, mut down) = (0, 0);
    for kind in [Kind::ClientFin, Kind::ServerFin] {
        let seen = clients.bytes(kind);
        assert_eq!(log.bytes(kind.reason()), seen, "bytes of {} in the log", kind.reason());
        wait_until("the servers to have seen the ends", || servers.bytes(kind) == seen);
        (up, down) = (up + seen.up, down + seen.down);
    }
    let moved: u64 = ["bytes_up_total", "bytes_down_total"]
        .iter()
        .flat_map(|key| stats.0["listeners"].as_array().unwrap().iter().map(move |l| &l[key]))
        .map(|bytes| bytes.as_u64().unwrap())
        .sum();
    assert!((up + down..=up + down + clients.bytes_of_others()).contains(&moved), "{moved}");
    let backends = stats.0["pools"][0]["backends"].as_array().unwrap().iter();
    let established: Vec<u64> =
        backends.map(|backend| backend["connections_total"].as_u64().unwrap()).collect();
    assert_eq!(established, servers.accepted(), "connections by backend");
    eprintln!("{total} connections, {moved} bytes: {ends:?}");
    if times_are_wanted() {
        clients.compare_held(proxy);
    }
}
