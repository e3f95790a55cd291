//! The page at `/`, as far as no browser is needed; `tests/outside/page.rs` has one.

use crate::kit::{Config, Server, each_driver, http};

/// 1. The page comes whole: HTML of less than 150 KB that names no other place. 2. Its headers
///    allow a browser what is in it, and nothing else. 3. A browser that a foreign name has led
///    here gets nothing. 4. The page is named where another is not found.
#[test]
fn the_page_is_one_file_with_a_strict_policy() {
    each_driver(|driver| {
        let server = Server::echo();
        let proxy = Config::new(driver).backend(server.address).start();
        let page = proxy.get("/");
        assert_eq!(
            (page.status, page.header("content-type")),
            (200, Some("text/html; charset=utf-8"))
        );
        assert!(page.body.len() < 150_000 && page.body.ends_with("</html>\n"));
        let mut urls = page.body.split("http").skip(1).filter(|rest| rest.starts_with("://"));
        let namespace = |rest: &str| rest.starts_with("://www.w3.org/2000/svg");
        assert!(urls.all(namespace), "it names another place");
        let policy = page.header("content-security-policy").unwrap();
        let rules: Vec<&str> = policy.split("; ").collect();
        for rule in [
            "default-src 'none'",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ] {
            assert!(rules.contains(&rule), "{rule}: {policy}");
        }
        for hashed in ["script-src 'sha256-", "style-src 'sha256-"] {
            assert!(rules.iter().any(|rule| rule.starts_with(hashed)), "{hashed}: {policy}");
        }
        assert!(!policy.contains("unsafe") && !policy.contains('*'), "{policy}");
        assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(page.header("referrer-policy"), Some("no-referrer"));
        assert_eq!(page.header("cache-control"), Some("no-cache"));
        let foreign = http::get_with(proxy.admin, "/", "Host: evil.example\r\n");
        assert_eq!(foreign.status, 403);
        assert!(proxy.get("/page").body.contains("there are /, "));
    });
}
