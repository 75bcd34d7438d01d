//! Values of our types, and the engine's.

use wasmtime::component::Val;

use crate::types::{Type, VALUE_PARTS_MAX, Value};

/// A value, for a guest.
pub fn given(value: Value) -> Val {
    let boxed = |payload: Option<Box<Value>>| payload.map(|payload| Box::new(given(*payload)));
    match value {
        Value::Bool(flag) => Val::Bool(flag),
        Value::S8(number) => Val::S8(number),
        Value::U8(number) => Val::U8(number),
        Value::S16(number) => Val::S16(number),
        Value::U16(number) => Val::U16(number),
        Value::S32(number) => Val::S32(number),
        Value::U32(number) => Val::U32(number),
        Value::S64(number) => Val::S64(number),
        Value::U64(number) => Val::U64(number),
        Value::F32(number) => Val::Float32(number),
        Value::F64(number) => Val::Float64(number),
        Value::Char(one) => Val::Char(one),
        Value::String(text) => Val::String(text),
        Value::Bytes(bytes) => Val::List(bytes.into_iter().map(Val::U8).collect()),
        Value::List(items) => Val::List(items.into_iter().map(given).collect()),
        Value::Tuple(items) => Val::Tuple(items.into_iter().map(given).collect()),
        Value::Option(inner) => Val::Option(boxed(inner)),
        Value::Result(Ok(payload)) => Val::Result(Ok(boxed(payload))),
        Value::Result(Err(payload)) => Val::Result(Err(boxed(payload))),
        Value::Record(fields) => {
            let field = |(name, value)| (name, given(value));
            Val::Record(fields.into_iter().map(field).collect())
        }
        Value::Variant(case, payload) => Val::Variant(case, boxed(payload)),
        Value::Enum(case) => Val::Enum(case),
        Value::Flags(names) => Val::Flags(names),
    }
}

/// What a guest gave, of a type that the engine has checked it to be of.
pub fn taken(value: Val, of: &Type) -> Result<Value, String> {
    let mut left = VALUE_PARTS_MAX;
    take(value, of, &mut left)
}

fn take(value: Val, of: &Type, left: &mut usize) -> Result<Value, String> {
    let bytes = match &value {
        Val::List(items) if of.is_bytes() => items.len(),
        _ => 0,
    };
    *left = left
        .checked_sub(1 + bytes)
        .ok_or_else(|| format!("it has more than {VALUE_PARTS_MAX} values"))?;
    let mut all = |items: Vec<Val>, of: &mut dyn Iterator<Item = &Type>| {
        let items = items.into_iter().zip(of);
        items
            .map(|(item, of)| take(item, of, left))
            .collect::<Result<Vec<_>, _>>()
    };
    Ok(match (value, of) {
        (Val::Bool(flag), _) => Value::Bool(flag),
        (Val::S8(number), _) => Value::S8(number),
        (Val::U8(number), _) => Value::U8(number),
        (Val::S16(number), _) => Value::S16(number),
        (Val::U16(number), _) => Value::U16(number),
        (Val::S32(number), _) => Value::S32(number),
        (Val::U32(number), _) => Value::U32(number),
        (Val::S64(number), _) => Value::S64(number),
        (Val::U64(number), _) => Value::U64(number),
        (Val::Float32(number), _) => Value::F32(number),
        (Val::Float64(number), _) => Value::F64(number),
        (Val::Char(one), _) => Value::Char(one),
        (Val::String(text), _) => Value::String(text),
        (Val::List(items), of) if of.is_bytes() => {
            let byte = |item| match item {
                Val::U8(byte) => Ok(byte),
                _ => Err(strange(of)),
            };
            Value::Bytes(items.into_iter().map(byte).collect::<Result<_, _>>()?)
        }
        (Val::List(items), Type::List(element)) => {
            Value::List(all(items, &mut std::iter::repeat(&**element))?)
        }
        (Val::Tuple(items), Type::Tuple(elements)) => {
            Value::Tuple(all(items, &mut elements.iter())?)
        }
        (Val::Record(fields), Type::Record(record)) => {
            let (names, fields): (Vec<String>, Vec<Val>) = fields.into_iter().unzip();
            let fields = all(fields, &mut record.parts.iter().map(|(_, of)| of))?;
            Value::Record(names.into_iter().zip(fields).collect())
        }
        (Val::Option(None), _) => Value::Option(None),
        (Val::Option(Some(inner)), Type::Option(of)) => {
            Value::Option(Some(Box::new(take(*inner, of, left)?)))
        }
        (Val::Result(Ok(payload)), Type::Result { ok, .. }) => {
            Value::Result(Ok(payload_of(payload, ok.as_deref(), of, left)?))
        }
        (Val::Result(Err(payload)), Type::Result { err, .. }) => {
            Value::Result(Err(payload_of(payload, err.as_deref(), of, left)?))
        }
        (Val::Variant(case, payload), Type::Variant(variant)) => {
            let known = variant.parts.iter().find(|(name, _)| *name == case);
            let (_, wanted) = known.ok_or_else(|| strange(of))?;
            let payload = payload_of(payload, wanted.as_ref(), of, left)?;
            Value::Variant(case, payload)
        }
        (Val::Enum(case), _) => Value::Enum(case),
        (Val::Flags(names), _) => Value::Flags(names),
        (_, of) => return Err(strange(of)),
    })
}

fn payload_of(
    payload: Option<Box<Val>>,
    wanted: Option<&Type>,
    of: &Type,
    left: &mut usize,
) -> Result<Option<Box<Value>>, String> {
    match (payload, wanted) {
        (None, None) => Ok(None),
        (Some(payload), Some(wanted)) => Ok(Some(Box::new(take(*payload, wanted, left)?))),
        _ => Err(strange(of)),
    }
}

fn strange(of: &Type) -> String {
    format!("it is no {of}")
}
