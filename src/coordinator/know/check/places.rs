//! Places for checks that run at once, each with a descriptor; who is next, `turns` knows.

use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::oneshot;

use super::turns::{Turns, Whose};

/// All of them.
#[derive(Clone)]
pub struct Places(Arc<Mutex<Turns<oneshot::Sender<Place>>>>);

/// One of them, until it is dropped.
pub struct Place {
    places: Places,
    whose: Whose,
}

impl Places {
    /// All free, for so many pools.
    pub fn new(pools: usize) -> Places {
        Places(Arc::new(Mutex::new(Turns::new(pools))))
    }

    fn turns(&self) -> MutexGuard<'_, Turns<oneshot::Sender<Place>>> {
        self.0.lock().expect("nobody panics holding it")
    }

    /// How many are taken, and how many checks wait for one.
    pub fn counts(&self) -> (usize, usize) {
        self.turns().counts()
    }

    /// Waits for one.
    pub async fn one(&self, whose: Whose) -> Option<Place> {
        let (give, given) = oneshot::channel();
        self.turns().wait(whose, give);
        self.give();
        given.await.ok()
    }

    /// Gives what is free to those who are next.
    fn give(&self) {
        loop {
            let Some((waiter, whose)) = self.turns().next() else { return };
            // Whoever does not wait any more drops it, which gives it to the next one.
            let _ = waiter.send(Place { places: self.clone(), whose });
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.turns().leave(self.whose);
        self.places.give();
    }
}
