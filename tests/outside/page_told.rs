//! What the page makes of what it is told, also of what is hard to come by: there, the answers of
//! a real instance are altered on their way.

use std::net::Ipv4Addr;

use serde_json::json;

use crate::{
    browser::Browser,
    kit::{Config, End, Proxy, Refusing, Server, Steady, each_driver_alone, peer, wait_until},
    page::open,
};

/// One server, and somebody who connects all the time.
fn serving(driver: &'static str) -> (Proxy, Server, Steady) {
    let server = Server::named(b'a');
    let proxy = Config::new(driver).backend(server.address).start();
    let clients = Steady::start(proxy.edge[0]);
    (proxy, server, clients)
}

/// 1. After the second sample somebody sets the clock back by an hour. 2. The lines of the charts
///    go on from left to right, with every sample.
#[test]
#[ignore = "needs outside programs: scripts/check --all"]
fn a_clock_that_is_set_back_changes_no_chart() {
    each_driver_alone(|driver| {
        let (proxy, _server, _clients) = serving(driver);
        let browser = open(&proxy);
        browser.alter(
            "if (path.startsWith('/stats/history'))
               answer.unix_ms = answer.unix_ms.map((ms, i) =>
                 answer.seq[i] > 2 ? ms - 3_600_000 : ms);
             window.newest = answer.newest ?? window.newest;",
        );
        let places = || {
            browser.run(
                "const line = document.querySelector('#open-connections .plot .line');
                 return [...(line?.getAttribute('d') ?? '').matchAll(/[ML]([\\d.]+)/g)]
                   .map(([, x]) => Number(x));",
            )
        };
        wait_until("samples of before and after", || {
            browser.run("return window.newest > 5") == true && !places()[4].is_null()
        });
        let places: Vec<f64> = serde_json::from_value(places()).unwrap();
        assert!(places.is_sorted(), "{places:?}");
        assert_eq!(browser.errors(), [""; 0]);
    });
}

/// 1. Clients that the listener does not want are reset: they are in the chart of errors and in
///    the table, and all is well. 2. One client gets no backend: that is said first of all, and
///    the crowd of those who are not wanted hides nothing.
#[test]
#[ignore = "needs outside programs: scripts/check --all"]
fn only_what_the_proxy_and_its_backends_do_is_a_failure() {
    each_driver_alone(|driver| {
        let dead = Refusing::new();
        let config = Config::new(driver).backend(dead.address);
        let proxy = config.listener("deny = [\"127.0.0.9\"]").start();
        let browser = open(&proxy);
        let crowd = || {
            for _ in 0..200 {
                peer::kept_out(Ipv4Addr::new(127, 0, 0, 9).into(), proxy.edge[0]);
            }
        };
        crowd();
        let seen = || {
            browser.run(
                "const rows = [...document.querySelectorAll('#ends-table tbody tr')];
                 const denied = rows.find((row) => row.innerText.startsWith('denied'));
                 const bad = document.querySelector('#errors .keys b').innerText;
                 const drawn = document.querySelector('#errors .line').getAttribute('d');
                 return [document.querySelector('#headline').innerText,
                   Number(denied?.cells[1].innerText ?? 0), bad.endsWith('/s') && drawn !== ''];",
            )
        };
        wait_until("those who are not wanted", || seen()[1] == 200);
        assert_eq!(seen(), json!(["All is well", 200, true]));
        crowd();
        assert_eq!(proxy.turns_away(), End::Reset);
        browser.wait_text("#headline", |text| text == "Connections fail");
        browser.wait_text("#problems", |text| text.contains("connect_refused 1"));
        assert!(!browser.text("#problems").contains("denied"));
    });
}

/// 1. Nothing is lost, or was lost long ago: all is well. 2. Lines are lost, and pipes and buffers
///    run short: the page says so, with how often.
#[test]
#[ignore = "needs outside programs: scripts/check --all"]
fn it_says_what_is_lost_and_what_runs_short() {
    each_driver_alone(|driver| {
        let (proxy, _server, _clients) = serving(driver);
        let browser = open(&proxy);
        browser.alter(
            "if (path !== '/stats') return;
             const n = window.lost ?? 0;
             answer.access_log.dropped_total += 5 + n;
             answer.log_lines_lost_total += 5 + 2 * n;
             answer.shards[0].pipes_dry_total += 5 + 3 * n;
             answer.shards[0].buffers_dry_total += 5 + 4 * n;",
        );
        browser.wait_text("#headline", |text| text == "All is well");
        browser.wait_text("#backends-table tbody td", |text| text.contains("healthy"));
        browser.run("window.lost = 7");
        browser.wait_text("#headline", |text| {
            text == "The access log loses lines, and 3 more problems"
        });
        let said = browser.text("#problems");
        for line in [
            "▲ The access log loses lines: 7 lines in the last minute",
            "▲ The log loses lines: 14 lines",
            "▲ Shards run out of pipes: 21 times",
            "▲ Shards run out of buffers: 28 times",
        ] {
            assert!(said.contains(line), "{line}: {said}");
        }
    });
}

