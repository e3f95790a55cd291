//! Figures of many rounds: medians, quartiles, the ratios of each round, and what follows from
//! them.

use crate::case::{Case, Limit, OURS, To};

/// What one contender gave, by round; `None` where the round was void.
pub struct Row {
    pub name: String,
    pub rounds: Vec<Option<Vec<f64>>>,
}

/// All that came of a case.
pub struct Outcome {
    pub case: Case,
    pub rows: Vec<Row>,
    /// Good rounds that a verdict needs.
    pub enough: usize,
    /// What has to be said about it.
    pub notes: Vec<String>,
    /// Why runs were void.
    pub void: Vec<String>,
}

/// First quartile, median, third quartile.
pub type Quartiles = [f64; 3];

/// A limit, and how one of ours stands to it.
pub struct Verdict {
    pub limit: Limit,
    /// Whom it is to, where it is to somebody.
    pub against: Option<String>,
    pub name: String,
    /// Of the good rounds, where there are any.
    pub ratio: Option<Quartiles>,
    pub standing: Standing,
    /// Rounds of its own that were void.
    pub void: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Holds,
    /// The quartiles lie on both sides of the limit.
    Open,
    Broken,
    /// With so many good rounds nothing follows.
    TooFew(usize),
    /// Who would be needed took no part.
    Missing(&'static str),
}

/// Good rounds that are enough for any verdict; where fewer are asked for, all of them are needed.
pub const ENOUGH: usize = 9;

impl Row {
    pub fn is_floor(&self) -> bool {
        self.name.starts_with("floor")
    }

    pub fn is_ours(&self) -> bool {
        self.name.starts_with(OURS)
    }

    /// Promises are of ours as it comes: `ringway-DRIVER`, and no setting behind it.
    fn is_promised(&self, whose: &str) -> bool {
        self.name.starts_with(whose) && self.name.split('-').count() == 2
    }

    /// Of the figure with this number, good rounds only.
    pub fn quartiles(&self, figure: usize) -> Option<Quartiles> {
        quartiles(self.rounds.iter().flatten().map(|figures| figures[figure]))
    }

    /// The ratios of each round in which both are good.
    pub fn ratio(&self, to: &Row, figure: usize) -> Option<Quartiles> {
        quartiles(self.ratios(to, figure))
    }

    fn ratios(&self, to: &Row, figure: usize) -> impl Iterator<Item = f64> {
        let pairs = self.rounds.iter().zip(&to.rounds);
        pairs.filter_map(move |(mine, theirs)| {
            Some(mine.as_ref()?[figure] / theirs.as_ref()?[figure])
        })
    }

    pub fn good(&self) -> usize {
        self.rounds.iter().flatten().count()
    }

    /// True exactly when so many rounds are void that the others are luck.
    pub fn is_mostly_void(&self) -> bool {
        self.good() * 2 <= self.rounds.len()
    }

    pub fn is_peer(&self) -> bool {
        !self.is_floor() && !self.is_ours()
    }
}

impl Outcome {
    pub fn floor(&self) -> Option<&Row> {
        self.row(self.case.floor())
    }

    /// The peer with the lowest median of a figure, of those that mostly work.
    pub fn best_peer(&self, figure: usize) -> Option<&Row> {
        self.best(figure, |_| true)
    }

    fn best(&self, figure: usize, among: impl Fn(&str) -> bool) -> Option<&Row> {
        let peers = self.rows.iter().filter(|row| row.is_peer() && !row.is_mostly_void());
        let medians = peers
            .filter(|row| among(&row.name))
            .filter_map(|row| Some((row, row.quartiles(figure)?[1])));
        medians.min_by(|one, other| one.1.total_cmp(&other.1)).map(|(row, _)| row)
    }

    fn row(&self, name: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.name == name)
    }

