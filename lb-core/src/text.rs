//! Words for people: durations, and help with words that were misspelt.

use std::time::Duration;

/// The candidate that was probably meant by `word`: the one with the smallest edit distance (transpositions
/// count as one), if that is at most a third of the word's length, and at least one edit is allowed.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    /// Longer words are not compared: the table is quadratic, and nobody misspells so much.
    const LEN_MAX: usize = 128;
    if word.len() > LEN_MAX {
        return None;
    }
    let allowed = (word.chars().count() / 3).max(1);
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates.into_iter().filter(|candidate| candidate.len() <= LEN_MAX) {
        if candidate.len().abs_diff(word.len()) > allowed * 4 {
            continue;
        }
        let edits = distance(&word.to_lowercase(), &candidate.to_lowercase());
        if edits <= allowed && best.is_none_or(|(least, _)| edits < least) {
            best = Some((edits, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// Optimal string alignment distance.
fn distance(left: &str, right: &str) -> usize {
    let left: Vec<char> = left.chars().collect();
    let right: Vec<char> = right.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=right.len()).collect();
    for row in 1..=left.len() {
        let mut here = vec![row; right.len() + 1];
        for column in 1..=right.len() {
            let differs = usize::from(left[row - 1] != right[column - 1]);
            here[column] = (above[column - 1] + differs).min(above[column] + 1).min(here[column - 1] + 1);
            let swapped = row > 1
                && column > 1
                && left[row - 1] == right[column - 2]
                && left[row - 2] == right[column - 1];
            if swapped {
                here[column] = here[column].min(before[column - 2] + 1);
            }
        }
        before = std::mem::replace(&mut above, here);
    }
    above[right.len()]
}

/// A duration in seconds, where it is whole, or in milliseconds.
pub(crate) fn duration(duration: Duration) -> String {
    match duration.as_millis() {
        whole if whole.is_multiple_of(1000) => format!("{} s", whole / 1000),
        0 => "less than 1 ms".to_owned(),
        ms => format!("{ms} ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_meant() {
        let names = ["cart-ec2", "cart-k8s", "shop"];
        for (word, meant) in [
            ("cart-k8", Some("cart-k8s")),
            ("cart-kbs", Some("cart-k8s")),
            ("Shop", Some("shop")),
            ("shpo", Some("shop")),
            ("sho", Some("shop")),
            ("warehouse", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, names), meant, "{word}");
        }
    }
}
