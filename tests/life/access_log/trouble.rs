//! Disks that are full and readers that do not read.

use super::*;

/// 1. The log is a pipe that somebody has open and nobody reads. 2. More clients come than fit the
///    pipe and the queue: all are treated as ever, and lines are dropped, counted, told as an
///    event. 3. The reader reads: what was kept comes whole, and each connection is accounted for.
#[test]
fn a_log_that_nobody_reads_costs_lines_and_no_client() {
    each_driver(|driver| {
        let server = polite();
        let logged = Logged::unread(driver);
        let proxy = logged.config.clone().backend(server.address).start();
        let mut reader = OpenOptions::new().read(true).write(true).open(&logged.file).unwrap();
        wait_for("dropped lines", || {
            keep_out(500, proxy.edge[0]);
            (dropped(&proxy.stats()) > 0).then_some(())
        });
        talk(&proxy);
        wait_until("the event", || {
            let events = proxy.get("/stats/events").json();
            let mut events = events["events"].as_array().unwrap().iter();
            events.any(|e| {
                (&e["kind"], &e["limit"]) == (&"limit_reached".into(), &"access_log".into())
            })
        });
        let reading = std::thread::spawn(move || {
            let (mut text, mut part) = (Vec::new(), vec![0; 1 << 16]);
            while !text.ends_with(b" path=THE-END\n") {
                let n = reader.read(&mut part).unwrap();
                text.extend_from_slice(&part[..n]);
            }
            String::from_utf8(text).unwrap()
        });
        let stats = wait_accounted(&proxy);
        assert!(written(&stats) > 16_384, "{}", stats.without_latency());
        let mut end = OpenOptions::new().append(true).open(&logged.file).unwrap();
        end.write_all(b"last path=THE-END\n").unwrap();
        let text = reading.join().unwrap();
        let whole = |line: &&str| line.starts_with("time=") && line.contains(" path=");
        assert_eq!(text.lines().filter(whole).count() as u64, written(&stats));
        assert_eq!(text.lines().count() as u64, written(&stats) + 1);
    });
}

/// 1. The disk is full in the middle of a line (a limit of the file's size does the same to us). 2.
///    Clients are served; their lines are lost and counted, and the log says so once. 3. There is
///    room again: lines come, and none of them is glued to the one that was cut.
#[test]
fn a_full_disk_costs_lines_and_no_client() {
    each_driver(|driver| {
        let server = polite();
        let logged = Logged::new(driver, "text");
        let proxy = logged.config.clone().backend(server.address).start();
        let size_limit = |most: Option<u64>| {
            let limit = Rlimit { current: most, maximum: None };
            rustix::process::prlimit(Some(proxy.pid()), Resource::Fsize, limit).unwrap();
        };
        talk(&proxy);
        let first = logged.wait_lines(1)[0].len() as u64;
        size_limit(Some(first + 100));
        (0..10).for_each(|_| drop(talk(&proxy)));
        proxy.wait_stats("nine lines lost", |s| dropped(s) == 9);
        assert_eq!(fs::metadata(&logged.file).unwrap().len(), first + 100);
        size_limit(None);
        (0..10).for_each(|_| drop(talk(&proxy)));
        let stats = wait_accounted(&proxy);
        assert_eq!((written(&stats), dropped(&stats)), (12, 9));
        let lines = logged.wait_lines(12);
        let whole = |line: &String| line.starts_with("time=") && field(line, "path") == "copied";
        assert!(lines.len() == 12 && lines.iter().all(whole), "{lines:?}");
        wait_until("the log tells the end of it", || {
            proxy.stderr().contains("the access log takes lines again")
        });
        assert_eq!(proxy.stderr().matches("the access log takes no lines").count(), 1);
    });
}

/// 1. Nobody reads the log, and the process is stopped. 2. It ends, and says what is lost.
#[test]
fn a_log_that_nobody_reads_does_not_hold_up_the_end() {
    each_driver(|driver| {
        let server = polite();
        let logged = Logged::unread(driver);
        let mut proxy = logged.config.clone().backend(server.address).start();
        // Until the pipe is full: a line waits in the thread that writes.
        wait_for("records that wait", || {
            keep_out(100, proxy.edge[0]);
            let stats = proxy.stats();
            (stats.ended_in_all() > written(&stats) + 1000).then_some(())
        });
        let ended = proxy.stats().ended_in_all();
        proxy.signal(Signal::TERM);
        assert_eq!(proxy.wait_exit().code(), Some(0));
        let words = proxy.last_words();
        let told = |what: &str, key: &str| -> u64 {
            let line = words.lines().find(|line| line.contains(what)).expect(what);
            field(line, key).parse().unwrap()
        };
        let left = told("nobody takes the rest of the access log", "left");
        let end = "the end of the access log";
        assert!(left > 0, "{words}");
        assert_eq!(left + told(end, "written") + told(end, "dropped"), ended, "{words}");
    });
}