    /// How ours stand to what is promised; what cannot be told is in it too.
    pub fn verdicts(&self) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        for limit in self.case.limits() {
            let ours = self.rows.iter().filter(|row| row.is_promised(limit.whose));
            let before = verdicts.len();
            verdicts.extend(ours.map(|row| self.verdict(limit, row)));
            if verdicts.len() == before {
                verdicts.push(Verdict {
                    limit,
                    against: self.reference(limit).ok().flatten().map(|row| row.name.clone()),
                    name: limit.whose.to_owned(),
                    ratio: None,
                    standing: Standing::Missing(limit.whose),
                    void: 0,
                });
            }
        }
        verdicts
    }

    fn verdict(&self, limit: Limit, row: &Row) -> Verdict {
        let reference = self.reference(limit);
        let values: Vec<f64> = match reference {
            Ok(Some(against)) => row.ratios(against, limit.figure).collect(),
            Ok(None) => row.rounds.iter().flatten().map(|figures| figures[limit.figure]).collect(),
            Err(_) => Vec::new(),
        };
        let (good, ratio) = (values.len(), quartiles(values.into_iter()));
        let standing = match (reference, ratio) {
            (Err(missing), _) => Standing::Missing(missing),
            (Ok(_), Some(ratio)) if good >= self.enough => standing(ratio, limit.at_most),
            _ => Standing::TooFew(good),
        };
        Verdict {
            limit,
            against: reference.ok().flatten().map(|row| row.name.clone()),
            name: row.name.clone(),
            ratio,
            standing,
            void: row.rounds.len() - row.good(),
        }
    }

    /// Whom a limit is to, where it is to somebody; an error is who is missing.
    fn reference(&self, limit: Limit) -> Result<Option<&Row>, &'static str> {
        let (row, missing) = match limit.to {
            To::Itself => return Ok(None),
            To::Floor => (self.floor(), self.case.floor()),
            To::BestPeer => (self.best_peer(limit.figure), "a peer"),
            To::BestDefault => {
                (self.best(limit.figure, |name| !name.contains('-')), "a peer at its defaults")
            }
            To::Best(peer) => (self.best(limit.figure, |name| name.starts_with(peer)), peer),
        };
        row.map(Some).ok_or(missing)
    }
}

fn standing([q1, _, q3]: Quartiles, at_most: f64) -> Standing {
    match at_most {
        limit if q3 <= limit => Standing::Holds,
        limit if q1 > limit => Standing::Broken,
        _ => Standing::Open,
    }
}

/// True exactly when the quartiles of a ratio lie on both sides of 1: neither costs less.
pub fn is_tie([q1, _, q3]: Quartiles) -> bool {
    q1 <= 1.0 && q3 >= 1.0
}

fn quartiles(values: impl Iterator<Item = f64>) -> Option<Quartiles> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let last = values.len().checked_sub(1)? as f64;
    Some([0.25, 0.5, 0.75].map(|share| {
        let at = last * share;
        let (low, high) = (values[at.floor() as usize], values[at.ceil() as usize]);
        low + (high - low) * at.fract()
    }))
}

