//! Who may ask the admin endpoint for what. Pure: a request in, a decision out.
//!
//! Two dangers: somebody on the network, whom the token keeps out; and a web page that an operator
//! has open, which asks from this very host. That one knows no token, so the token's rule keeps it
//! from every change; without a token, and for reading, it is known by the `Host` it believes to
//! ask (a name of its own that resolves to us) or by the `Origin` it comes from.

use std::net::IpAddr;

use hyper::Method;

use crate::{config::Token, coordinator::shown::shown};

/// What is known of a request before it is answered.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Who asks.
    pub peer: IpAddr,
    /// How.
    pub method: &'a Method,
    /// For what.
    pub path: &'a str,
    /// True exactly when its version has to name a host: from HTTP/1.1 on.
    pub needs_host: bool,
    /// Who it is for, where its first line says so: `GET http://HOST:PORT/path`.
    pub authority: Option<&'a str>,
    /// All its `Host`s.
    pub hosts: &'a [&'a str],
    /// All its `Origin`s: set by browsers.
    pub origins: &'a [&'a str],
    /// Its `Authorization`.
    pub authorization: Option<&'a str>,
}

/// Why a request is not answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// 400: whom it is for, or where it comes from, can be read in two ways, or in none.
    Unclear(String),
    /// 401: it needs a token and has none, or another one.
    Token(String),
    /// 403: it comes from where nobody may ask.
    Foreign(String),
}

/// Whether a request with this method may change something.
pub fn changes(method: &Method) -> bool {
    ![Method::GET, Method::HEAD, Method::OPTIONS].contains(method)
}

/// Whether it is what load balancers and orchestrators ask.
pub fn is_probe(method: &Method, path: &str) -> bool {
    let of_probes = ["/health", "/ready"].contains(&path) || path.starts_with("/ready/");
    [Method::GET, Method::HEAD].contains(method) && of_probes
}

/// Whether the request may be answered.
///
/// # Errors
/// The status to answer with, and a sentence.
pub fn judge(asked: &Asked<'_>, token: Option<&Token>) -> Result<(), Refusal> {
    let host = host(asked)?;
    let origin = only("Origin", asked.origins)?;
    let here = asked.peer.to_canonical().is_loopback();
    let changes = changes(asked.method);
    let offered = asked.authorization.and_then(bearer);
    let known = token.is_some_and(|token| offered.is_some_and(|offered| token.is(offered)));
    // Probes of a load balancer or an orchestrator have no token.
    let open = is_probe(asked.method, asked.path);
    if token.is_some() && !known && (changes || !here && !open) {
        return Err(Refusal::Token(needs_token(asked, offered.is_some())));
    }
    if let Some(host) = host.filter(|host| here && !known && !is_loopback(host)) {
        let way_out = "ask for 127.0.0.1 or localhost";
        let host = shown(host);
        return Err(Refusal::Foreign(format!("Host {host:?}: not this host ({way_out})\n")));
    }
    let foreign_origin = origin.filter(|origin| !is_ours(origin, host, here));
    if let Some(origin) = foreign_origin.filter(|_| changes || here && !known) {
        let (origin, rule) = (shown(origin), "pages of other sites may not ask");
        return Err(Refusal::Foreign(format!("Origin {origin:?}: {rule}\n")));
    }
    Ok(())
}

/// Whom the request is for. What is judged has to be all there is: another reader of the same
/// request could take the other one.
fn host<'a>(asked: &Asked<'a>) -> Result<Option<&'a str>, Refusal> {
    let host = only("Host", asked.hosts)?;
    match (asked.authority, host) {
        (_, None) if asked.needs_host => {
            Err(Refusal::Unclear("no Host (HTTP/1.1 needs one: send \"Host: 127.0.0.1\")\n".into()))
        }
        (Some(authority), Some(host)) if !authority.eq_ignore_ascii_case(host) => {
            let (host, authority) = (shown(host), shown(authority));
            let rule = format!("is not that of the request line, {authority:?} (write the same)");
            Err(Refusal::Unclear(format!("Host {host:?}: {rule}\n")))
        }
        (authority, host) => Ok(authority.or(host)),
    }
}

/// The value of a header that may be there once.
fn only<'a>(header: &str, values: &[&'a str]) -> Result<Option<&'a str>, Refusal> {
    match values {
        [] => Ok(None),
        [value] => Ok(Some(value)),
        [first, second, ..] => {
            let rule = "there may be one (send only one)";
            let values = format!("{:?} and {:?}", shown(first), shown(second));
            Err(Refusal::Unclear(format!("{header} {values}: {rule}\n")))
        }
    }
}

fn needs_token(asked: &Asked<'_>, offered: bool) -> String {
    let Asked { method, path, .. } = asked;
    let fault = if offered { "this is not the token" } else { "needs the token" };
    let way_out = "send \"Authorization: Bearer TOKEN\" with what is in admin.token_file";
    let (method, path) = (shown(method.as_str()), shown(path));
    format!("{method} {path}: {fault} ({way_out})\n")
}