/// 1. The file ends in the middle of a line, as a crash leaves it. 2. The first new line is a line.
#[test]
fn a_file_that_was_cut_gets_an_end_first() {
    each_driver(|driver| {
        let server = polite();
        let logged = Logged::new(driver, "text");
        fs::write(&logged.file, "time=2026 listener=ed").unwrap();
        let proxy = logged.config.clone().backend(server.address).start();
        talk(&proxy);
        let lines = logged.wait_lines(2);
        assert_eq!(lines[0], "time=2026 listener=ed");
        assert_eq!(field(&lines[1], "listener"), "edge");
    });
}

/// 1. Nothing can ever be written. 2. Clients are served, each line is counted as lost, and the log
///    says once that it does not work, and never that it does.
#[test]
fn a_log_that_never_works_is_told_once() {
    each_driver(|driver| {
        let server = polite();
        let config = Config::new(driver).log(&lines("text", "/dev/full")).backend(server.address);
        let proxy = config.start();
        for count in 1..=5 {
            talk(&proxy);
            proxy.wait_stats("a lost line", |s| dropped(s) == count);
        }
        assert_eq!(written(&proxy.stats()), 0);
        wait_until("a word of it", || proxy.stderr().contains("the access log takes no lines"));
        let log = proxy.stderr();
        assert_eq!(log.matches("the access log takes no lines").count(), 1, "{log}");
        assert!(!log.contains("takes lines again"), "{log}");
    });
}

/// 1. The file was cut in the middle of a line and may grow no more, as after a full disk and a
///    crash. 2. The process starts and serves all the same. 3. There is room again: the cut line
///    gets its end, and the next ones are lines.
#[test]
fn a_full_disk_and_a_cut_line_are_no_reason_not_to_start() {
    each_driver(|driver| {
        let server = polite();
        let logged = Logged::new(driver, "text");
        fs::write(&logged.file, "x".repeat(4096)).unwrap();
        let limited = ["sh", "-c", "ulimit -S -f 1 && exec \"$@\"", "sh"];
        let config = logged.config.clone().backend(server.address);
        let proxy = Proxy::start_by(&limited, &config.text());
        talk(&proxy);
        proxy.wait_stats("a lost line", |s| dropped(s) == 1);
        let limit = Rlimit { current: None, maximum: None };
        rustix::process::prlimit(Some(proxy.pid()), Resource::Fsize, limit).unwrap();
        talk(&proxy);
        let lines = logged.wait_lines(2);
        assert_eq!((lines.len(), lines[0].len()), (2, 4096));
        assert_eq!(field(&lines[1], "end"), "client_fin");
        assert_eq!(written(&wait_accounted(&proxy)), 1);
    });
}

/// 1. The log goes to a pipe that does not wait, and nobody reads. 2. The process is told to end,
///    and only then somebody reads. 3. Nothing is missing, and each line is whole.
#[test]
fn a_pipe_that_does_not_wait_gets_everything_too() {
    each_driver(|driver| {
        let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::NONBLOCK).unwrap();
        rustix::fs::fcntl_setfl(&reader, OFlags::empty()).unwrap();
        let server = polite();
        let config = Config::new(driver).log(&lines("text", "stdout")).backend(server.address);
        let config = config.listener("deny = [\"127.0.0.9\"]");
        let folder = Folder::new();
        let file = folder.path().join("config.toml");
        fs::write(&file, config.text()).unwrap();
        let mut command = Command::new(BINARY);
        command.args(["run", "--config"]).arg(&file).stdout(writer).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        drop(command);
        let mut reader = BufReader::new(fs::File::from(reader));
        let mut ready = String::new();
        reader.read_line(&mut ready).unwrap();
        let edge = ready.trim_end().rsplit_once("edge=").unwrap().1.parse().unwrap();
        keep_out(2000, edge);
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        let read: Vec<String> = reader.lines().map(Result::unwrap).collect();
        assert_eq!(child.wait().unwrap().code(), Some(0));
        let whole = |line: &&String| line.starts_with("time=") && line.ends_with(" path=-");
        assert_eq!((read.len(), read.iter().filter(whole).count()), (2000, 2000));
    });
}
