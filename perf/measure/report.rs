//! What came of it as text: tables for the terminal and for the report, which are the same.

use std::fmt::Write as _;

use crate::{
    case::To,
    figure::{Outcome, Quartiles, Standing, Verdict, is_tie},
    machine::Facts,
    settings::{self, Settings},
};

/// How a report begins.
pub fn head(name: &str, facts: &Facts) -> String {
    let mut text = format!("# {name}\n\n");
    facts.iter().for_each(|(fact, value)| _ = writeln!(text, "* {fact}: {value}"));
    text.push_str(
        "\nEvery run has a fresh process and a fresh backend. Figures are of the time between the \
         warm-up and\nthe end, so neither making the connections nor closing them is in them. CPU \
         time is that of all\nthreads of the proxy. Medians and quartiles are over interleaved \
         rounds; a ratio is taken round by\nround, and is a tie where its quartiles lie on both \
         sides of 1. The best peer is the one with the\nlowest median, among all settings \
         with more good rounds than void ones. A verdict needs 9 good\nrounds of both, or all \
         where fewer are run.\n\n",
    );
    text
}

/// The text of a case; `charts` names the picture of a figure, where there are pictures.
pub fn case(outcome: &Outcome, charts: Option<&dyn Fn(usize) -> String>) -> String {
    let mut text = format!("## {}\n\n{}.\n", outcome.case.name, capital(&outcome.case.words()));
    for note in &outcome.notes {
        _ = writeln!(text, "{}.", capital(note));
    }
    for (figure, kind) in outcome.case.figures().iter().enumerate() {
        _ = write!(text, "\n{}, {}:\n\n{}", capital(kind.name), kind.unit, table(outcome, figure));
        if let Some(charts) = charts {
            _ = writeln!(text, "\n![{}]({})", kind.name, charts(figure));
        }
    }
    let verdicts = outcome.verdicts();
    if !verdicts.is_empty() {
        text.push_str("\nWhat is promised:\n\n");
        verdicts.iter().for_each(|verdict| _ = writeln!(text, "* {}", sentence(outcome, verdict)));
    }
    let left_out = outcome.rows.iter().filter(|row| row.is_peer() && row.is_mostly_void());
    for row in left_out {
        let (name, good, all) = (&row.name, row.good(), row.rounds.len());
        _ = writeln!(text, "\nNot taken for the best peer: {name}, {good} good rounds of {all}.");
    }
    if !outcome.void.is_empty() {
        _ = writeln!(text, "\nVoid runs, left out of all figures:\n");
        outcome.void.iter().for_each(|why| _ = writeln!(text, "* {why}"));
    }
    text
}

fn table(outcome: &Outcome, figure: usize) -> String {
    let mut references = vec![outcome.floor(), outcome.best_peer(figure)];
    references.retain(|_| !outcome.case.figures()[figure].is_growth());
    let mut lines = vec![vec![String::new(), "median".into(), "quartiles".into()]];
    for reference in references.iter().flatten() {
        lines[0].push(format!("to {}", reference.name));
    }
    lines[0].push("rounds".into());
    for row in &outcome.rows {
        let mut line = vec![row.name.clone()];
        match row.quartiles(figure) {
            Some([q1, median, q3]) => {
                line.extend([number(median), format!("{}-{}", number(q1), number(q3))]);
            }
            None => line.extend(["void".to_owned(), String::new()]),
        }
        for reference in references.iter().flatten() {
            let ratio = row.ratio(reference, figure).filter(|_| reference.name != row.name);
            line.push(ratio.map_or_else(String::new, ratio_words));
        }
        line.push(row.rounds.iter().flatten().count().to_string());
        lines.push(line);
    }
    columns(&lines)
}

/// Columns as wide as their widest cell, the first to the left, the others to the right.
fn columns(lines: &[Vec<String>]) -> String {
    let widths: Vec<usize> = (0..lines[0].len())
        .map(|column| lines.iter().map(|line| line[column].len()).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for (at, line) in lines.iter().enumerate() {
        for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
            _ = match column {
                0 => write!(text, "| {cell:<width$} |"),
                _ => write!(text, " {cell:>width$} |"),
            };
        }
        text.push('\n');
        if at == 0 {
            let rules = widths.iter().enumerate().map(|(column, width)| match column {
                0 => format!("|{}|", "-".repeat(width + 2)),
                _ => format!("{}:|", "-".repeat(width + 1)),
            });
            text.extend(rules);
            text.push('\n');
        }
    }
    text
}

fn ratio_words(ratio: Quartiles) -> String {
    let [q1, median, q3] = ratio;
    let tie = if is_tie(ratio) { ", a tie" } else { "" };
    format!("{median:.3} ({q1:.3}-{q3:.3}){tie}")
}

