//! Who waits for a socket.

use std::task::Context;

use super::tasks::Id;

/// One task waits for what comes, one for what goes.
#[derive(Default)]
pub(super) struct Waiters {
    reader: Option<Id>,
    writer: Option<Id>,
}

impl Waiters {
    /// The task that is being polled waits for what comes.
    pub(super) fn wait_to_read(&mut self, cx: &Context<'_>) {
        wait(&mut self.reader, cx);
    }

    /// The task that is being polled waits for what goes.
    pub(super) fn wait_to_write(&mut self, cx: &Context<'_>) {
        wait(&mut self.writer, cx);
    }

    pub(super) fn wake_reader(&mut self) {
        self.reader.take().into_iter().for_each(Id::wake);
    }

    pub(super) fn wake_writer(&mut self) {
        self.writer.take().into_iter().for_each(Id::wake);
    }
}

/// A second task would take the place of the first, which would then sleep for ever.
fn wait(place: &mut Option<Id>, cx: &Context<'_>) {
    let id = Id::of(cx);
    if let Some(before) = place.replace(id) {
        assert!(before == id || before.is_gone(), "two tasks wait for one direction of a socket");
    }
}
