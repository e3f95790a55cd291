//! A view on a screen, or as plain lines. Pure.

use std::{collections::BTreeMap, fmt::Write};

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::{Paragraph, Row, Sparkline, Table},
};

use super::view::{Reading, View};
use crate::{
    bench::{
        Percentiles,
        print::{bytes, micros},
    },
    demo::stats::Backend,
};

const KEYS: &str = "q quit   tab another phase   up/down/page up/page down backends";

/// Columns in front of a curve: what it is, and its newest value.
const LABEL: u16 = 28;

/// Draws everything that fits.
pub fn draw(frame: &mut Frame<'_>, view: &View) {
    let [head, curves, table, foot] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Length(6),
        Constraint::Min(3),
        Constraint::Length(4),
    ])
    .areas(frame.area());
    frame.render_widget(Paragraph::new(headline(view)), head);
    if let Some(reading) = &view.reading {
        draw_curves(frame, curves, reading, view.phase());
        draw_backends(frame, table, reading, view);
        frame.render_widget(Paragraph::new(footlines(reading)), foot);
    }
}

fn headline(view: &View) -> Vec<Line<'static>> {
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let words = match &view.reading {
        Some(Reading { stats, .. }) => format!(
            "{} {}  up {} s  {} of {} connections",
            stats.state,
            stats.driver,
            stats.uptime_s,
            stats.connections_active,
            stats.max_connections
        ),
        None => String::new(),
    };
    let first =
        Line::from(vec![Span::styled(format!("ringway {}  ", view.admin), bold), Span::raw(words)]);
    let trouble = match view.trouble.as_str() {
        "" => String::new(),
        trouble => format!("{trouble}; trying again"),
    };
    vec![first, Line::styled(trouble, Style::new().fg(Color::Red))]
}

/// One line each: its newest value, and the last minutes as far as they fit, newest last.
fn draw_curves(frame: &mut Frame<'_>, area: Rect, reading: &Reading, phase: &str) {
    let history = &reading.history;
    let plain = |value: u64| value.to_string();
    let (rate, errors) =
        (history.per_second(&history.accepted), history.per_second(&history.errors));
    let mut curves = vec![
        ("connections/s".to_owned(), rate, plain as fn(u64) -> String),
        ("errors/s".to_owned(), errors, plain),
    ];
    for (name, column) in history.percentiles(phase) {
        curves.push((format!("{phase} {name}"), column.to_vec(), micros));
    }
    for ((name, values, shown), row) in curves.into_iter().zip(area.rows()) {
        let [label, curve] =
            Layout::horizontal([Constraint::Length(LABEL), Constraint::Min(0)]).areas(row);
        let newest = shown(values.last().copied().unwrap_or(0));
        frame.render_widget(Paragraph::new(format!("{name:<17}{newest:>9}")), label);
        let from = values.len().saturating_sub(usize::from(curve.width));
        frame.render_widget(Sparkline::default().data(&values[from..]), curve);
    }
}

fn draw_backends(frame: &mut Frame<'_>, area: Rect, reading: &Reading, view: &View) {
    let pools = reading.stats.pools.iter();
    let all = pools.flat_map(|pool| pool.backends.iter().map(move |backend| (pool, backend)));
    let rows = all.skip(view.first).map(|(pool, backend)| {
        let share = view.share(&pool.name, &backend.name);
        let cells = [
            format!("{}/{}", pool.name, backend.name),
            backend.state.clone(),
            share.map_or_else(|| "-".to_owned(), |share| format!("{:.0} %", share * 100.0)),
            backend.connections_active.to_string(),
            recent(backend, "connect"),
            recent(backend, "first_byte"),
            backend.reason.clone(),
        ];
        Row::new(cells).style(Style::new().fg(color(&backend.state)))
    });
    let widths = [
        Constraint::Fill(2),
        Constraint::Length(9),
        Constraint::Length(5),
        Constraint::Length(6),
        Constraint::Length(9),
        Constraint::Length(9),
        Constraint::Fill(3),
    ];
    let words = ["backend", "state", "share", "active", "dial p99", "byte p99", "reason"];
    let head = Row::new(words).style(Style::new().add_modifier(Modifier::REVERSED));
    frame.render_widget(Table::new(rows, widths).header(head), area);
}

