//! `relay stats --watch`: the terminal, its keys, and a look each second. Where stdout is no terminal, plain output.

use std::{
    future::Future,
    io::{self, IsTerminal as _},
    pin::pin,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use crossterm::event::{Event, EventStream, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use futures::{
    FutureExt as _, Stream, StreamExt as _,
    future::{Fuse, FusedFuture as _},
};
use ratatui::{Terminal, backend::Backend};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{MissedTickBehavior, interval},
};

use crate::{
    report::Stats,
    table,
    watch::{
        model::{Act, Model},
        view,
    },
};

/// From one look to the next.
const PERIOD: Duration = Duration::from_secs(1);

/// Rows that Page Up and Page Down move by.
const PAGE: isize = 10;

/// Shows what `look` finds until the person leaves.
///
/// # Errors
/// The first look fails, or the terminal cannot be used.
pub(super) async fn run<F: Future<Output = anyhow::Result<Stats>>>(
    look: impl Fn() -> F,
    json: bool,
) -> anyhow::Result<()> {
    // Told as any other command's failure, before the screen is taken.
    let first = look().await?;
    if json || !io::stdout().is_terminal() {
        return plain(first, look, json).await;
    }
    let mut terminal = ratatui::try_init().context("taking the terminal")?;
    let shown = show(&mut terminal, EventStream::new(), first, look).await;
    ratatui::restore();
    shown
}

/// A look may take as long as a daemon that hangs; keys and signals are heard meanwhile.
async fn show<B, F>(
    terminal: &mut Terminal<B>,
    mut keys: impl Stream<Item = io::Result<Event>> + Unpin,
    first: Stats,
    look: impl Fn() -> F,
) -> anyhow::Result<()>
where
    B: Backend<Error: Send + Sync + 'static>,
    F: Future<Output = anyhow::Result<Stats>>,
{
    let start = Instant::now();
    let mut model = Model::default();
    model.take(start.elapsed(), first);
    let mut terminated = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut tick = ticks();
    let mut looking = pin!(Fuse::terminated());
    loop {
        terminal.draw(|frame| view::draw(frame, &model, super::now())).context("drawing")?;
        tokio::select! {
            _ = terminated.recv() => return Ok(()),
            event = keys.next() => match event {
                // The terminal went away.
                None => return Ok(()),
                Some(event) => match event.context("reading the keyboard")? {
                    Event::Key(key) if key.kind != KeyEventKind::Release => match asked(key) {
                        Some(Asked::Quit) => return Ok(()),
                        Some(Asked::Act(act)) => model.act(act),
                        None => {}
                    },
                    _ => {}
                },
            },
            _ = tick.tick(), if looking.is_terminated() => looking.set(look().fuse()),
            found = &mut looking => match found {
                Ok(stats) => model.take(start.elapsed(), stats),
                Err(error) => model.trouble = Some(format!("{error:#}")),
            },
        }
    }
}

/// One look after the other, as text or as a line of JSON each, until nobody reads or the daemon is gone.
async fn plain<F: Future<Output = anyhow::Result<Stats>>>(
    first: Stats,
    look: impl Fn() -> F,
    json: bool,
) -> anyhow::Result<()> {
    use std::io::Write as _;

    let mut tick = ticks();
    let mut stats = first;
    loop {
        let text = if json {
            format!("{}\n", serde_json::to_string(&stats)?)
        } else {
            format!("{}\n", table::stats(&stats, super::now()))
        };
        let mut stdout = io::stdout().lock();
        match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            written => written.context("writing to stdout")?,
        }
        drop(stdout);
        tick.tick().await;
        stats = look().await?;
    }
}

/// The first tick is a period away.
fn ticks() -> tokio::time::Interval {
    let mut tick = interval(PERIOD);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tick.reset();
    tick
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Quit,
    Act(Act),
}

fn asked(key: KeyEvent) -> Option<Asked> {
    let act = match key.code {
        KeyCode::Char('q') | KeyCode::Esc => return Some(Asked::Quit),
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return Some(Asked::Quit),
        KeyCode::Char('s') => Act::Sort,
        KeyCode::Char('r') => Act::Reverse,
        KeyCode::Down | KeyCode::Char('j') => Act::Move(1),
        KeyCode::Up | KeyCode::Char('k') => Act::Move(-1),
        KeyCode::PageDown => Act::Move(PAGE),
        KeyCode::PageUp => Act::Move(-PAGE),
        KeyCode::Home | KeyCode::Char('g') => Act::First,
        KeyCode::End | KeyCode::Char('G') => Act::Last,
        _ => return None,
    };
    Some(Asked::Act(act))
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, task::Poll};

    use ratatui::backend::TestBackend;

    use crate::watch::view::tests::stats;

    use super::*;

    #[tokio::test]
    async fn a_daemon_that_hangs_keeps_nobody() {
        let mut terminal = Terminal::new(TestBackend::new(80, 24)).expect("a terminal");
        let (asked, answered) = (Cell::new(false), std::future::pending::<anyhow::Result<Stats>>);
        let look = || {
            asked.set(true);
            answered()
        };
        let quit = Event::Key(KeyEvent::new(KeyCode::Char('q'), KeyModifiers::NONE));
        // Whoever quits does so once a look has begun.
        let keys = futures::stream::poll_fn(|_| match asked.get() {
            true => Poll::Ready(Some(Ok(quit.clone()))),
            false => Poll::Pending,
        });
        let shown = show(&mut terminal, keys, stats(Vec::new()), look);
        tokio::time::timeout(10 * PERIOD, shown).await.expect("it ends").expect("and well");
    }

    #[test]
    fn keys() {
        let plain = |code| asked(KeyEvent::new(code, KeyModifiers::NONE));
        assert_eq!(plain(KeyCode::Char('q')), Some(Asked::Quit));
        assert_eq!(asked(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)), Some(Asked::Quit));
        assert_eq!(plain(KeyCode::Char('c')), None);
        assert_eq!(plain(KeyCode::Up), Some(Asked::Act(Act::Move(-1))));
        assert_eq!(plain(KeyCode::End), Some(Asked::Act(Act::Last)));
    }
}
