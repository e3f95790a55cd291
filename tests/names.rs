//! Names of backends become addresses, whatever the name server does.

mod kit;
#[path = "names/ourselves.rs"]
mod ourselves;
#[path = "names/pool.rs"]
mod pool;
#[path = "names/server.rs"]
mod server;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use kit::{Seed, wait_until};
use ringway::{
    config::Target,
    coordinator::names::{Answer, Cut, Endpoint, Look, Names, Why},
    limits::ENDPOINTS_MAX,
};
use server::{A, AAAA, Data, NameServer, Question, Reply, SRV};

/// Of one try; there are two.
const TRY: Duration = Duration::from_millis(200);

fn v4(ttl: u32, last: u8) -> (u32, Data) {
    (ttl, Data::V4([10, 0, 0, last].into()))
}

fn v6(ttl: u32, last: u16) -> (u32, Data) {
    (ttl, Data::V6([0xfd00, 0, 0, 0, 0, 0, 0, last].into()))
}

fn service(priority: u16, weight: u16, port: u16, target: &'static str) -> (u32, Data) {
    (30, Data::Service { priority, weight, port, target })
}

/// Answers A with these, and AAAA with nothing.
fn only_v4(records: Vec<(u32, Data)>) -> impl FnMut(&Question) -> Reply + Send {
    move |question| match question.kind {
        A => Reply::Records(records.clone()),
        _ => Reply::Records(Vec::new()),
    }
}

fn named() -> Target {
    Target::Name { host: "db.internal".into(), port: 5432 }
}

/// Asks once.
fn look_up(server: &NameServer, target: &Target) -> Result<Answer, Why> {
    look_up_at(&[server], target, |_| true)
}

/// The same at several servers, on a host that has a way where `has_way` says so.
fn look_up_at(
    servers: &[&NameServer],
    target: &Target,
    has_way: fn(SocketAddr) -> bool,
) -> Result<Answer, Why> {
    let addresses: Vec<SocketAddr> = servers.iter().map(|server| server.address).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        Names::new(&addresses, TRY).unwrap().judged_by(has_way).look_up(target).await
    })
}

fn shown(endpoints: &[Endpoint]) -> Vec<String> {
    endpoints.iter().map(|e| format!("{} {} {}", e.priority, e.address, e.weight)).collect()
}

/// 1. A name has addresses of both families. 2. All of them are found, in order, each once; the
///    answer lasts as long as the shortest record. 3. One family alone is enough, also where the
///    server cannot tell about the other.
#[test]
fn a_name_has_the_addresses_of_both_families() {
    let server = NameServer::new(|question: &Question| {
        assert_eq!(question.name, "db.internal");
        match question.kind {
            A => Reply::Records(vec![v4(60, 2), v4(20, 1), v4(60, 2)]),
            _ => Reply::Records(vec![v6(40, 1)]),
        }
    });
    let answer = look_up(&server, &named()).unwrap();
    let expected = ["0 10.0.0.1:5432 1", "0 10.0.0.2:5432 1", "0 [fd00::1]:5432 1"];
    assert_eq!(shown(&answer.endpoints), expected);
    assert_eq!(answer.valid_for, Duration::from_secs(20));
    for without in [Reply::Records(Vec::new()), Reply::Code(2), Reply::Code(3)] {
        server.now(move |question| match question.kind {
            AAAA => Reply::Records(vec![v6(40, 1)]),
            _ => without.clone(),
        });
        let answer = look_up(&server, &named()).unwrap();
        assert_eq!(shown(&answer.endpoints), ["0 [fd00::1]:5432 1"]);
        assert_eq!(answer.valid_for, Duration::from_secs(40));
    }
}

/// 1. A name has an underscore, in front, inside or at the end, or a dot at its end. 2. The server
///    is asked for it as it is.
#[test]
fn a_name_is_asked_for_as_it_is_written() {
    for host in ["my_db", "_db.my_net", "db_", "MY_DB.internal.", "db.internal."] {
        let written = host.to_lowercase().trim_end_matches('.').to_owned();
        let server = NameServer::new(move |question: &Question| match question.kind {
            A if question.name == written => Reply::Records(vec![v4(60, 1)]),
            _ => Reply::Code(3),
        });
        let target = Target::Name { host: host.into(), port: 80 };
        let answer = look_up(&server, &target).unwrap_or_else(|why| panic!("{host}: {why}"));
        assert_eq!(shown(&answer.endpoints), ["0 10.0.0.1:80 1"], "{host}");
    }
}

