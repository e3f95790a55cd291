//! The measurement of `perf/compare`, tiny: ours and the floor only.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{
    kit::{Folder, wait_for, wait_until},
    programs::run,
};

/// The measurement, built for what the tests run on, with its programs around it.
fn measure() -> Command {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let build = ["build", "--quiet", "--example", "measure", "--example", "floor"];
    run(Command::new(cargo).args(build).current_dir(root));
    let programs = PathBuf::from(env!("CARGO_BIN_EXE_ringway"));
    let mut command = Command::new(programs.with_file_name("examples").join("measure"));
    command.args(["--contenders", "floor-copy,ringway-epoll", "--rounds", "1", "--pin", "none"]);
    command
}

/// 1. Four small cases run. 2. The report has a table of each, its charts are there, and no run
///    was void.
#[test]
#[ignore = "needs outside programs: scripts/check --all"]
fn a_comparison_ends_in_a_report_with_charts() {
    let folder = Folder::new();
    let cases = "messages-8,connect-4,bulk-2,tail";
    let options = ["--seconds", "0.5", "--cases", cases, "--report"];
    let said = run(measure().args(options).arg(folder.path()));
    let files: Vec<PathBuf> =
        fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().path()).collect();
    let report = files.iter().find(|path| path.extension().is_some_and(|ext| ext == "md"));
    let report = report.unwrap_or_else(|| panic!("no report in {files:?}:\n{said}"));
    let text = fs::read_to_string(report).unwrap();
    for told in ["\nVoid runs", " void |", " void)"] {
        assert!(!text.contains(told), "{text}");
    }
    let mut tables = 0;
    for case in cases.split(',') {
        assert!(text.contains(&format!("\n## {case}\n")), "no {case} in\n{text}");
        let figures = if case == "tail" { 3 } else { 2 };
        tables += figures;
        for figure in 1..=figures {
            let chart = report.with_extension("").join(format!("{case}-{figure}.svg"));
            let drawn = fs::read_to_string(&chart).unwrap();
            assert!(drawn.starts_with("<svg ") && drawn.contains("ringway-epoll"), "{drawn}");
        }
    }
    assert_eq!(text.matches("\n| ringway-epoll ").count(), tables, "{text}");
}

/// 1. A backend and a relay run. 2. The measurement is killed, so that it cannot clean up. 3. Both
///    are gone.
#[test]
#[ignore = "needs outside programs: scripts/check --all"]
fn nothing_outlives_a_measurement_that_is_killed() {
    let files = Folder::new();
    let mut command = measure();
    command.args(["--cases", "messages-8", "--seconds", "60"]).env("TMPDIR", files.path());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let task = format!("/proc/{0}/task/{0}/children", child.id());
    let children = wait_for("a backend and a relay", || {
        let text = fs::read_to_string(&task).ok()?;
        let pids: Vec<u32> = text.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
        (pids.len() == 2 && pids.iter().all(|pid| is_ours(*pid))).then_some(pids)
    });
    child.kill().unwrap();
    child.wait().unwrap();
    wait_until("both are gone", || !children.iter().any(|pid| is_ours(*pid)));
}

/// True exactly when a process runs a program of ours, and not the measurement that becomes one.
fn is_ours(pid: u32) -> bool {
    let program = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
    program.ends_with("ringway") || program.ends_with("floor")
}