/// The token in an `Authorization` header.
fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Whether a page of that origin is one of ours: from this host, or from where the asker found us.
/// Only who asks from elsewhere may name us as it likes; nearby, a name could have been made to
/// resolve to us.
fn is_ours(origin: &str, host: Option<&str>, here: bool) -> bool {
    let Some((_, authority)) = origin.split_once("://") else { return false };
    is_loopback(authority) || !here && host == Some(authority)
}

/// Whether an authority (`HOST` or `HOST:PORT`) names this host's loopback.
fn is_loopback(authority: &str) -> bool {
    let port = |(_, port): &(&str, &str)| port.chars().all(|c| c.is_ascii_digit());
    let host = authority.rsplit_once(':').filter(port).map_or(authority, |(host, _)| host);
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || bare.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_names_are_ours() {
        for ours in
            ["127.0.0.1:9900", "127.0.0.1", "localhost:1", "LOCALHOST", "[::1]:9900", "[::1]"]
        {
            assert!(is_loopback(ours), "{ours}");
        }
        for foreign in ["evil.example", "10.0.0.1:9900", "127.0.0.1.evil.example:80", "", "?"] {
            assert!(!is_loopback(foreign), "{foreign}");
        }
    }

    const TOKEN: &str = "0123456789abcdef";

    /// The status for each request, one per line: where from, method and path (or `//HOST/PATH`),
    /// `Host`s (`old`: none, and HTTP/1.0), `Origin`s, what token it shows (`-`: none), the status
    /// with a token in the file, and without one.
    const TABLE: &str = "
        near  GET     /stats   127.0.0.1     -                     -      200  200
        near  GET     /stats   -             -                     -      400  400
        near  GET     /stats   -             -                     right  400  400
        near  GET     /stats   old           -                     -      200  200
        near  GET     /stats   localhost,evil.example  -           -      400  400
        near  GET     /stats   evil.example,localhost  -           right  400  400
        near  GET     /stats   localhost,localhost     -           -      400  400
        near  POST    /stats   localhost  http://localhost,null    right  400  400
        near  GET     /stats   localhost  http://localhost,http://localhost  -  400  400
        near  GET     //localhost/stats     localhost      -       -      200  200
        near  GET     //LOCALHOST/stats     localhost      -       -      200  200
        near  GET     //localhost/stats     old            -       -      200  200
        near  GET     //localhost/stats     -              -       -      400  400
        near  GET     //localhost/stats     evil.example   -       -      400  400
        near  GET     //evil.example/stats  localhost      -       -      400  400
        near  GET     //evil.example/stats  evil.example   -       -      403  403
        near  GET     //evil.example/stats  old            -       -      403  403
        near  GET     //x@localhost/stats   localhost      -       -      400  400
        near  HEAD    /health  evil.example  -                     -      403  403
        near  GET     /stats   localhost:1   http://localhost:1    -      200  200
        near  GET     /stats   evil.example  -                     -      403  403
        near  GET     /stats   127.0.0.1     http://evil.example   -      403  403
        near  GET     /stats   127.0.0.1     null                  -      403  403
        near  GET     /stats   evil.example  http://evil.example   -      403  403
        near  GET     /stats   127.0.0.1     -                     wrong  200  200
        near  GET     /stats   evil.example  -                     wrong  403  403
        near  GET     /stats   ringway:9900  -                     right  200  403
        near  GET     /stats   ringway:9900  http://evil.example   right  200  403
        near  GET     /health  evil.example  -                     -      403  403
        near  GET     /health  127.0.0.1     -                     -      200  200
        near  HEAD    /stats   127.0.0.1     -                     -      200  200
        near  OPTIONS /stats   127.0.0.1     -                     -      200  200
        near  POST    /stats   127.0.0.1     -                     -      401  200
        near  POST    /stats   127.0.0.1     -                     wrong  401  200
        near  POST    /stats   127.0.0.1     -                     right  200  200
        near  POST    /stats   ringway:9900  -                     right  200  403
        near  POST    /stats   127.0.0.1     http://localhost:1    right  200  200
        near  POST    /stats   127.0.0.1     http://evil.example   right  403  403
        near  POST    /stats   evil.example  http://evil.example   right  403  403
        near  POST    /stats   127.0.0.1     null                  right  403  403
        near  PATCH   /health  127.0.0.1     -                     -      401  200
        near  DELETE  /x       127.0.0.1     http://evil.example   -      401  403
        near  PUT     /x       evil.example  -                     -      401  403
        far   GET     /health  10.0.0.1:99   -                     -      200  -
        far   GET     /ready   10.0.0.1:99   -                     wrong  200  -
        far   HEAD    /health  10.0.0.1:99   -                     -      200  -
        far   GET     /ready/edge  10.0.0.1:99  -                  -      200  -
        far   PATCH   /ready/edge  10.0.0.1:99  -                  -      401  -
        far   GET     /readyedge   10.0.0.1:99  -                  -      401  -
        far   HEAD    /ready   10.0.0.1:99   -                     -      200  -
        far   HEAD    /stats   10.0.0.1:99   -                     -      401  -
        far   OPTIONS /health  10.0.0.1:99   -                     -      401  -
        far   GET     /health  -             -                     -      400  -
        far   GET     /health  10.0.0.1:99,x -                     -      400  -
        far   PATCH   //10.0.0.1:99/x  10.0.0.1:99  http://10.0.0.1:99    right  200  -
        far   POST    /health  10.0.0.1:99   -                     -      401  -
        far   GET     /healthy 10.0.0.1:99   -                     -      401  -
        far   GET     /stats   127.0.0.1     -                     -      401  -
        far   GET     /stats   10.0.0.1:99   -                     wrong  401  -
        far   GET     /stats   10.0.0.1:99   -                     right  200  -
        far   GET     /nothing 10.0.0.1:99   -                     -      401  -
        far   OPTIONS /stats   10.0.0.1:99   -                     -      401  -
        far   PATCH   /stats   10.0.0.1:99   -                     right  200  -
        far   PATCH   /stats   10.0.0.1:99   http://10.0.0.1:99    right  200  -
        far   PATCH   /stats   10.0.0.1:99   http://evil.example   right  403  -
    ";

    #[test]
    fn every_request_gets_the_status_of_the_table() {
        let token = Token::new("admin.token".into(), TOKEN, false);
        let lines: Vec<&str> = TABLE.lines().filter(|line| !line.trim().is_empty()).collect();
        assert!(lines.len() > 30);
        for line in lines {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [from, method, path, host, origin, shown, with, without] = words[..] else {
                panic!("{line}");
            };
            let given = |word: &'static str| match word {
                "-" | "old" => Vec::new(),
                word => word.split(',').collect(),
            };
            let (authority, path) = match path.strip_prefix("//").and_then(|p| p.split_once('/')) {
                Some((authority, page)) => (Some(authority), format!("/{page}")),
                None => (None, path.to_owned()),
            };
            let authorization = match shown {
                "right" => Some(format!("bearer {TOKEN}")),
                "wrong" => Some(format!("Bearer {TOKEN}0")),
                _ => None,
            };
            let asked = Asked {
                peer: if from == "near" { [127, 0, 0, 1] } else { [10, 0, 0, 7] }.into(),
                method: &method.parse().unwrap(),
                path: &path,
                needs_host: host != "old",
                authority,
                hosts: &given(host),
                origins: &given(origin),
                authorization: authorization.as_deref(),
            };
            let status = |token| match judge(&asked, token) {
                Ok(()) => "200",
                Err(Refusal::Unclear(_)) => "400",
                Err(Refusal::Token(_)) => "401",
                Err(Refusal::Foreign(_)) => "403",
            };
            assert_eq!(status(Some(&token)), with, "with a token: {line}");
            // Without a token nobody from elsewhere reaches us.
            assert!(without == "-" || status(None) == without, "without a token: {line}");
        }
    }

    #[test]
    fn refusals_say_what_is_wrong_and_never_the_token() {
        let token = Token::new("admin.token".into(), TOKEN, false);
        let asked = Asked {
            peer: [10, 0, 0, 7].into(),
            method: &Method::GET,
            path: "/stats",
            needs_host: true,
            authority: None,
            hosts: &["10.0.0.1"],
            origins: &[],
            authorization: Some("Bearer letmein"),
        };
        let Err(Refusal::Token(sentence)) = judge(&asked, Some(&token)) else { panic!() };
        let expected = "GET /stats: this is not the token (send \"Authorization: Bearer TOKEN\" \
                        with what is in admin.token_file)\n";
        assert_eq!(sentence, expected);
    }
    #[test]
    fn what_is_unclear_is_named_with_its_rule() {
        let sentence = |hosts: &[&str], authority| {
            let asked = Asked {
                peer: [127, 0, 0, 1].into(),
                method: &Method::GET,
                path: "/stats",
                needs_host: true,
                authority,
                hosts,
                origins: &[],
                authorization: None,
            };
            match judge(&asked, None) {
                Err(Refusal::Unclear(sentence)) => sentence,
                other => panic!("{other:?}"),
            }
        };
        for (hosts, authority, expected) in [
            (&[][..], None, "no Host (HTTP/1.1 needs one: send \"Host: 127.0.0.1\")\n"),
            (&["a", "b", "c"], None, "Host \"a\" and \"b\": there may be one (send only one)\n"),
            (
                &["a"],
                Some("b"),
                "Host \"a\": is not that of the request line, \"b\" (write the same)\n",
            ),
        ] {
            assert_eq!(sentence(hosts, authority), expected);
        }
    }
}
