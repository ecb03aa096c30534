//! WireGuard keys, kept from every place where a secret could be read by accident.
//!
//! [`PublicKey`] prints, compares and serialises. [`PrivateKey`] and [`PresharedKey`] have no `Display`, no
//! `Serialize`, a `Debug` that says nothing, and are wiped when dropped; whoever must write one out asks by name.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Bytes in every WireGuard key (Curve25519 points and scalars, and preshared keys alike).
pub const KEY_LEN: usize = 32;

/// Why a text is not a key. It never repeats the text: that could be a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not 44 characters of base64.
    #[error(
        "not a WireGuard key: expected 44 characters of base64, as `wg genkey` and `wg pubkey` print them"
    )]
    Form,
    /// All zero: WireGuard takes that for "no key".
    #[error("the key is all zeroes, which WireGuard takes for no key at all")]
    Zero,
}

fn decode(text: &str) -> Result<Zeroizing<[u8; KEY_LEN]>, KeyError> {
    let bytes = Zeroizing::new(STANDARD.decode(text.trim()).map_err(|_| KeyError::Form)?);
    let key: [u8; KEY_LEN] = bytes.as_slice().try_into().map_err(|_| KeyError::Form)?;
    if key == [0; KEY_LEN] { Err(KeyError::Zero) } else { Ok(Zeroizing::new(key)) }
}

/// A peer's identity.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; KEY_LEN]);

impl PublicKey {
    /// From its 32 bytes.
    #[must_use]
    pub const fn new(bytes: [u8; KEY_LEN]) -> Self {
        Self(bytes)
    }

    /// Its 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; KEY_LEN] {
        &self.0
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        decode(text).map(|key| Self(*key))
    }
}

impl serde::Serialize for PublicKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for PublicKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

macro_rules! secret {
    ($(#[doc = $doc:literal])+ $name:ident) => {
        $(#[doc = $doc])+
        #[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
        pub struct $name([u8; KEY_LEN]);

        impl $name {
            /// From its 32 bytes.
            #[must_use]
            pub const fn new(bytes: [u8; KEY_LEN]) -> Self {
                Self(bytes)
            }

            /// The secret bytes, for whoever hands them to the kernel.
            #[must_use]
            pub const fn expose(&self) -> &[u8; KEY_LEN] {
                &self.0
            }

            /// The secret as base64, for the one file or screen that it is meant for.
            #[must_use]
            pub fn expose_base64(&self) -> Zeroizing<String> {
                Zeroizing::new(STANDARD.encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(hidden)"))
            }
        }

        impl FromStr for $name {
            type Err = KeyError;

            fn from_str(text: &str) -> Result<Self, KeyError> {
                decode(text).map(|key| Self(*key))
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = Zeroizing::new(String::deserialize(deserializer)?);
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

secret! {
    /// An interface's private key.
    PrivateKey
}

secret! {
    /// The symmetric key that two peers may mix into their handshake.
    PresharedKey
}

impl PrivateKey {
    /// A new key from the operating system's generator, clamped as Curve25519 asks (RFC 7748 5).
    ///
    /// # Errors
    /// The generator cannot be read.
    pub fn generate() -> std::io::Result<Self> {
        let mut bytes = random()?;
        bytes[0] &= 248;
        bytes[31] = (bytes[31] & 127) | 64;
        Ok(Self(*bytes))
    }

    /// The public key that belongs to it.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        let secret = x25519_dalek::StaticSecret::from(self.0);
        PublicKey(x25519_dalek::PublicKey::from(&secret).to_bytes())
    }
}

impl PresharedKey {
    /// A new key from the operating system's generator.
    ///
    /// # Errors
    /// The generator cannot be read.
    pub fn generate() -> std::io::Result<Self> {
        Ok(Self(*random()?))
    }
}

fn random() -> std::io::Result<Zeroizing<[u8; KEY_LEN]>> {
    use std::io::Read as _;
    let mut bytes = Zeroizing::new([0; KEY_LEN]);
    std::fs::File::open("/dev/urandom")?.read_exact(bytes.as_mut())?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_key_of_rfc_7748() {
        // RFC 7748 6.1, Alice.
        let private = PrivateKey::new([
            0x77, 0x07, 0x6d, 0x0a, 0x73, 0x18, 0xa5, 0x7d, 0x3c, 0x16, 0xc1, 0x72, 0x51, 0xb2, 0x66, 0x45,
            0xdf, 0x4c, 0x2f, 0x87, 0xeb, 0xc0, 0x99, 0x2a, 0xb1, 0x77, 0xfb, 0xa5, 0x1d, 0xb9, 0x2c, 0x2a,
        ]);
        let hex: String = private.public_key().as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a");
    }

    #[test]
    fn secrets_do_not_show() {
        let key = PrivateKey::generate().expect("generator");
        assert_eq!(format!("{key:?}"), "PrivateKey(hidden)");
        let key = PresharedKey::generate().expect("generator");
        assert_eq!(format!("{key:?}"), "PresharedKey(hidden)");
    }

    #[test]
    fn text_round_trips() {
        let key = PrivateKey::generate().expect("generator");
        assert!(key.expose_base64().parse::<PrivateKey>() == Ok(key.clone()));
        assert_eq!(key.public_key().to_string().parse(), Ok(key.public_key()));
    }

    #[test]
    fn refusals_do_not_repeat_the_text() {
        for text in ["", "hunter2", "AAAA", &"A".repeat(44), &format!("{}=", "A".repeat(43))] {
            let error = text.parse::<PrivateKey>().expect_err("not a key").to_string();
            assert!(text.is_empty() || !error.contains(text), "{error}");
        }
    }
}
