//! Figures of many rounds: medians, quartiles and the ratios of each round.

/// Figures of one contender, by round; `None` where the round was void.
pub struct Row {
    pub name: String,
    pub rounds: Vec<Option<f64>>,
}

/// First quartile, median, third quartile.
pub fn quartiles(values: impl Iterator<Item = f64>) -> Option<[f64; 3]> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let last = values.len().checked_sub(1)? as f64;
    Some([0.25, 0.5, 0.75].map(|share| {
        let at = last * share;
        let (low, high) = (values[at.floor() as usize], values[at.ceil() as usize]);
        low + (high - low) * at.fract()
    }))
}

/// The ratios of each round in which both figures are good.
pub fn ratios<'a>(row: &'a Row, against: &'a Row) -> impl Iterator<Item = f64> + 'a {
    let pairs = row.rounds.iter().zip(&against.rounds);
    pairs.filter_map(|(mine, theirs)| Some((*mine)? / (*theirs)?))
}

/// A table of the figures in `unit` and of the ratios to the row named `against`.
pub fn print(rows: &[Row], unit: &str, against: &str) {
    println!(
        "{:<24}{:>10}{:>19}   {:>10}{:>17}{:>8}",
        unit, "median", "quartiles", "ratio", "quartiles", "rounds"
    );
    let reference = rows.iter().find(|row| row.name == against);
    for row in rows {
        let good = row.rounds.iter().flatten().count();
        let Some([q1, median, q3]) = quartiles(row.rounds.iter().flatten().copied()) else {
            println!("{:<24}      void in every round", row.name);
            continue;
        };
        let ratio = reference.and_then(|against| quartiles(ratios(row, against)));
        let ratio = ratio.map_or(String::new(), |[q1, median, q3]| {
            format!("{median:>10.3}{:>17}", format!("{q1:.3}-{q3:.3}"))
        });
        let spread = format!("{q1:.3}-{q3:.3}");
        println!("{:<24}{median:>10.3}{spread:>19}   {ratio:<27}{good:>8}", row.name);
    }
    if reference.is_some() {
        println!("ratio: to {against}, round by round");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_lie_between_the_values() {
        assert_eq!(quartiles([4.0, 1.0, 3.0, 2.0, 5.0].into_iter()), Some([2.0, 3.0, 4.0]));
        assert_eq!(quartiles([1.0, 2.0].into_iter()), Some([1.25, 1.5, 1.75]));
        assert_eq!(quartiles(std::iter::empty()), None);
    }
}