/// Never the only sign: the word is there too.
fn color(state: &str) -> Color {
    match state {
        "healthy" => Color::Reset,
        "unhealthy" | "ejected" => Color::Red,
        _ => Color::Yellow,
    }
}

/// p99 of the last ten seconds, or of all time before the first ten are over.
fn recent(backend: &Backend, phase: &str) -> String {
    let shown = backend.latency.get(phase).map_or_else(Percentiles::default, |windows| {
        if windows.ten_seconds.count > 0 { windows.ten_seconds } else { windows.total }
    });
    if shown.count > 0 { micros(shown.p99_us) } else { "-".to_owned() }
}

fn footlines(reading: &Reading) -> Vec<Line<'static>> {
    let mut lines: Vec<Line<'_>> = summary(reading).into_iter().map(Line::raw).collect();
    lines.push(Line::styled(KEYS, Style::new().add_modifier(Modifier::DIM)));
    lines
}

/// Shards, ends and bytes.
fn summary(Reading { stats, .. }: &Reading) -> [String; 3] {
    let mut shards = "shards".to_owned();
    for shard in &stats.shards {
        let (id, active, busy) = (shard.id, shard.connections_active, shard.busy_ratio * 100.0);
        let _ = write!(shards, "  {id}: {active} active {busy:.0} % busy");
    }
    let mut by_reason: BTreeMap<&str, u64> = BTreeMap::new();
    for (reason, count) in stats.listeners.iter().flat_map(|listener| &listener.ended_total) {
        *by_reason.entry(reason).or_default() += count;
    }
    let mut ended = "ended".to_owned();
    for (reason, count) in by_reason {
        let _ = write!(ended, "  {reason} {count}");
    }
    let copied: u64 = stats.listeners.iter().map(|listener| listener.bytes_copied_total).sum();
    let spliced: u64 = stats.listeners.iter().map(|listener| listener.bytes_spliced_total).sum();
    let (copied, spliced) = (bytes(copied as f64), bytes(spliced as f64));
    [shards, ended, format!("bytes  {copied} copied  {spliced} spliced")]
}

/// The same without a screen.
pub fn plain(view: &View) -> String {
    let Some(reading) = view.reading.as_ref().filter(|_| view.trouble.is_empty()) else {
        return format!("{}; trying again\n", view.trouble);
    };
    let (stats, history) = (&reading.stats, &reading.history);
    let last = |column: &[u64]| column.last().copied().unwrap_or(0);
    let mut text = format!(
        "{} {}  up {} s  {} of {} connections  {}/s  {} errors/s",
        stats.state,
        stats.driver,
        stats.uptime_s,
        stats.connections_active,
        stats.max_connections,
        last(&history.per_second(&history.accepted)),
        last(&history.per_second(&history.errors))
    );
    for (name, column) in history.percentiles(view.phase()) {
        let _ = write!(text, "  {} {name} {}", view.phase(), micros(last(column)));
    }
    text.push('\n');
    for pool in &stats.pools {
        for backend in &pool.backends {
            let Backend { name, state, connections_active: active, reason, .. } = backend;
            let (dial, byte) = (recent(backend, "connect"), recent(backend, "first_byte"));
            let _ = write!(text, "  {}/{name} {state} active {active} ", pool.name);
            let _ = writeln!(text, "dial p99 {dial} first byte p99 {byte} {reason}");
        }
    }
    for line in summary(reading) {
        let _ = writeln!(text, "  {line}");
    }
    text
}

#[cfg(test)]
mod tests;
