//! Two maps walked together: a step for each key, where a search in the other map would take a dozen comparisons.

use std::collections::BTreeMap;

use itertools::{EitherOrBoth, Itertools as _};

/// The keys of two maps in their order, each with what either has for it.
pub(crate) fn side_by_side<'a, K: Ord, A, B>(
    one: &'a BTreeMap<K, A>,
    other: &'a BTreeMap<K, B>,
) -> impl Iterator<Item = (&'a K, Option<&'a A>, Option<&'a B>)> {
    let pairs = one.iter().merge_join_by(other, |(one, _), (other, _)| one.cmp(other));
    pairs.map(|pair| match pair {
        EitherOrBoth::Both((key, one), (_, other)) => (key, Some(one), Some(other)),
        EitherOrBoth::Left((key, one)) => (key, Some(one), None),
        EitherOrBoth::Right((key, other)) => (key, None, Some(other)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_comes_once_in_order() {
        let (one, other) =
            (BTreeMap::from([(1, 'a'), (3, 'b')]), BTreeMap::from([(2, "x"), (3, "y"), (4, "z")]));
        let pairs: Vec<_> =
            side_by_side(&one, &other).map(|(key, a, b)| (*key, a.copied(), b.copied())).collect();
        let expected =
            [(1, Some('a'), None), (2, None, Some("x")), (3, Some('b'), Some("y")), (4, None, Some("z"))];
        assert_eq!(pairs, expected);
    }
}