/// 1. A name has more addresses than fit. 2. The first ones are kept, and the others counted.
#[test]
fn too_many_addresses_are_dropped_and_counted() {
    let more = ENDPOINTS_MAX + 6;
    let record = |i: usize| (60, Data::V4([10, 0, (i / 100) as u8, (i % 100) as u8].into()));
    let server = NameServer::new(move |question: &Question| match question.kind {
        A => Reply::Truncated((0..more).rev().map(record).collect()),
        _ => Reply::Records(Vec::new()),
    });
    let answer = look_up(&server, &named()).unwrap();
    assert_eq!((answer.endpoints.len(), answer.cut.dropped), (ENDPOINTS_MAX, 6));
    assert_eq!(shown(&answer.endpoints)[63], "0 10.0.0.63:5432 1");
}

/// 1. The server says no in every way it can, or nothing. 2. Each time it is told why.
#[test]
fn every_failure_has_its_reason() {
    let server = NameServer::new(|_: &Question| Reply::Silence);
    for (reply, why) in [
        (Reply::Code(3), "no such name"),
        (Reply::Records(Vec::new()), "the name has no address"),
        (Reply::Code(2), "the server cannot tell"),
        (Reply::Code(5), "the server refuses to answer"),
        (Reply::Silence, "no server answered in time"),
    ] {
        let script = reply.clone();
        server.now(move |_| script.clone());
        let error = look_up(&server, &named()).unwrap_err().to_string();
        assert!(error.starts_with(why), "{reply:?}: {error}");
    }
}

/// 1. An answer does not fit a datagram. 2. It is asked for again over TCP, and is whole.
#[test]
fn a_truncated_answer_is_fetched_over_tcp() {
    let server = NameServer::new(|question: &Question| match question.kind {
        A => Reply::Truncated((0..60).map(|last| v4(60, last)).collect()),
        _ => Reply::Records(Vec::new()),
    });
    assert_eq!(look_up(&server, &named()).unwrap().endpoints.len(), 60);
}

/// 1. A service has hosts with priorities and weights; one of them does not exist, one has no
///    weight, one is no host. 2. The endpoints have each host's addresses with its port, priority
///    and weight, at least 1. 3. With no host that exists, the service fails for that reason.
#[test]
fn a_service_has_the_addresses_of_its_hosts() {
    let web = Target::Service { name: "_http._tcp.example".into() };
    let server = NameServer::new(|question: &Question| match (&*question.name, question.kind) {
        ("_http._tcp.example", SRV) => Reply::Records(vec![
            service(1, 7, 8081, "b.example"),
            service(0, 0, 8080, "a.example"),
            service(0, 9, 8080, "gone.example"),
            service(0, 9, 8080, ""),
        ]),
        ("a.example", A) => Reply::Records(vec![v4(60, 1), v4(60, 2)]),
        ("b.example", A) => Reply::Records(vec![v4(10, 3)]),
        ("a.example" | "b.example", _) => Reply::Records(Vec::new()),
        _ => Reply::Code(3),
    });
    let answer = look_up(&server, &web).unwrap();
    let expected = ["0 10.0.0.1:8080 1", "0 10.0.0.2:8080 1", "1 10.0.0.3:8081 7"];
    assert_eq!(shown(&answer.endpoints), expected);
    assert_eq!(answer.valid_for, Duration::from_secs(10));
    server.now(|question| match question.kind {
        SRV => Reply::Records(vec![service(0, 1, 80, "gone.example")]),
        _ => Reply::Code(3),
    });
    assert_eq!(look_up(&server, &web), Err(Why::NoSuchName));
}

/// 1. A name is watched, and has one address: that is told. 2. Its records run out and say the
///    same: nothing is told. 3. Then another one: told. 4. Then the server fails, in several ways,
///    for several questions: nothing is told, what was known stays. 5. Then it has both: told.
#[test]
fn a_watched_name_is_told_when_it_changes_and_only_then() {
    let server = NameServer::new(only_v4(vec![v4(1, 1)]));
    let told = Arc::new(Mutex::new(Vec::<Vec<String>>::new()));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (names, tell) = (Names::new(&[server.address], TRY), Arc::clone(&told));
    let names = names.unwrap();
    runtime.spawn(async move {
        let tell = |look: Look<'_>| {
            let mut told = tell.lock().unwrap();
            if told.last() != Some(&shown(look.endpoints)) {
                told.push(shown(look.endpoints));
            }
        };
        names.watch(&named(), tell).await;
    });
    let last = || told.lock().unwrap().last().cloned().unwrap_or_default();
    let (one, two) = ("0 10.0.0.1:5432 1".to_owned(), "0 10.0.0.2:5432 1".to_owned());
    wait_until("the first answer", || last() == [one.clone()]);
    let asked = server.asked();
    wait_until("the same again", || server.asked() >= asked + 2);
    server.now(only_v4(vec![v4(1, 2)]));
    wait_until("the other one", || last() == [two.clone()]);
    for code in [3, 2] {
        server.now(move |_| Reply::Code(code));
        let asked = server.asked();
        wait_until("a failure", || server.asked() >= asked + 2);
    }
    server.now(only_v4(vec![v4(1, 2), v4(1, 1)]));
    wait_until("both", || last() == [one.clone(), two.clone()]);
    let told = told.lock().unwrap().clone();
    assert_eq!(told, [vec![one.clone()], vec![two.clone()], vec![one, two]]);
    runtime.shutdown_background();
}

