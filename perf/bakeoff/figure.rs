//! Figures of many rounds: medians, quartiles and the ratios of each round, as a table to paste.

use std::fmt::Write as _;

/// Figures of one contender, by round; `None` where the round was void.
pub struct Row {
    pub name: String,
    pub rounds: Vec<Option<f64>>,
}

/// First quartile, median, third quartile.
fn quartiles(values: impl Iterator<Item = f64>) -> Option<[f64; 3]> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let last = values.len().checked_sub(1)? as f64;
    Some([0.25, 0.5, 0.75].map(|share| {
        let at = last * share;
        let (low, high) = (values[at.floor() as usize], values[at.ceil() as usize]);
        low + (high - low) * at.fract()
    }))
}

/// A table of the figures and of the ratios, round by round, to the row named `against`.
pub fn table(title: &str, rows: &[Row], against: &str) -> String {
    let reference = rows.iter().find(|row| row.name == against);
    let mut text =
        format!("| {title} | median | quartiles | to {against} | quartiles | rounds |\n");
    text.push_str("|---|---|---|---|---|---|\n");
    for row in rows {
        let good = row.rounds.iter().flatten().count();
        let figure = cells(quartiles(row.rounds.iter().flatten().copied()));
        let ratios = reference.and_then(|against| {
            let pairs = row.rounds.iter().zip(&against.rounds);
            quartiles(pairs.filter_map(|(mine, theirs)| Some((*mine)? / (*theirs)?)))
        });
        _ = writeln!(text, "| {} | {figure} | {} | {good} |", row.name, cells(ratios));
    }
    text
}

fn cells(figure: Option<[f64; 3]>) -> String {
    figure.map_or("void | ".to_owned(), |[q1, median, q3]| format!("{median:.3} | {q1:.3}-{q3:.3}"))
}

/// That quartiles and ratios are what they say.
pub fn prove() {
    assert_eq!(quartiles([4.0, 1.0, 3.0, 2.0, 5.0].into_iter()), Some([2.0, 3.0, 4.0]));
    assert_eq!(quartiles([1.0, 2.0].into_iter()), Some([1.25, 1.5, 1.75]));
    let row = |name: &str, rounds: &[Option<f64>]| Row { name: name.into(), rounds: rounds.into() };
    let rows = [row("a", &[Some(2.0), Some(4.0), None]), row("b", &[Some(1.0), None, Some(9.0)])];
    let text = table("us", &rows, "b");
    assert!(text.contains("| a | 3.000 | 2.500-3.500 | 2.000 | 2.000-2.000 | 2 |"), "{text}");
}
