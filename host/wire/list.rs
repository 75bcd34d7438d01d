//! Lists in a request that keep only their largest allowed number of items.
//!
//! A list of numbers takes thirty times the memory of its text. Items beyond the last allowed one are read
//! and discarded, so that a check of the length can say what is wrong.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, IgnoredAny, SeqAccess, Visitor};

/// The first `MAX` items of a list, and one more where there are more.
pub fn bounded<'de, D, T, const MAX: usize>(from: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    from.deserialize_seq(Bounded::<T, MAX>(PhantomData))
}

/// The same of a list that may be absent or null.
pub fn optional<'de, D, T, const MAX: usize>(from: D) -> Result<Option<Vec<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct Optional<T, const MAX: usize>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for Optional<T, MAX> {
        type Value = Option<Vec<T>>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a sequence or null")
        }

        fn visit_none<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
            bounded::<D, T, MAX>(from).map(Some)
        }
    }
    from.deserialize_option(Optional::<T, MAX>(PhantomData))
}

struct Bounded<T, const MAX: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for Bounded<T, MAX> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a sequence")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
        let mut items = Vec::new();
        while items.len() <= MAX {
            match list.next_element()? {
                Some(item) => items.push(item),
                None => return Ok(items),
            }
        }
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(items)
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    #[derive(Deserialize)]
    struct Given {
        #[serde(deserialize_with = "super::bounded::<_, _, 3>")]
        some: Vec<u64>,
        #[serde(default, deserialize_with = "super::optional::<_, _, 3>")]
        more: Option<Vec<u64>>,
    }

    #[test]
    fn a_list_keeps_one_item_more_than_it_may_have_and_forgets_the_rest() {
        let check = |text: &str, some: &[u64], more: Option<&[u64]>| {
            let given: Given = serde_json::from_str(text).unwrap();
            assert_eq!(given.some, some, "{text}");
            assert_eq!(given.more.as_deref(), more, "{text}");
        };
        check(r#"{"some": []}"#, &[], None);
        check(r#"{"some": [1, 2, 3], "more": null}"#, &[1, 2, 3], None);
        check(r#"{"some": [1, 2, 3, 4]}"#, &[1, 2, 3, 4], None);
        let many: Vec<u64> = (1..=1_000).collect();
        let text = format!(r#"{{"some": {many:?}, "more": {many:?}}}"#);
        check(&text, &[1, 2, 3, 4], Some(&[1, 2, 3, 4]));
        assert!(serde_json::from_str::<Given>(r#"{"some": [1, 2, 3, 4, 5"#).is_err());
        assert!(serde_json::from_str::<Given>(r#"{"some": 1}"#).is_err());
    }
}