/// 1. A thousand answers are broken or random. 2. None of them is taken for an answer, and nobody
///    panics. 3. A good one is still understood.
#[test]
fn a_thousand_broken_answers_are_no_answer() {
    const ROUNDS: usize = 20;
    const AT_ONCE: usize = 25;
    let seed = Seed::new();
    let mut rng = seed.rng(0);
    // Each lookup asks for both families: a thousand answers at least.
    let server = NameServer::new(move |_: &Question| Reply::spoiled(&mut rng));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let names = Names::new(&[server.address], Duration::from_millis(50)).unwrap();
    for round in 0..ROUNDS {
        let lookups: Vec<_> = (0..AT_ONCE)
            .map(|i| {
                let names = names.clone();
                // Each another one: the same question is asked once for all who wait for it.
                let host = format!("db-{round}-{i}.internal");
                let target = Target::Name { host, port: 5432 };
                runtime.spawn(async move { names.look_up(&target).await })
            })
            .collect();
        for lookup in lookups {
            let answer = runtime.block_on(lookup).expect("nobody panics");
            assert!(answer.is_err(), "{answer:?}");
        }
    }
    assert!(server.asked() >= 1000, "{}", server.asked());
    server.now(only_v4(vec![v4(1, 1)]));
    assert_eq!(look_up(&server, &named()).unwrap().endpoints.len(), 1);
}

/// 1. The first of two servers knows the name, the second says that there is no such name, in each
///    order. 2. The first one's answer counts, and the second one is not asked. 3. The first one is
///    silent, or cannot tell: the second one is asked.
#[test]
fn name_servers_keep_their_order_one_at_a_time() {
    let known = || only_v4(vec![v4(60, 1)]);
    for _ in 0..20 {
        let (first, second) = (NameServer::new(known()), NameServer::new(|_| Reply::Code(3)));
        let answer = look_up_at(&[&first, &second], &named(), |_| true).unwrap();
        assert_eq!(shown(&answer.endpoints), ["0 10.0.0.1:5432 1"]);
        assert_eq!(second.asked(), 0);
        let asked = first.asked();
        assert_eq!(look_up_at(&[&second, &first], &named(), |_| true), Err(Why::NoSuchName));
        assert_eq!(first.asked(), asked);
    }
    let second = NameServer::new(known());
    for reply in [Reply::Silence, Reply::Code(2), Reply::Code(4), Reply::Code(5)] {
        let script = reply.clone();
        let first = NameServer::new(move |_: &Question| script.clone());
        let answer = look_up_at(&[&first, &second], &named(), |_| true);
        let answer = answer.unwrap_or_else(|why| panic!("{reply:?}: {why}"));
        assert_eq!(shown(&answer.endpoints), ["0 10.0.0.1:5432 1"], "{reply:?}");
    }
}

/// 1. A name has addresses of both families, and this host has no IPv6. 2. Those are left out and
///    counted. 3. A name that has nothing else keeps them.
#[test]
fn addresses_that_this_host_cannot_reach_are_left_out() {
    let server = NameServer::new(|question: &Question| match question.kind {
        A if question.name == "db.internal" => Reply::Records(vec![v4(60, 1)]),
        AAAA => Reply::Records(vec![v6(60, 1), v6(60, 2)]),
        _ => Reply::Records(Vec::new()),
    });
    let answer = look_up_at(&[&server], &named(), |address| address.is_ipv4()).unwrap();
    assert_eq!(shown(&answer.endpoints), ["0 10.0.0.1:5432 1"]);
    assert_eq!(answer.cut, Cut { dropped: 0, unreachable: 2 });
    let other = Target::Name { host: "v6.internal".into(), port: 80 };
    let answer = look_up_at(&[&server], &other, |address| address.is_ipv4()).unwrap();
    assert_eq!((answer.endpoints.len(), answer.cut), (2, Cut::default()));
}
