//! Who is told that clients may come.

use serde_json::json;

use crate::kit::{Config, Proxy, Refusing, Server, each_driver};

/// A proxy with the listeners `edge`, whose backend lives, and `other`, whose backend is dead.
fn proxy(driver: &'static str, rule: &str) -> (Proxy, Server, Refusing) {
    let (live, dead) = (Server::echo(), Refusing::new());
    let admin = format!("listen = \"127.0.0.1:0\"\n{rule}");
    let text = Config::new(driver).admin(&admin).backend(live.address).text();
    let (address, health) = (dead.address, "interval = \"100ms\"");
    let other = format!(
        "[[listener]]\nname = \"other\"\nlisten = [\"127.0.0.1:0\"]\npool = \"dead\"\n\
         [[pool]]\nname = \"dead\"\npanic_threshold = 0\n[pool.health_check]\n{health}\n\
         [[pool.backend]]\naddress = \"{address}\"\n"
    );
    let proxy = Proxy::start(&format!("{text}\n{other}"));
    proxy.wait_stats("dead", |s| s.0["pools"][1]["backends"][0]["state"] == "unhealthy");
    (proxy, live, dead)
}

fn answer(proxy: &Proxy, path: &str) -> (u16, serde_json::Value) {
    let answer = proxy.get(path);
    (answer.status, answer.json())
}

const SENTENCE: &str = "listener other: pool dead has no usable backend";

/// 1. One of two pools is dead: the instance is ready, and warns. 2. The listener of the dead pool
///    is not ready, the other one is. 3. A listener that does not exist is 404. 4. The pool comes
///    back: no warning any more.
#[test]
fn one_dead_pool_of_two_does_not_take_the_instance_out() {
    each_driver(|driver| {
        let (proxy, _live, dead) = proxy(driver, "");
        let some = json!({ "ready": true, "reasons": [], "warnings": [SENTENCE] });
        assert_eq!(answer(&proxy, "/ready"), (200, some));
        let none = json!({ "ready": false, "reasons": [SENTENCE], "warnings": [] });
        assert_eq!(answer(&proxy, "/ready/other"), (503, none));
        let well = json!({ "ready": true, "reasons": [], "warnings": [] });
        assert_eq!(answer(&proxy, "/ready/edge"), (200, well.clone()));
        let unknown = proxy.get("/ready/nobody");
        assert_eq!(unknown.status, 404);
        assert_eq!(unknown.body, "no listener \"nobody\" (known: edge, other)\n");
        let _back = Server::echo_at(dead.address);
        proxy.wait_stats("back", |s| s.0["pools"][1]["backends"][0]["state"] == "healthy");
        assert_eq!(answer(&proxy, "/ready"), (200, well.clone()));
        assert_eq!(answer(&proxy, "/ready/other"), (200, well));
    });
}

/// 1. `ready = "all"` and one of two pools is dead. 2. The instance is not ready, and says why.
///    3. Each listener is still asked for itself.
#[test]
fn all_listeners_are_needed_where_the_file_says_so() {
    each_driver(|driver| {
        let (proxy, _live, _dead) = proxy(driver, "ready = \"all\"");
        let none = json!({ "ready": false, "reasons": [SENTENCE], "warnings": [] });
        assert_eq!(answer(&proxy, "/ready"), (503, none));
        assert_eq!((proxy.get("/ready/edge").status, proxy.get("/ready/other").status), (200, 503));
    });
}
