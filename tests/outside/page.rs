//! The page at `/` in a real Chromium.

use crate::{
    browser::Browser,
    kit::{Config, FreePort, Proxy, Refusing, Server, Steady, each_driver_alone, wait_until},
};

/// The state of a backend in the table.
fn state(browser: &Browser, backend: &str) -> String {
    let script = format!(
        "const row = [...document.querySelectorAll('#backends-table tbody tr')]
           .find((row) => row.cells[0].innerText.startsWith({backend:?}));
         return row?.cells[1].innerText ?? ''"
    );
    browser.run(&script).as_str().unwrap().to_owned()
}

/// Two servers, one of which can be killed, a third one that gets nothing but checks, and somebody
/// who connects all the time.
fn with_traffic(driver: &'static str) -> (Proxy, [Server; 3], Refusing, Steady) {
    let place = Refusing::new();
    let a = Server::named_at(place.address, b'a');
    let servers = [a, Server::named(b'b'), Server::named(b'c')];
    let proxy = Config::new(driver)
        .health("interval = \"4s\"\nunhealthy_after = 1")
        .pool("balance = \"round_robin\"")
        .backend(servers[0].address)
        .backend(servers[1].address)
        .backend_with(servers[2].address, "weight = 0")
        .start();
    let clients = Steady::start(proxy.edge[0]);
    (proxy, servers, place, clients)
}

pub fn open(proxy: &Proxy) -> Browser {
    let browser = Browser::open(&format!("http://{}/", proxy.admin));
    browser.wait_text("#headline", |text| text.contains("All is well"));
    browser
}

/// 1. The page says that all is well, and its charts move. 2. A backend is killed: the page shows
///    it as unhealthy before another one was checked three times, and says so first of all. 3. In
///    all that time the console had no error, and nobody else was asked.
#[test]
#[ignore = "needs outside programs: scripts/check --all"]
fn a_killed_backend_is_shown_and_nobody_else_is_asked() {
    each_driver_alone(|driver| {
        let (proxy, [a, _b, c], _place, _clients) = with_traffic(driver);
        let browser = open(&proxy);
        let drawn = |browser: &Browser| {
            let line = "return document.querySelector('#new-connections .plot .line')";
            browser.run(&format!("{line}?.getAttribute('d') ?? ''"))
        };
        wait_until("a line", || drawn(&browser).as_str().is_some_and(|d| d.contains('L')));
        let before = drawn(&browser);
        wait_until("charts that move", || drawn(&browser) != before);
        browser.wait_text("#new-connections b", |text| text.ends_with("/s") && text != "0/s");
        wait_until("cells of the heat map", || {
            browser.run("return !!document.querySelector('#heat-map .shade[d^=M]')") == true
        });
        assert!(state(&browser, "a").contains("healthy"));

        drop(a);
        let before = c.accepted();
        wait_until("the killed one", || state(&browser, "a").contains("unhealthy"));
        let checks = c.accepted() - before;
        assert!(checks < 3, "shown after {checks} checks");
        browser.wait_text("#headline", |text| text.contains("Backend a is unhealthy"));
        assert!(state(&browser, "a").contains("connection refused"));
        assert!(!state(&browser, "b").contains("unhealthy"));
        browser.wait_text("#events-list li", |text| text.contains("healthy → unhealthy"));

        assert_eq!(browser.errors(), [""; 0]);
        let (asked, ours) = (browser.asked(), format!("http://{}/", proxy.admin));
        assert!(asked.len() > 6, "{asked:?}");
        let elsewhere = |url: &&String| !url.starts_with(&ours) && !url.starts_with("data:");
        assert_eq!(asked.iter().find(elsewhere), None);
    });
}

/// Waits until the page is that wide: then nothing is wider, and what is used is there and in view.
fn fits(browser: &Browser, width: u32) {
    browser.resize(width);
    wait_until("charts of the new width", || {
        let script = "const svg = document.querySelector('.plot svg');
            return svg.viewBox.baseVal.width === svg.parentNode.clientWidth";
        browser.run(script) == true
    });
    let page = browser.run("return document.scrollingElement.scrollWidth");
    assert!(page.as_u64().unwrap() <= width.into(), "{page} at {width}");
    let outside = browser.run(
        "const used = document.querySelectorAll(
           'input, button:not([hidden]), .plot, h1, h2, #live, td');
         const out = [...used].filter((one) => {
           const { left, right, width, height } = one.getBoundingClientRect();
           return left < 0 || right > innerWidth || width === 0 || height === 0;
         });
         return [used.length, ...out.map((one) => one.outerHTML)]",
    );
    let outside = outside.as_array().unwrap();
    assert!(outside[0].as_u64() > Some(50), "{outside:?}");
    assert_eq!(outside[1..], [""; 0], "at {width}");
}

