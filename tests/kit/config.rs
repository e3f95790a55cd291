//! A configuration file in the making: one listener `edge`, one pool `web`, free ports.

use std::{fmt::Write, net::SocketAddr};

use super::Proxy;

/// What differs between tests; the rest is as short and quiet as it can be.
#[derive(Clone)]
pub struct Config {
    driver: &'static str,
    shards: usize,
    listen: Vec<String>,
    runtime: String,
    dns: String,
    admin: String,
    log: String,
    listener: String,
    pool: String,
    health: String,
    backends: String,
    backend_count: usize,
}

impl Config {
    /// One shard, no health checks, no backend.
    pub fn new(driver: &'static str) -> Config {
        Config {
            driver,
            shards: 1,
            listen: vec!["127.0.0.1:0".into()],
            runtime: String::new(),
            dns: String::new(),
            admin: "listen = \"127.0.0.1:0\"\n".into(),
            log: "report = \"0s\"\n".into(),
            listener: String::new(),
            pool: String::new(),
            health: "kind = \"none\"\n".into(),
            backends: String::new(),
            backend_count: 0,
        }
    }

    pub fn shards(mut self, shards: usize) -> Self {
        self.shards = shards;
        self
    }

    /// Where `edge` listens.
    pub fn listen(mut self, addresses: &[&str]) -> Self {
        self.listen = addresses.iter().map(|address| (*address).to_owned()).collect();
        self
    }

    /// A line of `[runtime]`.
    pub fn runtime(mut self, line: &str) -> Self {
        let _ = writeln!(self.runtime, "{line}");
        self
    }

    /// The lines of `[admin]`.
    pub fn admin(mut self, lines: &str) -> Self {
        self.admin = format!("{lines}\n");
        self
    }

    /// The lines of `[log]`.
    pub fn log(mut self, lines: &str) -> Self {
        self.log = format!("{lines}\n");
        self
    }

    /// A line of `[[listener]]`.
    pub fn listener(mut self, line: &str) -> Self {
        let _ = writeln!(self.listener, "{line}");
        self
    }

    /// A line of `[[pool]]`.
    pub fn pool(mut self, line: &str) -> Self {
        let _ = writeln!(self.pool, "{line}");
        self
    }

    /// The lines of `[pool.health_check]`.
    pub fn health(mut self, lines: &str) -> Self {
        self.health = format!("{lines}\n");
        self
    }

    /// One more backend, named `a`, `b`, `c` in turn.
    pub fn backend(self, address: SocketAddr) -> Self {
        self.backend_with(address, "")
    }

    /// Who is asked for the addresses of names.
    pub fn name_server(mut self, address: SocketAddr) -> Self {
        self.dns = format!("[dns]\nservers = [\"{address}\"]\n");
        self
    }

    /// One more backend with a line of its own.
    pub fn backend_with(self, address: SocketAddr, line: &str) -> Self {
        self.backend_at(&address.to_string(), line)
    }

    /// The same, with an address that is a name.
    pub fn backend_at(mut self, address: &str, line: &str) -> Self {
        let name = char::from(b'a' + self.backend_count as u8);
        self.backend_count += 1;
        let _ = writeln!(
            self.backends,
            "[[pool.backend]]\nname = \"{name}\"\naddress = \"{address}\"\n{line}"
        );
        self
    }

    /// The file.
    pub fn text(&self) -> String {
        let Config { driver, shards, listen, runtime, dns, admin, log, .. } = self;
        let Config { listener, pool, health, backends, .. } = self;
        // Not pinned: many proxies with one shard each would share the first CPU.
        format!(
            "[runtime]\ndriver = \"{driver}\"\n\
             shards = {shards}\npin_cpus = false\n{runtime}\n{dns}\
             [admin]\n{admin}\n[log]\n{log}\n\
             [[listener]]\nname = \"edge\"\nlisten = {listen:?}\npool = \"web\"\n{listener}\n\
             [[pool]]\nname = \"web\"\n{pool}\n[pool.health_check]\n{health}\n{backends}"
        )
    }

    /// Starts a proxy with it.
    pub fn start(&self) -> Proxy {
        Proxy::start(&self.text())
    }

    /// Starts a proxy with it as a user without privileges, where we may.
    pub fn start_as_nobody(&self) -> Proxy {
        Proxy::start_as_nobody(&self.text())
    }
}
