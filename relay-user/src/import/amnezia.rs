//! AmneziaWG, a WireGuard that hides what it is: its parameters change the packets, so no WireGuard can take over.

/// What wg-easy gives every interface and client, also where plain WireGuard runs
/// (`src/server/database/repositories/interface/schema.ts` of 15.4).
const STOCK: [(&str, &str); 5] =
    [("j_c", "7"), ("j_min", "10"), ("j_max", "1000"), ("s1", "128"), ("s2", "56")];

/// Whether a key of `[Interface]`, in lower case, is AmneziaWG's.
pub(super) fn is_key(key: &str) -> bool {
    ["jc", "jmin", "jmax", "itime"].contains(&key)
        || numbered(key, 's', 4)
        || numbered(key, 'h', 4)
        || numbered(key, 'i', 5)
        || numbered(key, 'j', 3)
}

/// Whether a column holds what wg-easy itself puts there.
///
/// Headers (`h1` to `h4`) are drawn by wg-easy 15.2 and later at its first start, whatever it runs, so any single number
/// is as good as none; ranges are typed by people.
pub(super) fn is_stock(column: &str, value: &str) -> bool {
    let value = value.trim();
    if value.is_empty() || value == "0" {
        return true;
    }
    if numbered(column, 'h', 4) {
        return value.parse::<u32>().is_ok();
    }
    STOCK.contains(&(column, value))
}

/// The columns of wg-easy's tables that hold its parameters.
pub(super) const COLUMNS: [&str; 16] =
    ["j_c", "j_min", "j_max", "s1", "s2", "s3", "s4", "h1", "h2", "h3", "h4", "i1", "i2", "i3", "i4", "i5"];

/// Why such an interface is refused.
pub(super) fn refusal(key: &str) -> String {
    format!(
        "{key} is a parameter of AmneziaWG, which relay does not speak; plain WireGuard could not answer its clients"
    )
}

fn numbered(key: &str, letter: char, last: u32) -> bool {
    key.strip_prefix(letter)
        .and_then(|number| number.parse::<u32>().ok())
        .is_some_and(|n| (1..=last).contains(&n))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_wg_easy_puts_there_itself_is_stock() {
        for (column, value, stock) in [
            ("j_c", "7", true),
            ("j_c", "4", false),
            ("s1", "128", true),
            ("s3", "0", true),
            ("s3", "15", false),
            ("h1", "0", true),
            ("h1", "1834726351", true),
            ("h1", "100-200", false),
            ("i1", "", true),
            ("i1", "<b 0xc0ff>", false),
        ] {
            assert_eq!(is_stock(column, value), stock, "{column} = {value}");
        }
    }

    #[test]
    fn keys() {
        assert!(["jc", "jmin", "jmax", "s1", "s4", "h4", "i5"].iter().all(|key| is_key(key)));
        assert!(["s5", "h0", "i", "mtu", "j_c", "address"].iter().all(|key| !is_key(key)));
    }
}
