//! What the pictures of `bench --plot` and of the measurements share.
//!
//! This room refuses to know what is drawn.

/// The beginning of a picture: colours by what a browser prefers, and the paper, for viewers that
/// have none. It has the classes `title`, `soft`, `grid` and `curve`.
pub fn head(width: u32, height: u32) -> String {
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"
  width="{width}" height="{height}" role="img" aria-labelledby="title">
<style>
.paper {{ fill: #ffffff }} text {{ fill: #17202b; font: 13px system-ui, sans-serif }}
.title {{ font-size: 17px; font-weight: 600 }} .soft {{ fill: #515d6b }}
.grid {{ stroke: #d5dbe3; fill: none }} .curve {{ stroke: #1c66c9; stroke-width: 2; fill: none }}
@media (prefers-color-scheme: dark) {{
.paper {{ fill: #161b22 }} text {{ fill: #e8edf3 }} .soft {{ fill: #9fabb9 }}
.grid {{ stroke: #2c343e }} .curve {{ stroke: #58a6ff }}
}}
</style>
<rect class="paper" width="{width}" height="{height}"/>
"##
    )
}

/// The step of an axis from zero to `most`, a round number: at least two and at most seven of it.
pub fn round_step(most: f64) -> f64 {
    let unit = 10_f64.powf((most / 3.0).log10().floor());
    let steps = [unit, 2.0 * unit, 5.0 * unit];
    steps.into_iter().find(|step| step * 7.0 >= most).unwrap_or(10.0 * unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round_and_few() {
        for (most, step) in [(7.04, 2.0), (0.31, 0.1), (1.0, 0.2), (17_771.0, 5_000.0)] {
            assert!((round_step(most) / step - 1.0).abs() < 1e-9, "{most}: {}", round_step(most));
        }
    }
}
