//! `/stats/events`: what has changed, and the numbers by which a reader goes on.

use std::sync::Arc;

use axum::{
    Json,
    extract::{RawQuery, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};

use crate::coordinator::{know::Known, shown::shown};

/// `GET /stats/events`, `GET /stats/events?after=SEQ`.
pub async fn page(State(known): State<Arc<Known>>, RawQuery(query): RawQuery) -> Response {
    match after(query.as_deref().unwrap_or(""), "an event") {
        Ok(seq) => Json(known.events.after(seq)).into_response(),
        Err(sentence) => (StatusCode::BAD_REQUEST, format!("{sentence}\n")).into_response(),
    }
}

/// The number in `after=SEQ`, 0 without it; `whose` is what has such a number.
pub fn after(query: &str, whose: &str) -> Result<u64, String> {
    if query.is_empty() {
        return Ok(0);
    }
    let number = query.strip_prefix("after=").and_then(|number| number.parse().ok());
    let query = shown(query);
    number.ok_or_else(|| format!("{query:?}: not understood (write after=SEQ, SEQ of {whose})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_is_one_number_or_a_sentence() {
        let after = |query| after(query, "an event");
        assert_eq!((after(""), after("after=17")), (Ok(0), Ok(17)));
        for query in ["after", "after=", "after=-1", "after=x", "before=1", "after=1&after=2"] {
            let sentence = format!("{query:?}: not understood (write after=SEQ, SEQ of an event)");
            assert_eq!(after(query), Err(sentence));
        }
    }
}
