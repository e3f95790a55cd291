//! `/stats/history`: the last five minutes, second by second.
//!
//! Kept whether or not somebody looks, so that whoever opens the page in the middle of an incident
//! sees how it began.

mod ring;

use std::{
    sync::{Arc, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{
    Json,
    extract::{RawQuery, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use tokio::time::{Instant, sleep_until};

use self::ring::{Ring, Sample, Spread};
use super::{
    Recorded, events, gather,
    stats::{self, Sums},
};
use crate::{bridge::ListenerPhase, coordinator::facts::Facts};

/// Between two samples, at least.
const PERIOD: Duration = Duration::from_secs(1);

/// The newest samples.
#[derive(Debug)]
pub struct Seconds(Mutex<Ring>);

impl Seconds {
    /// None yet; the process starts now.
    pub fn new() -> Self {
        Seconds(Mutex::new(Ring::new(unix_ms())))
    }
}

/// A clock before 1970 is no reason to keep nothing.
fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Takes samples for ever, each a period after the one before, however late that was: two close to
/// each other would be a spike to whoever divides by what is between them.
pub async fn run(facts: Arc<Facts>, recorded: Arc<Recorded>) {
    let (mut before, mut began) = (Sums::default(), Instant::now());
    loop {
        sleep_until(began + PERIOD).await;
        gather::gather(&facts, &recorded);
        let (now, span) = (stats::all_sums(facts.bridge), began.elapsed());
        began += span;
        let sample = Sample {
            unix_ms: unix_ms(),
            span_ms: u64::try_from(span.as_millis()).unwrap_or(u64::MAX),
            active: now.active(),
            counts: now.since(&before),
            latency: take_latency(&recorded),
        };
        recorded.seconds.0.lock().expect("nobody panics holding it").push(sample);
        before = now;
    }
}

fn take_latency(recorded: &Recorded) -> [Spread; ListenerPhase::COUNT] {
    let mut gathered = recorded.gathered();
    gathered.since_sample.each_mut().map(|latency| {
        let spread = Spread::of(latency);
        latency.clear();
        spread
    })
}

/// `GET /stats/history`, `GET /stats/history?after=SEQ`.
pub async fn page(State(recorded): State<Arc<Recorded>>, RawQuery(query): RawQuery) -> Response {
    match events::after(query.as_deref().unwrap_or(""), "a sample") {
        Ok(seq) => {
            let ring = recorded.seconds.0.lock().expect("nobody panics holding it");
            Json(ring.after(seq)).into_response()
        }
        Err(sentence) => (StatusCode::BAD_REQUEST, format!("{sentence}\n")).into_response(),
    }
}
