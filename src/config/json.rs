//! The configuration in force as JSON, in the shape and with the keys of the file.

use std::time::Duration;

use ipnet::IpNet;
use serde_json::{Value, json};

use super::{
    AccessLog, Admin, Auto, Config, Counted, HealthCheck, Listener, Outlier, Pool, Probe, Runtime,
    Word,
    units::{duration_text, size_text},
};

impl Config {
    /// The configuration with its defaults filled in, as the file would say it: durations and
    /// sizes as text, a listener's pool by name, `"0s"` and 0 for off.
    pub fn to_json(&self) -> Value {
        let listeners: Vec<Value> = self.listeners.iter().map(|l| listener(l, self)).collect();
        json!({
            "runtime": runtime(&self.runtime),
            "admin": admin(&self.admin),
            "dns": { "servers": self.dns.servers },
            "log": {
                "level": self.log.level.word(),
                "format": self.log.format.word(),
                "report": maybe(self.log.report),
                "access": access_log(&self.log.access),
            },
            "listener": listeners,
            "pool": self.pools.iter().map(pool).collect::<Vec<Value>>(),
        })
    }
}

fn access_log(access: &AccessLog) -> Value {
    match access {
        AccessLog::Off => json!("off"),
        AccessLog::Stdout => json!("stdout"),
        AccessLog::File(path) => json!(path),
    }
}

fn admin(admin: &Admin) -> Value {
    let mut value = json!({ "listen": admin.listen.to_string(), "ready": admin.ready.word() });
    if let Some(token) = &admin.token {
        value["token_file"] = json!(token.file);
    }
    value
}

fn runtime(runtime: &Runtime) -> Value {
    json!({
        "shards": auto(runtime.shards),
        "driver": runtime.driver.word(),
        "pin_cpus": auto(runtime.pin_cpus),
        "drain_delay": duration_text(runtime.drain_delay),
        "drain_timeout": duration_text(runtime.drain_timeout),
        "max_connections": auto(runtime.max_connections),
        "pipes_per_shard": auto(runtime.pipes_per_shard),
        "pipe_size": size_text(u64::from(runtime.pipe_size)),
        "unsent_max": size_text(u64::from(runtime.unsent_max)),
    })
}

fn listener(listener: &Listener, config: &Config) -> Value {
    let listen: Vec<String> = listener.listen.iter().map(ToString::to_string).collect();
    json!({
        "name": listener.name,
        "mode": listener.mode.word(),
        "listen": listen,
        "pool": config.pools.get(listener.pool).map(|pool| pool.name.as_str()),
        "max_connections": listener.max_connections.unwrap_or(0),
        "idle_timeout": maybe(listener.idle_timeout),
        "half_close_timeout": maybe(listener.half_close_timeout),
        "splice": listener.splice.word(),
        "allow": networks(&listener.access.allow),
        "deny": networks(&listener.access.deny),
        "max_connections_per_source": listener.source.max_connections.unwrap_or(0),
        "source_prefix": listener.source.prefix,
        "keepalive": maybe(listener.keepalive),
    })
}

/// One address is shown without the length that says so.
fn networks(networks: &[IpNet]) -> Vec<String> {
    let text = |network: &IpNet| match network.prefix_len() == network.max_prefix_len() {
        true => network.addr().to_string(),
        false => network.to_string(),
    };
    networks.iter().map(text).collect()
}

fn pool(pool: &Pool) -> Value {
    let backends = pool.backends.iter().map(|backend| {
        json!({
            "name": backend.name,
            "address": backend.address.to_string(),
            "weight": backend.weight,
            "priority": backend.priority,
            "max_connections": backend.max_connections,
        })
    });
    json!({
        "name": pool.name,
        "balance": pool.balance.word(),
        "hash_on": "source_ip",
        "connect_timeout": duration_text(pool.connect_timeout),
        "max_attempts": pool.max_attempts,
        "retry_budget": pool.retry_budget.unwrap_or(0.0),
        "slow_start": duration_text(pool.slow_start),
        "panic_threshold": pool.panic_threshold,
        "on_unhealthy": pool.on_unhealthy.word(),
        "send_proxy": pool.send_proxy.word(),
        "health_check": health_check(pool.health_check.as_ref()),
        "outlier": outlier(pool.outlier.as_ref()),
        "backend": backends.collect::<Vec<Value>>(),
    })
}

fn outlier(outlier: Option<&Outlier>) -> Value {
    let Some(outlier) = outlier else { return json!({ "consecutive_failures": 0 }) };
    let counted = Counted::WORDS.iter().filter(|(_, kind)| outlier.counts(*kind));
    json!({
        "count": counted.map(|(word, _)| *word).collect::<Vec<_>>(),
        "min_clients": outlier.min_clients,
        "consecutive_failures": outlier.consecutive_failures,
        "ejection": duration_text(outlier.ejection),
        "max_ejected": outlier.max_ejected,
    })
}

fn health_check(check: Option<&HealthCheck>) -> Value {
    let Some(check) = check else { return json!({ "kind": "none" }) };
    let mut shown = json!({
        "kind": "tcp",
        "interval": duration_text(check.interval),
        "timeout": duration_text(check.timeout),
        "healthy_after": check.healthy_after,
        "unhealthy_after": check.unhealthy_after,
    });
    if let Some(port) = check.port {
        shown["port"] = json!(port);
    }
    match &check.probe {
        Probe::Tcp(tcp) => {
            shown["send"] = json!(tcp.send.to_string());
            shown["expect"] = json!(tcp.expect.to_string());
        }
        Probe::Http(http) => {
            shown["kind"] = json!("http");
            shown["path"] = json!(http.path);
            shown["host"] = json!(http.host.as_deref().unwrap_or_default());
            shown["expect_status"] = json!(http.expect.to_string());
        }
    }
    shown
}

fn maybe(duration: Option<Duration>) -> String {
    duration_text(duration.unwrap_or(Duration::ZERO))
}

fn auto<T: Into<Value>>(value: Auto<T>) -> Value {
    match value {
        Auto::Auto => json!("auto"),
        Auto::Fixed(number) => number.into(),
    }
}
