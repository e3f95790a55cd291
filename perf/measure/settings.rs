//! What each contender is told: its command line and its file, one thread each.
//!
//! This room refuses to know how anything is started; the report prints what it gives.

use std::{fmt::Write as _, net::SocketAddr, path::Path};

use serde_json::{Value, json};

/// Where nginx keeps its stream module when it is not built in.
const NGINX_STREAM: [&str; 2] = [
    "/usr/lib/nginx/modules/ngx_stream_module.so",
    "/usr/lib64/nginx/modules/ngx_stream_module.so",
];
/// Pipes of HAProxy at its best settings, as its users write them, and as large as ours may grow.
const PIPE_BYTES: u32 = 262_144;
const LARGE_PIPE_BYTES: u32 = 1_048_576;

/// Who is known; any other `ringway-DRIVER`, and each with `-watched` or `-1mib`, by name.
pub const NAMES: [&str; 12] = [
    "floor-copy",
    "floor-splice",
    "ringway-io_uring",
    "ringway-epoll",
    "ringway-io_uring-1mib",
    "haproxy",
    "haproxy-best",
    "haproxy-1mib",
    "nginx",
    "nginx-best",
    "envoy",
    "envoy-best",
];

/// A listener, and the backends of its pool.
pub type Route = (SocketAddr, Vec<SocketAddr>);

/// How a contender is started. Files are relative to the folder it is started in.
pub struct Settings {
    pub program: &'static str,
    pub args: Vec<String>,
    /// Its file, and what is in it.
    pub file: Option<(&'static str, String)>,
}

/// The settings of a contender.
pub fn of(name: &str, routes: &[Route]) -> Result<Settings, String> {
    let (program, rest) = name.split_once('-').unwrap_or((name, ""));
    match (program, rest) {
        ("floor", "copy" | "splice") => floor(rest, routes),
        ("ringway", driver) if !driver.is_empty() => Ok(ringway(driver, routes)),
        ("haproxy", "") => Ok(haproxy(None, routes)),
        ("haproxy", "best") => Ok(haproxy(Some(PIPE_BYTES), routes)),
        ("haproxy", "1mib") => Ok(haproxy(Some(LARGE_PIPE_BYTES), routes)),
        ("nginx", "" | "best") => Ok(nginx(rest == "best", routes)),
        ("envoy", "" | "best") => Ok(envoy(rest == "best", routes)),
        _ => Err(format!("{name}: no such contender (there are {})", NAMES.join(", "))),
    }
}

fn with_file(
    program: &'static str,
    args: &[&str],
    (file, text): (&'static str, String),
) -> Settings {
    let args = args.iter().chain([&file]).map(|arg| (*arg).to_owned()).collect();
    Settings { program, args, file: Some((file, text)) }
}

fn floor(mode: &str, routes: &[Route]) -> Result<Settings, String> {
    let [(listen, backends)] = routes else {
        return Err("the floor has one listener (leave it out here)".to_owned());
    };
    let mut args = vec!["--listen".to_owned(), listen.to_string(), "--mode".into(), mode.into()];
    for backend in backends {
        args.extend(["--backend".to_owned(), backend.to_string()]);
    }
    Ok(Settings { program: "floor", args, file: None })
}

fn ringway(driver: &str, routes: &[Route]) -> Settings {
    let (driver, pipes, access) = match driver.rsplit_once('-') {
        Some((driver, "watched")) => (driver, "", "access.log"),
        // 64 MiB, all that a user without privileges has; HAProxy takes as much with 64 streams.
        Some((driver, "1mib")) => (driver, "pipe_size = \"1MiB\"\npipes_per_shard = 64\n", "off"),
        _ => (driver, "", "off"),
    };
    let mut text = format!(
        "[runtime]\nshards = 1\ndriver = \"{driver}\"\npin_cpus = false\n{pipes}\n\
         [admin]\nlisten = \"127.0.0.1:0\"\n\n\
         [log]\nlevel = \"warn\"\nreport = \"0s\"\naccess = \"{access}\"\n"
    );
    for (at, (listen, backends)) in routes.iter().enumerate() {
        _ = write!(
            text,
            "\n[[listener]]\nname = \"l{at}\"\nmode = \"tcp\"\nlisten = [\"{listen}\"]\n\
             pool = \"p{at}\"\nsplice = \"auto\"\n\n[[pool]]\nname = \"p{at}\"\n\n\
             [pool.health_check]\nkind = \"none\"\n"
        );
        for backend in backends {
            _ = write!(text, "\n[[pool.backend]]\naddress = \"{backend}\"\n");
        }
    }
    with_file("ringway", &["run", "--config"], ("ringway.toml", text))
}

/// Splices where it is told how large pipes are.
fn haproxy(pipes: Option<u32>, routes: &[Route]) -> Settings {
    // Its connections and pipes have to fit into 20,000 open files.
    let mut text = "global\n  nbthread 1\n  maxconn 9000\n  maxpipes 256\n".to_owned();
    if let Some(bytes) = pipes {
        _ = writeln!(text, "  tune.pipesize {bytes}");
    }
    text.push_str("defaults\n  mode tcp\n  timeout connect 5s\n");
    text.push_str("  timeout client 60s\n  timeout server 60s\n");
    if pipes.is_some() {
        text.push_str("  option splice-request\n  option splice-response\n");
    }
    for (at, (listen, backends)) in routes.iter().enumerate() {
        _ = writeln!(text, "listen l{at}\n  bind {listen}");
        for (at, backend) in backends.iter().enumerate() {
            _ = writeln!(text, "  server s{at} {backend}");
        }
    }
    with_file("haproxy", &["-db", "-q", "-f"], ("haproxy.cfg", text))
}

fn nginx(best: bool, routes: &[Route]) -> Settings {
    let mut text = String::new();
    if let Some(module) = NGINX_STREAM.iter().find(|module| Path::new(module).exists()) {
        _ = writeln!(text, "load_module {module};");
    }
    text.push_str("daemon off;\nmaster_process off;\nerror_log stderr error;\npid nginx.pid;\n");
    text.push_str("events { worker_connections 19000; }\nstream {\n");
    if best {
        text.push_str("  proxy_buffer_size 64k;\n");
    }
    for (at, (listen, backends)) in routes.iter().enumerate() {
        _ = writeln!(text, "  upstream p{at} {{");
        for backend in backends {
            _ = writeln!(text, "    server {backend};");
        }
        _ = writeln!(text, "  }}\n  server {{ listen {listen}; proxy_pass p{at}; }}");
    }
    text.push_str("}\n");
    with_file("nginx", &["-p", ".", "-e", "stderr", "-c"], ("nginx.conf", text))
}

fn envoy(best: bool, routes: &[Route]) -> Settings {
    let names: Vec<String> = (0..routes.len()).map(|at| format!("l{at}")).collect();
    let parts = names.iter().zip(routes);
    let (served, clusters): (Vec<_>, Vec<_>) = parts
        .map(|(name, (listen, backends))| {
            (envoy_listener(name, *listen, best), envoy_cluster(name, backends))
        })
        .unzip();
    let mut config = json!({ "static_resources": { "listeners": served, "clusters": clusters } });
    if best {
        // It counts nothing then.
        config["stats_config"] = json!({ "stats_matcher": { "reject_all": true } });
    }
    // One worker: the others have one thread too.
    let args = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "error", "-c"];
    with_file("envoy", &args, ("envoy.json", format!("{config:#}\n")))
}

fn envoy_listener(name: &str, listen: SocketAddr, best: bool) -> Value {
    let kind = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";
    let mut relay = json!({ "@type": kind, "stat_prefix": name, "cluster": name });
    if best {
        // No timer to be set at each message.
        relay["idle_timeout"] = json!("0s");
    }
    let filter = json!({ "name": "envoy.filters.network.tcp_proxy", "typed_config": relay });
    let chains = json!([{ "filters": [filter] }]);
    json!({ "name": name, "address": envoy_address(listen), "filter_chains": chains })
}

fn envoy_cluster(name: &str, backends: &[SocketAddr]) -> Value {
    let endpoints = backends
        .iter()
        .map(|backend| json!({ "endpoint": { "address": envoy_address(*backend) } }));
    json!({
        "name": name,
        "connect_timeout": "5s",
        // It takes no more than 1,024 connections otherwise.
        "circuit_breakers": {
            "thresholds": [{ "max_connections": 20_000, "max_pending_requests": 20_000 }],
        },
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{ "lb_endpoints": endpoints.collect::<Vec<_>>() }],
        },
    })
}

