//! One value or several: a payload that may be an array, put together and taken apart without reading the
//! values.

use std::marker::PhantomData;

use serde::de::IgnoredAny;

use crate::codec::{CodecError, Encoding, next_msgpack};

/// What a payload holds, each value with its own bytes.
pub(crate) enum Several<'a> {
    /// The payload is the value.
    One,
    /// The elements of the array that it is.
    Array(Vec<&'a [u8]>),
}

/// How many an array may hold, and what of.
#[derive(Clone, Copy)]
pub(crate) struct Bound {
    pub(crate) most: usize,
    pub(crate) what: &'static str,
}

/// Takes a payload apart.
pub(crate) fn split(payload: &[u8], encoding: Encoding, bound: Bound) -> Result<Several<'_>, CodecError> {
    let mut elements = Vec::new();
    let rest = match encoding {
        Encoding::Json => match payload.trim_ascii_start() {
            [b'[', rest @ ..] => split_json(rest, &mut elements, bound)?,
            _ => return Ok(Several::One),
        },
        Encoding::MsgPack => {
            let Some((count, mut rest)) = array_header(payload) else { return Ok(Several::One) };
            bound.check(count)?;
            for _ in 0..count {
                let start = rest;
                next_msgpack(&mut rest, PhantomData::<IgnoredAny>)?;
                elements.push(start.get(..start.len() - rest.len()).unwrap_or_default());
            }
            rest
        }
    };
    if !rest.is_empty() {
        return Err(CodecError(format!("{} bytes follow the last of the {}", rest.len(), bound.what)));
    }
    bound.check(elements.len())?;
    Ok(Several::Array(elements))
}

/// Puts encoded values together: one stays as it is, several become an array.
pub(crate) fn join<B: AsRef<[u8]>>(values: &[B], encoding: Encoding, bound: Bound) -> Result<Vec<u8>, CodecError> {
    bound.check(values.len())?;
    if let [value] = values {
        return Ok(value.as_ref().to_vec());
    }
    let bytes: usize = values.iter().map(|value| value.as_ref().len() + 1).sum();
    let mut payload = Vec::with_capacity(bytes + 3);
    match encoding {
        Encoding::MsgPack => {
            let count = u16::try_from(values.len()).map_err(|_| CodecError("too many for an array".to_owned()))?;
            match u8::try_from(count) {
                Ok(count @ ..=15) => payload.push(0x90 | count),
                _ => {
                    payload.push(0xdc);
                    payload.extend_from_slice(&count.to_be_bytes());
                }
            }
            for value in values {
                payload.extend_from_slice(value.as_ref());
            }
        }
        Encoding::Json => {
            for (n, value) in values.iter().enumerate() {
                payload.push(if n == 0 { b'[' } else { b',' });
                payload.extend_from_slice(value.as_ref());
            }
            payload.push(b']');
        }
    }
    Ok(payload)
}

/// Whether bytes begin like an array.
pub(crate) fn is_array(bytes: &[u8], encoding: Encoding) -> bool {
    match encoding {
        Encoding::MsgPack => array_header(bytes).is_some(),
        Encoding::Json => bytes.trim_ascii_start().first() == Some(&b'['),
    }
}

/// Finds the elements of a JSON array whose bracket has been read; returns what follows the array.
fn split_json<'a>(mut rest: &'a [u8], elements: &mut Vec<&'a [u8]>, bound: Bound) -> Result<&'a [u8], CodecError> {
    loop {
        rest = rest.trim_ascii_start();
        let mut values = serde_json::Deserializer::from_slice(rest).into_iter::<IgnoredAny>();
        match values.next() {
            Some(Ok(_)) => {}
            Some(Err(e)) => return Err(CodecError::reading(e)),
            None => return Err(CodecError("the array does not end".to_owned())),
        }
        let (element, after) = rest.split_at_checked(values.byte_offset()).unwrap_or_default();
        elements.push(element);
        if elements.len() > bound.most {
            return Err(CodecError(format!("more than {} {}", bound.most, bound.what)));
        }
        match after.trim_ascii_start() {
            [b',', after @ ..] => rest = after,
            [b']', after @ ..] => return Ok(after.trim_ascii_start()),
            _ => return Err(CodecError("the array does not end".to_owned())),
        }
    }
}

impl Bound {
    fn check(self, count: usize) -> Result<(), CodecError> {
        if (1..=self.most).contains(&count) {
            Ok(())
        } else {
            Err(CodecError(format!("{count} {}, but 1 to {} are allowed", self.what, self.most)))
        }
    }
}

/// The length of the MessagePack array that `bytes` begin with, and its elements.
fn array_header(bytes: &[u8]) -> Option<(usize, &[u8])> {
    match bytes {
        [head @ 0x90..=0x9f, rest @ ..] => Some((usize::from(head & 0x0f), rest)),
        [0xdc, a, b, rest @ ..] => Some((usize::from(u16::from_be_bytes([*a, *b])), rest)),
        [0xdd, a, b, c, d, rest @ ..] => {
            Some((usize::try_from(u32::from_be_bytes([*a, *b, *c, *d])).unwrap_or(usize::MAX), rest))
        }
        _ => None,
    }
}
