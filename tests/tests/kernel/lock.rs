//! One relay per interface.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use relay_user::kernel::lock::{Lock, LockError};

use crate::{
    space::{isolated, until},
    tunnel::name,
};

#[test]
fn the_second_is_refused_with_the_firsts_process() {
    isolated(async || {
        let run = Path::new("/run/relay");
        let first = Lock::acquire(run, &name("wg0"))?;
        let error = Lock::acquire(run, &name("wg0")).expect_err("held");
        let LockError::Held { pid, .. } = &error else { panic!("{error}") };
        assert_eq!(*pid, Some(std::process::id()));
        assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
        let _other = Lock::acquire(run, &name("wg1")).context("another interface")?;
        drop(first);
        until("the lock to be free", async || Ok(Lock::acquire(run, &name("wg0")).is_ok())).await
    });
}

/// The file of a killed process is no lock, whatever it says.
#[test]
fn kill_9_frees_it() {
    isolated(async || {
        let run = Path::new("/run/relay");
        fs::create_dir(run)?;
        let mut holder = Command::new("flock")
            .args([
                "--no-fork",
                "/run/relay/wg0.lock",
                "sh",
                "-c",
                "echo 4711 > /run/relay/wg0.lock; echo held; exec sleep 100",
            ])
            .stdout(Stdio::piped())
            .spawn()
            .context("flock")?;
        let mut line = String::new();
        BufReader::new(holder.stdout.take().context("stdout")?).read_line(&mut line)?;
        assert_eq!(line, "held\n");
        let error = Lock::acquire(run, &name("wg0"));
        holder.kill()?;
        holder.wait()?;
        let error = error.expect_err("held");
        assert!(matches!(error, LockError::Held { pid: Some(4711), .. }), "{error}");
        let freed = async || Ok(Lock::acquire(run, &name("wg0")).is_ok());
        until("the lock to be free", freed).await
    });
}

/// A child that a killed relay has just forked has the lock until it calls exec, and is given the time.
#[test]
fn a_dead_ones_child_is_waited_for() {
    isolated(async || {
        let run = Path::new("/run/relay");
        fs::create_dir(run)?;
        let script = "exec 9<>/run/relay/wg0.lock; flock 9; echo $$ >&9; sleep 100 >/dev/null 2>&1 & echo $!";
        // How long one attempt takes, and what comes of it, when the child goes after a while, or not.
        let attempt = |goes: Option<Duration>| -> Result<_> {
            let output = Command::new("sh").args(["-c", script]).output().context("sh")?;
            let child = Pid::from_raw(String::from_utf8(output.stdout)?.trim().parse()?);
            let begun = Instant::now();
            let had = std::thread::scope(|scope| {
                scope.spawn(move || {
                    std::thread::sleep(goes?);
                    kill(child, Signal::SIGKILL).ok()
                });
                Lock::acquire(run, &name("wg0"))
            });
            let took = begun.elapsed();
            if goes.is_none() {
                kill(child, Signal::SIGKILL)?;
            }
            Ok((had, took))
        };
        let (refused, took) = attempt(None)?;
        let refused = refused.expect_err("held");
        assert!(matches!(refused, LockError::Held { .. }), "{refused}");
        assert!(took >= Duration::from_millis(500), "{took:?}");
        // A machine that stands still in between is not what is asked.
        let lets_go = async || {
            let (had, took) = attempt(Some(Duration::from_millis(100)))?;
            Ok(had.is_ok() && took >= Duration::from_millis(100))
        };
        until("the lock of a child that lets go", lets_go).await
    });
}

#[test]
fn one_that_is_removed_leaves_nothing_and_can_be_had_anew() {
    isolated(async || {
        let run = Path::new("/run/relay");
        Lock::acquire(run, &name("wg0"))?.remove();
        assert_eq!(fs::read_dir(run)?.count(), 0);
        let _again = Lock::acquire(run, &name("wg0"))?;
        let refused = Lock::acquire(run, &name("wg0")).expect_err("held");
        assert!(matches!(refused, LockError::Held { .. }), "{refused}");
        Ok(())
    });
}
