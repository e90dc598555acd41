//! Item versions. 1Password numbers them, but its service accounts return only the time of the last change,
//! and a vault file has one version for all its items. This module converts each into a number that the two
//! processes compare. People see the time.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::host::calendar::{date_of_days, days_of_date};

/// From this number on, versions are times: microseconds since 1970, doubled. 1Password's own numbers count
/// changes and never become this large.
const TIMES: u64 = 1 << 40;
/// From this number on, versions are digests of something other than a time. Smaller numbers are exact in
/// every JSON parser.
const DIGESTS: u64 = 1 << 53;
/// The bit of an item that could have changed again within the same unit of time. No list has a version with
/// this bit, so the next check fetches the item again.
const MAY_REPEAT: u64 = 1;

const SECOND: u64 = 1_000_000;
const DAY: u64 = 86_400 * SECOND;

/// The version of an item that was last changed at this time, in microseconds since the Unix epoch.
pub fn of_micros(micros: u64) -> u64 {
    micros.saturating_mul(2).clamp(TIMES, DIGESTS - 2)
}

/// The version of an item that was last changed at this time, such as `2024-01-02T03:04:05Z`.
pub fn of_change(changed: &str) -> u64 {
    match micros(changed)
        .and_then(|micros| micros.checked_mul(2))
        .filter(|time| (TIMES..DIGESTS).contains(time))
    {
        Some(time) => time,
        None => {
            let mut hasher = DefaultHasher::new(); // gives the same result in every process
            changed.hash(&mut hasher);
            (hasher.finish() | DIGESTS) & !MAY_REPEAT
        }
    }
}

/// Like [`of_change`], but for an item that was read at this time, in seconds since the Unix epoch. Two
/// changes within `alike` seconds may have the same time.
pub fn of_recent_change(changed: &str, read_at: u64, alike: u64) -> u64 {
    let version = of_change(changed);
    match micros(changed) {
        Some(micros) if (micros / SECOND).saturating_add(alike) < read_at => version,
        _ => version | MAY_REPEAT,
    }
}

/// A version for people: 1Password's number, the time of the change, or a short digest.
pub fn text(version: u64) -> String {
    match version {
        0..TIMES => version.to_string(),
        TIMES..DIGESTS => time(version / 2),
        _ => format!("digest-{:08x}", (version >> 1) & 0xffff_ffff),
    }
}

/// Formats microseconds since the Unix epoch as a UTC time.
fn time(micros: u64) -> String {
    let (year, month, day) = date_of_days((micros / DAY).cast_signed());
    let seconds = micros % DAY / SECOND;
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    let fraction = format!(".{:06}", micros % SECOND);
    let fraction = fraction.trim_end_matches('0').trim_end_matches('.');
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z")
}

/// Parses a time such as `2024-01-02T03:04:05.25Z` into microseconds since the Unix epoch. Ignores smaller
/// digits.
fn micros(text: &str) -> Option<u64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let number = |text: &str, range: std::ops::RangeInclusive<i64>| {
        let digits = !text.is_empty() && text.len() <= 4 && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|number| digits && range.contains(number))
    };
    let mut date = date.splitn(3, '-');
    let (year, month, day) =
        (number(date.next()?, 1970..=9999)?, number(date.next()?, 1..=12)?, number(date.next()?, 1..=31)?);
    let mut time = time.splitn(3, ':');
    let (hour, minute, second) =
        (number(time.next()?, 0..=23)?, number(time.next()?, 0..=59)?, number(time.next()?, 0..=60)?);
    if fraction.is_empty() || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let fraction: u64 = format!("{fraction:0<6}")[..6].parse().ok()?;
    let seconds = days_of_date(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second;
    Some(u64::try_from(seconds).ok()? * SECOND + fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_see_a_number_or_a_time() {
        for (version, seen) in [
            (7, "7"),
            (TIMES - 1, "1099511627775"),
            (of_change("2024-01-02T03:04:05Z"), "2024-01-02T03:04:05Z"),
            (of_change("2024-02-29T23:59:59.250Z"), "2024-02-29T23:59:59.25Z"),
            (of_change("2024-02-29T23:59:59.123456789Z"), "2024-02-29T23:59:59.123456Z"),
            (of_recent_change("2024-01-02T03:04:05Z", 0, 300), "2024-01-02T03:04:05Z"),
            (of_micros(1_704_164_645_000_001), "2024-01-02T03:04:05.000001Z"),
            (of_micros(0), "1970-01-07T08:42:35.813888Z"),
        ] {
            assert_eq!(text(version), seen);
            assert!(version < 1 << 53, "{version} is rounded by JSON readers");
        }
    }

    #[test]
    fn what_is_not_a_time_has_a_digest() {
        let odd = [
            "",
            "yesterday",
            "2024-01-02",
            "2024-01-02T03:04:05",
            "2024-01-02T03:04:05+01:00",
            "1969-12-31T23:59:59Z",
            "1970-01-01T00:00:00Z",
            "9999-12-31T23:59:59Z",
            "2024-13-02T03:04:05Z",
            "2024-01-02T24:04:05Z",
            "2024-01-02T03:04:05.Z",
            "2024-01-02T03:04:05.x1Z",
            "+024-01-02T03:04:05Z",
            "2024-01-02T03:04Z",
        ];
        let mut seen: Vec<String> = odd.iter().map(|odd| text(of_change(odd))).collect();
        assert!(seen.iter().all(|text| text.len() == 15 && text.starts_with("digest-")), "{seen:?}");
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), odd.len());
    }

    #[test]
    fn a_change_that_could_repeat_has_a_number_of_its_own() {
        let (old, new) = ("2024-01-01T00:00:00Z", "2024-01-01T00:00:01Z");
        let changed = 1_704_067_200;
        assert_eq!(micros(old), Some(changed * SECOND));
        assert_eq!(of_recent_change(old, changed + 301, 300), of_change(old));
        assert_ne!(
            of_recent_change(old, changed + 300, 300),
            of_change(old),
            "it may change within that second"
        );
        assert_ne!(of_recent_change(old, changed - 100, 300), of_change(old), "a late clock proves nothing");
        assert_ne!(of_change(old), of_change(new));
        assert_ne!(of_recent_change("", changed, 300), of_change(""), "no time, no proof");
    }
}
