//! Lines as systemd's journal takes them from stderr: the level in front (sd-daemon(3)), and nothing that it knows itself.

use std::{env, fmt, io, os::unix::fs::MetadataExt as _};

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::{
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    registry::LookupSpan,
};

/// Whether stderr leads to the journal: systemd names its device and inode, since whoever starts relay may have sent it
/// elsewhere since.
pub(super) fn is_stderr() -> bool {
    let Some(named) = env::var("JOURNAL_STREAM").ok() else { return false };
    // Not /dev/stderr, which cannot be opened where it is a socket; its metadata can be had.
    let stderr = std::fs::metadata("/proc/self/fd/2");
    names(&named, stderr.map(|file| (file.dev(), file.ino())))
}

fn names(stream: &str, file: io::Result<(u64, u64)>) -> bool {
    file.is_ok_and(|(device, inode)| stream == format!("{device}:{inode}"))
}

/// An event as entries of the journal, one a line, each with its level. Where it comes from is for those who debug.
pub(super) struct Entry;

impl<S, N> FormatEvent<S, N> for Entry
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut text = String::new();
        context.format_fields(Writer::new(&mut text), event)?;
        let (level, target) = (*event.metadata().level(), event.metadata().target());
        let from = if level > Level::INFO { format!("{target}: ") } else { String::new() };
        let priority = priority(level);
        text.lines().try_for_each(|line| writeln!(writer, "<{priority}>{from}{line}"))
    }
}

/// syslog's number of a level.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn the_stream_is_told_by_device_and_inode() {
        assert!(names("8:1234", Ok((8, 1234))));
        assert!(!names("8:1234", Ok((8, 12))));
        assert!(!names("8:1234", Err(io::ErrorKind::NotFound.into())));
    }

    /// What is logged into it.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no panic while held").extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn each_line_has_its_level() {
        let kept = Kept::default();
        let writer = kept.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(Level::TRACE)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .event_format(Entry)
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!("wg0: bring the interface up");
            tracing::warn!("no\nroom");
            tracing::error!(code = 2, "bad");
            tracing::debug!(target: "relay_user::x", "detail");
        });
        let text = String::from_utf8(kept.0.lock().expect("no panic while held").clone()).expect("UTF-8");
        assert_eq!(
            text,
            "<6>wg0: bring the interface up\n<4>no\n<4>room\n<3>bad code=2\n<7>relay_user::x: detail\n"
        );
    }
}
