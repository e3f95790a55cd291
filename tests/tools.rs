//! Black-box tests of `ringway backend` and `ringway bench`: the real binary on free ports.

#[path = "tools/http.rs"]
mod http;
#[path = "tools/plot.rs"]
mod plot;

use std::{
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

/// No test waits longer for anything.
const DEADLINE: Duration = Duration::from_secs(20);

struct Backend {
    child: Child,
    /// The first of its addresses, and the others.
    address: SocketAddr,
    others: Vec<SocketAddr>,
}

impl Drop for Backend {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ringway() -> Command {
    Command::new(env!("CARGO_BIN_EXE_ringway"))
}

fn backend(options: &[&str]) -> Backend {
    backend_on("127.0.0.1:0", options)
}

fn backend_on(listen: &str, options: &[&str]) -> Backend {
    let mut child = ringway()
        .args(["backend", "--listen", listen, "--mode"])
        .args(options)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut addresses = ready_addresses(child.stdout.take().unwrap());
    Backend { child, address: addresses.remove(0), others: addresses }
}

fn ready_addresses(stdout: ChildStdout) -> Vec<SocketAddr> {
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line).unwrap();
    let addresses = line.trim_end().strip_prefix("ready backend=");
    let addresses = addresses.unwrap_or_else(|| panic!("not a ready line: {line:?}"));
    addresses.split(',').map(|address| address.parse().unwrap()).collect()
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, DEADLINE).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

fn bench(target: SocketAddr, options: &[&str]) -> (Output, Value) {
    let target = target.to_string();
    let (mode, options) = options.split_first().unwrap();
    let output = ringway()
        .args(["bench", mode, "--target", &target, "--json"])
        .args(options)
        .output()
        .unwrap();
    let json = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (output, json)
}

/// Runs a bench that has to succeed without a failed operation.
fn good_bench(target: SocketAddr, options: &[&str]) -> Value {
    let (output, json) = bench(target, options);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(json["failed"], serde_json::json!({}), "{json}");
    json
}

fn exit_of(child: &mut Child) -> ExitStatus {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        assert!(Instant::now() < deadline, "the process does not end");
        std::thread::yield_now();
    }
}

fn number(json: &Value, key: &str) -> u64 {
    json[key].as_u64().unwrap_or_else(|| panic!("no number {key} in {json}"))
}