fn sentence(outcome: &Outcome, verdict: &Verdict) -> String {
    let limit = verdict.limit;
    let kind = outcome.case.figures()[limit.figure];
    let (name, at_most) = (&verdict.name, limit.at_most);
    let promised = match (&verdict.against, limit.to) {
        (Some(against), To::BestPeer) => format!("{at_most} x the best peer ({against})"),
        (Some(against), To::BestDefault) => format!("{at_most} x the best default ({against})"),
        (Some(against), _) => format!("{at_most} x {against}"),
        (None, To::Itself) => format!("{at_most} {}", kind.unit),
        (None, To::Floor) => format!("{at_most} x {}", outcome.case.floor()),
        (None, To::Best(peer)) => format!("{at_most} x {peer}"),
        (None, To::BestPeer) => format!("{at_most} x the best peer"),
        (None, To::BestDefault) => format!("{at_most} x the best default"),
    };
    let is = match (verdict.ratio, limit.to) {
        (None, _) => String::new(),
        (Some([q1, median, q3]), To::Itself) => {
            format!("{} ({}-{}), ", number(median), number(q1), number(q3))
        }
        (Some([q1, median, q3]), _) => format!("{median:.3} ({q1:.3}-{q3:.3}), "),
    };
    let standing = match verdict.standing {
        Standing::Holds => "holds".to_owned(),
        Standing::Open => "a tie with the limit".to_owned(),
        Standing::Broken => "does not hold".to_owned(),
        Standing::TooFew(good) => {
            format!("not decided: {good} good rounds, {} are needed", outcome.enough)
        }
        Standing::Missing(who) => format!("not compared: {who} is missing"),
    };
    let void = match verdict.void {
        0 => String::new(),
        void => format!(" ({void} rounds of its own void)"),
    };
    format!("{name}, {}, at most {promised}: {is}{standing}{void}", kind.name)
}

/// The settings of all contenders, each with one backend.
pub fn settings(names: &[String]) -> String {
    let address = |port: u16| ([127, 0, 0, 1], port).into();
    let routes = [(address(8080), vec![address(9001)])];
    let mut text = "## Settings\n\nOne thread each, here with one backend.\n".to_owned();
    for name in names {
        let Ok(Settings { program, args, file }) = settings::of(name, &routes) else {
            continue;
        };
        _ = write!(text, "\n{name}: `{program} {}`\n", args.join(" "));
        if let Some((_, file)) = file {
            _ = write!(text, "\n```\n{}\n```\n", file.trim_end());
        }
    }
    text
}

/// Four digits or so, and no more than three of them behind the point.
pub fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        large if large >= 1000.0 => format!("{value:.0}"),
        middle if middle >= 100.0 => format!("{value:.1}"),
        small if small >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |c| c.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::tests::outcome;

    /// The text as it was last read.
    #[test]
    fn a_case_is_told_as_it_was() {
        let mut outcome = outcome(
            "messages-1000",
            &[
                ("floor-copy", &[7.0, 7.1, 7.2]),
                ("ringway-io_uring", &[7.5, 7.9, 7.8]),
                ("ringway-epoll", &[6.9, 7.2, 7.2]),
                ("haproxy", &[7.6, 8.0, 9.4]),
                ("envoy", &[14.0, f64::NAN, 14.5]),
            ],
        );
        outcome.void.push("round 2: envoy: 3 operations failed".to_owned());
        let told = case(&outcome, Some(&|at| format!("folder/messages-1000-{at}.svg")));
        assert_eq!(told, include_str!("report/messages.md"), "now it is\n{told}");
    }

    #[test]
    fn what_is_not_known_is_told_as_such() {
        let void = f64::NAN;
        let told =
            case(&outcome("connect-32", &[("ringway-epoll", &[void]), ("nginx", &[7.0])]), None);
        for line in [
            "at most 1.1 x floor-copy: not compared: floor-copy is missing (1 rounds of its own void)",
            "the best peer (nginx): not decided: 0 good rounds, 1 are needed (1 rounds of its own void)",
        ] {
            assert!(told.contains(line), "{told}");
        }
    }

    #[test]
    fn numbers_have_four_digits_or_so() {
        let numbers = [0.0, 0.1234, 7.041, 31.06, 123.46, 17_771.8].map(number);
        assert_eq!(numbers, ["0", "0.123", "7.04", "31.06", "123.5", "17772"]);
    }

    #[test]
    fn all_settings_are_told() {
        let names = settings::NAMES.map(str::to_owned);
        let told = settings(&names);
        assert!(names.iter().all(|name| told.contains(&format!("\n{name}: `"))), "{told}");
    }
}
