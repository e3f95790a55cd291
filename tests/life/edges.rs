//! What a host and its clients may do at the edges: an address that is freed late, few CPUs, few
//! descriptors, peers that vanish, one client that wants everything.

use std::{
    fs,
    net::{IpAddr, SocketAddr, SocketAddrV4, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal};

use crate::{
    kit::{
        Config, End, Folder, FreePort, Hand, Proxy, Server, each_driver, kernel, let_pass, peer,
        proxy::{BINARY, run_to_end_while},
        wait_until,
    },
    settled_pair,
};

/// 1. An address is in use when the process wants it, and is freed a moment later. 2. It is taken
///    then, and clients are served.
#[test]
fn an_address_that_is_freed_within_a_second_is_taken() {
    each_driver(|driver| {
        let server = Server::echo();
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let edge = held.local_addr().unwrap();
        let config = Config::new(driver).listen(&[&edge.to_string()]).backend(server.address);
        let (code, _, stderr) = run_to_end_while(&config.text(), |pid| {
            wait_until("a shard, which is before the addresses", || has_shard(pid));
            let_pass(Duration::from_millis(300));
            drop(held);
            wait_until("a client that is served", || {
                TcpStream::connect(edge).is_ok_and(|client| {
                    peer::echo(&mut peer::with_deadlines(client), b"served");
                    true
                })
            });
            rustix::process::kill_process(pid, Signal::TERM).unwrap();
        });
        assert_eq!(code, Some(0), "{stderr}");
    });
}

fn has_shard(pid: Pid) -> bool {
    threads(pid).iter().any(|(name, _)| name.starts_with("ringway-shard"))
}

/// The threads of a process: their names, and the CPUs that each may use.
fn threads(pid: Pid) -> Vec<(String, String)> {
    let tasks = fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero()));
    let of = |task: fs::DirEntry| {
        let status = fs::read_to_string(task.path().join("status")).ok()?;
        let field = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key))?;
            Some(line.trim().to_owned())
        };
        Some((field("Name:")?, field("Cpus_allowed_list:")?))
    };
    tasks.map_or_else(|_| Vec::new(), |tasks| tasks.flatten().filter_map(of).collect())
}

/// 1. A process with open connections is killed. 2. It is started again at once, with the same
///    address, and serves; again and again.
#[test]
fn a_process_that_was_killed_is_started_again_at_once() {
    each_driver(|driver| {
        let (server, edge) = (Server::echo(), FreePort::new());
        let config = Config::new(driver).shards(2).listen(&[&edge.address.to_string()]);
        let config = config.backend(server.address);
        for _ in 0..6 {
            let proxy = config.start();
            let mut clients: Vec<_> = (0..10).map(|_| proxy.connect()).collect();
            clients.iter_mut().for_each(|client| peer::echo(client, b"served"));
            // Killed with it.
            drop(proxy);
        }
    });
}

/// 1. A shard for each CPU: each is pinned to its own. 2. Fewer shards than CPUs: none is pinned.
///    3. `true` pins those too, and `false` none.
#[test]
fn shards_are_pinned_where_there_is_one_for_each_cpu() {
    let cpus = rustix::thread::sched_getaffinity(None).unwrap().count() as usize;
    let server = Server::echo();
    let pinned = |shards: usize, line: &str| {
        let config = Config::new("epoll").shards(shards).backend(server.address);
        let proxy = Proxy::start(&config.text().replace("pin_cpus = false\n", line));
        let threads = threads(proxy.pid());
        let shards = threads.iter().filter(|(name, _)| name.starts_with("ringway-shard"));
        let ones = shards.filter(|(_, cpus)| cpus.parse::<u32>().is_ok()).count();
        let told =
            proxy.stats().0["shards"].as_array().unwrap().iter().all(|s| !s["cpu"].is_null());
        (ones, told)
    };
    assert_eq!(pinned(cpus, ""), (cpus, true));
    assert_eq!(pinned(cpus, "pin_cpus = \"auto\"\n"), (cpus, true));
    if cpus == 1 {
        eprintln!("NOT TESTED with fewer shards than CPUs: there is one CPU");
        return;
    }
    assert_eq!(pinned(cpus - 1, ""), (0, false));
    assert_eq!(pinned(cpus - 1, "pin_cpus = true\n"), (cpus - 1, true));
    assert_eq!(pinned(cpus, "pin_cpus = false\n"), (0, false));
}

