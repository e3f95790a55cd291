//! Pages that are asked for all the time disturb nobody.

use std::{
    fmt::Write,
    thread,
    time::{Duration, Instant},
};

use crate::kit::{Config, Proxy, Server, Steady, each_driver_alone, pause};

/// Between two requests for the same page: 25 a second.
const EVERY: Duration = Duration::from_millis(40);

/// Requests for each page: three seconds of them.
const TIMES: u32 = 75;

/// Asks again and again, each time when it is due; an answer that came late makes up for it.
fn scrape(proxy: &Proxy, page: &str) {
    let began = Instant::now();
    for time in 0..TIMES {
        let due = began + EVERY * time;
        while Instant::now() < due {
            pause(due - Instant::now());
        }
        let answer = proxy.get(page);
        assert_eq!(answer.status, 200, "{page}");
        assert!(answer.bytes.len() > 100_000, "{page}: {} bytes", answer.bytes.len());
    }
}

/// 1. Clients come all the time to a pool of 1,000 backends. 2. Two pages are asked for 25 times a
///    second each, for some seconds. 3. Every request is answered, and every client was served.
#[test]
fn fifty_scrapes_a_second_fail_no_client() {
    each_driver_alone(|driver| {
        let server = Server::named(b'a');
        let config = Config::new(driver).shards(2).pool("balance = \"round_robin\"");
        let mut text = config.text();
        for i in 0..1000 {
            let address = server.address;
            let _ = writeln!(text, "[[pool.backend]]\nname = \"b{i}\"\naddress = \"{address}\"");
        }
        let proxy = Proxy::start(&text);
        let clients: Vec<_> = (0..3).map(|_| Steady::start(proxy.edge[0])).collect();
        thread::scope(|scope| {
            for page in ["/stats", "/metrics"] {
                let proxy = &proxy;
                scope.spawn(move || scrape(proxy, page));
            }
        });
        let served: u64 = clients.iter().map(Steady::served).sum();
        for client in clients {
            client.more(1);
            assert_eq!(client.stop(), [""; 0]);
        }
        assert!(served > 0);
        let stats = proxy.wait_stats("over", |s| s.listener("connections_active") == 0);
        assert_eq!(stats.ended_in_all(), stats.ended("client_fin"), "{}", stats.0["listeners"]);
    });
}
