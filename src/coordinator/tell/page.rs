//! `/`: one page for whoever looks at an instance during an incident.
//!
//! It is embedded whole and asks for nothing but `/stats`, `/stats/history` and `/stats/events`. It
//! holds no secret and knows no token: `access` judges it, and what it asks for, like all else.

use std::sync::LazyLock;

use axum::{
    http::{HeaderName, header},
    response::{Html, IntoResponse},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use sha2::{Digest, Sha256};

const FRAME: &str = include_str!("page/index.html");
const STYLE: &str = include_str!("page/style.css");

/// One script: a block, so that nothing of it is global.
const SCRIPT: &str = concat!(
    "'use strict';\n{\n",
    include_str!("page/words.js"),
    include_str!("page/past.js"),
    include_str!("page/charts.js"),
    include_str!("page/problems.js"),
    include_str!("page/tables.js"),
    include_str!("page/columns.js"),
    include_str!("page/show.js"),
    include_str!("page/main.js"),
    "}\n"
);

/// The page, and what a browser may do for it: the policy allows the style and the script above by
/// their hashes, and nothing from anywhere else.
static PAGE: LazyLock<(String, String)> = LazyLock::new(|| {
    let page = FRAME.replacen("STYLE", STYLE, 1).replacen("SCRIPT", SCRIPT, 1);
    let hash = |text: &str| BASE64_STANDARD.encode(Sha256::digest(text));
    let policy = format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; \
         img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash(SCRIPT),
        hash(STYLE)
    );
    (page, policy)
});

/// `GET /`.
pub async fn page() -> impl IntoResponse {
    let (page, policy) = &*PAGE;
    let headers: [(HeaderName, &str); 4] = [
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        // After an upgrade it is the new one, whose figures may differ.
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, Html(page.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_allowed_is_what_stands_in_the_page() {
        let (page, _) = &*PAGE;
        let between = |open: &str, close: &str| {
            let (_, rest) = page.split_once(open).unwrap();
            rest.split_once(close).unwrap().0
        };
        assert_eq!(between("<style>", "</style>"), STYLE);
        assert_eq!(between("<script>", "</script>"), SCRIPT);
        assert!(page.len() < 150_000, "{} bytes", page.len());
    }

    #[test]
    fn nothing_is_read_as_html() {
        for way in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("] {
            assert!(!SCRIPT.contains(way), "{way}");
        }
    }
}
