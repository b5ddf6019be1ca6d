//! The patterns of the policy language: `*` is any text, `?` any character.

/// Parts of an ARN that are compared each for itself.
const ARN_PARTS: usize = 6;

/// Whether `text` fits `pattern`. Takes no recursion, and at most the product of the two lengths in steps.
pub(super) fn fits(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut at, mut place) = (0, 0);
    // The last `*`, and where the text went on after what it has taken so far.
    let mut star: Option<(usize, usize)> = None;
    while place < text.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, place));
                at += 1;
            }
            Some(&wanted) if wanted == '?' || wanted == text[place] => (at, place) = (at + 1, place + 1),
            _ => {
                let Some((star_at, taken)) = star else { return false };
                star = Some((star_at, taken + 1));
                (at, place) = (star_at + 1, taken + 1);
            }
        }
    }
    pattern[at..].iter().all(|&rest| rest == '*')
}

/// Whether `arn` fits `pattern`, part by part, so that no `*` reaches over a colon but in the last.
pub(super) fn fits_arn(pattern: &str, arn: &str) -> bool {
    let patterns: Vec<&str> = pattern.splitn(ARN_PARTS, ':').collect();
    let parts: Vec<&str> = arn.splitn(ARN_PARTS, ':').collect();
    patterns.len() == ARN_PARTS
        && parts.len() == ARN_PARTS
        && patterns.iter().zip(parts).all(|(pattern, part)| fits(pattern, part))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The same, said in the simplest way.
    fn simply(pattern: &[char], text: &[char]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, None) => true,
            (Some(('*', rest)), _) => simply(rest, text) || (!text.is_empty() && simply(pattern, &text[1..])),
            (Some(('?', rest)), Some((_, tail))) => simply(rest, tail),
            (Some((one, rest)), Some((other, tail))) => one == other && simply(rest, tail),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn patterns_fit_as_their_meaning_says(pattern in "[ab*?]{0,8}", text in "[ab]{0,10}") {
            let (one, other): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
            prop_assert_eq!(fits(&pattern, &text), simply(&one, &other));
        }
    }

    #[test]
    fn a_long_pattern_of_stars_takes_no_time() {
        let (pattern, text) = ("*a".repeat(5_000), "a".repeat(4_999));
        assert!(!fits(&pattern, &text));
    }

    #[test]
    fn the_parts_of_an_arn_are_compared_each_for_itself() {
        assert!(fits_arn("arn:aws:s3:::bucket*", "arn:aws:s3:::bucket-1/key:with:colons"));
        assert!(fits_arn("arn:aws:sns:*:000000000000:t?pic", "arn:aws:sns:us-east-1:000000000000:topic"));
        assert!(!fits_arn("arn:aws:sns:*:topic", "arn:aws:sns:us-east-1:000000000000:topic"));
        assert!(!fits_arn("*", "arn:aws:s3:::bucket"));
    }
}
