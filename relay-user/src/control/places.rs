//! How many may talk to the control socket at a time, and who goes when more come.
//!
//! Who asks and never reads the answer keeps a descriptor and the answer's memory. So there are places, and of too many
//! the conversation that began first is ended: it is the likeliest to be one of those. Root's places are its own, so that
//! no member of the group can end what root asks.

use std::collections::VecDeque;

use tokio::task::AbortHandle;

/// Conversations at a time, for root and for all others each.
const PLACES: usize = 32;

/// The conversations that go on.
#[derive(Debug, Default)]
pub(super) struct Places {
    root: VecDeque<AbortHandle>,
    others: VecDeque<AbortHandle>,
}

impl Places {
    /// Gives a conversation that has just begun its place.
    pub(super) fn take(&mut self, root: bool, conversation: AbortHandle) {
        let places = if root { &mut self.root } else { &mut self.others };
        places.retain(|other| !other.is_finished());
        if places.len() == PLACES {
            places.pop_front().inspect(AbortHandle::abort);
        }
        places.push_back(conversation);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_of_too_many_goes_and_root_stays() {
        let mut places = Places::default();
        let mut begin = |root| {
            let endless = tokio::spawn(std::future::pending::<()>());
            places.take(root, endless.abort_handle());
            endless
        };
        let root = begin(true);
        let mut others: Vec<_> = (0..=PLACES).map(|_| begin(false)).collect();
        let ended = others.remove(0).await.expect_err("it never ends by itself");
        assert!(ended.is_cancelled());
        assert!(others.iter().chain([&root]).all(|talk| !talk.is_finished()));

        // Who has ended leaves a place.
        others[7].abort();
        let seventh = others.remove(7).await;
        assert!(seventh.is_err());
        begin(false);
        tokio::task::yield_now().await;
        assert!(others.iter().all(|talk| !talk.is_finished()));
    }
}
