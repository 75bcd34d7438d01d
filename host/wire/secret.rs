//! A secret, without its value.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Word;
use crate::store::SecretInfo;

/// A secret, without its value.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs)]
pub struct SecretJson {
    pub name: String,
    /// encrypted, env or file.
    #[schema(value_type = String)]
    pub kind: Word,
    /// The variable or the path of the host that has the value; null where the value is encrypted in the database.
    pub reference: Option<String>,
    pub created_at: String,
    pub updated_at: String,
}

/// The public data of a secret.
pub fn secret(info: &SecretInfo) -> SecretJson {
    SecretJson {
        name: info.name.clone(),
        kind: info.kind.as_str().into(),
        reference: info.reference.clone(),
        created_at: super::time(info.created_at_ms),
        updated_at: super::time(info.updated_at_ms),
    }
}
