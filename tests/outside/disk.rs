//! A disk that is full.

use std::{fs, path::PathBuf};

use crate::{
    kit::{Config, Folder, Server, Steady, each_driver},
    process::start_by,
};

/// 1. The access log is on a disk of 64 KiB, half of it taken, and clients come all the time. 2.
///    The disk is full: lines are dropped and counted. 3. There is room again: lines are written.
///    4. No client was failed, each line is whole, and each connection is a line or is counted as
///    dropped.
#[test]
#[ignore = "needs outside programs: scripts/check --all"]
fn a_full_disk_costs_lines_and_no_client() {
    each_driver(|driver| {
        let (folder, server) = (Folder::new(), Server::named(b'a'));
        let disk = folder.path().join("disk");
        fs::create_dir(&disk).unwrap();
        let mount = format!("mount -t tmpfs -o size=64k tmpfs {} && exec \"$@\"", disk.display());
        let file = disk.join("access.log");
        let log = format!("report = \"0s\"\naccess = \"{}\"", file.display());
        let config = Config::new(driver).log(&log).backend(server.address);
        let proxy = start_by(&["unshare", "-rm", "sh", "-c", &mount, "sh"], &config);
        // The disk is in a mount namespace of the process's own.
        let seen = |file: PathBuf| {
            let root = PathBuf::from(format!("/proc/{}/root", proxy.pid().as_raw_nonzero()));
            root.join(file.strip_prefix("/").unwrap())
        };
        let filler = seen(disk.join("filler"));
        fs::write(&filler, vec![0; 32 << 10]).unwrap();
        let clients = Steady::start(proxy.edge[0]);
        let of_log = |key: &str| proxy.stats().0["access_log"][key].as_u64().unwrap();
        proxy.wait_stats("dropped lines", |s| s.0["access_log"]["dropped_total"] != 0);
        let before = of_log("lines_total");
        fs::remove_file(&filler).unwrap();
        proxy.wait_stats("lines again", |s| {
            s.0["access_log"]["lines_total"].as_u64().unwrap() > before + 20
        });
        assert_eq!(clients.stop(), Vec::<String>::new());
        let stats = proxy.wait_stats("an account of each", |s| {
            let log = |key: &str| s.0["access_log"][key].as_u64().unwrap();
            s.listener("accepted_total") == log("lines_total") + log("dropped_total")
        });
        let text = fs::read_to_string(seen(file.clone())).unwrap();
        let whole = |line: &&str| line.starts_with("time=") && line.ends_with(" path=copied");
        assert_eq!(text.lines().filter(whole).count(), text.lines().count());
        assert_eq!(stats.0["access_log"]["lines_total"], text.lines().count());
    });
}
