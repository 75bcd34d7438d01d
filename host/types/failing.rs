//! The error of a function as the failure of its task, and back.
//!
//! A text is the message. A record may say `message` and `retryable` itself; one that is the
//! `failure` of the guest contract is what the same of `run` is. Any other error is kept as JSON in
//! the details, from which a caller has it again.

use super::{Type, Value, decode, encode};
use crate::task::{Failure, FailureKind};

/// The failure that a function's error stands for.
pub fn failure_of(error: Option<&Value>) -> Failure {
    let (message, retryable, details) = match error {
        None => ("it returned an error".to_owned(), false, None),
        Some(Value::String(message)) => (message.clone(), false, None),
        Some(error) => {
            let fields = match error {
                Value::Record(fields) => fields.as_slice(),
                _ => &[],
            };
            let field = |name: &str| fields.iter().find(|(field, _)| field == name);
            let json = encode(error);
            let message = match (field("message"), error) {
                (Some((_, Value::String(message))), _) => message.clone(),
                (_, Value::Enum(case) | Value::Variant(case, None)) => case.clone(),
                _ => json.clone(),
            };
            let retryable = matches!(field("retryable"), Some((_, Value::Bool(true))));
            let details = match fields {
                [_, _, (_, Value::Option(details))] if is_contracts(fields) => match details {
                    Some(details) => match &**details {
                        Value::String(text) => Some(text.clone()),
                        other => Some(encode(other)),
                    },
                    None => None,
                },
                _ => Some(json),
            };
            (message, retryable, details)
        }
    };
    let mut failure = Failure::new(FailureKind::Handler, message, retryable);
    failure.details = details;
    failure
}

/// The error of this type that a failure stands for, where it stands for one. `None` for a type is
/// an error without a value, which any failure is.
pub fn error_of(failure: &Failure, of: Option<&Type>) -> Option<Option<Value>> {
    let Some(of) = of else {
        return Some(None);
    };
    if *of == Type::String {
        return Some(Some(Value::String(failure.message.clone())));
    }
    if let Type::Record(record) = of
        && is_failure(&record.parts)
    {
        let details = failure
            .details
            .clone()
            .map(|text| Box::new(Value::String(text)));
        return Some(Some(Value::Record(vec![
            ("message".to_owned(), Value::String(failure.message.clone())),
            ("retryable".to_owned(), Value::Bool(failure.retryable)),
            ("details".to_owned(), Value::Option(details)),
        ])));
    }
    let details = serde_json::from_str(failure.details.as_deref()?).ok()?;
    decode(&details, of, "$").ok().map(Some)
}

/// Whether it is the record `failure` of the guest contract.
fn is_failure(fields: &[(String, Type)]) -> bool {
    let [message, retryable, details] = fields else {
        return false;
    };
    let is = |field: &(String, Type), name: &str, of: &Type| field.0 == name && field.1 == *of;
    is(message, "message", &Type::String)
        && is(retryable, "retryable", &Type::Bool)
        && is(details, "details", &Type::Option(Box::new(Type::String)))
}

fn is_contracts(fields: &[(String, Value)]) -> bool {
    let text = |value: &Value| matches!(value, Value::String(_));
    let [message, retryable, details] = fields else {
        return false;
    };
    message.0 == "message"
        && text(&message.1)
        && retryable.0 == "retryable"
        && matches!(retryable.1, Value::Bool(_))
        && details.0 == "details"
        && matches!(&details.1, Value::Option(inner) if inner.as_deref().is_none_or(text))
}

#[cfg(test)]
mod tests {
    use super::super::examples::*;
    use super::*;

    #[track_caller]
    fn check(json: &str, of: Type, expected: &str) {
        let error = decode(&serde_json::from_str(json).unwrap(), &of, "$").unwrap();
        let failure = failure_of(Some(&error));
        let details = failure.details.clone().unwrap_or_default();
        assert_eq!(
            format!("{} | {} | {details}", failure.message, failure.retryable),
            expected
        );
        assert_eq!(error_of(&failure, Some(&of)), Some(Some(error)), "and back");
    }

    #[test]
    fn an_error_is_a_failure_and_the_failure_is_the_error_again() {
        check("\"sold out\"", Type::String, "sold out | false | ");
        let why = cases("why", &["sold-out", "late"]);
        check("\"late\"", why, "late | false | \"late\"");
        let either = variant("either", &[("code", Some(Type::U8)), ("none", None)]);
        check("\"none\"", either.clone(), "none | false | \"none\"");
        check(
            "{\"code\":7}",
            either,
            "{\"code\":7} | false | {\"code\":7}",
        );
        let own = record(
            "own",
            &[("message", Type::String), ("retryable", Type::Bool)],
        );
        let json = "{\"message\":\"busy\",\"retryable\":true}";
        check(json, own, &format!("busy | true | {json}"));
        let contract = record(
            "failure",
            &[
                ("message", Type::String),
                ("retryable", Type::Bool),
                ("details", option(Type::String)),
            ],
        );
        let json = "{\"message\":\"busy\",\"retryable\":true,\"details\":\"[1]\"}";
        check(json, contract.clone(), "busy | true | [1]");
        let json = "{\"message\":\"busy\",\"retryable\":false,\"details\":null}";
        check(json, contract, "busy | false | ");
        assert_eq!(failure_of(None).message, "it returned an error");
    }

    #[test]
    fn a_failure_that_is_no_error_of_the_type_is_said_to_be_none() {
        let trap = Failure::new(FailureKind::Trap, "the guest panicked", true);
        assert_eq!(error_of(&trap, Some(&Type::U8)), None);
        let text = Value::String("the guest panicked".to_owned());
        assert_eq!(error_of(&trap, Some(&Type::String)), Some(Some(text)));
        assert_eq!(error_of(&trap, None), Some(None));
        let mut other = trap.clone();
        other.details = Some("\"x\"".to_owned());
        assert_eq!(error_of(&other, Some(&Type::U8)), None);
    }
}
