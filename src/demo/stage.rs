//! Who takes part in the demo: three backends, the proxy, and the kill.

use std::{
    fs,
    net::SocketAddr,
    os::unix::{fs::DirBuilderExt, process::CommandExt},
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use crate::child::{Guarded, free_address};

const LISTEN: ([u8; 4], u16) = ([127, 0, 0, 1], 8080);
const ADMIN: ([u8; 4], u16) = ([127, 0, 0, 1], 9900);
const NAMES: [&str; 3] = ["a", "b", "c"];
/// The backend that is killed.
const VICTIM: usize = 1;
/// How long the proxy may take to end: longer than its drain timeout in our configuration.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// Everything that runs; dropping it ends all of it.
pub struct Stage {
    /// Where clients connect.
    pub listener: SocketAddr,
    /// Where the figures are.
    pub admin: SocketAddr,
    proxy: Guarded,
    /// By name; the victim is `None` while it is dead.
    backends: [Option<Guarded>; 3],
    addresses: [SocketAddr; 3],
    kills: Vec<Instant>,
    _files: TempDir,
}

/// A private directory, gone with its guard.
struct TempDir(PathBuf);

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Stage {
    /// Starts the backends, then the proxy in front of them.
    pub fn start() -> Result<Self, String> {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let [a, b, c] = NAMES.map(|name| backend(name, any));
        let [(a, a_at), (b, b_at), (c, c_at)] = [a?, b?, c?];
        let addresses = [a_at, b_at, c_at];
        let files = temp_dir()?;
        let config = files.0.join("config.toml");
        let text = config_text(addresses)?;
        let saved = fs::write(&config, text);
        saved.map_err(|error| format!("cannot write {}: {error}", config.display()))?;
        let mut command = myself()?;
        command.args(["run", "--config"]).arg(&config);
        let (proxy, ready) = Guarded::start_ready("ringway run", &mut command)?;
        Ok(Self {
            listener: ready.address("demo")?,
            admin: ready.address("admin")?,
            proxy,
            backends: [Some(a), Some(b), Some(c)],
            addresses,
            kills: Vec::new(),
            _files: files,
        })
    }

    /// Says what runs and where.
    pub fn announce(&self, seconds: Option<Duration>) {
        for (wanted, got) in [(LISTEN, self.listener), (ADMIN, self.admin)] {
            if SocketAddr::from(wanted) != got {
                println!("{} is taken: {got} instead", SocketAddr::from(wanted));
            }
        }
        let [a, b, c] = self.addresses;
        println!("proxy     {} -> a {a}, b {b}, c {c}", self.listener);
        println!("load      300 connections a second, and 32 held ones with 640 echoes a second");
        match seconds {
            Some(seconds) => println!(
                "mischief  backend b is killed after {:.1?} and is back after {:.1?}",
                seconds / 3,
                seconds / 3 * 2
            ),
            None => println!("mischief  backend b is killed and restored by turns; Ctrl-C ends it"),
        }
        println!("open      http://{}/\n", self.admin);
    }

    /// SIGKILLs the victim.
    pub fn kill_one(&mut self) -> Result<(), String> {
        self.kills.push(Instant::now());
        drop(self.backends[VICTIM].take());
        Ok(())
    }

    /// Starts the victim again on its port.
    pub fn restore(&mut self) -> Result<(), String> {
        let (guard, _) = backend(NAMES[VICTIM], self.addresses[VICTIM])?;
        self.backends[VICTIM] = Some(guard);
        Ok(())
    }

    /// When the victim was killed.
    pub fn kills(&self) -> &[Instant] {
        &self.kills
    }

    /// What is going on, in a few words.
    pub fn note(&self) -> String {
        let name = NAMES[VICTIM];
        match (&self.backends[VICTIM], self.kills.last()) {
            (Some(_), None) => "all backends are up".to_owned(),
            (Some(_), Some(_)) => format!("backend {name} is back"),
            (None, _) => format!("backend {name} was killed"),
        }
    }

    /// Ends the proxy the polite way, which has to work, then all else.
    pub fn stop(self) -> Result<(), String> {
        let status = self.proxy.terminate(STOP_TIMEOUT)?;
        if status.success() { Ok(()) } else { Err(format!("ringway run ended with {status}")) }
    }
}

fn backend(name: &str, listen: SocketAddr) -> Result<(Guarded, SocketAddr), String> {
    let mut command = myself()?;
    command.args(["backend", "--mode", "echo", "--listen", &listen.to_string()]);
    let (guard, ready) = Guarded::start_ready(&format!("backend {name}"), &mut command)?;
    Ok((guard, ready.address("backend")?))
}

/// Our own program, in a process group of its own: a Ctrl-C in the terminal is for us alone, and we
/// end the children in order.
fn myself() -> Result<Command, String> {
    let program = std::env::current_exe();
    let program = program.map_err(|error| format!("cannot find our own program: {error}"))?;
    let mut command = Command::new(program);
    command.process_group(0);
    Ok(command)
}

fn temp_dir() -> Result<TempDir, String> {
    let path = std::env::temp_dir().join(format!("ringway-demo-{}", std::process::id()));
    let made = fs::DirBuilder::new().mode(0o700).create(&path);
    made.map_err(|error| format!("cannot make {}: {error}", path.display()))?;
    Ok(TempDir(path))
}

fn config_text(backends: [SocketAddr; 3]) -> Result<String, String> {
    let (listen, admin) = (free_address(LISTEN.into())?, free_address(ADMIN.into())?);
    let mut text = format!(
        r#"[runtime]
drain_timeout = "3s"

[admin]
listen = "{admin}"

[log]
level = "error"
report = "0s"

[[listener]]
name = "demo"
mode = "tcp"
listen = ["{listen}"]
pool = "demo"

[[pool]]
name = "demo"
balance = "weighted_round_robin"

[pool.health_check]
kind = "tcp"
interval = "500ms"
timeout = "250ms"
healthy_after = 1
unhealthy_after = 2
"#
    );
    for (name, address) in NAMES.iter().zip(backends) {
        text.push_str(&format!("\n[[pool.backend]]\nname = \"{name}\"\naddress = \"{address}\"\n"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_is_toml_with_three_backends() {
        let addresses = [1, 2, 3].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let text = config_text(addresses).unwrap();
        let table: toml::Table = text.parse().unwrap();
        let backends = table["pool"][0]["backend"].as_array().unwrap();
        assert_eq!(backends.len(), 3);
        assert_eq!(backends[2]["address"].as_str(), Some("127.0.0.1:3"));
    }
}
