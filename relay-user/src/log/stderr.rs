//! Standard error of a daemon that must not wait for whoever reads it.
//!
//! A journal that hangs, a pipe that nobody empties, a terminal that somebody stopped: the loop goes on, and what finds no
//! room is counted and told of later. Written at once, on the thread that logs, so that what is told stands there when
//! the answer to a question does.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    sync::{Mutex, MutexGuard, PoisonError},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use tracing_subscriber::fmt::MakeWriter;

/// A pipe that poll(2) calls writable takes this much without making anybody wait (pipe(7), PIPE_BUF); a socket takes more.
const AT_ONCE: usize = 4096;

/// Stderr, and how many pieces of the log it had no room for since it was last written to.
#[derive(Default)]
pub(super) struct Patient {
    lost: Mutex<u64>,
}

/// Stderr while one event is written.
pub(super) struct Turn<'a> {
    lost: MutexGuard<'a, u64>,
}

impl<'a> MakeWriter<'a> for Patient {
    type Writer = Turn<'a>;

    fn make_writer(&'a self) -> Turn<'a> {
        // The number is whole whatever happened while it was held.
        Turn { lost: self.lost.lock().unwrap_or_else(PoisonError::into_inner) }
    }
}

impl io::Write for Turn<'_> {
    /// An event, whole: what had no room is lost, and that is no error.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let stderr = io::stderr();
        put(stderr.as_fd(), &mut self.lost, event)?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn put(file: BorrowedFd<'_>, lost: &mut u64, event: &[u8]) -> io::Result<()> {
    if *lost > 0 && has_room(file) {
        let told = format!("{lost} lines of the log were lost, since nobody took them\n");
        write_all(file, told.as_bytes())?;
        *lost = 0;
    }
    for piece in event.chunks(AT_ONCE) {
        if *lost > 0 || !has_room(file) {
            *lost += 1;
            return Ok(());
        }
        write_all(file, piece)?;
    }
    Ok(())
}

/// Where that cannot be told, writing tells.
fn has_room(file: BorrowedFd<'_>) -> bool {
    let mut asked = [PollFd::new(file, PollFlags::POLLOUT)];
    poll(&mut asked, PollTimeout::ZERO) != Ok(0)
}

fn write_all(file: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match nix::unistd::write(file, bytes) {
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(Errno::EINTR) => {}
            // Somebody else made it a file that does not block; then it is full.
            Err(Errno::EAGAIN) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Read as _};

    use super::*;

    #[test]
    fn a_pipe_that_nobody_reads_holds_up_nobody() {
        let (reader, writer) = nix::unistd::pipe().expect("a pipe");
        let line = [b'x'; 99].iter().chain(b"\n").copied().collect::<Vec<u8>>();
        let mut lost = 0;
        for _ in 0..2000 {
            put(writer.as_fd(), &mut lost, &line).expect("written or lost");
        }
        assert!(lost > 1000, "{lost}");
        let kept = 2000 - lost;

        let mut reader = File::from(reader);
        let mut read = vec![0; usize::try_from(kept).expect("a number") * line.len()];
        reader.read_exact(&mut read).expect("what was kept");
        assert!(read.chunks(line.len()).all(|read| read == line), "lines are whole");
        let told = format!("{lost} lines of the log were lost, since nobody took them\n");
        put(writer.as_fd(), &mut lost, &line).expect("written");
        drop(writer);
        let mut rest = String::new();
        reader.read_to_string(&mut rest).expect("the rest");
        assert_eq!(rest, told + std::str::from_utf8(&line).expect("ASCII"));
        assert_eq!(lost, 0);
    }

    #[test]
    fn a_reader_that_has_gone_is_an_error_and_a_file_has_room() {
        let (reader, writer) = nix::unistd::pipe().expect("a pipe");
        drop(reader);
        let mut lost = 0;
        assert!(put(writer.as_fd(), &mut lost, b"line\n").is_err());
        let file = tempfile::tempfile().expect("a file");
        let long = vec![b'y'; 3 * AT_ONCE + 1];
        put(file.as_fd(), &mut lost, &long).expect("written");
        assert_eq!((file.metadata().expect("its size").len(), lost), (long.len() as u64, 0));
    }
}