/// 1. Send more than any buffer holds while reading it back.
/// 2. End our direction.
/// 3. All of it comes back, then the end.
#[test]
fn an_echo_gives_back_every_byte_and_then_the_end() {
    let backend = backend(&["echo"]);
    let mut stream = connect(backend.address);
    let sent: Vec<u8> = (0..20_000_000_u32).map(|at| (at % 249) as u8).collect();
    let mut writer = stream.try_clone().unwrap();
    let got = std::thread::scope(|scope| {
        scope.spawn(|| {
            writer.write_all(&sent).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        let mut got = Vec::new();
        stream.read_to_end(&mut got).unwrap();
        got
    });
    assert!(got == sent, "{} bytes came back of {}", got.len(), sent.len());
}

#[test]
fn a_source_sends_exactly_its_size_in_its_pattern() {
    let backend = backend(&["source", "--size", "1000003"]);
    let mut got = Vec::new();
    connect(backend.address).read_to_end(&mut got).unwrap();
    assert_eq!(got.len(), 1_000_003);
    let period = ringway::backend::PATTERN_PERIOD;
    assert!(got.iter().enumerate().all(|(at, byte)| *byte == (at % period) as u8));
}

#[test]
fn a_source_without_size_outlives_a_peer_that_goes() {
    let backend = backend(&["source"]);
    for _ in 0..3 {
        connect(backend.address).read_exact(&mut [0; 100_000]).unwrap();
    }
}

#[test]
fn a_sink_takes_everything_and_closes_when_the_peer_ends() {
    let backend = backend(&["sink"]);
    let mut stream = connect(backend.address);
    stream.write_all(&vec![7; 3_000_000]).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(stream.read(&mut [0; 16]).unwrap(), 0);
}

#[test]
fn a_delay_comes_before_the_first_answer_only() {
    let backend = backend(&["echo", "--delay", "300ms"]);
    let mut stream = connect(backend.address);
    let mut ask = || {
        let start = Instant::now();
        stream.write_all(b"x").unwrap();
        stream.read_exact(&mut [0]).unwrap();
        start.elapsed()
    };
    let first = ask();
    assert!(first >= Duration::from_millis(300), "answered after {first:?}");
    // A machine that is busy elsewhere makes some of them wait; a delay would make all of them.
    let later: Vec<Duration> = (0..20).map(|_| ask()).collect();
    let soonest = later.iter().min().unwrap();
    assert!(*soonest < Duration::from_millis(300), "later answers waited too: {later:?}");
}

#[test]
fn a_backend_listens_on_each_of_its_addresses() {
    let backend = backend(&["echo", "--listen", "127.0.0.1:0", "--listen", "127.0.0.1:0"]);
    assert_eq!(backend.others.len(), 2);
    for address in backend.others.iter().chain([&backend.address]) {
        let mut stream = connect(*address);
        stream.write_all(b"x").unwrap();
        stream.read_exact(&mut [0]).unwrap();
    }
}

#[test]
fn a_taken_address_is_named_with_its_cause() {
    let backend = backend(&["echo"]);
    let taken = backend.address.to_string();
    let second =
        ringway().args(["backend", "--mode", "echo", "--listen", &taken]).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    let error = String::from_utf8(second.stderr).unwrap();
    let expected = format!("cannot listen on {taken}: address already in use");
    assert!(error.starts_with(&expected), "{error}");
    assert!(second.stdout.is_empty());
}

#[test]
fn sigterm_ends_a_backend_with_exit_code_0() {
    let mut backend = backend(&["echo"]);
    let pid = rustix::process::Pid::from_child(&backend.child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(exit_of(&mut backend.child).code(), Some(0));
}

/// 1. Kill a backend with an open connection. 2. Start another on the same port at once.
#[test]
fn a_killed_backend_can_come_back_on_its_port() {
    let mut first = backend(&["echo"]);
    let mut stream = connect(first.address);
    stream.write_all(b"x").unwrap();
    stream.read_exact(&mut [0]).unwrap();
    first.child.kill().unwrap();
    first.child.wait().unwrap();
    let second = backend_on(&first.address.to_string(), &["echo"]);
    assert_eq!(second.address, first.address);
}

#[test]
fn tcp_counts_echoes_and_their_latency() {
    let backend = backend(&["echo"]);
    let json = good_bench(backend.address, &["tcp", "--connections", "40", "--seconds", "0.5"]);
    let operations = number(&json, "operations");
    assert!(operations > 100, "{json}");
    assert_eq!(number(&json, "bytes"), operations * 128);
    assert_eq!(number(&json["latency"], "count"), operations);
    assert_eq!(json["mode"], "tcp");
    assert_eq!(number(&json, "cut"), 0);
}

#[test]
fn tcp_echoes_larger_than_any_socket_buffer() {
    let backend = backend(&["echo"]);
    let options = ["tcp", "--connections", "3", "--seconds", "0.5", "--size", "15MiB"];
    let json = good_bench(backend.address, &options);
    assert_eq!(number(&json, "bytes"), number(&json, "operations") * (15 << 20));
    assert!(number(&json, "operations") >= 3, "{json}");
}

#[test]
fn tcp_keeps_the_rate_it_is_told() {
    let backend = backend(&["echo"]);
    let options = ["tcp", "--connections", "40", "--seconds", "1", "--rate", "500"];
    let json = good_bench(backend.address, &options);
    assert!((490..=500).contains(&number(&json, "operations")), "{json}");
}

/// Every operation takes 100 ms on one connection, but ten a second more are due than that: in an
/// open loop the queue, and with it the latency, grows.
#[test]
fn an_open_loop_counts_the_wait_for_a_free_connection() {
    let backend = backend(&["echo", "--delay", "100ms"]);
    let options = ["connect", "--connections", "1", "--seconds", "2", "--rate", "20"];
    let (_, json) = bench(backend.address, &options);
    assert!(number(&json["latency"], "p50_us") > 300_000, "{json}");
    assert!(number(&json["latency"], "min_us") >= 100_000, "{json}");
}

#[test]
fn connect_makes_a_connection_for_each_echo() {
    let backend = backend(&["echo"]);
    let options = ["connect", "--connections", "4", "--seconds", "0.5", "--rate", "200"];
    let json = good_bench(backend.address, &options);
    assert!((95..=100).contains(&number(&json, "operations")), "{json}");
}

#[test]
fn bulk_counts_the_bytes_of_streams_without_end() {
    let backend = backend(&["source"]);
    let json = good_bench(backend.address, &["bulk", "--connections", "2", "--seconds", "0.5"]);
    assert!(number(&json, "bytes") > 1 << 20, "{json}");
    assert_eq!(number(&json, "operations"), 2, "both still flow: {json}");
}

#[test]
fn bulk_reads_streams_that_end_again_and_again() {
    let backend = backend(&["source", "--size", "64KiB"]);
    let options = ["bulk", "--connections", "2", "--seconds", "0.5", "--size", "64KiB"];
    let json = good_bench(backend.address, &options);
    assert!(number(&json["latency"], "count") > 10, "{json}");
}

#[test]
fn bulk_fails_a_stream_that_is_too_short() {
    let backend = backend(&["source", "--size", "64KiB"]);
    let options = ["bulk", "--connections", "1", "--seconds", "0.3", "--size", "65537"];
    let (output, json) = bench(backend.address, &options);
    assert_eq!(output.status.code(), Some(1));
    assert!(number(&json["failed"], "closed") > 0, "{json}");
}

#[test]
fn an_answer_that_is_not_the_question_is_a_mismatch() {
    let backend = backend(&["source"]);
    let options = ["tcp", "--connections", "1", "--seconds", "0.3"];
    let (output, json) = bench(backend.address, &options);
    assert_eq!(output.status.code(), Some(1));
    assert!(number(&json["failed"], "mismatch") > 0, "{json}");
}

/// 1. Hold connections.
/// 2. Kill the backend once each has worked, and start it again on its port.
/// 3. The lost ones are cut, not failed; refused reconnections in between are failed.
#[test]
fn a_held_connection_lost_after_it_worked_is_cut() {
    let mut first = backend(&["echo"]);
    let target = first.address.to_string();
    let mut load = ringway()
        .args(["bench", "tcp", "--target", &target, "--connections", "5", "--seconds", "3"])
        .arg("--json")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut progress = BufReader::new(load.stderr.take().unwrap());
    progress.read_line(&mut String::new()).unwrap();
    first.child.kill().unwrap();
    first.child.wait().unwrap();
    let _second = backend_on(&target, &["echo"]);
    let drained = std::thread::spawn(move || progress.read_to_end(&mut Vec::new()));
    let output = load.wait_with_output().unwrap();
    drained.join().unwrap().unwrap();
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(number(&json, "cut"), 5, "{json}");
    let kinds: Vec<&String> = json["failed"].as_object().unwrap().keys().collect();
    assert!(kinds.iter().all(|kind| *kind == "refused"), "{json}");
    assert!(number(&json, "operations") > 0);
}

#[test]
fn a_target_that_refuses_gets_a_sentence() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for mode in ["tcp", "bulk", "connect"] {
        let options = [mode, "--connections", "2", "--seconds", "0.2"];
        let (output, _) = bench(free, &options);
        assert_eq!(output.status.code(), Some(1));
        let error = String::from_utf8(output.stderr).unwrap();
        let found = error.contains(&free.to_string()) && error.contains("connection refused");
        assert!(found, "{mode}: {error}");
    }
}

#[test]
fn wrong_usage_is_exit_code_2() {
    let wrong: [&[&str]; 6] = [
        &["bench", "tcp", "--connections", "1"],
        &["bench", "tcp", "--target", "127.0.0.1:1", "--connections", "0"],
        &["bench", "bulk", "--target", "127.0.0.1:1", "--connections", "1", "--rate", "5"],
        &["bench", "tcp", "--target", "127.0.0.1:1", "--connections", "1", "--size", "0"],
        &["backend", "--listen", "127.0.0.1:0", "--mode", "echo", "--size", "5"],
        &["backend", "--listen", "127.0.0.1:0", "--mode", "udp"],
    ];
    for arguments in wrong {
        let output = ringway().args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(!output.stderr.is_empty());
    }
}

/// An echo that is gone without an answer: the first operation failed, nothing was cut.
#[test]
fn a_connection_closed_before_its_first_echo_is_failed() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    let order = std::sync::atomic::Ordering::Relaxed;
    let (output, json) = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(order) {
                match listener.accept() {
                    Ok((mut stream, _)) => drop(stream.read(&mut [0; 128])),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
                }
            }
        });
        let result = bench(target, &["tcp", "--connections", "1", "--seconds", "0.3"]);
        done.store(true, order);
        result
    });
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(number(&json, "cut"), 0, "{json}");
    assert!(number(&json["failed"], "closed") > 0, "{json}");
}