const ENTER: char = '\u{e007}';

/// Presses the button below the backends; how many are shown then, and what it says.
fn more(browser: &Browser) -> serde_json::Value {
    browser.run("document.querySelector('#backends-more').focus()");
    browser.press(&[ENTER]);
    shown(browser)
}

fn shown(browser: &Browser) -> serde_json::Value {
    browser.run(
        "const button = document.querySelector('#backends-more');
         const rows = document.querySelectorAll('#backends-table tbody tr');
         return [rows.length, button.hidden ? '' : button.innerText]",
    )
}

/// 1. Of 240 backends the 30 that are unhealthy are shown, first of all. 2. The button shows a
///    hundred more each time, then the rest, then as few as at first, and keeps the focus.
///    3. A filter that leaves few needs no button.
#[test]
#[ignore = "needs outside programs: scripts/check --all"]
fn every_backend_of_many_can_be_shown() {
    each_driver_alone(|driver| {
        let (proxy, _server, _clients) = serving(driver);
        let browser = open(&proxy);
        assert_eq!(shown(&browser), json!([1, ""]));
        browser.alter(
            "if (path !== '/stats') return;
             const [one] = answer.pools[0].backends;
             answer.pools[0].backends = Array.from({ length: 240 }, (_, i) => ({
               ...one, name: `b${i}`, state: i % 8 ? 'healthy' : 'unhealthy' }));",
        );
        browser.wait_text("#backends-count", |text| text.starts_with("30 of 240 shown"));
        let states = "const rows = document.querySelectorAll('#backends-table tbody tr');
            return [...rows].every((row) => row.dataset.level === 'unhealthy')";
        assert_eq!(browser.run(states), true);
        assert_eq!(shown(&browser), json!([30, "Show 100 more backends"]));
        assert_eq!(browser.hard_to_use(), json!([]));
        assert_eq!(more(&browser), json!([130, "Show 100 more backends"]));
        assert_eq!(more(&browser), json!([230, "Show 10 more backends"]));
        assert_eq!(more(&browser), json!([240, "Show fewer backends"]));
        assert_eq!(browser.text("#backends-count"), "240 backends");
        assert_eq!(more(&browser), json!([30, "Show 100 more backends"]));
        assert_eq!(browser.run("return document.activeElement.id"), "backends-more");
        let filter = "document.querySelector('#filter').value = 'b11';
            document.querySelector('#filter').dispatchEvent(new Event('input'));";
        browser.run(filter);
        assert_eq!(shown(&browser), json!([11, ""]));
        assert_eq!(browser.errors(), [""; 0]);
    });
}

/// 1. A tap in a chart reads a moment, in all charts, and keeps it. 2. A tap elsewhere lets it go.
///    3. So does a second tap at the same place.
#[test]
#[ignore = "needs outside programs: scripts/check --all"]
fn a_tap_keeps_a_moment_until_the_next_one() {
    each_driver_alone(|driver| {
        let (proxy, _server, _clients) = serving(driver);
        let browser = open(&proxy);
        browser.resize(390);
        let line = "return document.querySelector('#errors .line[d*=L]') !== null";
        wait_until("some seconds", || browser.run(line) == true);
        let when = || browser.text("#bytes .when");
        let plot = "#errors .plot";
        browser.tap(plot, 0.5);
        wait_until("a moment", || !when().is_empty());
        let kept = when();
        let newest = "return document.querySelector('#live').innerText";
        let then = browser.run(newest);
        wait_until("another answer", || browser.run(newest) != then);
        assert_eq!(when(), kept);
        browser.tap("#backends", 0.5);
        wait_until("no moment", || when().is_empty());
        browser.tap(plot, 0.8);
        wait_until("a moment", || !when().is_empty());
        browser.tap(plot, 0.8);
        wait_until("no moment again", || when().is_empty());
        assert_eq!(browser.errors(), [""; 0]);
    });
}