/// 1. On a small phone, a phone, a tablet and a screen nothing is wider than it, and what is used
///    is there and in view. 2. In the light and in the dark axe-core finds nothing serious.
#[test]
#[ignore = "needs outside programs: scripts/check --all"]
fn it_fits_a_phone_and_a_screen_and_everybody_can_use_it() {
    each_driver_alone(|driver| {
        let (proxy, [a, _b, _c], _place, _clients) = with_traffic(driver);
        let browser = open(&proxy);
        drop(a);
        browser.wait_text("#headline", |text| text.contains("Backend a is unhealthy"));
        [320, 800].into_iter().for_each(|width| fits(&browser, width));
        for width in [390, 1440] {
            fits(&browser, width);
            for scheme in ["light", "dark"] {
                browser.prefer(scheme);
                assert_eq!(browser.hard_to_use(), serde_json::json!([]), "{scheme} at {width}");
            }
        }
    });
}

const TAB: char = '\u{e004}';
const ENTER: char = '\u{e007}';
const LEFT: char = '\u{e012}';

/// 1. Tab goes from the top to every control, the way past the charts first. 2. In a chart, the
///    left arrow reads the second before. 3. The head of a column sorts the table.
#[test]
#[ignore = "needs outside programs: scripts/check --all"]
fn the_keyboard_reaches_and_uses_everything() {
    each_driver_alone(|driver| {
        let (proxy, _servers, _place, _clients) = with_traffic(driver);
        let browser = open(&proxy);
        let focused = "const at = document.activeElement;
            return at.closest('figure')?.id ?? (at.id || at.name || at.innerText)";
        let mut reached = Vec::new();
        while reached.last().is_none_or(|last| last != "Failures") {
            browser.press(&[TAB]);
            reached.push(browser.run(focused).as_str().unwrap().to_owned());
            assert!(reached.len() < 40, "{reached:?}");
        }
        let charts = ["new-connections", "errors", "open-connections", "bytes"];
        assert_eq!(reached[0], "Skip to the figures");
        assert_eq!(reached[1..5], charts);
        assert_eq!(reached[5..10], ["phase", "percentiles", "heat-map", "filter", "Backend"]);

        browser.press(&[ENTER]);
        let sorted = "return document.activeElement.closest('th').getAttribute('aria-sort')";
        assert_eq!(browser.run(sorted), "descending");
        let reading = |browser: &Browser| {
            let script = "const plot = document.querySelector('#open-connections .plot');
                plot.focus();
                return [plot.getAttribute('aria-valuenow'), plot.getAttribute('aria-valuetext')]";
            browser.run(script)
        };
        wait_until("some seconds", || {
            browser.run("return document.querySelector('#errors .line[d*=L]') !== null") == true
        });
        assert_eq!(reading(&browser)[0], "0");
        browser.press(&[LEFT]);
        let there = reading(&browser);
        assert_eq!(there[0], "-1");
        assert!(there[1].as_str().unwrap().contains(": open "), "{there}");
        assert_eq!(browser.errors(), [""; 0]);
    });
}

/// 1. The instance is killed: the page says that it has no answer, and that what it shows is old.
///    2. Another one serves there: the page shows that one.
#[test]
#[ignore = "needs outside programs: scripts/check --all"]
fn it_says_when_the_instance_is_gone_and_when_another_is_there() {
    each_driver_alone(|driver| {
        let (server, admin) = (Server::named(b'a'), FreePort::new());
        let config = Config::new(driver)
            .admin(&format!("listen = \"{}\"", admin.address))
            .backend(server.address);
        let proxy = config.start();
        let browser = open(&proxy);
        browser.wait_text("#events-list", |text| text.contains("driver"));
        drop(proxy);
        browser.wait_text("#headline", |text| text == format!("No answer from {}", admin.address));
        browser.wait_text("#problems", |text| {
            text.contains("the last answer came at") && text.contains("What is below is old")
        });
        assert_eq!(browser.run("return document.body.classList.contains('stale')"), true);
        assert!(!browser.errors().is_empty(), "the look at the console is blind");
        let _another = config.backend(server.address).start();
        browser.wait_text("#headline", |text| text.contains("All is well"));
        browser.wait_text("#backends-count", |text| text == "2 backends");
        assert_eq!(browser.run("return document.body.classList.contains('stale')"), false);
    });
}
