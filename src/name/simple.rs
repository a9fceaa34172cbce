//! Names that have no rules besides those of a label.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{NameError, label};

macro_rules! simple {
    ($($(#[$doc:meta])* $name:ident: $what:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Parses a name by the rules of a label.
            ///
            /// # Errors
            /// [`NameError::Simple`], with the rule that is broken.
            pub fn parse(text: &str) -> Result<Self, NameError> {
                label(text).map_err(|why| NameError::Simple($what, text.to_owned(), why))?;
                Ok($name(text.to_owned()))
            }

            /// Returns the name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

simple! {
    /// The name of a fleet: a DNS label in lower case.
    FleetName: "fleet";
    /// The name of a flavour, which is a directory of the site: a DNS label in lower case.
    FlavourName: "flavour";
}
