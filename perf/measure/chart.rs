//! A figure of a case as an SVG: a bar for each contender, with its quartiles.

use std::fmt::Write as _;

use ringway::bench::svg;

use crate::{
    figure::{Outcome, Row},
    report::number,
};

const WIDTH: u32 = 860;
/// Where the bars are, and where their numbers begin.
const LEFT: f64 = 170.0;
const RIGHT: f64 = 600.0;
const NUMBERS: f64 = 620.0;
const TOP: f64 = 84.0;
/// From one bar to the next, and how thick it is.
const STEP: f64 = 30.0;
const THICK: f64 = 16.0;

/// Floors, ours and peers differ in tone too, not in colour only.
const COLOURS: &str = "<style>
.floor { fill: #8b96a5 } .ours { fill: #1c66c9 } .peer { fill: #b9c6d8 }
.whisker { stroke: #17202b; stroke-width: 1.5; fill: none }
@media (prefers-color-scheme: dark) {
.floor { fill: #6b7684 } .ours { fill: #58a6ff } .peer { fill: #3d4b5e }
.whisker { stroke: #e8edf3 }
}
</style>
";

/// The picture of the figure with this number.
pub fn svg(outcome: &Outcome, figure: usize) -> String {
    let kind = outcome.case.figures()[figure];
    let bottom = TOP + STEP * outcome.rows.len() as f64;
    let mut text = svg::head(WIDTH, bottom as u32 + 44) + COLOURS;
    let title = format!("{}: {}, {}", outcome.case.name, kind.name, kind.unit);
    _ = writeln!(text, r#"<text id="title" class="title" x="24" y="30">{title}</text>"#);
    let words = outcome.case.words();
    _ = writeln!(text, r#"<text class="soft" x="24" y="52">{words}</text>"#);
    let most = outcome.rows.iter().filter_map(|row| Some(row.quartiles(figure)?[2]));
    let most = most.fold(0.0, f64::max);
    let step = if most > 0.0 { svg::round_step(most) } else { 1.0 };
    let scale = (RIGHT - LEFT) / most.max(step);
    for value in (0..).map(|count| f64::from(count) * step).take_while(|value| *value <= most) {
        let (x, label) = (LEFT + value * scale, (value * 1e3).round() / 1e3);
        _ = writeln!(text, r#"<path class="grid" d="M{x:.1} {TOP}V{bottom}"/>"#);
        let y = bottom + 18.0;
        _ = writeln!(
            text,
            r#"<text class="soft" x="{x:.1}" y="{y}" text-anchor="middle">{label}</text>"#
        );
    }
    for (at, row) in outcome.rows.iter().enumerate() {
        bar(&mut text, row, figure, (TOP + STEP * at as f64, scale));
    }
    let y = bottom + 36.0;
    let words = "less is better; bars are medians, lines their quartiles";
    _ = writeln!(text, r#"<text class="soft" x="{LEFT}" y="{y}">{words}</text>"#);
    text + "</svg>\n"
}

fn bar(text: &mut String, row: &Row, figure: usize, (y, scale): (f64, f64)) {
    let (name, base) = (&row.name, y + STEP / 2.0 + 4.5);
    let x = LEFT - 10.0;
    _ = writeln!(text, r#"<text x="{x}" y="{base}" text-anchor="end">{name}</text>"#);
    let Some([q1, median, q3]) = row.quartiles(figure) else {
        _ = writeln!(text, r#"<text class="soft" x="{NUMBERS}" y="{base}">void</text>"#);
        return;
    };
    let class = match (row.is_floor(), row.is_ours()) {
        (true, _) => "floor",
        (_, true) => "ours",
        _ => "peer",
    };
    let (top, width) = (y + (STEP - THICK) / 2.0, median * scale);
    _ = writeln!(
        text,
        r#"<rect class="{class}" x="{LEFT}" y="{top}" width="{width:.1}" height="{THICK}"/>"#
    );
    let (from, to, middle) = (LEFT + q1 * scale, LEFT + q3 * scale, y + STEP / 2.0);
    let (above, below) = (middle - 4.0, middle + 4.0);
    let path =
        format!("M{from:.1} {middle}H{to:.1}M{from:.1} {above}V{below}M{to:.1} {above}V{below}");
    _ = writeln!(text, r#"<path class="whisker" d="{path}"/>"#);
    let words = format!("{} ({}-{})", number(median), number(q1), number(q3));
    _ = writeln!(text, r#"<text x="{NUMBERS}" y="{base}">{words}</text>"#);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::tests::outcome;

    /// The picture as it was last looked at.
    #[test]
    fn a_chart_is_drawn_as_it_was() {
        let outcome = outcome(
            "messages-64",
            &[
                ("floor-copy", &[7.0, 7.1, 7.2]),
                ("ringway-io_uring", &[7.5, 7.6, 7.9]),
                ("haproxy", &[7.6, 8.0, 9.4]),
                ("envoy", &[f64::NAN; 3]),
            ],
        );
        let drawn = svg(&outcome, 0);
        assert_eq!(drawn, include_str!("chart/messages.svg"), "now it is\n{drawn}");
    }

    #[test]
    fn nothing_measured_is_a_picture_without_bars() {
        let drawn = svg(&outcome("idle", &[("nginx", &[f64::NAN])]), 0);
        assert!(drawn.contains("void") && !drawn.contains("NaN"), "{drawn}");
    }
}