fn envoy_address(address: SocketAddr) -> Value {
    json!({ "socket_address": { "address": address.ip(), "port_value": address.port() } })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes(backends: u16) -> Vec<Route> {
        let backends = (0..backends).map(|at| ([127, 0, 0, 1], 9001 + at).into());
        vec![(([127, 0, 0, 1], 8080).into(), backends.collect())]
    }

    #[test]
    fn everybody_is_told_of_every_backend() {
        for name in NAMES {
            let settings = of(name, &routes(3)).unwrap();
            let told = match settings.file {
                Some((file, text)) => {
                    assert_eq!(settings.args.last().unwrap(), file);
                    text
                }
                None => settings.args.join(" "),
            };
            for port in ["8080", "9001", "9002", "9003"] {
                assert_eq!(told.matches(port).count(), 1, "{port} in\n{told}");
            }
        }
    }

    #[test]
    fn the_floor_has_one_listener_and_others_are_not_known() {
        assert!(of("floor-copy", &[routes(1), routes(1)].concat()).is_err());
        for name in ["floor", "haproxy-fast", "x"] {
            assert!(of(name, &routes(1)).is_err(), "{name}");
        }
    }

    #[test]
    fn whoever_is_watched_writes_an_access_log() {
        let (_, text) = of("ringway-epoll-watched", &routes(1)).unwrap().file.unwrap();
        assert!(text.contains("driver = \"epoll\"") && text.contains("access = \"access.log\""));
    }
}
