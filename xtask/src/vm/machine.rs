//! One emulated machine: started, listened to, and ended whatever happens.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;

use super::console::{self, End, Line, ProgramResult};
use super::qemu::Qemu;

/// What is booted, and by what.
pub(crate) struct Boot<'a> {
    /// The emulator.
    pub(crate) qemu: &'a Qemu,
    /// The kernel.
    pub(crate) image: &'a Path,
    /// The guest's file system, or what mounts it.
    pub(crate) initrd: &'a Path,
    /// A disk image, where there is one: /dev/vda. What the guest writes stays in it.
    pub(crate) disk: Option<&'a Path>,
    /// How many processors it has.
    pub(crate) processors: u32,
    /// As QEMU calls it; "tcg" emulates.
    pub(crate) accelerator: &'a str,
    /// Whether its clock counts instructions, a nanosecond each; it has one processor then.
    pub(crate) counting: bool,
}

/// How long a machine may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// From start to the last line.
    pub(crate) overall: Duration,
    /// Between one line of the console and the next.
    pub(crate) silence: Duration,
    /// From the last line to the machine's end.
    pub(crate) ending: Duration,
}

/// What came of a machine.
#[derive(Debug)]
pub(crate) struct Run {
    /// What PID 1 said of each program.
    pub(crate) results: Vec<ProgramResult>,
    /// Its last line, if it came.
    pub(crate) end: Option<End>,
    /// Why the machine was ended before its time, if it was.
    pub(crate) trouble: Option<String>,
    /// From start to end, as the host counts.
    pub(crate) seconds: f64,
}

/// A running QEMU, killed when this goes away.
struct Machine(Child);

impl Machine {
    /// How it ended, if it has. Its console closes a moment before.
    fn ended(&mut self) -> Result<Option<ExitStatus>> {
        let until = Instant::now() + Duration::from_secs(2);
        loop {
            let ended = self.0.try_wait().context("asking after QEMU")?;
            if ended.is_some() || Instant::now() > until {
                return Ok(ended);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Both fail only when it has ended already, which is what is wanted.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Boots it, writes the console to `log`, shows each line that a program prints to `on_line` and each result to
/// `on_result`.
pub(crate) fn run(
    boot: &Boot<'_>,
    log: &Path,
    patience: Patience,
    on_line: impl Fn(&str),
    on_result: impl Fn(&ProgramResult),
) -> Result<Run> {
    let mut log_file = File::create(log).with_context(|| format!("making {}", log.display()))?;
    let started = Instant::now();
    let (mut machine, lines) = start(boot)?;
    let mut run = Run { results: Vec::new(), end: None, trouble: None, seconds: 0.0 };
    loop {
        let left = patience.overall.saturating_sub(started.elapsed());
        let line = match lines.recv_timeout(left.min(patience.silence)) {
            Ok(line) => line,
            // The console is closed: QEMU has ended.
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) if left <= patience.silence => {
                run.trouble = Some(format!("not done after {} s", patience.overall.as_secs()));
                break;
            }
            Err(RecvTimeoutError::Timeout) => {
                run.trouble = Some(format!("silent for {} s", patience.silence.as_secs()));
                break;
            }
        };
        log_file.write_all(line.as_bytes()).with_context(|| format!("writing {}", log.display()))?;
        match console::read(&line) {
            Line::Result(result) => {
                on_result(&result);
                run.results.push(result);
            }
            Line::End(end) => run.end = Some(end),
            // The first trouble is the cause of the others; what follows is still worth having in the log.
            Line::Trouble(words) => _ = run.trouble.get_or_insert(words),
            Line::Printed(text) => on_line(&text),
            Line::Talk => {}
        }
        // After its last line a guest has nothing to do but to go down; after an oops it panics by itself.
        if run.end.is_some() {
            drain(&lines, &mut log_file, patience.ending);
            break;
        }
    }
    run.seconds = started.elapsed().as_secs_f64();
    let ended = machine.ended()?;
    if run.end.is_some() && ended.is_none() {
        run.trouble.get_or_insert(format!("not down {} s after its last line", patience.ending.as_secs()));
    }
    if let Some(status) = ended.filter(|status| !status.success()) {
        run.trouble.get_or_insert(format!("QEMU: {status}"));
    }
    Ok(run)
}

/// Reads on until the console closes, for at most `patience`.
fn drain(lines: &mpsc::Receiver<String>, log: &mut File, patience: Duration) {
    let until = Instant::now() + patience;
    while let Ok(line) = lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
        // The verdict stands; a full disk must not change it.
        let _ = log.write_all(line.as_bytes());
    }
}

/// What the kernel is told.
///
/// `-no-reboot` turns a reboot, which is also what a panic does, into the machine's end. `no_timer_check`, because on a
/// busy host the emulated timer may be too late for the kernel's test of it, which then panics. Mitigations stay on: they
/// change what the verifier accepts.
///
/// Two things cost an emulator more than all else. It translates a program anew for each address that the program is
/// loaded to, so that with addresses chosen at random each start of `ip` takes 50 ms and not 2 (`norandmaps`); and to
/// clear a page before it is given out is 4,096 instructions to it, also to the clock that counts them, and a packet that
/// is sent from inside the kernel takes a fresh page, as one of a network card does not (`init_on_alloc`). Without both,
/// tests take a quarter of the time.
const APPEND: &str = "console=ttyS0 loglevel=5 oops=panic panic=-1 random.trust_cpu=on no_timer_check norandmaps \
                      init_on_alloc=0";

/// Starts QEMU and a reader of its console.
fn start(boot: &Boot<'_>) -> Result<(Machine, mpsc::Receiver<String>)> {
    let accelerate = if boot.accelerator == "tcg" { "tcg,thread=single" } else { boot.accelerator };
    let mut command = boot.qemu.command();
    command.args(["-accel", accelerate, "-cpu", "max", "-m", "2048"]);
    if boot.counting {
        command.args(["-icount", "shift=0,sleep=off"]);
    }
    command
        .args(["-smp", &boot.processors.to_string()])
        .args(["-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio"])
        .arg("-kernel")
        .arg(boot.image)
        .arg("-initrd")
        .arg(boot.initrd)
        .args(["-append", APPEND])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit());
    if let Some(disk) = boot.disk {
        // The host does not crash with the guest, so that nothing has to be written through for good. A comma in a path
        // is written twice (qemu(1), -drive).
        let disk = disk.display().to_string().replace(',', ",,");
        command.arg("-drive").arg(format!("if=virtio,format=raw,cache=unsafe,file={disk}"));
    }
    // SAFETY: between fork and exec the closure only makes one system call, prctl(PR_SET_PDEATHSIG), which is
    // async-signal-safe and allocates nothing.
    unsafe {
        command.pre_exec(|| nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(std::io::Error::from));
    }
    let mut child = command.spawn().context("starting QEMU")?;
    let output = child.stdout.take().context("QEMU without a console")?;
    let (send, lines) = mpsc::channel();
    std::thread::spawn(move || {
        let mut reader = BufReader::new(output);
        let mut bytes = Vec::new();
        while reader.read_until(b'\n', &mut bytes).is_ok_and(|n| n > 0) {
            let line = String::from_utf8_lossy(&bytes).replace('\r', "");
            bytes.clear();
            if send.send(line).is_err() {
                break;
            }
        }
    });
    Ok((Machine(child), lines))
}
