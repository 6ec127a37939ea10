//! ISO 8601.

/// Seconds since 1970 UTC of `2024-02-29`, `2024-02-29 13:45`, `2024-02-29T13:45:00.5+01:00`.
pub(super) fn parse(text: &str) -> Option<i64> {
    let (date, rest) = text.split_at_checked(10)?;
    let days = days(date)?;
    if rest.is_empty() {
        return Some(days * 86_400);
    }
    let clock = rest.strip_prefix(['T', 't', ' '])?;
    let zone_at = clock.find(['Z', 'z', '+', '-']).unwrap_or(clock.len());
    let (clock, zone) = clock.split_at(zone_at);
    let mut fields = clock.trim_end().split(':');
    let hour = number(fields.next()?, 23)?;
    let minute = number(fields.next()?, 59)?;
    let second = match fields.next() {
        None => 0,
        Some(second) => {
            let (whole, fraction) = second.split_once('.').unwrap_or((second, "0"));
            let is_number = fraction.bytes().all(|byte| byte.is_ascii_digit());
            // 60 is a leap second.
            is_number.then(|| number(whole, 60))??
        }
    };
    if fields.next().is_some() {
        return None;
    }
    Some(days * 86_400 + hour * 3600 + minute * 60 + second - offset(zone)?)
}

/// Days since 1970 of a date of the Gregorian calendar.
fn days(date: &str) -> Option<i64> {
    let mut fields = date.split('-');
    let (year, month, day) = (fields.next()?, fields.next()?, fields.next()?);
    if year.len() != 4 || fields.next().is_some() {
        return None;
    }
    let (year, month) = (number_of(year)?, number(month, 12)?);
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let in_february = if is_leap { 29 } else { 28 };
    let lengths = [31, in_february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let month = usize::try_from(month - 1).ok()?;
    let day = number(day, lengths[month]).filter(|&day| day > 0)?;
    // Leap days before this year, in the calendar as it would have been since the year 0.
    let before = year - 1;
    let leap_days = before.div_euclid(4) - before.div_euclid(100) + before.div_euclid(400);
    const BEFORE_1970: i64 = 1969 * 365 + 477;
    let days_before_month: i64 = lengths[..month].iter().sum();
    Some(before * 365 + leap_days - BEFORE_1970 + days_before_month + day - 1)
}

/// Seconds that a zone is ahead of UTC.
fn offset(zone: &str) -> Option<i64> {
    let (sign, clock) = match zone.split_at_checked(1) {
        None => return Some(0),
        Some(("Z" | "z", "")) => return Some(0),
        Some(("+", clock)) => (1, clock),
        Some(("-", clock)) => (-1, clock),
        Some(_) => return None,
    };
    let (hours, minutes) = match clock.len() {
        2 => (clock, "00"),
        4 => clock.split_at_checked(2)?,
        5 => clock.split_once(':')?,
        _ => return None,
    };
    Some(sign * (number(hours, 23)? * 3600 + number(minutes, 59)? * 60))
}

/// A number of two digits, up to this.
fn number(text: &str, max: i64) -> Option<i64> {
    let number = number_of(text).filter(|_| text.len() == 2)?;
    (number <= max).then_some(number)
}

fn number_of(text: &str) -> Option<i64> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn times_are_those_that_date_gives() {
        for (text, seconds) in [
            ("1970-01-01", 0),
            ("2000-02-29", 951_782_400),
            ("2024-02-29T13:45:00Z", 1_709_214_300),
            ("2024-02-29 13:45", 1_709_214_300),
            ("2024-02-29T13:45:00.999+01:00", 1_709_210_700),
            ("2024-02-29T13:45:00-0530", 1_709_234_100),
            ("1969-12-31T23:59:59Z", -1),
            ("2100-03-01", 4_107_542_400),
            ("9999-12-31T23:59:59Z", 253_402_300_799),
        ] {
            assert_eq!(parse(text), Some(seconds), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in [
            "",
            "2024",
            "2023-02-29",
            "2024-13-01",
            "2024-00-10",
            "2024-01-00",
            "2024-01-01T",
            "é",
            "2024-01-01T24:00",
            "2024-01-01T10:00:00+1",
            "2024-01-01T10:00:00é",
            "+024-01-01",
            "2024-01-01T1:2",
            "2024-01-01T10:00:00.x",
            "50000-01-01",
            "2024-01-0é",
            "2024-01-01Té0:00",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
