use ratatui::{Terminal, backend::TestBackend};
use serde_json::json;

use super::*;

/// An instance with one backend of three in trouble.
fn view() -> View {
    let latency = |us: u64| {
        let p = json!({ "count": 9, "min_us": us, "mean_us": us, "p50_us": us, "p90_us": us,
            "p99_us": us, "p999_us": us, "p9999_us": us, "max_us": us });
        json!({ "connect": { "10s": p, "total": p } })
    };
    let stats = |total: u64| {
        json!({
            "state": "running", "driver": "io_uring", "uptime_s": 12, "connections_active": 3,
            "max_connections": 9744,
            "shards": [{ "id": 0, "connections_active": 2, "busy_ratio": 0.25, "turn_max_us": 9 },
                       { "id": 1, "connections_active": 1, "busy_ratio": 0.125 }],
            "listeners": [{ "name": "edge", "bytes_copied_total": 2048, "bytes_spliced_total": 0,
                            "ended_total": { "client_fin": 6, "server_reset": 1 } }],
            "pools": [{ "name": "web", "backends": [
                { "name": "a", "state": "healthy", "connections_active": 2,
                  "connections_total": total, "latency": latency(350) },
                { "name": "b", "state": "unhealthy", "reason": "connection refused",
                  "connections_total": 7 },
                { "name": "c", "state": "draining", "reason": "asked for by the operator",
                  "connections_total": total, "latency": latency(12_345) }] }],
        })
    };
    let history = json!({
        "span_ms": [1000, 1000, 1000, 1000], "accepted": [10, 20, 40, 80], "errors": [0, 0, 1, 0],
        "latency": { "connect": { "p50_us": [100, 110, 120, 130], "p99_us": [400, 800, 400, 400],
                                  "p999_us": [900, 900, 900, 20_000] } },
    });
    let mut view = View::new("127.0.0.1:9900".to_owned());
    for total in [10, 13] {
        let stats = serde_json::from_value(stats(total)).unwrap();
        let history = serde_json::from_value(history.clone()).unwrap();
        view.take(Ok(Reading { stats, history }));
    }
    view
}

/// What the screen shows, line by line, without blanks at the ends.
fn screen(view: &View, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, view)).unwrap();
    let cells = terminal.backend().buffer().content();
    let rows = cells.chunks(usize::from(width));
    let row = |cells: &[ratatui::buffer::Cell]| {
        cells.iter().map(ratatui::buffer::Cell::symbol).collect::<String>().trim_end().to_owned()
    };
    rows.map(row).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_small_screen() {
    assert_eq!(screen(&view(), 80, 24), include_str!("small.txt").trim_end_matches('\n'));
}

#[test]
fn a_wide_screen() {
    assert_eq!(screen(&view(), 140, 20), include_str!("wide.txt").trim_end_matches('\n'));
}

#[test]
fn no_screen_is_too_small() {
    for (width, height) in [(1, 1), (10, 3), (80, 5), (300, 100)] {
        screen(&view(), width, height);
        screen(&View::new("nobody".to_owned()), width, height);
    }
}

#[test]
fn an_instance_that_is_gone_is_said_to_be() {
    let mut view = view();
    view.take(Err("connection refused (is it running?)".to_owned()));
    let shown = screen(&view, 80, 24);
    assert!(shown.contains("refused (is it running?); trying again"), "{shown}");
    assert!(shown.contains("web/a"), "what was known is still there: {shown}");
    assert_eq!(plain(&view), "connection refused (is it running?); trying again\n");
}

#[test]
fn plain_lines_say_the_same() {
    let text = plain(&view());
    assert!(!text.contains('\x1b'), "{text:?}");
    for part in [
        "running io_uring  up 12 s  3 of 9744 connections  80/s  0 errors/s  connect p50 130 us",
        "web/b unhealthy active 0 dial p99 - first byte p99 - connection refused",
        "shards  0: 2 active 25 % busy  1: 1 active 12 % busy",
        "ended  client_fin 6  server_reset 1",
        "bytes  2.0 kB copied  0 B spliced",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}
