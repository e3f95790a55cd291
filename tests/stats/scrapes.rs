//! Pages that are asked for all the time disturb nobody.

use std::{
    fmt::Write,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use crate::kit::{Config, Proxy, Server, Steady, each_driver_alone, let_pass};

/// Between two requests for the same page: 25 a second.
const EVERY: Duration = Duration::from_millis(40);

/// Requests for each page: three seconds of them.
const TIMES: u32 = 75;

/// Requests for a page that may be on their way at once: a slow answer does not hold back the next
/// request, as one scraper among many would not. Both pages together stay within the 64 places.
const ASKERS: u32 = 24;

/// Asks again and again, each time when it is due and never before; gives how often the page came.
fn scrape(proxy: &Proxy, page: &str) -> u32 {
    let (began, next) = (Instant::now(), AtomicU32::new(0));
    let ask = || {
        let mut answered = 0;
        loop {
            let time = next.fetch_add(1, Ordering::Relaxed);
            if time >= TIMES {
                return answered;
            }
            let_pass((began + EVERY * time).saturating_duration_since(Instant::now()));
            let answer = proxy.get(page);
            assert_eq!(answer.status, 200, "{page}: {}", answer.body);
            assert!(answer.bytes.len() > 100_000, "{page}: {} bytes", answer.bytes.len());
            answered += 1;
        }
    };
    let answered = thread::scope(|scope| {
        let askers: Vec<_> = (0..ASKERS).map(|_| scope.spawn(ask)).collect();
        askers.into_iter().map(|asker| asker.join().unwrap()).sum()
    });
    eprintln!("{page}: {answered} in {:?}, due in {:?}", began.elapsed(), EVERY * TIMES);
    answered
}

/// 1. Clients come all the time to a pool of 1,000 backends. 2. Two pages are asked for 25 times a
///    second each, for three seconds, whether or not the answers have come. 3. All 150 come, whole,
///    and every client was served, during that time and after it.
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
        let served = || clients.iter().map(Steady::served).sum::<u64>();
        let before = served();
        let answered: u32 = thread::scope(|scope| {
            let scrapers = ["/stats", "/metrics"].map(|page| {
                let proxy = &proxy;
                scope.spawn(move || scrape(proxy, page))
            });
            scrapers.into_iter().map(|scraper| scraper.join().unwrap()).sum()
        });
        assert_eq!(answered, 2 * TIMES);
        assert!(served() - before >= u64::from(answered), "clients served meanwhile");
        for client in clients {
            client.more(1);
            assert_eq!(client.stop(), [""; 0]);
        }
        let stats = proxy.wait_stats("over", |s| s.listener("connections_active") == 0);
        assert_eq!(stats.ended_in_all(), stats.ended("client_fin"), "{}", stats.0["listeners"]);
    });
}
