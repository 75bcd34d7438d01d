//! Integers as JSON Schema defines them: `5.0` is an integer, `5.5` is not.
//!
//! Some clients and languages have one type of number and write every number with a fraction. Fields of the
//! doors that take an integer are read by [`whole`] or [`optional`].

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserializer, Error, Unexpected, Visitor};

/// Beyond this a double does not hold every integer, so it does not say which one is meant.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// An integer that has to be there.
pub fn whole<'de, D: Deserializer<'de>, T: TryFrom<i128>>(from: D) -> Result<T, D::Error> {
    from.deserialize_any(Whole(PhantomData))
}

/// An integer that may be absent or null.
pub fn optional<'de, D: Deserializer<'de>, T: TryFrom<i128>>(
    from: D,
) -> Result<Option<T>, D::Error> {
    struct Optional<T>(PhantomData<T>);
    impl<'de, T: TryFrom<i128>> Visitor<'de> for Optional<T> {
        type Value = Option<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "an integer or null")
        }

        fn visit_none<E: Error>(self) -> Result<Option<T>, E> {
            Ok(None)
        }

        fn visit_unit<E: Error>(self) -> Result<Option<T>, E> {
            Ok(None)
        }

        fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Option<T>, D::Error> {
            whole(from).map(Some)
        }
    }
    from.deserialize_option(Optional(PhantomData))
}

struct Whole<T>(PhantomData<T>);

impl<T: TryFrom<i128>> Whole<T> {
    fn fit<E: Error>(&self, number: i128, said: Unexpected<'_>) -> Result<T, E> {
        T::try_from(number).map_err(|_| E::invalid_value(said, self))
    }
}

impl<T: TryFrom<i128>> Visitor<'_> for Whole<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = std::any::type_name::<T>();
        let bits: String = kind.chars().filter(char::is_ascii_digit).collect();
        match kind.as_bytes().first() {
            Some(b'u') if bits.is_empty() => write!(f, "an integer of at least 0"),
            Some(b'u') => write!(f, "an integer of at least 0 and at most {bits} bits"),
            _ => write!(f, "an integer of at most {bits} bits"),
        }
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
        self.fit(number.into(), Unexpected::Unsigned(number))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        self.fit(number.into(), Unexpected::Signed(number))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<T, E> {
        let said = Unexpected::Float(number);
        if number.fract() == 0.0 && number.abs() <= EXACT_MAX {
            return self.fit(number as i128, said);
        }
        Err(E::invalid_type(said, &self))
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Fields {
        #[serde(deserialize_with = "super::whole")]
        count: u32,
        #[serde(default, deserialize_with = "super::optional")]
        priority: Option<i32>,
    }

    fn check(text: &str, expected: Result<(u32, Option<i32>), &str>) {
        let read = serde_json::from_str::<Fields>(text);
        match (read, expected) {
            (Ok(read), Ok((count, priority))) => assert_eq!(read, Fields { count, priority }),
            (Err(error), Err(words)) => assert!(error.to_string().contains(words), "{error}"),
            (read, expected) => panic!("{text}: {read:?}, not {expected:?}"),
        }
    }

    #[test]
    fn a_number_without_a_fraction_is_an_integer_however_it_is_written() {
        check(r#"{"count": 5}"#, Ok((5, None)));
        check(r#"{"count": 5.0, "priority": -2.0}"#, Ok((5, Some(-2))));
        check(r#"{"count": 5e1, "priority": null}"#, Ok((50, None)));
        check(r#"{"count": -0.0}"#, Ok((0, None)));
    }

    #[test]
    fn what_is_no_integer_or_does_not_fit_is_refused() {
        check(
            r#"{"count": 5.5}"#,
            Err("floating point `5.5`, expected an integer"),
        );
        check(
            r#"{"count": -1}"#,
            Err("`-1`, expected an integer of at least 0"),
        );
        check(r#"{"count": 5000000000.0}"#, Err("at most 32 bits"));
        check(r#"{"count": 1e300}"#, Err("expected an integer"));
        check(r#"{"count": "5"}"#, Err("expected an integer"));
        check(
            r#"{"count": 1, "priority": "x"}"#,
            Err("expected an integer"),
        );
    }
}
