//! A value in somebody else's JSON, whatever its type turns out to be.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use zeroize::Zeroizing;

/// One value. Text may be a secret, so it is wiped when dropped and shows nothing.
#[derive(Default)]
pub(super) enum Field {
    /// Missing or null.
    #[default]
    None,
    /// A string.
    Text(Zeroizing<String>),
    /// A boolean.
    Bool(bool),
    /// A list of strings; what is no string is left out.
    List(Vec<Zeroizing<String>>),
    /// A number, an object.
    Other,
}

impl Field {
    /// The text, `None` for anything else.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text.trim()),
            _ => None,
        }
    }

    /// Whether it is there and yet no text.
    pub(super) fn is_no_text(&self) -> bool {
        !matches!(self, Self::None | Self::Text(_))
    }
}

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Field;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Field, E> {
        Ok(Field::None)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Field, E> {
        Ok(Field::Bool(value))
    }

    fn visit_str<E>(self, text: &str) -> Result<Field, E> {
        Ok(Field::Text(Zeroizing::new(text.to_owned())))
    }

    fn visit_string<E>(self, text: String) -> Result<Field, E> {
        Ok(Field::Text(Zeroizing::new(text)))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Field, E> {
        Ok(Field::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Field, E> {
        Ok(Field::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Field, E> {
        Ok(Field::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Field, A::Error> {
        let mut texts = Vec::new();
        while let Some(field) = list.next_element::<Field>()? {
            if let Field::Text(text) = field {
                texts.push(text);
            }
        }
        Ok(Field::List(texts))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Field, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Field::Other)
    }
}