/// 1. Three hundred listeners on two shards, and 1,024 descriptors. 2. As many clients as the
///    process says it has places for are served, all at once. 3. The next one is reset for want of
///    a place, not of a descriptor. 4. `/health` answers meanwhile.
#[test]
fn what_is_promised_with_many_listeners_is_served() {
    each_driver(|driver| {
        let server = Server::echo();
        let listen: Vec<&str> = vec!["127.0.0.1:0"; 300];
        let text = Config::new(driver).shards(2).listen(&listen).backend(server.address).text();
        let proxy = Proxy::start_by(&["sh", "-c", "ulimit -n 1024 && exec \"$@\"", "sh"], &text);
        let promised = proxy.stats().0["max_connections"].as_u64().unwrap();
        assert!(promised >= 30, "{promised}");
        let mut clients: Vec<TcpStream> = (0..promised as usize)
            .map(|number| peer::connect(proxy.edge[number % proxy.edge.len()]))
            .collect();
        clients.iter_mut().for_each(|client| peer::echo(client, b"served"));
        assert_eq!(proxy.get("/health").status, 200);
        assert_eq!(proxy.turns_away(), End::Reset);
        // The reset comes first, then it is counted.
        let stats =
            proxy.wait_stats("the one refusal", |s| s.refused("runtime_max_connections") == 1);
        assert_eq!((stats.refused("descriptors"), stats.ended("connect_local")), (0, 0));
    });
}

/// 1. Somebody else has most descriptors of the process: they were open when it started. 2. Clients
///    take what is left, as far as they get it. 3. The admin endpoint answers all the same.
#[test]
fn the_last_descriptors_are_the_admin_endpoints() {
    let eat = "ulimit -n 256; for n in $(seq 20 150); do eval \"exec $n</dev/null\"; done; \
               exec \"$@\"";
    each_driver(|driver| {
        let server = Server::echo();
        let text = Config::new(driver).backend(server.address).text();
        let proxy = Proxy::start_by(&["bash", "-c", eat, "bash"], &text);
        let mut served = Vec::new();
        for _ in 0..80 {
            let mut client = proxy.connect();
            if std::io::Write::write_all(&mut client, b"x").is_ok() && peer::answers(&mut client) {
                served.push(client);
            }
        }
        assert!((10..60).contains(&served.len()), "{} clients are served", served.len());
        let mut held: Vec<TcpStream> = Vec::new();
        for _ in 0..4 {
            assert_eq!(proxy.get("/health").status, 200);
            held.push(peer::connect(proxy.admin));
        }
        let stats = proxy.stats();
        let refused = stats.refused("descriptors") + stats.ended("connect_local");
        assert_eq!(refused + served.len() as u64, 80, "{}", stats.without_latency());
        assert_eq!(stats.shards("accept_pauses_total"), 0, "it never ran out");
    });
}

/// 1. Both sockets of a connection ask their peer after the time of the file. 2. With `"0s"` none
///    does.
#[test]
fn both_sides_are_asked_whether_they_are_there() {
    each_driver(|driver| {
        for (line, asked) in [("keepalive = \"1h\"", true), ("keepalive = \"0s\"", false)] {
            let hand = Hand::new();
            let proxy = Config::new(driver).listener(line).backend(hand.address()).start();
            let (client, server) = settled_pair(&proxy, &hand);
            for far in [&client, &server] {
                let ours = v4(far.peer_addr().unwrap());
                let theirs = v4(far.local_addr().unwrap());
                // What was sent last may not be acknowledged yet; until it is, that is the timer.
                let hour = Duration::from_secs(3600);
                wait_until("a timer as the file says", || match kernel::asks_in(ours, theirs) {
                    Some(after) => asked && after <= hour && after > hour / 2,
                    None => !asked,
                });
            }
        }
        let hand = Hand::new();
        let proxy = Config::new(driver).backend(hand.address()).start();
        let (client, _server) = settled_pair(&proxy, &hand);
        let (ours, theirs) = (v4(client.peer_addr().unwrap()), v4(client.local_addr().unwrap()));
        wait_until("a minute where nothing is written", || {
            kernel::asks_in(ours, theirs).is_some_and(|after| after <= Duration::from_secs(60))
        });
    });
}

fn v4(address: SocketAddr) -> SocketAddrV4 {
    match address {
        SocketAddr::V4(address) => address,
        SocketAddr::V6(address) => panic!("{address}"),
    }
}

