//! JSON objects as text: members are found and added without formatting any number or string again.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The members of a JSON object in their order, those that are there twice among them, as they are written.
pub struct Members<'a>(pub Vec<(&'a RawValue, &'a RawValue)>);

impl<'a> Members<'a> {
    /// Those of a text; `None` where it is no object.
    pub fn of(text: &'a str) -> Option<Members<'a>> {
        serde_json::from_str(text).ok()
    }

    /// Whether there is one of that name.
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(key, _)| text_of(key.get()) == name)
    }

    /// The object with other members, in place of those of the same names. A new one stands before the first whose
    /// name is greater: earlier versions sorted all of them, and a replay compares texts.
    pub fn with(&self, new: &[(&str, String)]) -> String {
        let mut members: Vec<(Cow<'_, str>, String)> = Vec::new();
        for (key, value) in &self.0 {
            let name = text_of(key.get());
            if new.iter().all(|(other, _)| *other != name) {
                let text = format!("{}:{}", key.get(), value.get());
                members.push((name, text));
            }
        }
        for (name, value) in new {
            let place = members.iter().position(|(other, _)| **other > **name);
            let key = serde_json::Value::from(*name);
            let member = (Cow::Borrowed(*name), format!("{key}:{value}"));
            members.insert(place.unwrap_or(members.len()), member);
        }
        let texts: Vec<String> = members.into_iter().map(|(_, text)| text).collect();
        format!("{{{}}}", texts.join(","))
    }
}

/// The text that a JSON string stands for; the string itself where it stands for none.
pub fn text_of(body: &str) -> Cow<'_, str> {
    serde_json::from_str::<String>(body).map_or(Cow::Borrowed(body), Cow::Owned)
}

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct All;
        impl<'de> Visitor<'de> for All {
            type Value = Members<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Members(pairs))
            }
        }
        deserializer.deserialize_map(All)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_added_and_no_other_is_written_anew() {
        let check = |text: &str, new: &[(&str, &str)], expected: &str| {
            let new: Vec<_> = new
                .iter()
                .map(|(name, json)| (*name, (*json).to_owned()))
                .collect();
            assert_eq!(Members::of(text).unwrap().with(&new), expected);
        };
        check("{}", &[("d", "1")], r#"{"d":1}"#);
        check(
            r#"{ "z": 12345678901234567890123, "a": 1.50, "\u0061": [ 1 ] }"#,
            &[("d", "{}")],
            r#"{"d":{},"z":12345678901234567890123,"a":1.50,"\u0061":[ 1 ]}"#,
        );
        check(
            r#"{"a":1,"z":2}"#,
            &[("d", "0"), ("zz", "3")],
            r#"{"a":1,"d":0,"z":2,"zz":3}"#,
        );
        check(
            r#"{"a":1,"d":2,"e":3}"#,
            &[("d", "0")],
            r#"{"a":1,"d":0,"e":3}"#,
        );
        assert!(Members::of("[1]").is_none());
        assert!(Members::of(r#"{"\u0061":1}"#).unwrap().has("a"));
    }
}
