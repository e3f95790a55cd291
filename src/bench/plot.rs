//! `--plot`: the percentile curve of a run as an SVG, in the way of HdrHistogram's own plots: each
//! step to the right has ten times fewer operations beyond it.

use std::{
    fmt::Write as _,
    fs::File,
    io::{self, Seek, Write},
    path::{Path, PathBuf},
};

use hdrhistogram::Histogram;

use super::{
    Plan, Report,
    svg::{self, round_step},
};
use crate::errno;

/// Where the curve is drawn, in a picture of 860 by 480.
const LEFT: f64 = 84.0;
const RIGHT: f64 = 836.0;
const TOP: f64 = 88.0;
const BOTTOM: f64 = 420.0;

/// A file for the picture, opened before the run, so that nobody runs one for nothing.
#[derive(Debug)]
pub struct Picture {
    path: PathBuf,
    file: File,
}

impl Picture {
    /// Opens the file; what is in it stays until there is a curve.
    ///
    /// # Errors
    /// A sentence that names the file, the cause and the way out.
    pub fn open(path: &Path) -> Result<Picture, String> {
        let file = File::options().write(true).create(true).truncate(false).open(path);
        let file = file.map_err(|error| cannot_write(path, &error))?;
        Ok(Picture { path: path.to_owned(), file })
    }

    /// Draws what a run gave.
    ///
    /// # Errors
    /// The same sentence.
    pub fn draw(mut self, plan: &Plan, report: &Report) -> Result<(), String> {
        let text = picture(plan, report);
        let written = self.empty().and_then(|()| self.file.write_all(text.as_bytes()));
        written.map_err(|error| cannot_write(&self.path, &error))
    }

    /// A pipe or a terminal has nothing to empty, and refuses.
    fn empty(&mut self) -> io::Result<()> {
        if self.file.metadata()?.is_file() {
            self.file.set_len(0)?;
            self.file.rewind()?;
        }
        Ok(())
    }
}

fn cannot_write(path: &Path, error: &io::Error) -> String {
    let cause = errno::cause(error);
    format!(
        "cannot write {}: {cause} (name a file that can be written with --plot)",
        path.display()
    )
}

