//! Times as values of modalities.

/// Gaps beyond 2^29 seconds, 17 years, count as so long.
const N_GAPS: u32 = 31;

const N_HOURS: i64 = 7 * 24;

/// The time between two events: 0 for less than a second, 1 for 1 s, 2 for 2 to 3 s, 3 for 4 to 7 s
/// and so on; `None` if either has no time, which is written 0.
pub(crate) fn gap(before: i64, time: i64) -> Option<u32> {
    let gap = time.saturating_sub(before).max(0);
    (before != 0 && time != 0).then(|| (i64::BITS - gap.leading_zeros()).min(N_GAPS - 1))
}

/// The names of all gaps: what they are at least.
pub(crate) fn gaps() -> impl Iterator<Item = String> {
    (0..N_GAPS).map(|at| match at {
        0 => "0 s".into(),
        at => format!("{} s", 1_u64 << (at - 1)),
    })
}

/// Hours since the last Monday's begin, in UTC; `None` without a time, which is written 0.
pub(crate) fn hour_of_week(time: i64) -> Option<u32> {
    // 1970 began on a Thursday.
    let hours = time.div_euclid(3600) + 3 * 24;
    (time != 0).then(|| hours.rem_euclid(N_HOURS) as u32)
}

/// The names of all hours of the week.
pub(crate) fn hours_of_week() -> impl Iterator<Item = String> {
    let days = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
    days.into_iter()
        .flat_map(|day| (0..24).map(move |hour| format!("{day} {hour:02}:00")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_powers_of_two_of_a_second() {
        let names: Vec<String> = gaps().collect();
        assert_eq!(names.len(), N_GAPS as usize);
        let name = |seconds: i64| names[gap(7, 7 + seconds).unwrap() as usize].as_str();
        for (seconds, expected) in [
            (0, "0 s"),
            (1, "1 s"),
            (3, "2 s"),
            (4, "4 s"),
            (3600, "2048 s"),
            (i64::MAX - 7, "536870912 s"),
            // Out of order, as if at once.
            (-5, "0 s"),
        ] {
            assert_eq!(name(seconds), expected, "{seconds}");
        }
        assert_eq!((gap(0, 9), gap(9, 0)), (None, None));
    }

    #[test]
    fn hours_of_the_week_begin_on_monday() {
        let names: Vec<String> = hours_of_week().collect();
        assert_eq!(names.len(), N_HOURS as usize);
        let name = |time: i64| names[hour_of_week(time).unwrap() as usize].as_str();
        // 1970-01-01, 2000-01-01 12:59:59, 2024-02-29 23:00, 1969-12-31 23:59:59.
        assert_eq!(name(1), "Thu 00:00");
        assert_eq!(name(946_731_599), "Sat 12:00");
        assert_eq!(name(1_709_247_600), "Thu 23:00");
        assert_eq!(name(-1), "Wed 23:00");
        assert_eq!(hour_of_week(0), None);
    }
}
