//! Whether two numbers are the same number.

/// Numbers shorter than this must be equal; of longer ones one may lack its prefix.
const SHORTEST_NUMBER: usize = 5;

/// The same number, however it is written: digits are compared, and one may lack country and area.
pub(crate) fn are_same(one: &str, other: &str) -> bool {
    let user = |number: &str| number.split_once('@').map_or(number, |(user, _)| user).to_owned();
    let (one, other) = (user(one.trim_start_matches("sip:")), user(other.trim_start_matches("sip:")));
    if one == other {
        return true;
    }
    let digits = |number: &str| {
        let digits: String = number.chars().filter(char::is_ascii_digit).collect();
        let plain = number.chars().all(|letter| letter.is_ascii_digit() || "+ -()/.".contains(letter));
        if plain { digits.trim_start_matches('0').to_owned() } else { String::new() }
    };
    let (one, other) = (digits(&one), digits(&other));
    let (short, long) = if one.len() <= other.len() { (one, other) } else { (other, one) };
    short.len() >= SHORTEST_NUMBER && long.ends_with(&short)
}
