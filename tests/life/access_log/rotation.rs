//! A file that is renamed, and the signal that says so.

use super::*;

/// 1. Clients come all the time. 2. Again and again the file is renamed, and the process is told.
///    3. Each connection has one whole line in exactly one of the files.
#[test]
fn a_renamed_file_is_left_and_a_new_one_begun() {
    each_driver(|driver| {
        let server = polite();
        let logged = Logged::new(driver, "text");
        let proxy = logged.config.clone().shards(2).backend(server.address).start();
        let renamed = |round: usize| logged.folder.path().join(format!("access.log.{round}"));
        let mut clients: Vec<String> = Vec::new();
        for round in 0..5 {
            clients.extend((0..20).map(|_| talk(&proxy)));
            fs::rename(&logged.file, renamed(round)).unwrap();
            proxy.signal(Signal::USR1);
            wait_until("a new file", || logged.file.exists());
        }
        clients.extend((0..20).map(|_| talk(&proxy)));
        wait_accounted(&proxy);
        let mut text: String = (0..5).map(|r| fs::read_to_string(renamed(r)).unwrap()).collect();
        text += &logged.text();
        let mut logged: Vec<&str> = text.lines().map(|line| field(line, "client")).collect();
        clients.sort_unstable();
        logged.sort_unstable();
        assert_eq!(logged, clients);
    });
}

/// 1. The folder is gone when the process is told to reopen. 2. It says so and goes on in the old
///    file.
#[test]
fn a_file_that_cannot_be_reopened_is_gone_on_with() {
    each_driver(|driver| {
        let server = polite();
        let logged = Logged::new(driver, "text");
        let proxy = logged.config.clone().backend(server.address).start();
        let mut open = fs::File::open(&logged.file).unwrap();
        fs::remove_dir_all(logged.folder.path()).unwrap();
        proxy.signal(Signal::USR1);
        wait_until("a word of it", || proxy.stderr().contains("cannot reopen"));
        let client = talk(&proxy);
        wait_until("its line in the old file", || {
            let mut text = String::new();
            open.read_to_string(&mut text).unwrap();
            text.contains(&format!("client={client} "))
        });
    });
}

/// 1. The log is a pipe that nobody reads, and thousands of records wait. 2. It is renamed, and the
///    process is told. 3. What ended before that comes out of the pipe, all of it; what ends after
///    it is in the new file.
#[test]
fn what_ended_before_the_signal_belongs_to_the_old_file() {
    each_driver(|driver| {
        let server = polite();
        let logged = Logged::unread(driver);
        let proxy = logged.config.clone().backend(server.address).start();
        let mut reader = OpenOptions::new().read(true).write(true).open(&logged.file).unwrap();
        keep_out(2000, proxy.edge[0]);
        proxy.wait_stats("the end of all", |s| s.ended_in_all() == 2000);
        fs::rename(&logged.file, logged.folder.path().join("old")).unwrap();
        proxy.signal(Signal::USR1);
        let (mut text, mut part) = (Vec::new(), vec![0; 1 << 16]);
        while text.iter().filter(|byte| **byte == b'\n').count() < 2000 {
            let n = reader.read(&mut part).unwrap();
            text.extend_from_slice(&part[..n]);
        }
        wait_until("the new file", || logged.file.exists());
        let client = talk(&proxy);
        let lines = logged.wait_lines(1);
        assert_eq!((lines.len(), field(&lines[0], "client")), (1, client.as_str()));
    });
}

/// 1. The process waits for the first answer of a name server that is silent. 2. The log is renamed
///    and the process told, before it serves. 3. Once it serves, there is a new file.
#[test]
fn a_signal_before_serving_is_remembered() {
    each_driver(|driver| {
        let (silent, admin) = (FreePort::with_udp(), FreePort::new());
        let logged = Logged::new(driver, "text");
        let config = logged.config.clone().name_server(silent.address);
        let config = config.admin(&format!("listen = \"{}\"", admin.address));
        let config = config.backend_at("nobody.test:1", "");
        let renamed = logged.folder.path().join("old");
        let (code, _, stderr) = run_to_end_while(&config.text(), |pid| {
            wait_until("its sockets", || TcpStream::connect(admin.address).is_ok());
            // Whoever answers follows signals.
            assert_eq!(http::get(admin.address, "/health").status, 200);
            fs::rename(&logged.file, &renamed).unwrap();
            kill_process(pid, Signal::USR1).unwrap();
            wait_until("a new file", || logged.file.exists());
            kill_process(pid, Signal::TERM).unwrap();
        });
        assert_eq!(code, Some(0), "{stderr}");
        assert!(!stderr.contains("no access log is open"), "{stderr}");
    });
}
