//! What the tools printed, put together into one [`Ruleset`].

use super::{
    iptables_save,
    nft_json::{self, BadJson},
    ruleset::{Family, Ruleset, Source},
};

/// The tools' output, as it came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Printed {
    /// `nft -j list ruleset`.
    pub nft_json: String,
    /// `nft -s -a list ruleset`.
    pub nft_text: String,
    /// `iptables-…-save`, for each family and source that was asked.
    pub iptables: Vec<(Family, Source, String)>,
}

impl Printed {
    /// The ruleset that they tell of.
    ///
    /// # Errors
    ///
    /// JSON that is none of nft's.
    pub fn ruleset(&self) -> Result<Ruleset, BadJson> {
        let mut ruleset = nft_json::parse(&self.nft_json, &self.nft_text)?;
        for (family, source, text) in &self.iptables {
            let tables = iptables_save::parse(text, *family, *source);
            match source {
                Source::IptablesLegacy => ruleset.tables.extend(tables),
                Source::Iptables | Source::Nft => ruleset.merge_iptables(tables),
            }
        }
        Ok(ruleset)
    }
}
