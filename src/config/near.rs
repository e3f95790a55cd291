//! "Did you mean": the nearest of a few known words.

/// Longer words are no slips of the finger; comparing them would only cost time.
const WORD_CHARS_MAX: usize = 64;

/// The known word that `written` was probably meant to be: up to a third of its letters differ.
pub(super) fn nearest<'w>(
    written: &str,
    known: impl IntoIterator<Item = &'w str>,
) -> Option<&'w str> {
    let written = letters(written)?;
    known
        .into_iter()
        .filter_map(|word| {
            let letters = letters(word)?;
            let slips = slips(&written, &letters);
            let near = slips <= (letters.len().max(written.len()) / 3).max(1);
            // Of two words equally near, the one that was only cut short.
            let cost = (slips, !letters.starts_with(&written));
            (near && slips < letters.len()).then_some((cost, word))
        })
        .min_by_key(|(cost, _)| *cost)
        .map(|(_, word)| word)
}

/// Case and `-` for `_` are no differences worth counting.
fn letters(word: &str) -> Option<Vec<char>> {
    let letters: Vec<char> = word
        .chars()
        .take(WORD_CHARS_MAX + 1)
        .map(|c| if c == '-' { '_' } else { c.to_ascii_lowercase() })
        .collect();
    (letters.len() <= WORD_CHARS_MAX).then_some(letters)
}

/// Letters put in, left out, mistaken or swapped with their neighbour (optimal string alignment).
fn slips(a: &[char], b: &[char]) -> usize {
    let mut table = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            table[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let mistaken = usize::from(a[i - 1] != b[j - 1]);
                let best = (table[i - 1][j] + 1)
                    .min(table[i][j - 1] + 1)
                    .min(table[i - 1][j - 1] + mistaken);
                let swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
                if swapped { best.min(table[i - 2][j - 2] + 1) } else { best }
            };
        }
    }
    table[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_word_and_a_stranger_finds_none() {
        let known = ["shards", "driver", "pin_cpus", "drain_delay", "drain_timeout"];
        for (written, meant) in [
            ("shrads", Some("shards")),
            ("shard", Some("shards")),
            ("Pin-CPUs", Some("pin_cpus")),
            ("drain_timeuot", Some("drain_timeout")),
            ("threads", None),
            ("", None),
            ("x", None),
            ("ÄÖÜ", None),
        ] {
            assert_eq!(nearest(written, known), meant, "{written}");
        }
        assert_eq!(nearest("of", ["on", "off"]), Some("off"));
        assert_eq!(nearest(&"x".repeat(1_000_000), known), None);
    }
}
