//! A download, a cache and a database, each on its own listener of one instance, at the same time.

use std::{
    fs,
    io::{Read, Write},
    net::SocketAddr,
    path::Path,
    process::Stdio,
    thread,
};

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{
    kit::{Folder, Proxy, each_driver_alone, peer},
    programs::{Outside, client, postgres_at, run},
};

const FILE_BYTES: u64 = 1 << 30;

/// A file whose megabytes are all different; its digest.
fn write_file(path: &Path) -> String {
    let (mut rng, mut hash) = (fastrand::Rng::with_seed(7), Sha256::new());
    let mut file = fs::File::create(path).unwrap();
    let mut piece = vec![0; 1 << 20];
    rng.fill(&mut piece);
    for number in 0..FILE_BYTES >> 20 {
        piece[..8].copy_from_slice(&number.to_le_bytes());
        hash.update(&piece);
        file.write_all(&piece).unwrap();
    }
    peer::hex(hash)
}

fn text(driver: &str, servers: &[(&str, &Outside)]) -> String {
    let mut text = format!(
        "[runtime]\ndriver = \"{driver}\"\nshards = 2\npin_cpus = false\n\
         [admin]\nlisten = \"127.0.0.1:0\"\n[log]\nreport = \"0s\"\n"
    );
    for (name, _) in servers {
        text += &format!(
            "[[listener]]\nname = \"{name}\"\nlisten = [\"127.0.0.1:0\"]\npool = \"{name}\"\n\
             splice = \"auto\"\n"
        );
    }
    for (name, server) in servers {
        text += &format!(
            "[[pool]]\nname = \"{name}\"\n[[pool.backend]]\naddress = \"{}\"\n",
            server.address
        );
    }
    text
}

/// 1. curl gets a file of 1 GiB from nginx; redis-benchmark sets and gets 200,000 times with 50
///    connections and pipelines of 16; pgbench runs transactions for five seconds; all at once,
///    each on its own listener of one instance. 2. The file is exact, and more than 95 % of it
///    never entered the process. 3. Neither benchmark saw an error, and no byte of redis was
///    spliced. 4. No connection ended for another reason than its two ends had.
#[test]
#[ignore = "needs outside programs: scripts/check --all"]
fn a_file_a_cache_and_a_database_at_the_same_time() {
    let files = Folder::new();
    let digest = write_file(&files.path().join("file"));
    let (nginx, redis, postgres) =
        (Outside::nginx(files.path()), Outside::redis(), Outside::postgres());
    each_driver_alone(|driver| {
        let servers = [("edge", &nginx), ("redis", &redis), ("postgres", &postgres)];
        let proxy = Proxy::start(&text(driver, &servers));
        thread::scope(|scope| {
            scope.spawn(|| assert_eq!(download(proxy.address_of("edge")), digest));
            scope.spawn(|| benchmark_redis(driver, proxy.address_of("redis")));
            scope.spawn(|| benchmark_postgres(driver, proxy.address_of("postgres")));
        });
        let stats = proxy.wait_stats("all have ended", |s| s.shards("connections_active") == 0);
        let of = |name: &str| {
            let listeners = stats.0["listeners"].as_array().unwrap();
            listeners.iter().find(|listener| listener["name"] == name).unwrap()
        };
        let (down, spliced) = (number(of("edge"), "bytes_down_total"), spliced(of("edge")));
        eprintln!("{driver}: {:.2} % spliced", spliced as f64 * 100.0 / down as f64);
        assert!(down > FILE_BYTES && spliced > down / 100 * 95, "{spliced} of {down}");
        let cache = of("redis");
        assert!(number(cache, "bytes_up_total") > 1 << 20);
        assert_eq!(number(cache, "bytes_spliced_total"), 0);
        assert!(number(of("postgres"), "accepted_total") >= 8);
        for (name, _) in servers {
            for (reason, _) in of(name)["ended_total"].as_object().unwrap() {
                let by_its_ends = ["client_fin", "server_fin", "client_reset", "server_reset"];
                assert!(by_its_ends.contains(&reason.as_str()), "{name}: {reason}");
            }
        }
    });
}

fn number(listener: &Value, key: &str) -> u64 {
    listener[key].as_u64().unwrap()
}

fn spliced(listener: &Value) -> u64 {
    number(listener, "bytes_spliced_total")
}

/// The digest of what curl gets.
fn download(from: SocketAddr) -> String {
    let mut curl = client("curl")
        .args(["--silent", "--show-error", "--fail", "--noproxy", "*"])
        .arg(format!("http://{from}/file"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = curl.stdout.take().unwrap();
    let (mut hash, mut piece) = (Sha256::new(), vec![0; 256 * 1024]);
    while let n @ 1.. = stdout.read(&mut piece).unwrap() {
        hash.update(&piece[..n]);
    }
    let ended = curl.wait().unwrap();
    assert!(ended.success(), "curl: {ended}");
    peer::hex(hash)
}

fn benchmark_redis(driver: &str, at: SocketAddr) {
    let (host, port) = (at.ip().to_string(), at.port().to_string());
    let mut command = client("redis-benchmark");
    command.args(["-h", &host, "-p", &port, "-t", "set,get", "-n", "200000", "-c", "50"]);
    let told = run(command.args(["-P", "16", "--csv"]));
    for operation in ["\"SET\"", "\"GET\""] {
        let line = told.lines().find(|line| line.starts_with(operation));
        eprintln!("{driver}: {}", line.unwrap_or_else(|| panic!("no {operation} in {told}")));
    }
    assert!(!told.to_lowercase().contains("error"), "{told}");
}

fn benchmark_postgres(driver: &str, at: SocketAddr) {
    let pgbench = || {
        let mut command = client("pgbench");
        command.args(postgres_at(at));
        command
    };
    run(pgbench().args(["-i", "-q", "postgres"]));
    let told = run(pgbench().args(["-c", "8", "-j", "2", "-T", "5", "postgres"]));
    for line in told.lines().filter(|line| line.starts_with("number of failed transactions")) {
        assert!(line.contains(": 0 "), "{told}");
    }
    assert!(!told.to_lowercase().contains("error"), "{told}");
    let tps = told.lines().find(|line| line.starts_with("tps"));
    eprintln!("{driver}: {}", tps.unwrap_or_else(|| panic!("no tps in {told}")));
}
