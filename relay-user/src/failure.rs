//! How the program fails: one rendering, `error: …` and `hint: …`, and exit codes that mean something.

use std::{fmt, io, process::ExitCode};

use crate::{
    adopt::AdoptError,
    config::{ConfigErrors, LoadError, edit::EditError, file::FileError},
    control::client::ControlError,
    error::chain,
    import::ReadError,
    kernel::namespace::NamespaceError,
    log,
};

/// It was tried and did not work.
const FAILED: u8 = 1;
/// The command line or the configuration is wrong, and nothing was tried.
const REFUSED: u8 = 2;

/// A failure in this program's own words, to return or to put before a cause as anyhow's context.
#[derive(Debug)]
pub struct Failure {
    message: String,
    hint: Option<String>,
    exit: u8,
}

impl Failure {
    /// It was tried and did not work: exit code 1.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, exit: FAILED }
    }

    /// What was asked for cannot be: exit code 2.
    #[must_use]
    pub fn refused(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, exit: REFUSED }
    }

    /// What the reader can do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// Says on stderr what went wrong and what to do, and turns it into the exit code.
pub fn report(error: &anyhow::Error) -> ExitCode {
    let mark = log::error_mark();
    render(error).lines().for_each(|line| eprintln!("{mark}{line}"));
    ExitCode::from(exit_code(error))
}

fn render(error: &anyhow::Error) -> String {
    let lines = chain(error.as_ref());
    let mut rendered: String = lines.lines().map(|line| format!("error: {line}\n")).collect();
    if let Some(hint) = hint(error) {
        rendered += &format!("hint: {hint}\n");
    }
    rendered
}

/// The outermost hint: it knows best what was being done.
pub(crate) fn hint(error: &anyhow::Error) -> Option<String> {
    let context = error.downcast_ref::<Failure>().and_then(|failure| failure.hint.clone());
    context.or_else(|| {
        error.chain().find_map(|cause| {
            let failure = cause.downcast_ref::<Failure>().and_then(|failure| failure.hint.clone());
            let load = || cause.downcast_ref::<LoadError>().and_then(LoadError::hint).map(str::to_owned);
            let file = || cause.downcast_ref::<FileError>().and_then(FileError::hint).map(str::to_owned);
            let absent = || matches!(cause.downcast_ref(), Some(ControlError::NotRunning(_)));
            let control = || absent().then(|| "`relay up` starts it".to_owned());
            let import = || cause.downcast_ref::<ReadError>().and_then(ReadError::hint).map(str::to_owned);
            let adopt = || cause.downcast_ref::<AdoptError>().and_then(AdoptError::hint);
            let namespace = || cause.downcast_ref::<NamespaceError>().map(|error| error.hint().to_owned());
            let denied = || {
                let io = cause.downcast_ref::<io::Error>()?;
                (io.kind() == io::ErrorKind::PermissionDenied).then(|| "run this as root".to_owned())
            };
            failure
                .or_else(load)
                .or_else(file)
                .or_else(control)
                .or_else(import)
                .or_else(adopt)
                .or_else(namespace)
                .or_else(denied)
        })
    })
}

fn exit_code(error: &anyhow::Error) -> u8 {
    if let Some(failure) = error.downcast_ref::<Failure>() {
        return failure.exit;
    }
    let configuration = error.chain().any(|cause| {
        let missing = || cause.downcast_ref::<FileError>().is_some_and(FileError::is_missing);
        let refused = || matches!(cause.downcast_ref(), Some(ControlError::Refused(_)));
        refused()
            || cause.is::<ConfigErrors>()
            || cause.is::<LoadError>()
            || cause.is::<EditError>()
            || missing()
    });
    if configuration { REFUSED } else { FAILED }
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn a_chain_in_one_line_then_the_outermost_hint() {
        let inner = io::Error::other("no such device");
        let error =
            Err::<(), _>(inner).context(Failure::new("cannot bring wg0 up").hint("modprobe wireguard"));
        let error = error.context("cannot start").expect_err("an error");
        assert_eq!(
            render(&error),
            "error: cannot start: cannot bring wg0 up: no such device\nhint: modprobe wireguard\n"
        );
        assert_eq!(exit_code(&error), 1);
    }

    #[test]
    fn a_cause_that_is_told_already_is_not_told_twice() {
        let inner = io::Error::other("no such device");
        let outer = anyhow::Error::new(inner).context("cannot bring wg0 up: no such device");
        assert_eq!(render(&outer), "error: cannot bring wg0 up: no such device\n");
    }

    #[test]
    fn refusals_exit_with_2() {
        let error = anyhow::Error::new(Failure::refused("two\nlines"));
        assert_eq!((render(&error).as_str(), exit_code(&error)), ("error: two\nerror: lines\n", 2));
        let missing = crate::config::load("/nonexistent".as_ref(), &[]).expect_err("missing");
        assert_eq!(exit_code(&missing.into()), 2);
    }
}
