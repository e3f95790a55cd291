//! What an operator changes at run time: `PATCH /pools/{pool}/backends/{backend}`.

use std::sync::Arc;

use axum::{
    Json,
    body::Bytes,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::{Map, Value, json};

use crate::{
    config::{WEIGHT_MAX, Word},
    coordinator::{
        know::{
            Known,
            pools::{Change, Unknown},
        },
        shown::shown,
    },
    health::standing::Order,
};

/// Bytes of a request's body; what is longer is no change.
pub const BODY_MAX: usize = 16 << 10;

/// Answers with the backend as it is after the change, or a sentence that says what is wrong.
pub async fn change_backend(
    State(known): State<Arc<Known>>,
    Path((pool, backend)): Path<(String, String)>,
    body: Bytes,
) -> Response {
    let change = match read(&body) {
        Ok(change) => change,
        Err(sentence) => return refuse(StatusCode::BAD_REQUEST, &sentence),
    };
    let changed = known.pools().change(&pool, &backend, change);
    known.wake_checks();
    match changed {
        Ok(()) => {}
        Err(Unknown::Pool) => {
            let known: Vec<String> = known.pools().all().map(|pool| pool.name.clone()).collect();
            let (pool, known) = (shown(&pool), known.join(", "));
            let sentence = format!("no pool {pool:?} (known: {known})");
            return refuse(StatusCode::NOT_FOUND, &sentence);
        }
        Err(Unknown::Backend) => {
            let backend = shown(&backend);
            let sentence = format!("pool {pool} has no backend {backend:?} (see GET /stats)");
            return refuse(StatusCode::NOT_FOUND, &sentence);
        }
    }
    let pools = known.pools_in_force();
    let found = pools.find(&pool, &backend).map(|backend| {
        json!({
            "pool": pool,
            "backend": backend.name,
            "state": backend.state.name(),
            "weight": backend.weight,
        })
    });
    Json(found).into_response()
}

fn refuse(status: StatusCode, sentence: &str) -> Response {
    (status, format!("{sentence}\n")).into_response()
}

fn read(body: &[u8]) -> Result<Change, String> {
    const EXAMPLE: &str = "{\"state\": \"drain\", \"weight\": 5}";
    let object: Map<String, Value> = serde_json::from_slice(body).map_err(|error| {
        let error = error.to_string();
        format!("not a JSON object: {} (write for example {EXAMPLE})", shown(&error))
    })?;
    let mut change = Change::default();
    for (key, value) in &object {
        match key.as_str() {
            "state" => change.order = Some(order(value)?),
            "weight" => change.weight = Some(weight(value)?),
            _ => return Err(format!("{:?}: unknown key (known here: state, weight)", shown(key))),
        }
    }
    match object.is_empty() {
        true => Err(format!("nothing to change (write for example {EXAMPLE})")),
        false => Ok(change),
    }
}

fn order(value: &Value) -> Result<Order, String> {
    let words = Order::WORDS;
    let meant = words.iter().find(|(word, _)| value.as_str() == Some(word));
    let known: Vec<String> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
    let wrong =
        || format!("state = {}: not one of {}", shown(&value.to_string()), known.join(", "));
    meant.map(|(_, order)| *order).ok_or_else(wrong)
}

fn weight(value: &Value) -> Result<u32, String> {
    let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
    number.filter(|number| *number <= WEIGHT_MAX).ok_or_else(|| {
        let value = value.to_string();
        format!("weight = {}: not a number from 0 to {WEIGHT_MAX}", shown(&value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_names_what_it_changes() {
        let change = read(br#"{"state": "drain", "weight": 0}"#).unwrap();
        assert_eq!((change.order, change.weight), (Some(Order::Drain), Some(0)));
        assert_eq!(read(br#"{"weight": 65535}"#).unwrap().weight, Some(65_535));
    }

    #[test]
    fn what_is_wrong_is_said_with_the_value_and_the_rule() {
        for (body, sentence) in [
            ("{}", "nothing to change (write for example {\"state\": \"drain\", \"weight\": 5})"),
            (r#"{"state": "up"}"#, r#"state = "up": not one of "enable", "drain", "disable""#),
            (r#"{"state": 1}"#, r#"state = 1: not one of "enable", "drain", "disable""#),
            (r#"{"weight": 65536}"#, "weight = 65536: not a number from 0 to 65535"),
            (r#"{"weight": -1}"#, "weight = -1: not a number from 0 to 65535"),
            (r#"{"weight": "5"}"#, "weight = \"5\": not a number from 0 to 65535"),
            (r#"{"wieght": 5}"#, "\"wieght\": unknown key (known here: state, weight)"),
        ] {
            assert_eq!(read(body.as_bytes()).unwrap_err(), sentence);
        }
        for body in ["", "drain", "[]", "{\"state\": \"drain\"", "\u{0}"] {
            assert!(
                read(body.as_bytes()).unwrap_err().starts_with("not a JSON object: "),
                "{body}"
            );
        }
    }
}
