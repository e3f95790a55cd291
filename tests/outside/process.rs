//! What the kernel sees of the process: its calls, its threads, its user, its limits.

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    path::Path,
    thread,
    time::Duration,
};

use rustix::process::Signal;

use crate::{
    kit::{
        Config, End, Folder, Hand, Proxy, Seed, Server, each_driver, each_driver_alone, peer,
        wait_for,
    },
    programs::program,
};

/// The program that runs the proxy, with a word of its own if it is missing.
pub fn start_by(words: &[&str], config: &Config) -> Proxy {
    let first = program(words[0]);
    let words = [&[first.to_str().unwrap()], &words[1..]].concat();
    Proxy::start_by(&words, &config.text())
}

/// What strace wrote, once it has seen the end.
fn trace_to_the_end(file: &Path) -> String {
    wait_for("the end of the trace", || {
        let trace = fs::read_to_string(file).unwrap();
        // The last line is the process's own, after those of its threads.
        trace.lines().last()?.contains("+++ exited with 0 +++").then_some(trace)
    })
}

/// The names of the threads of the process, the kernel's for it among them.
fn threads(proxy: &Proxy) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{}/task", proxy.pid().as_raw_nonzero())).unwrap();
    let name = |task: fs::DirEntry| fs::read_to_string(task.path().join("comm")).ok();
    tasks.filter_map(|task| name(task.unwrap())).collect()
}

/// 1. Under strace, fifty clients are relayed and then silent. 2. With io_uring the kernel keeps no
///    worker thread for them. 3. From its start to its end, the process sets up a ring with
///    io_uring, and none with epoll.
#[test]
#[ignore = "needs outside programs: scripts/check --all"]
fn a_ring_without_workers_or_no_ring_at_all() {
    each_driver(|driver| {
        let folder = Folder::new();
        let file = folder.path().join("trace");
        let (hand, out) = (Hand::new(), file.to_str().unwrap());
        // -D: the process stays our child, strace is beside it.
        let strace = ["strace", "-D", "-f", "-e", "trace=io_uring_setup", "-o", out];
        let mut proxy = start_by(&strace, &Config::new(driver).shards(2).backend(hand.address()));
        let mut held: Vec<_> = (0..50).map(|_| (proxy.connect(), hand.take())).collect();
        for (client, server) in &mut held {
            peer::pass(client, server, b"asked");
            peer::pass(server, client, b"answered");
        }
        let threads = threads(&proxy);
        assert!(threads.iter().any(|name| name.starts_with("ringway-shard")), "{threads:?}");
        assert!(!threads.iter().any(|name| name.starts_with("iou-wrk")), "{threads:?}");
        drop(held);
        proxy.signal(Signal::TERM);
        assert_eq!(proxy.wait_exit().code(), Some(0));
        let trace = trace_to_the_end(&file);
        assert_eq!(trace.contains("io_uring_setup("), driver == "io_uring", "{trace}");
    });
}

/// 1. The process belongs to a user without privileges. 2. 256 MiB go through it, exactly. 3. More
///    than 95 % of them are spliced.
#[test]
#[ignore = "needs outside programs: scripts/check --all"]
fn a_user_without_privileges_splices_too() {
    const BYTES: u64 = 256 << 20;
    each_driver(|driver| {
        let hand = Hand::new();
        let setpriv = match rustix::process::geteuid().is_root() {
            true => &["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"][..],
            false => &["setpriv", "--no-new-privs"],
        };
        let config = Config::new(driver).listener("splice = \"auto\"").backend(hand.address());
        let proxy = start_by(setpriv, &config);
        let (seed, mut client, mut server) = (Seed::new(), proxy.connect(), hand.take());
        let mut rng = seed.rng(0);
        let writer = thread::spawn(move || peer::write_bulk(&mut server, &mut rng, BYTES));
        let seen = peer::read_to_end(&mut client);
        assert_eq!((seen.bytes, seen.end), (BYTES, End::Fin));
        assert_eq!(seen.digest, writer.join().unwrap());
        let spliced = proxy.stats().listener("bytes_spliced_total");
        assert!(spliced > BYTES / 100 * 95, "only {spliced} spliced");
    });
}

/// What came of a client.
enum Client {
    Served(TcpStream),
    Reset,
}

/// Connects and asks; the answer may be a reset at each step.
fn try_to_connect(proxy: &Proxy) -> Option<TcpStream> {
    let stream = match TcpStream::connect(proxy.edge[0]) {
        Ok(stream) => peer::with_deadlines(stream),
        Err(e) if e.kind() == ErrorKind::ConnectionReset => return None,
        Err(e) => panic!("{e}"),
    };
    let asked = (&stream).write_all(b"hello");
    asked.is_ok().then_some(stream)
}

fn answer(stream: Option<TcpStream>) -> Client {
    let Some(mut stream) = stream else { return Client::Reset };
    let mut answer = [0; 5];
    match stream.read_exact(&mut answer) {
        Ok(()) => {
            assert_eq!(&answer, b"hello");
            Client::Served(stream)
        }
        Err(e) if e.kind() == ErrorKind::ConnectionReset => Client::Reset,
        Err(e) => panic!("neither served nor reset: {e}"),
    }
}

/// A second in which the proxy has nothing to do.
fn assert_idle(proxy: &Proxy, client: &mut TcpStream) {
    client.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let (used, window) = proxy.cpu_during(|| {
        let nothing = client.read(&mut [0]).unwrap_err();
        assert_eq!(nothing.kind(), ErrorKind::WouldBlock);
    });
    assert!(used < window / 10, "{used:?} of CPU time in {window:?} without work");
}

/// 1. The process may open 256 descriptors, and 400 clients come at once. 2. As many as fit are
///    served; the rest is reset and counted, each one. 3. Full and silent, it uses next to no CPU
///    time. 4. They leave: a new client is served, and the process is as idle again.
#[test]
#[ignore = "needs outside programs: scripts/check --all"]
fn with_few_descriptors_it_serves_what_fits_and_resets_the_rest() {
    const CLIENTS: u64 = 400;
    ringway::sock::raise_nofile();
    each_driver_alone(|driver| {
        let server = Server::echo();
        let shell = ["sh", "-c", "ulimit -n 256 && exec \"$@\"", "sh"];
        let proxy = start_by(&shell, &Config::new(driver).backend(server.address));
        let tried: Vec<_> = (0..CLIENTS).map(|_| try_to_connect(&proxy)).collect();
        let mut served = Vec::new();
        for stream in tried {
            match answer(stream) {
                Client::Served(stream) => served.push(stream),
                Client::Reset => {}
            }
        }
        let (fit, refused) = (served.len() as u64, CLIENTS - served.len() as u64);
        assert!(fit >= 50 && refused > 0, "{fit} were served");
        let stats = proxy.wait_ended_only("overload", refused);
        assert_eq!(stats.listener("accepted_total"), CLIENTS);
        assert_eq!(stats.listener("connections_active"), fit);
        let causes = stats.0["listeners"][0]["refused_total"].as_object().unwrap();
        let counted: u64 = causes.values().map(|count| count.as_u64().unwrap()).sum();
        assert_eq!(counted, refused, "{causes:?}");
        assert_idle(&proxy, &mut served[0]);
        for stream in &mut served {
            stream.set_read_timeout(Some(crate::kit::DEADLINE)).unwrap();
            peer::echo(stream, b"unharmed");
        }
        drop(served);
        proxy.wait_stats("all have left", |s| s.listener("connections_active") == 0);
        let mut client = proxy.connect();
        peer::echo(&mut client, b"served");
        assert_idle(&proxy, &mut client);
    });
}