/// 1. One client has as many connections as it may; its next one is reset and counted. 2. Another
///    client, and the first one at another listener's address, are served. 3. One leaves: its place
///    is there again. 4. A burst of the client at two shards never gets one too many.
#[test]
fn one_client_gets_no_more_than_its_share() {
    each_driver(|driver| {
        let hand = Hand::new();
        let config = Config::new(driver).shards(2).listener("max_connections_per_source = 3");
        let proxy = config.backend(hand.address()).start();
        let mut held: Vec<_> = (0..3).map(|_| settled_pair(&proxy, &hand)).collect();
        for _ in 0..2 {
            assert_eq!(proxy.turns_away(), End::Reset);
        }
        let other: IpAddr = [127, 0, 0, 2].into();
        let mut second = peer::connect_from(other, proxy.edge[0]);
        let mut server = hand.take();
        peer::pass(&mut second, &mut server, b"another client");
        let stats = proxy.wait_ended_only("overload", 2);
        assert_eq!(stats.refused("source_max_connections"), 2);
        assert_eq!(stats.0["sources"]["in_use"], 2);
        held.pop();
        proxy.wait_stats("a free place", |s| s.listener("connections_active") == 3);
        held.push(settled_pair(&proxy, &hand));

        let burst = |_| {
            let mut client = proxy.connect();
            thread::spawn(move || peer::end_of(&mut client))
        };
        let burst: Vec<_> = (0..100).map(burst).collect();
        assert!(burst.into_iter().all(|client| client.join().unwrap() == End::Reset));
        assert!(hand.try_take().is_none(), "one too many");
        drop((held, second, server));
        proxy.wait_stats("nobody", |s| s.0["sources"]["in_use"] == 0);
    });
}

/// 1. Files whose pools lead back to their own listener, directly, at another address of this host,
///    or by way of others, and to the admin endpoint. 2. `check` and `run` refuse each, with the
///    backend, the rule and the way out. 3. A row of listeners is taken.
#[test]
fn a_pool_that_leads_back_to_us_is_refused() {
    let file = |listeners: &[(&str, &str, &str)]| {
        let one = |(name, listen, backend): &(&str, &str, &str)| {
            format!(
                "[[listener]]\nname = \"{name}\"\nlisten = [\"{listen}\"]\npool = \"{name}\"\n\
                 [[pool]]\nname = \"{name}\"\n[[pool.backend]]\nname = \"s\"\n\
                 address = \"{backend}\"\n"
            )
        };
        let head = "[admin]\nlisten = \"127.0.0.1:29900\"\n";
        format!("{head}{}", listeners.iter().map(one).collect::<String>())
    };
    let back = "which leads back to this pool";
    for (text, rule) in [
        (file(&[("a", "127.0.0.1:28080", "127.0.0.1:28080")]), Some(back)),
        (file(&[("a", "0.0.0.0:28080", "127.9.9.9:28080")]), Some(back)),
        (file(&[("a", "[::]:28080", "[::1]:28080")]), Some(back)),
        (
            file(&[
                ("a", "127.0.0.1:28080", "127.0.0.1:28081"),
                ("b", "0.0.0.0:28081", "127.0.0.1:28080"),
            ]),
            Some("by way of listener a"),
        ),
        (file(&[("a", "127.0.0.1:28080", "127.0.0.1:29900")]), Some("it is the admin endpoint")),
        (
            file(&[
                ("a", "127.0.0.1:28080", "127.0.0.1:28081"),
                ("b", "127.0.0.1:28081", "192.0.2.1:80"),
            ]),
            None,
        ),
    ] {
        let folder = Folder::new();
        let path = folder.path().join("config.toml");
        fs::write(&path, &text).unwrap();
        let ringway = |verb: &str| {
            let mut command = std::process::Command::new(BINARY);
            command.args([verb, "--config"]).arg(&path).output().unwrap()
        };
        let checked = ringway("check");
        let said = String::from_utf8(checked.stdout).unwrap();
        assert_eq!(checked.status.code(), Some(i32::from(rule.is_some())), "{text}\n{said}");
        let Some(rule) = rule else { continue };
        for part in ["backend s = \"", rule, "(name another server)"] {
            assert!(said.contains(part), "no {part:?} in {said}");
        }
        let started = ringway("run");
        assert_eq!(started.status.code(), Some(1));
        assert!(String::from_utf8(started.stderr).unwrap().contains(rule));
    }
}
