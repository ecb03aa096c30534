//! The two lines by which a home joins a hub: the invitation that the hub prints, and the approval that the home answers
//! with.
//!
//! A line is one word of letters that neither shells nor terminals change: what it is, then base64url of JSON and its
//! CRC-32, so that a line that lost its end is told from one that is wrong. Neither holds a key that must stay secret.
//! The token proves that an approval comes from somebody who had the invitation; the hub's admin passes it on.

use std::{fmt, net::IpAddr, str::FromStr};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ipnet::IpNet;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{desired::PeerName, key::PublicKey};

/// What the hub says to a home that is to join.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invitation {
    /// What the hub calls it.
    pub name: PeerName,
    /// The hub's key.
    pub hub: PublicKey,
    /// Where the hub is dialled, `host:port`.
    pub endpoint: String,
    /// The home's addresses in the tunnel.
    pub addresses: Vec<IpAddr>,
    /// The networks behind it.
    pub lans: Vec<IpNet>,
    /// What goes through the tunnel.
    pub allowed: Vec<IpNet>,
    /// Largest packet in the tunnel, bytes.
    pub mtu: u32,
    /// Unix seconds after which the hub takes no answer.
    pub expires: i64,
    /// What the answer must bring back.
    pub token: Token,
}

/// What the home answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// What the hub calls it.
    pub name: PeerName,
    /// The key that it has made.
    pub public_key: PublicKey,
    /// That of the invitation.
    pub token: Token,
}

/// Sixteen bytes that nobody guesses.
#[derive(Clone, PartialEq, Eq)]
pub struct Token([u8; 16]);

impl Token {
    /// A new one from the operating system's generator.
    ///
    /// # Errors
    /// The generator cannot be read.
    pub fn generate() -> std::io::Result<Self> {
        use std::io::Read as _;
        let mut bytes = [0; 16];
        std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
        Ok(Self(bytes))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(hidden)")
    }
}

impl FromStr for Token {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| "not a token")?;
        bytes.try_into().map(Self).map_err(|_| "not a token")
    }
}

impl Serialize for Token {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl<'de> Deserialize<'de> for Token {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What all lines begin with, whatever their version.
const RELAY: &str = "relay";

/// The number of the format, raised when an older relay could not read a line any more.
const VERSION: &str = "1";

/// Something that travels as a line.
pub trait Line: Serialize + DeserializeOwned {
    /// Its word in the line.
    const KIND: &'static str;
    /// What it is called.
    const CALLED: &'static str;
    /// What takes it, and where.
    const TAKEN_BY: &'static str;

    /// The line.
    fn to_line(&self) -> String {
        // Nothing in either has a form that JSON lacks.
        let mut bytes = serde_json::to_vec(self).unwrap_or_default();
        let checksum = crc32fast::hash(&bytes);
        bytes.extend(checksum.to_be_bytes());
        format!("{RELAY}{VERSION}-{}-{}", Self::KIND, URL_SAFE_NO_PAD.encode(bytes))
    }

