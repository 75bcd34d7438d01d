//! Inserts secrets into the headers of a request, after it has left the sandbox.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue};

use super::failure::{ExchangeFailure, FailureCode};
use crate::limits::{HttpGrant, secrets_of};
use crate::secrets::{SecretError, SecretValue, Secrets};

/// Replace placeholders by values, and add the headers of the grant. Only secrets that the grant names are inserted.
pub async fn fill(
    secrets: &Arc<Secrets>,
    grant: &HttpGrant,
    headers: &mut HeaderMap,
) -> Result<(), ExchangeFailure> {
    let mut allowed = grant.secrets.clone();
    allowed.extend(named(grant));
    allowed.sort();
    allowed.dedup();
    if allowed.is_empty() && grant.headers.is_empty() {
        return Ok(());
    }
    if !allowed.is_empty() {
        for value in headers.values_mut() {
            // A value that is not text has no placeholder.
            let Ok(text) = value.to_str() else {
                continue;
            };
            let filled = secrets.fill_header(text, &allowed).await.map_err(unknown)?;
            if let Some(filled) = filled.value {
                *value = HeaderValue::from_str(filled.expose()).map_err(|_| unfit())?;
                value.set_sensitive(true);
            }
        }
    }
    let mut values: BTreeMap<String, SecretValue> = BTreeMap::new();
    for name in named(grant) {
        let value = secrets.get(&name).await.map_err(unknown)?;
        values.insert(name, value);
    }
    let secret = |name: &str| values.get(name).map(|value| value.expose().to_owned());
    let added = grant.filled_headers(secret).map_err(|problem| {
        ExchangeFailure::new(FailureCode::ConfigurationError, problem.to_string())
    })?;
    for (name, mut value) in added {
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Ok(())
}

/// The secrets that the headers of a grant name.
fn named(grant: &HttpGrant) -> impl Iterator<Item = String> {
    let values = grant.headers.values();
    let names = values.filter_map(|value| secrets_of(value)).flatten();
    names.map(str::to_owned)
}

/// A secret that is not valid in a header.
fn unfit() -> ExchangeFailure {
    let what = "a secret has a character that is not allowed in a header, such as a line break";
    ExchangeFailure::new(FailureCode::ConfigurationError, what)
}

/// An unavailable secret, in words that reveal nothing of it.
fn unknown(error: SecretError) -> ExchangeFailure {
    ExchangeFailure::new(FailureCode::ConfigurationError, error.to_string())
}
