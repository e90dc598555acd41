//! Parses durations and sizes: `90s`, `1h 30m`, `64MiB`.

use std::time::Duration;

/// Parses a duration, a sum of numbers with units. The error contains the cause and a remedy.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || {
        format!(
            "{text:?} is not a duration; write numbers with ms, s, m, h or d, such as \"90s\" or \"1h 30m\""
        )
    };
    let mut total = Some(Duration::ZERO);
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let (number, unit);
        (number, rest) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len()));
        rest = rest.trim_start();
        (unit, rest) = rest.split_at(rest.find(|c: char| !c.is_ascii_lowercase()).unwrap_or(rest.len()));
        rest = rest.trim_start();
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let seconds = |each: u64| number.checked_mul(each).map(Duration::from_secs);
        let part = match unit {
            "ms" => Some(Duration::from_millis(number)),
            "s" | "sec" => seconds(1),
            "m" | "min" => seconds(60),
            "h" => seconds(3600),
            "d" => seconds(86400),
            "" => {
                return Err(format!(
                    "{text:?} has a number without a unit; write ms, s, m, h or d after it, such as \"90s\""
                ));
            }
            _ => return Err(wrong()),
        };
        total = total.zip(part).and_then(|(total, part)| total.checked_add(part));
    }
    total.ok_or_else(|| format!("{text:?} is too long; write a shorter duration"))
}

/// Parses a size in bytes. Units are powers of 1024.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is not a size; write a number with KiB, MiB or GiB, such as \"64MiB\"");
    let (number, unit) =
        text.trim().split_at(text.trim().find(|c: char| !c.is_ascii_digit()).unwrap_or(text.trim().len()));
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let each: u64 = match unit.trim() {
        "B" => 1,
        "K" | "KiB" => 1 << 10,
        "M" | "MiB" => 1 << 20,
        "G" | "GiB" => 1 << 30,
        _ => return Err(wrong()),
    };
    number.checked_mul(each).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations() {
        for (text, millis) in [
            ("90s", 90_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("1m 30s", 90_000),
            ("1m30s", 90_000),
            (" 2 d ", 172_800_000),
            ("250ms", 250),
            ("1min", 60_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for wrong in [
            "",
            " ",
            "s",
            "30",
            "1h 30",
            "-1s",
            "1.5s",
            "1w",
            "1S",
            "s1",
            "99999999999999999999s",
            "18446744073709551615d",
            "１s",
        ] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
        assert!(duration("1h 30").is_err_and(|error| error.contains("without a unit")));
    }

    #[test]
    fn sizes() {
        assert_eq!((size("64MiB"), size("1 K"), size("5B")), (Ok(64 << 20), Ok(1024), Ok(5)));
        for wrong in ["", "64", "64MB", "-1M", "99999999999G", "M"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn reading_is_total(text in "\\PC*", numbers in "([0-9]{0,25} ?(ms|s|m|h|d|KiB)? ?){0,3}") {
            let _ = (duration(&text), size(&text), duration(&numbers), size(&numbers));
        }
    }
}
