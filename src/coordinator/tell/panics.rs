//! Panics that ended a connection each: logged with their frames, at most one a minute for a place.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use crate::{bridge::Bridge, meters::PanicReport, rt};

/// How often is looked.
const PERIOD: Duration = Duration::from_millis(250);

/// How long a place is silent once it was logged.
const SILENCE: Duration = Duration::from_secs(60);

/// What is known of a place.
struct Place {
    logged: Instant,
    /// Reports since then.
    more: u64,
}

/// Looks for ever.
pub async fn run(bridge: &'static Bridge) {
    let mut places: HashMap<String, Place> = HashMap::new();
    let mut period = tokio::time::interval(PERIOD);
    loop {
        period.tick().await;
        for shard in &bridge.boards.shards {
            while let Some(report) = shard.meters.panics.reports.pop() {
                if let Some(more) = is_due(&mut places, &report.place, Instant::now()) {
                    let unreported = shard.meters.panics.unreported.get();
                    log(report, more, unreported).await;
                }
            }
        }
    }
}

/// How many were left out since the last one of that place, if this one is to be logged.
fn is_due(places: &mut HashMap<String, Place>, place: &str, now: Instant) -> Option<u64> {
    let fresh = Place { logged: now, more: 0 };
    let Some(known) = places.get_mut(place) else {
        places.insert(place.to_owned(), fresh);
        return Some(0);
    };
    if now - known.logged < SILENCE {
        known.more += 1;
        return None;
    }
    Some(std::mem::replace(known, fresh).more)
}

/// Finding the names of the frames reads the whole program's: on another thread. `more` are those
/// of this place that were left out since the last line of it, `unreported` those of the shard that
/// came too fast to be looked at.
async fn log(report: PanicReport, more: u64, unreported: u64) {
    let named = tokio::task::spawn_blocking(move || {
        let frames = rt::name_frames(|| report.frames.to_string());
        tracing::error!(
            place = report.place,
            not_logged = more,
            unreported,
            frames,
            "a panic ended a connection: {}",
            report.words
        );
    });
    // It cannot fail: nothing cancels it, and a panic would end the process.
    let _ = named.await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_logged_once_a_minute_and_the_rest_is_counted() {
        let (mut places, start) = (HashMap::new(), Instant::now());
        let mut due = |place, after| is_due(&mut places, place, start + Duration::from_secs(after));
        assert_eq!(
            (due("a", 0), due("a", 1), due("b", 1), due("a", 59)),
            (Some(0), None, Some(0), None)
        );
        assert_eq!((due("a", 60), due("a", 61), due("a", 120)), (Some(2), None, Some(1)));
    }
}