/// Who runs when in a round: each begins once in so many rounds, and every second round goes the
/// other way around, so that nobody always comes after the same one.
pub fn order(round: usize, contenders: usize) -> Vec<usize> {
    let step = if round.is_multiple_of(2) { 1 } else { contenders - 1 };
    (0..contenders).map(|at| (round + at * step) % contenders).collect()
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// An outcome of rows, by their first figures; each further one is as much larger again.
    pub fn outcome(case: &str, rows: &[(&str, &[f64])]) -> Outcome {
        let case = Case::parse(case).unwrap();
        let count = case.figures().len();
        let figures = |value: &f64| {
            let multiples = (1..=count).map(|at| at as f64 * value);
            value.is_finite().then(|| multiples.collect())
        };
        let rows: Vec<_> = rows
            .iter()
            .map(|(name, values)| Row {
                name: (*name).to_owned(),
                rounds: values.iter().map(figures).collect(),
            })
            .collect();
        let enough = rows.iter().map(|row| row.rounds.len()).max().unwrap();
        Outcome { case, rows, enough, notes: Vec::new(), void: Vec::new() }
    }

    #[test]
    fn quartiles_lie_between_the_values() {
        assert_eq!(quartiles([4.0, 1.0, 3.0, 2.0, 5.0].into_iter()), Some([2.0, 3.0, 4.0]));
        assert_eq!(quartiles([1.0, 2.0].into_iter()), Some([1.25, 1.5, 1.75]));
        assert_eq!(quartiles(std::iter::empty()), None);
    }

    #[test]
    fn ratios_are_taken_round_by_round_and_void_rounds_left_out() {
        let void = f64::NAN;
        let rows = outcome(
            "messages-64",
            &[("a", &[2.0, void, 30.0, 4.0]), ("b", &[1.0, 1.0, 10.0, void])],
        );
        assert_eq!(rows.rows[0].ratio(&rows.rows[1], 0), Some([2.25, 2.5, 2.75]));
        assert_eq!(rows.rows[0].quartiles(0), Some([3.0, 4.0, 17.0]));
    }

    #[test]
    fn the_best_peer_is_no_floor_and_not_ours() {
        let rows = outcome(
            "bulk-8",
            &[
                ("floor-splice", &[1.0]),
                ("ringway-epoll", &[0.9]),
                ("ringway-epoll-1mib", &[9.9]),
                ("haproxy", &[4.0]),
                ("haproxy-best", &[1.2]),
                ("nginx", &[3.0]),
                ("envoy", &[f64::NAN]),
            ],
        );
        assert_eq!(rows.best_peer(0).unwrap().name, "haproxy-best");
        let verdicts = rows.verdicts();
        let against: Vec<_> = verdicts.iter().map(|v| v.against.as_deref().unwrap()).collect();
        assert_eq!(against, ["floor-splice", "haproxy-best", "nginx"]);
        assert!(verdicts.iter().all(|verdict| verdict.standing == Standing::Holds));
    }

    #[test]
    fn little_data_decides_nothing_and_says_so() {
        const VOID: f64 = f64::NAN;
        let rows = outcome(
            "messages-64",
            &[
                ("floor-copy", &[1.0, 1.0, VOID]),
                ("ringway-epoll", &[0.9, 0.9, 0.9]),
                ("ringway-io_uring", &[VOID, VOID, 0.9]),
                ("haproxy", &[2.0, 2.0, 2.0]),
                ("envoy", &[VOID, VOID, 0.1]),
            ],
        );
        let told = rows.verdicts();
        let standings: Vec<_> = told.iter().map(|v| (v.standing, v.void)).collect();
        let few = |good, void| (Standing::TooFew(good), void);
        assert_eq!(standings, [few(2, 0), few(0, 2), (Standing::Holds, 0), few(1, 2)]);
        // One lucky round makes nobody the best.
        assert_eq!(told[2].against.as_deref(), Some("haproxy"));
    }

    #[test]
    fn whoever_is_missing_is_named() {
        let missing = |rows| {
            let told = outcome("bulk-8", rows).verdicts().into_iter();
            told.map(|verdict| verdict.standing).collect::<Vec<_>>()
        };
        let names = ["floor-splice", "haproxy", "a peer at its defaults"];
        assert_eq!(missing(&[("ringway-epoll", &[1.0])]), names.map(Standing::Missing));
        assert_eq!(missing(&[("haproxy", &[1.0])]), ["ringway"; 3].map(Standing::Missing));
    }

    #[test]
    fn a_limit_between_the_quartiles_is_open() {
        for (values, standing) in [
            ([1000.0, 1010.0, 1020.0], Standing::Holds),
            ([1000.0, 1030.0, 1060.0], Standing::Open),
            ([1030.0, 1040.0, 1050.0], Standing::Broken),
        ] {
            let rows = outcome("idle", &[("ringway-io_uring", &values), ("nginx", &[9.0; 3])]);
            let [verdict] = &rows.verdicts()[..] else { panic!("not one limit") };
            assert_eq!((verdict.standing, &verdict.against), (standing, &None), "{values:?}");
        }
        assert!(is_tie([0.9, 1.1, 1.2]) && is_tie([0.8, 0.9, 1.0]));
        assert!(!is_tie([1.01, 1.1, 1.2]) && !is_tie([0.7, 0.8, 0.99]));
    }

    #[test]
    fn everybody_runs_once_a_round_and_the_first_one_changes() {
        assert_eq!(order(0, 4), [0, 1, 2, 3]);
        assert_eq!(order(1, 4), [1, 0, 3, 2]);
        assert_eq!(order(6, 4), [2, 3, 0, 1]);
        assert_eq!(order(3, 1), [0]);
    }
}
