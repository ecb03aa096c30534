//! Names that are safe to hand on: of interfaces (to the kernel) and of peers (to people).

use std::{fmt, str::FromStr};

macro_rules! name {
    ($(#[doc = $doc:literal])+ $name:ident, $error:ident = $message:literal, $valid:expr) => {
        $(#[doc = $doc])+
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        #[doc = concat!("Why a text is not a valid [`", stringify!($name), "`].")]
        #[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
        #[error($message)]
        pub struct $error(String);

        impl $name {
            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = $error;

            fn from_str(text: &str) -> Result<Self, $error> {
                let valid: fn(&str) -> bool = $valid;
                if valid(text) { Ok(Self(text.to_owned())) } else { Err($error(text.escape_debug().to_string())) }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

name! {
    /// A network interface's name: 1 to 15 characters (`IFNAMSIZ`), of those that wg-quick takes
    /// (`[a-zA-Z0-9_=+.-]`), and neither `.` nor `..`, since it is a folder's name in bpffs too.
    InterfaceName,
    BadInterfaceName = "`{0}` is not an interface name: 1 to 15 of a-z A-Z 0-9 _ = + . - (such as wg0)",
    |text| {
        (1..=15).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_=+.-".contains(&byte))
            && text != "."
            && text != ".."
    }
}

name! {
    /// A peer's name: free text of one line, 1 to 64 characters, without control characters or outer white space.
    PeerName,
    BadPeerName = "`{0}` is not a peer name: one line of 1 to 64 characters, no white space at its ends",
    |text| (1..=64).contains(&text.chars().count()) && !text.chars().any(char::is_control) && text.trim() == text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interface_names() {
        for good in ["wg0", "a", "wg-home.1", "abcdefghijklmno", "x=+_"] {
            assert!(good.parse::<InterfaceName>().is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "abcdefghijklmnop", "wg0\n", "ü", "%d"] {
            assert!(bad.parse::<InterfaceName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn peer_names() {
        for good in ["home", "Anna's phone (old)", "日本", "a/b", "-x"] {
            assert!(good.parse::<PeerName>().is_ok(), "{good}");
        }
        for bad in ["", " ", "a ", " a", "a\nb", "a\u{1b}[31m", &"x".repeat(65)] {
            assert!(bad.parse::<PeerName>().is_err(), "{bad:?}");
        }
    }
}
