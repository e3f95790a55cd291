//! Children that stay on their CPU and are gone when we are, whatever ends us: a guard does not run
//! when we are killed. So a child begins as ourselves, asks the kernel for both, and becomes its
//! program.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::unix::process::CommandExt as _,
    process::Command,
};

use ringway::errno::cause;
use rustix::{
    process::{self, Pid, Signal},
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
};

/// The first argument of a child that is to become `PROGRAM`: `launch PARENT CPU PROGRAM ...`.
pub const WORD: &str = "launch";
/// Where a child may run that is not told: where we may.
const ANY_CPU: &str = "any";

/// A command that becomes `program`, on `cpu` where one is given.
pub fn command(program: impl AsRef<OsStr>, cpu: Option<usize>) -> Result<Command, String> {
    let ourselves = std::env::current_exe();
    let ourselves = ourselves.map_err(|error| format!("cannot find ourselves: {error}"))?;
    let mut command = Command::new(ourselves);
    let cpu = cpu.map_or_else(|| ANY_CPU.to_owned(), |cpu| cpu.to_string());
    command.arg(WORD).arg(std::process::id().to_string()).arg(cpu).arg(program);
    Ok(command)
}

/// Becomes the program that the arguments after [`WORD`] name; comes back only with why not.
pub fn become_program(mut words: impl Iterator<Item = OsString>) -> String {
    let mut word = || words.next().and_then(|word| word.into_string().ok()).unwrap_or_default();
    let (parent, cpu, program) = (word(), word(), word());
    let bound = bind_to(&parent).and_then(|()| match cpu.parse() {
        Ok(cpu) => pin(&[cpu]),
        Err(_) => Ok(()),
    });
    match bound {
        Err(error) => format!("cannot start {program}: {}", cause(&error)),
        Ok(()) => {
            let error = Command::new(&program).args(words).exec();
            format!("cannot start {program}: {} (is it installed?)", cause(&error))
        }
    }
}

fn bind_to(parent: &str) -> io::Result<()> {
    process::set_parent_process_death_signal(Some(Signal::KILL))?;
    // Whoever died before that cannot signal any more.
    let alive =
        process::getppid().map(Pid::as_raw_pid).is_some_and(|pid| pid.to_string() == parent);
    if alive { Ok(()) } else { Err(io::Error::other("whoever wanted it is gone")) }
}

/// Keeps this thread, and those that it starts, off one CPU, which is for the proxies.
pub fn leave_a_cpu() -> Result<usize, String> {
    let allowed =
        sched_getaffinity(None).map_err(|error| format!("cannot ask for CPUs: {error}"))?;
    let cpus: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).collect();
    let (proxy, rest) = split(&cpus)?;
    pin(rest).map_err(|error| format!("cannot stay on CPUs {rest:?}: {}", cause(&error)))?;
    Ok(proxy)
}

/// The last one is the proxies': the first one often has the interrupts.
fn split(cpus: &[usize]) -> Result<(usize, &[usize]), String> {
    match cpus {
        [rest @ .., proxy] if !rest.is_empty() => Ok((*proxy, rest)),
        _ => Err(format!("--pin proxy: {} CPU is not enough (write --pin none)", cpus.len())),
    }
}

fn pin(cpus: &[usize]) -> io::Result<()> {
    let mut set = CpuSet::new();
    cpus.iter().for_each(|cpu| set.set(*cpu));
    Ok(sched_setaffinity(None, &set)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_cpu_is_the_proxies() {
        assert_eq!(split(&[0, 1]), Ok((1, &[0][..])));
        assert_eq!(split(&[2, 5, 7]), Ok((7, &[2, 5][..])));
        assert!(split(&[3]).is_err_and(|why| why.contains("--pin none")));
    }
}
