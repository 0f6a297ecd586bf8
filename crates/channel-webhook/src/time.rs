//! Times as they stand in other people's requests.

use adapter::contract::Timestamp;
use serde_json::Value;

/// From here on a number counts milliseconds: as seconds it would be the year 5138.
const MILLIS_MIN: u64 = 100_000_000_000;
/// From here on it counts microseconds, and from a thousand times that nanoseconds.
const MICROS_MIN: u64 = 100_000_000_000_000;

/// A time: a number of seconds, milli-, micro- or nanoseconds since 1970, told apart by their size, as a number or a
/// text; or RFC 3339, where what has no zone is UTC.
pub(crate) fn read(value: &Value) -> Option<Timestamp> {
    match value {
        Value::Number(n) => match n.as_u64() {
            Some(n) => number(n),
            None => seconds(n.as_f64()?),
        },
        Value::String(text) => {
            let text = text.trim();
            if let Ok(n) = text.parse::<u64>() {
                return number(n);
            }
            if let Ok(n) = text.parse::<f64>() {
                return seconds(n);
            }
            written(text)
        }
        _ => None,
    }
}

fn number(n: u64) -> Option<Timestamp> {
    let ms = match n {
        0 => return None,
        1..MILLIS_MIN => n * 1000,
        MILLIS_MIN..MICROS_MIN => n,
        n if n < MICROS_MIN * 1000 => n / 1000,
        n => n / 1_000_000,
    };
    Some(Timestamp(ms))
}

/// Seconds with a fraction.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within bounds")]
fn seconds(n: f64) -> Option<Timestamp> {
    #[expect(clippy::cast_precision_loss, reason = "a bound")]
    let most = MILLIS_MIN as f64;
    (n > 0.0 && n < most).then(|| Timestamp((n * 1000.0).round() as u64))
}

fn written(text: &str) -> Option<Timestamp> {
    let ms = match text.parse::<jiff::Timestamp>() {
        Ok(at) => at.as_millisecond(),
        Err(_) => {
            let civil: jiff::civil::DateTime = text.parse().ok()?;
            jiff::tz::TimeZone::UTC.to_timestamp(civil).ok()?.as_millisecond()
        }
    };
    u64::try_from(ms).ok().filter(|ms| *ms > 0).map(Timestamp)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn seconds_and_what_is_finer_are_told_apart() {
        let at = Some(Timestamp(1_700_000_000_000));
        for value in [
            json!(1_700_000_000),
            json!("1700000000"),
            json!(1_700_000_000_000_u64),
            json!("1700000000000"),
            json!(1_700_000_000_000_000_u64),
            json!(1_700_000_000_000_000_000_u64),
            json!(1_700_000_000.0),
            json!("1700000000.000"),
            json!("2023-11-14T22:13:20Z"),
            json!("2023-11-14T23:13:20+01:00"),
            json!("2023-11-14 22:13:20"),
        ] {
            assert_eq!(read(&value), at, "{value}");
        }
        for value in [json!(0), json!(-5), json!(""), json!("yesterday"), json!(null), json!([1])] {
            assert_eq!(read(&value), None, "{value}");
        }
    }
}
