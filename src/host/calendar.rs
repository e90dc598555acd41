//! Date arithmetic without a calendar crate: converts between dates and days since 1970, and parses HTTP
//! dates.

/// The date (year, month, day) that is `days` days after 1970-01-01 in the proleptic Gregorian calendar.
pub(crate) fn date_of_days(days: i64) -> (i64, u32, u32) {
    // days since 0000-03-01: if years begin in March, the leap day is the last day of the year
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month as u32, day as u32)
}

/// The UTC date of a time in seconds since the Unix epoch, such as `2026-09-24`.
pub fn date_of_unix(seconds: u64) -> String {
    let days = i64::try_from(seconds / 86_400).unwrap_or(i64::MAX / 1_000_000);
    let (year, month, day) = date_of_days(days);
    format!("{year:04}-{month:02}-{day:02}")
}

/// The number of days from 1970-01-01 to a date.
pub(crate) fn days_of_date(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// Parses an HTTP date (`Sun, 06 Nov 1994 08:49:37 GMT`) and returns seconds since the Unix epoch.
pub(crate) fn http_date(text: &str) -> Option<i64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut words = text.split_once(", ")?.1.split(' ');
    let day = words.next().and_then(|w| w.parse::<i64>().ok()).filter(|d| (1..=31).contains(d))?;
    let month = words.next().and_then(|w| MONTHS.iter().position(|m| *m == w))? as i64 + 1;
    let year = words.next().and_then(|w| w.parse::<i64>().ok()).filter(|y| (1970..=9999).contains(y))?;
    let mut time = words.next()?.split(':').map(|w| w.parse::<i64>().ok());
    let (hour, minute, second) = (time.next()??, time.next()??, time.next()??);
    let in_range = (0..24).contains(&hour) && (0..60).contains(&minute) && (0..=60).contains(&second);
    let whole = words.next() == Some("GMT") && words.next().is_none() && time.next().is_none();
    (in_range && whole).then(|| days_of_date(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_both_ways() {
        for (days, date) in
            [(0, (1970, 1, 1)), (19_675, (2023, 11, 14)), (11_016, (2000, 2, 29)), (-1, (1969, 12, 31))]
        {
            assert_eq!(date_of_days(days), date);
        }
        for days in -200_000..200_000 {
            let (year, month, day) = date_of_days(days);
            assert_eq!(days_of_date(year, month.into(), day.into()), days);
        }
    }

    #[test]
    fn dates_of_http() {
        assert_eq!(http_date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        for wrong in
            ["", "Sun, 06 Nov 1994", "Sun, 99 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 25:49:37 GMT", "120"]
        {
            assert_eq!(http_date(wrong), None, "{wrong}");
        }
    }
}
