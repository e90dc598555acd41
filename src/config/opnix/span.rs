//! Time spans in systemd's notation, such as `90`, `1h 30min` or `2 days`.

/// The seconds of a time span, or `None` if the text is not one. A number without a unit is in seconds.
pub(super) fn seconds(text: &str) -> Option<u64> {
    let mut rest = text.trim();
    let mut total: Option<u64> = None;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let after = after.trim_start();
        let letters = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let each: u64 = match unit {
            "" | "s" | "sec" | "second" | "seconds" => 1,
            "m" | "min" | "minute" | "minutes" => 60,
            "h" | "hr" | "hour" | "hours" => 3600,
            "d" | "day" | "days" => 86_400,
            "w" | "week" | "weeks" => 604_800,
            "M" | "month" | "months" => 2_629_800,
            "y" | "year" | "years" => 31_557_600,
            _ => return None,
        };
        let part = number.parse::<u64>().ok()?.checked_mul(each)?;
        total = Some(total.unwrap_or(0).checked_add(part)?);
        rest = after.trim_start();
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans() {
        for (text, expected) in [
            ("900", Some(900)),
            ("30min", Some(1800)),
            ("1h 30min", Some(5400)),
            ("1h30m", Some(5400)),
            (" 2 days ", Some(172_800)),
            ("1week", Some(604_800)),
            ("1month 1y", Some(34_187_400)),
            ("", None),
            ("h", None),
            ("5 fortnights", None),
            ("1.5h", None),
            ("99999999999999999999s", None),
            ("18446744073709551615w", None),
        ] {
            assert_eq!(seconds(text), expected, "{text}");
        }
    }
}
