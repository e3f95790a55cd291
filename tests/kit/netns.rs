//! A network of one's own: how a host looks that has no IPv6, few ports, or silent neighbours.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    thread,
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Tells the story on a host whose network is its own: `lo` is up, and `setup`, lines for a shell,
/// did the rest. The threads and processes that the story starts are on that host too. Only root
/// may make such a host; for others nothing is told.
pub fn on_a_host_of_its_own(setup: &str, story: impl FnOnce() + Send) {
    if !rustix::process::geteuid().is_root() {
        super::not_tested("a network namespace needs root");
        return;
    }
    let script = format!("set -e\nip link set lo up\n{setup}\necho made\nread _");
    let mut child = Command::new("unshare")
        .args(["-n", "sh", "-c", &script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "made\n", "the namespace could not be set up");
    // A namespace lasts as long as somebody is in it or has it open.
    let namespace = File::open(format!("/proc/{}/ns/net", child.id())).unwrap();
    drop(child.stdin.take());
    child.wait().unwrap();
    thread::scope(|scope| {
        let told = scope.spawn(|| {
            let kind = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(std::os::fd::AsFd::as_fd(&namespace), kind).unwrap();
            story();
        });
        if let Err(panic) = told.join() {
            std::panic::resume_unwind(panic);
        }
    });
}
