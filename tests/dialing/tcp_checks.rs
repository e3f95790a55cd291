//! Checks over TCP that say something, wait for something, or ask elsewhere.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::{Arc, Mutex},
};

use crate::{
    ask_who,
    kit::{Config, Refusing, Server, each_driver, peer, wait_until},
};

const FAST: &str = "kind = \"tcp\"\ninterval = \"50ms\"\ntimeout = \"5s\"\n\
                    healthy_after = 2\nunhealthy_after = 2";

/// What each check did, in words.
type Told = Arc<Mutex<Vec<String>>>;

/// A server that greets, answers the first five bytes, and tells what it heard and how it ended.
fn told(greeting: &'static [u8], answer: &'static [u8]) -> (Server, Told) {
    let told = Told::default();
    let kept = Arc::clone(&told);
    let server = Server::new(move |mut stream: TcpStream| {
        let _ = stream.write_all(greeting);
        let mut word = [0; 6];
        let heard = match answer {
            [] => String::new(),
            answer => {
                let Ok(()) = stream.read_exact(&mut word) else { return };
                let _ = stream.write_all(answer);
                String::from_utf8_lossy(&word).into_owned()
            }
        };
        let end = peer::end_of(&mut stream);
        kept.lock().unwrap().push(format!("{heard:?} {end:?}"));
    });
    (server, told)
}

fn check(more: &str) -> String {
    format!("{FAST}\n{more}")
}

/// 1. A server answers PING with +PONG and more: it is healthy, and each check ends with a FIN. 2.
///    One that answers otherwise is not, and what it said is the reason.
#[test]
fn what_is_sent_is_answered_and_ends_in_order() {
    each_driver(|driver| {
        let health = check(
            r#"send = "PING\r\n"
expect = "+PONG""#,
        );
        let (good, heard) = told(b"", b"+PONG and more\r\n");
        let (bad, _) = told(b"", b"-ERR\x00\r\n");
        let config = Config::new(driver).health(&health).backend(good.address);
        let proxy = config.backend(bad.address).start();
        let stats = proxy.wait_stats("b is out", |s| s.state(1) == "unhealthy");
        let reason = &stats.0["pools"][0]["backends"][1]["reason"];
        assert_eq!(reason, r#"answered "-ERR\x00", expected "+PONG""#);
        wait_until("some checks", || heard.lock().unwrap().len() > 3);
        assert_eq!(proxy.stats().state(0), "healthy");
        let heard = heard.lock().unwrap().clone();
        assert!(heard.iter().all(|check| check == "\"PING\\r\\n\" Fin"), "{heard:?}");
    });
}

/// 1. Nothing is sent: the greeting is looked at, which here is no text. 2. A server that closes
///    without one has failed.
#[test]
fn a_greeting_is_awaited_where_nothing_is_sent() {
    each_driver(|driver| {
        let (good, heard) = told(b"\x00\xffhello", b"");
        let mute = Server::new(drop);
        let health = check("expect = \"hex:00ff\"");
        let config = Config::new(driver).health(&health).backend(good.address);
        let proxy = config.backend(mute.address).start();
        let stats = proxy.wait_stats("b is out", |s| s.state(1) == "unhealthy");
        let reason = &stats.0["pools"][0]["backends"][1]["reason"];
        assert_eq!(reason, r#"closed without a word, expected "\x00\xff""#);
        wait_until("some checks", || heard.lock().unwrap().len() > 3);
        assert_eq!(proxy.stats().state(0), "healthy");
        let heard = heard.lock().unwrap().clone();
        assert!(heard.iter().all(|check| check == "\"\" Fin"), "{heard:?}");
    });
}

/// 1. The traffic's port says who it is, another one says that all is well: healthy. 2. The other
///    one dies: unhealthy, although the traffic's port lives. 3. It is back: clients are served.
#[test]
fn another_port_is_asked() {
    each_driver(|driver| {
        let (live, place) = (Server::named(b'a'), Refusing::new());
        let sidecar = Server::echo_at(place.address);
        let health = check(&format!("port = {}", place.address.port()));
        let config = Config::new(driver).health(&health).pool("panic_threshold = 0");
        let proxy = config.backend(live.address).start();
        wait_until("some checks", || sidecar.accepted() > 3);
        assert_eq!((proxy.stats().state(0), live.accepted()), ("healthy", 0));
        drop(sidecar);
        proxy.wait_stats("out", |s| s.state(0) == "unhealthy");
        let _sidecar = Server::echo_at(place.address);
        proxy.wait_stats("back", |s| s.state(0) == "healthy");
        assert_eq!(ask_who(&proxy), 'a');
    });
}
