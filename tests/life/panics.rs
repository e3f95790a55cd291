//! A panic in a connection's own work ends that connection; anywhere else it ends the process.
//!
//! The panics are planted (`src/planted.rs`): each place has an address of its own, and hits the
//! clients that come from there.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::process::ExitStatusExt,
};

use crate::kit::{Config, Proxy, Tool, each_driver, peer, wait_until};

/// Connections that are there beside the one that panics.
const BESIDE: usize = 1000;

/// Places in the life of a connection, in the order of their addresses.
const OF_ITS_OWN: u8 = 10;

fn start(driver: &'static str, server: &Tool) -> Proxy {
    let bulk = "[[listener]]\nname = \"bulk\"\nlisten = [\"127.0.0.1:0\"]\npool = \"web\"\n\
                splice = \"on\"\n";
    let config = Config::new(driver).listener("splice = \"off\"").backend(server.address);
    let planted = ["env", "RINGWAY_PLANT_PANICS=1"];
    Proxy::start_by(&planted, &format!("{}\n{bulk}", config.text()))
}

/// Connects from the address of a place; the reset may be there before the call is over.
fn victim(place: u8, to: SocketAddr) -> Option<TcpStream> {
    let socket = peer::bound_to([127, 0, 0, 100 + place].into());
    match socket.connect(&to.into()) {
        Ok(()) => Some(peer::with_deadlines(socket.into())),
        Err(error) if error.kind() == ErrorKind::ConnectionReset => None,
        Err(error) => panic!("cannot connect: {error}"),
    }
}

/// Does what leads a connection to that place, and sees it reset there.
fn meet(proxy: &Proxy, place: u8) {
    let to = if place == 6 { proxy.address_of("bulk") } else { proxy.edge[0] };
    let Some(mut client) = victim(place, to) else { return };
    match place {
        // Bytes, there and back.
        4..=6 => drop(client.write_all(b"here")),
        // Much, and nobody reads what comes back.
        7 => {
            let error = loop {
                if let Err(error) = client.write(&[0; 64 << 10]) {
                    break error.kind();
                }
            };
            let is_reset = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe].contains(&error);
            return assert!(is_reset, "place {place}: {error}");
        }
        8 => peer::finish(&client),
        9 => {
            peer::echo(&mut client, b"here");
            return peer::reset(client);
        }
        _ => {}
    }
    let mut buffer = vec![0; 64 << 10];
    let error = loop {
        match client.read(&mut buffer) {
            Ok(0) => panic!("place {place}: it was ended in order"),
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "place {place}");
}

/// 1. A thousand clients are served. 2. One comes for each place in the life of a connection, which
///    panics there: it is reset, and counts as `internal_error`. 3. The thousand are unharmed, and
///    nothing of the others is left. 4. The log has the first with its frames, and each place once.
#[test]
fn a_panic_ends_its_connection_and_nobody_elses() {
    each_driver(|driver| {
        let server = Tool::echo();
        let proxy = start(driver, &server);
        let mut beside: Vec<TcpStream> = (0..BESIDE).map(|_| proxy.connect()).collect();
        beside.iter_mut().for_each(|client| peer::echo(client, b"before"));
        let before = proxy.settled_descriptors();
        for place in 0..OF_ITS_OWN {
            meet(&proxy, place);
        }
        let internal = |s: &crate::kit::Stats| -> u64 {
            let listeners = s.0["listeners"].as_array().unwrap().iter();
            listeners.filter_map(|l| l["ended_total"]["internal_error"].as_u64()).sum()
        };
        let stats = proxy.wait_stats("all of them recorded", |s| {
            internal(s) == u64::from(OF_ITS_OWN)
                && s.0["connections_active"] == BESIDE
                && s.held() == 0
        });
        assert_eq!(stats.backend(0, "connections_active"), BESIDE as u64);
        beside.iter_mut().for_each(|client| peer::echo(client, b"after"));
        // A pipe that came back empty stays open, for the next one.
        let pipes = |s: &crate::kit::Stats| 2 * s.shards("pipes_open") as usize;
        wait_until("their descriptors are closed", || {
            proxy.descriptors() <= before + pipes(&proxy.stats())
        });
        // Those that come while the frames of another one are named are counted only.
        let logged = "a panic ended a connection: planted: ";
        wait_until("the log has the first", || {
            proxy.stderr().contains(&format!("{logged}Admitted"))
                && proxy.stderr().contains("run_ready")
        });
        let log = proxy.stderr();
        for place in ["Admitted", "Picked", "Dialing", "Connected", "Splice", "SinkFull"] {
            assert!(log.matches(&format!("{logged}{place}")).count() <= 1, "{place}: {log}");
        }
        // Both are one place in the source.
        assert!(log.matches(&format!("{logged}Copy")).count() <= 1, "{log}");
        assert!(log.contains("src/shard/tcp.rs"), "{log}");
        beside.iter_mut().for_each(|client| peer::echo(client, b"at last"));
    });
}

/// 1. A panic in the task that accepts; another one while something is changed that connections
///    share. 2. Each ends the process at once, with its words on stderr.
#[test]
fn a_panic_anywhere_else_ends_the_process() {
    each_driver(|driver| {
        for (place, words) in [(10, "planted: Accepted"), (11, "planted: Changing")] {
            let server = Tool::echo();
            let mut proxy = start(driver, &server);
            let mut well = proxy.connect();
            peer::echo(&mut well, b"here");
            let _victim = victim(place, proxy.edge[0]);
            let status = proxy.wait_exit();
            let abort = rustix::process::Signal::ABORT.as_raw();
            assert_eq!(status.signal(), Some(abort), "{status}");
            assert!(proxy.last_words().contains(words));
        }
    });
}