    /// What a line says. White space in it does not count: terminals break long lines.
    ///
    /// # Errors
    /// See [`LineError`].
    fn from_line(text: &str) -> Result<Self, LineError> {
        let text: String = text.split_whitespace().collect();
        let foreign = || LineError::Foreign { called: Self::CALLED, kind: Self::KIND };
        let rest = text.strip_prefix(RELAY).ok_or_else(foreign)?;
        let (version, rest) = rest.split_once('-').ok_or_else(foreign)?;
        if version.is_empty() || !version.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(foreign());
        }
        if version != VERSION {
            return Err(LineError::Version);
        }
        let (kind, payload) = rest.split_once('-').ok_or_else(foreign)?;
        match kind {
            _ if kind == Self::KIND => {}
            Invitation::KIND => return Err(LineError::Other(Invitation::CALLED, Invitation::TAKEN_BY)),
            Approval::KIND => return Err(LineError::Other(Approval::CALLED, Approval::TAKEN_BY)),
            _ => return Err(foreign()),
        }
        let damaged = || LineError::Damaged { called: Self::CALLED };
        let bytes = URL_SAFE_NO_PAD.decode(payload).map_err(|_| damaged())?;
        let (json, checksum) = bytes.split_last_chunk::<4>().ok_or_else(damaged)?;
        if crc32fast::hash(json) != u32::from_be_bytes(*checksum) {
            return Err(damaged());
        }
        serde_json::from_slice(json).map_err(|_| LineError::Version)
    }
}

impl Line for Invitation {
    const KIND: &'static str = "invite";
    const CALLED: &'static str = "an invitation";
    const TAKEN_BY: &'static str = "`relay join` at home";
}

impl Line for Approval {
    const KIND: &'static str = "approve";
    const CALLED: &'static str = "an approval";
    const TAKEN_BY: &'static str = "`relay peer approve` on the hub";
}

/// Why a text is not the line that it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// Something else altogether.
    #[error("this is not {called}, which begins with {RELAY}{VERSION}-{kind}-")]
    Foreign {
        /// What was expected.
        called: &'static str,
        /// The word in it.
        kind: &'static str,
    },
    /// The other of the two.
    #[error("this is {0}, for {1}")]
    Other(&'static str, &'static str),
    /// It is not whole.
    #[error(
        "this is {called} that was cut off or changed on its way; copy the whole line, from relay1- to its end"
    )]
    Damaged {
        /// What was expected.
        called: &'static str,
    },
    /// It is whole, and of another format.
    #[error("this line comes from another version of relay; install the same on the hub and at home")]
    Version,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn invitation() -> Invitation {
        Invitation {
            name: "Oma's home \"old\" \u{1f3e0}".parse().expect("name"),
            hub: PublicKey::new([1; 32]),
            endpoint: "vps.example.net:51820".to_owned(),
            addresses: vec!["10.9.0.2".parse().expect("ip"), "fd52:1a9::2".parse().expect("ip")],
            lans: vec!["192.168.40.0/24".parse().expect("net"), "fd00:40::/64".parse().expect("net")],
            allowed: vec!["10.9.0.0/24".parse().expect("net")],
            mtu: 1420,
            expires: 1_800_000_000,
            token: Token([7; 16]),
        }
    }

    fn approval() -> Approval {
        Approval { name: invitation().name, public_key: PublicKey::new([2; 32]), token: Token([7; 16]) }
    }

    #[test]
    fn lines_are_one_word_that_comes_back() {
        let (invite, approve) = (invitation().to_line(), approval().to_line());
        for (line, start) in [(&invite, "relay1-invite-"), (&approve, "relay1-approve-")] {
            assert!(line.starts_with(start), "{line}");
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
            assert!(line.bytes().all(plain) && line.len() < 1000, "{line}");
        }
        assert_eq!(Invitation::from_line(&invite), Ok(invitation()));
        assert_eq!(Approval::from_line(&approve), Ok(approval()));
        let broken = format!("  {}\n{} \n", &invite[..80], &invite[80..]);
        assert_eq!(Invitation::from_line(&broken), Ok(invitation()), "as a terminal breaks it");
        assert_eq!(format!("{:?}", approval().token), "Token(hidden)");
    }

    #[test]
    fn what_is_wrong_is_said() {
        let (invite, approve) = (invitation().to_line(), approval().to_line());
        let damaged = Err(LineError::Damaged { called: Invitation::CALLED });
        for end in invite.len() - 30..invite.len() {
            assert_eq!(Invitation::from_line(&invite[..end]), damaged, "{end} letters of it");
        }
        let altered = invite.replacen("relay1-invite-e", "relay1-invite-f", 1);
        assert_eq!(Invitation::from_line(&altered), damaged);
        assert_eq!(Invitation::from_line("relay1-invite-"), damaged);
        assert_eq!(
            Invitation::from_line(&approve),
            Err(LineError::Other("an approval", "`relay peer approve` on the hub"))
        );
        assert_eq!(
            Approval::from_line(&invite),
            Err(LineError::Other("an invitation", "`relay join` at home"))
        );
        assert_eq!(Invitation::from_line(&invite.replacen('1', "2", 1)), Err(LineError::Version));
        let foreign = Err(LineError::Foreign { called: Invitation::CALLED, kind: Invitation::KIND });
        for text in [
            "",
            "relay",
            "relay-",
            "relay1",
            "relay1-",
            "relay1-x-y",
            "relayx-invite-e",
            "hello",
            "[Interface]",
        ] {
            assert_eq!(Invitation::from_line(text), foreign, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(relay1?-(invite|approve)?-?)?[ -~]{0,80}") {
            let _ = (Invitation::from_line(&text), Approval::from_line(&text));
        }
    }
}