fn picture(plan: &Plan, report: &Report) -> String {
    let latency = &report.tally.latency;
    let axes = Axes::of(latency);
    let mut text = svg::head(860, 480);
    let (title, facts) = (title(plan), facts(report));
    _ = writeln!(text, r#"<text id="title" class="title" x="{LEFT}" y="30">{title}</text>"#);
    _ = writeln!(text, r#"<text class="soft" x="{LEFT}" y="52">{facts}</text>"#);
    axes.draw(&mut text);
    _ = writeln!(text, r#"<path class="curve" d="{}"/>"#, axes.curve(latency));
    text + "</svg>\n"
}

/// The run as it would be asked for again.
fn title(plan: &Plan) -> String {
    let (mode, target, connections) = (plan.mode.name(), plan.target, plan.connections);
    let mut title = format!("bench {mode} --target {target} --connections {connections}");
    if let Some(rate) = plan.rate {
        _ = write!(title, " --rate {rate}");
    }
    if let Some(size) = plan.size {
        _ = write!(title, " --size {size}");
    }
    title
}

fn facts(report: &Report) -> String {
    let (tally, seconds) = (&report.tally, report.seconds);
    let rate = tally.operations as f64 / seconds.max(1e-9);
    let (operations, failed, cut) = (tally.operations, tally.failed_total(), tally.cut);
    format!("{operations} operations in {seconds:.1} s: {rate:.0}/s, {failed} failed, {cut} cut")
}

/// To the right the number of nines, upwards the latency from zero on.
struct Axes {
    count: f64,
    nines: u32,
    step_us: u64,
    steps: u64,
}

impl Axes {
    fn of(latency: &Histogram<u64>) -> Axes {
        let (count, most) = (latency.len().max(1) as f64, latency.max().max(10));
        let step_us = round_step(most as f64).round() as u64;
        let nines = (count.log10().ceil() as u32).clamp(2, 7);
        Axes { count, nines, step_us, steps: most.div_ceil(step_us) }
    }

    /// The last operation has no nines to be beyond: it stands where one of all is left. Those that
    /// are beyond the axis stand at its end.
    fn x(&self, quantile: f64) -> f64 {
        let nines = -(1.0 - quantile).max(1.0 / self.count).log10();
        let nines = nines.min(f64::from(self.nines));
        LEFT + (RIGHT - LEFT) * nines / f64::from(self.nines)
    }

    fn y(&self, us: u64) -> f64 {
        BOTTOM - (BOTTOM - TOP) * us as f64 / (self.step_us * self.steps) as f64
    }

    fn draw(&self, text: &mut String) {
        for us in (0..=self.steps).map(|step| step * self.step_us) {
            let (y, label) = (self.y(us), self.label(us));
            _ = writeln!(text, r#"<path class="grid" d="M{LEFT} {y:.1}H{RIGHT}"/>"#);
            let (x, y) = (LEFT - 8.0, y + 4.0);
            _ = writeln!(text, r#"<text x="{x}" y="{y:.1}" text-anchor="end">{label}</text>"#);
        }
        for nines in 0..=self.nines {
            let x = LEFT + (RIGHT - LEFT) * f64::from(nines) / f64::from(self.nines);
            _ = writeln!(text, r#"<path class="grid" d="M{x:.1} {TOP}V{BOTTOM}"/>"#);
            let (y, label) = (BOTTOM + 20.0, percentile(nines));
            _ = writeln!(text, r#"<text x="{x:.1}" y="{y}" text-anchor="middle">{label}</text>"#);
        }
        let (x, y) = ((LEFT + RIGHT) / 2.0, BOTTOM + 44.0);
        let words = "percentile: this part of the operations took at most ...";
        _ = writeln!(
            text,
            r#"<text class="soft" x="{x}" y="{y}" text-anchor="middle">{words}</text>"#
        );
        let (x, y) = (LEFT, TOP - 6.0);
        _ = writeln!(text, r#"<text class="soft" x="{x}" y="{y}">latency</text>"#);
    }

    /// All of them in the unit of a step.
    fn label(&self, us: u64) -> String {
        match self.step_us {
            step if step % 1_000_000 == 0 => format!("{} s", us / 1_000_000),
            step if step % 1000 == 0 => format!("{} ms", us / 1000),
            _ => format!("{us} us"),
        }
    }

    /// A stair: each value holds from the quantile before it to its own.
    fn curve(&self, latency: &Histogram<u64>) -> String {
        let mut path = format!("M{LEFT} {:.1}", self.y(latency.min()));
        let mut seen = 0;
        for bucket in latency.iter_recorded() {
            seen += bucket.count_since_last_iteration();
            let (x, y) = (self.x(seen as f64 / self.count), self.y(bucket.value_iterated_to()));
            _ = write!(path, "V{y:.1}H{x:.1}");
        }
        path
    }
}

fn percentile(nines: u32) -> String {
    match nines {
        0 => "0 %".into(),
        1 => "90 %".into(),
        2 => "99 %".into(),
        more => format!("99.{} %", "9".repeat(more as usize - 2)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{Mode, Tally};

    fn run(latencies_us: impl Iterator<Item = u64>) -> (Plan, Report) {
        let mut plan = Plan::new(Mode::Tcp, ([127, 0, 0, 1], 8080).into(), 64);
        plan.rate = Some(500.0);
        let mut tally = Tally::default();
        latencies_us.for_each(|us| tally.done(us * 1000));
        (plan, Report { tally, seconds: 2.0, unbegun: 0 })
    }

    /// The picture as it was last looked at.
    #[test]
    fn a_curve_is_drawn_as_it_was() {
        let slow = (1..=10).map(|n| n * 1000);
        let (plan, report) = run((0..990).map(|n| 100 + n / 3).chain(slow));
        let drawn = picture(&plan, &report);
        assert_eq!(drawn, include_str!("plot/curve.svg"), "now it is\n{drawn}");
    }

    #[test]
    fn nothing_done_is_a_picture_without_a_curve() {
        let (plan, report) = run(std::iter::empty());
        let drawn = picture(&plan, &report);
        assert!(drawn.contains("0 operations") && !drawn.contains("NaN"), "{drawn}");
        assert!(drawn.contains(r#"d="M84 420.0"/>"#), "{drawn}");
    }

    #[test]
    fn more_operations_than_the_axis_has_nines_stay_in_the_picture() {
        let (_, mut report) = run(std::iter::empty());
        for (us, count) in [(100, 99_999_990), (200, 9), (300, 1)] {
            report.tally.latency.record_n(us, count).unwrap();
        }
        let axes = Axes::of(&report.tally.latency);
        let curve = axes.curve(&report.tally.latency);
        let steps: Vec<f64> = curve
            .split('H')
            .skip(1)
            .map(|x| x.split('V').next().unwrap().parse().unwrap())
            .collect();
        assert_eq!(steps, [RIGHT; 3], "{curve}");
    }

    #[test]
    fn every_scale_has_a_few_round_steps() {
        for most in (0..9).flat_map(|digits| (1..100).map(move |n| n * 10_u64.pow(digits))) {
            let (_, report) = run([most].into_iter());
            let axes = Axes::of(&report.tally.latency);
            assert!((2..=7).contains(&axes.steps), "{} steps to {most}", axes.steps);
            assert!(axes.steps * axes.step_us >= most.min(report.tally.latency.max()));
        }
    }
}
