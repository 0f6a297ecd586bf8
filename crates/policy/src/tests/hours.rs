use contract::time::{Millis, Timestamp};
use contract::{QueueId, policy::Calendar};
use proptest::prelude::*;

use super::{at, compiled};
use crate::Compiled;
use crate::hours::Hours;

fn queue() -> QueueId {
    QueueId::new("q").unwrap()
}

/// A queue with these hours.
fn open(hours: &str) -> Compiled {
    compiled(&format!("[queues.q]\nhours = \"h\"\n[hours.h]\n{hours}"))
}

const BERLIN: &str = r#"
time_zone = "Europe/Berlin"
[hours.h.week]
mon = ["09:00-12:30", "13:30-18:00"]
tue = ["09:00-18:00"]
fri = ["22:00-02:00"]
sun = ["20:00-24:00"]
[hours.h.holidays."2026-12-25"]
title = "Christmas"
[hours.h.holidays."2026-12-29"]
open = ["10:00-12:00"]
[hours.h.holidays."01-01"]
"#;

#[test]
fn spans_of_a_day() {
    let hours = open(BERLIN);
    let open_at = |text| hours.is_open(&queue(), at(text));
    // Monday, in winter an hour ahead of UTC.
    assert!(!open_at("2026-11-23T07:59:59.999Z"));
    assert!(open_at("2026-11-23T08:00:00Z"));
    assert!(!open_at("2026-11-23T11:30:00Z"), "the end is not in it");
    assert!(open_at("2026-11-23T12:30:00Z"));
    // Friday over midnight, and no Saturday.
    assert!(open_at("2026-11-27T21:00:00Z"));
    assert!(open_at("2026-11-28T00:59:59Z"));
    assert!(!open_at("2026-11-28T01:00:00Z"));
    // Sunday to 24:00.
    assert!(open_at("2026-11-29T22:59:59Z"));
    assert!(!open_at("2026-11-29T23:00:00Z"));
}

#[test]
fn holidays() {
    let hours = open(BERLIN);
    let open_at = |text| hours.is_open(&queue(), at(text));
    assert!(!open_at("2026-12-25T21:30:00Z"), "Friday evening, but Christmas");
    assert!(open_at("2026-12-18T21:30:00Z"));
    assert!(!open_at("2026-12-29T08:30:00Z"), "Tuesday, with a span of its own");
    assert!(open_at("2026-12-29T09:30:00Z"));
    assert!(!open_at("2027-01-01T21:30:00Z"), "every year");
    // 2028-01-01 is a Saturday; what began on Friday goes on.
    assert!(open_at("2028-01-01T00:30:00Z"));
}

#[test]
fn a_date_goes_before_a_day_of_every_year() {
    let hours = open(
        "time_zone = \"UTC\"\n[hours.h.holidays.\"12-24\"]\n[hours.h.holidays.\"2026-12-24\"]\nopen = [\"08:00-09:00\"]",
    );
    assert!(hours.is_open(&queue(), at("2026-12-24T08:30:00Z")));
    assert!(!hours.is_open(&queue(), at("2027-12-24T08:30:00Z")));
    assert_eq!(hours.next_change(&queue(), at("2026-12-20T00:00:00Z")), Some(at("2026-12-24T08:00:00Z")));
    assert_eq!(hours.next_change(&queue(), at("2026-12-24T09:00:00Z")), None, "never again");
    assert_eq!(hours.open_deadline(&queue(), at("2026-12-20T00:00:00Z"), Millis::from_secs(3601)), None);
}

#[test]
fn changes_deadlines_and_time_between() {
    let hours = open(BERLIN);
    let next = |text| hours.next_change(&queue(), at(text)).unwrap();
    assert_eq!(next("2026-11-23T07:00:00Z"), at("2026-11-23T08:00:00Z"));
    assert_eq!(next("2026-11-23T08:00:00Z"), at("2026-11-23T11:30:00Z"));
    assert_eq!(next("2026-11-24T17:00:00Z"), at("2026-11-27T21:00:00Z"));
    let deadline =
        |text, minutes: u64| hours.open_deadline(&queue(), at(text), Millis::from_secs(minutes * 60)).unwrap();
    assert_eq!(deadline("2026-11-23T11:00:00Z", 30), at("2026-11-23T11:30:00Z"), "just before it closes");
    assert_eq!(deadline("2026-11-23T11:00:00Z", 31), at("2026-11-23T12:31:00Z"));
    assert_eq!(deadline("2026-11-21T11:00:00Z", 0), at("2026-11-21T11:00:00Z"));
    let between = |a, b| hours.open_between(&queue(), at(a), at(b)).0 / 60_000;
    assert_eq!(between("2026-11-23T00:00:00Z", "2026-11-24T00:00:00Z"), 8 * 60);
    assert_eq!(between("2026-11-23T11:00:00Z", "2026-11-23T13:00:00Z"), 60);
    assert_eq!(between("2026-11-23T13:00:00Z", "2026-11-23T11:00:00Z"), 0);
}

#[test]
fn days_of_23_and_25_hours() {
    let whole = open("time_zone = \"Europe/Berlin\"\nweek = { sun = [\"00:00-24:00\"] }");
    let between = |a, b| whole.open_between(&queue(), at(a), at(b)).0 / 3_600_000;
    assert_eq!(between("2026-03-28T00:00:00Z", "2026-03-31T00:00:00Z"), 23);
    assert_eq!(between("2026-10-24T00:00:00Z", "2026-10-27T00:00:00Z"), 25);
    assert_eq!(between("2026-11-28T00:00:00Z", "2026-12-01T00:00:00Z"), 24);
}

#[test]
fn times_that_a_day_lacks_or_has_twice() {
    // On 2026-03-29 the clock goes from 02:00 to 03:00 at 01:00 UTC.
    let gap = open("time_zone = \"Europe/Berlin\"\nweek = { sun = [\"02:30-05:00\"] }");
    assert!(!gap.is_open(&queue(), at("2026-03-29T00:59:59Z")));
    assert!(gap.is_open(&queue(), at("2026-03-29T01:00:00Z")), "it begins as the clock jumps");
    assert_eq!(gap.next_change(&queue(), at("2026-03-29T01:00:00Z")), Some(at("2026-03-29T03:00:00Z")));
    let within = open("time_zone = \"Europe/Berlin\"\nweek = { sun = [\"02:10-02:50\"] }");
    assert_eq!(
        within.next_change(&queue(), at("2026-03-28T00:00:00Z")),
        Some(at("2026-04-05T00:10:00Z")),
        "a span that a day does not have is left out"
    );
    // On 2026-10-25 the clock goes from 03:00 back to 02:00 at 01:00 UTC.
    let ends = open("time_zone = \"Europe/Berlin\"\nweek = { sun = [\"01:00-02:30\"] }");
    assert_eq!(ends.next_change(&queue(), at("2026-10-25T00:00:00Z")), Some(at("2026-10-25T01:30:00Z")));
    let begins = open("time_zone = \"Europe/Berlin\"\nweek = { sun = [\"02:30-04:00\"] }");
    assert_eq!(begins.next_change(&queue(), at("2026-10-25T00:00:00Z")), Some(at("2026-10-25T00:30:00Z")));
    // A break in the hour that comes twice is none.
    let pause = open("time_zone = \"Europe/Berlin\"\nweek = { sun = [\"01:00-02:20\", \"02:40-04:00\"] }");
    assert_eq!(pause.next_change(&queue(), at("2026-10-25T00:00:00Z")), Some(at("2026-10-25T03:00:00Z")));
}

#[test]
fn always_never_and_unknown() {
    let whole = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"].map(|day| format!("{day} = [\"00:00-24:00\"]"));
    let always = open(&format!("time_zone = \"Asia/Tokyo\"\nweek = {{ {} }}", whole.join(", ")));
    let now = at("2026-11-23T00:00:00Z");
    assert!(always.is_open(&queue(), now));
    assert_eq!(always.next_change(&queue(), now), None);
    assert_eq!(always.open_between(&queue(), now, now + Millis(77)), Millis(77));
    let christmas =
        open(&format!("time_zone = \"UTC\"\nweek = {{ {} }}\n[hours.h.holidays.\"12-25\"]\n", whole.join(", ")));
    assert_eq!(christmas.next_change(&queue(), now), Some(at("2026-12-25T00:00:00Z")));
    let never = open("time_zone = \"UTC\"");
    assert!(!never.is_open(&queue(), now));
    assert_eq!(never.next_change(&queue(), now), None);
    assert_eq!(never.open_deadline(&queue(), now, Millis(1)), None);
    assert_eq!(never.open_between(&queue(), now, now + Millis(77)), Millis(0));
    // What cannot be read is open, so that an old policy still replays.
    for broken in ["time_zone = \"Europe/Atlantis\"", "time_zone = \"UTC\"\nweek = { mon = [\"nine to five\"] }"] {
        assert!(open(broken).is_open(&queue(), now), "{broken}");
    }
    assert!(compiled("[queues.q]").is_open(&queue(), now));
}

#[test]
fn far_ends_of_time() {
    let hours = open(BERLIN);
    for now in [Timestamp(0), Timestamp(u64::MAX), Timestamp(u64::MAX / 2), Timestamp(253_402_300_799_000)] {
        let _ = hours.is_open(&queue(), now);
        let _ = hours.next_change(&queue(), now);
        let _ = hours.open_deadline(&queue(), now, Millis(u64::MAX));
        let _ = hours.open_between(&queue(), now, Timestamp(u64::MAX));
        let _ = hours.open_between(&queue(), Timestamp(0), now);
    }
}

#[test]
fn what_is_wrong_with_a_calendar() {
    let calendar: Calendar = toml::from_str(
        r#"
        time_zone = "Mars/Olympus"
        [week]
        mon = ["9:00-17:00", "09:00-17:00", "16:00-18:00"]
        tue = ["22:00-03:00"]
        wed = ["02:00-05:00", "24:00-25:00", "10:00-10:00"]
        [holidays."2026-02-30"]
        [holidays."02-29"]
        [holidays."13-01"]
        [holidays."2026-12-24"]
        open = ["late"]
        "#,
    )
    .unwrap();
    let found: Vec<_> = Hours::read(&calendar).unwrap_err().iter().map(ToString::to_string).collect();
    let expected = [
        "time_zone: there is no time zone \"Mars/Olympus\"",
        "week.mon[0]: \"9:00-17:00\" is not a span",
        "week.mon: 16:00-18:00 overlaps 09:00-17:00",
        "week.wed[1]: \"24:00-25:00\" is not a span",
        "week.wed[2]: \"10:00-10:00\" is empty",
        "week.wed: 02:00-05:00 overlaps 22:00-03:00 of the day before",
        "holidays.13-01: is not a day",
        "holidays.2026-02-30: is not a day",
        "holidays.2026-12-24.open[0]: \"late\" is not a span",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for part in expected {
        assert!(found.iter().any(|said| said.starts_with(part)), "{part}\n{found:#?}");
    }
}

/// Zones with jumps of an hour and of half an hour, at night, at midnight and far from UTC, and one that left a
/// day out.
const ZONES: [&str; 7] = [
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "America/Santiago",
    "Africa/Cairo",
    "Pacific/Apia",
    "Asia/Kathmandu",
];

fn span() -> impl Strategy<Value = String> {
    (0..96_u32, 1..96_u32).prop_map(|(from, length)| {
        let to = (from + length) % 96;
        let clock = |quarter: u32| format!("{:02}:{:02}", quarter / 4, quarter % 4 * 15);
        format!("{}-{}", clock(from), clock(to))
    })
}

/// Hours whose days may have several spans, overlapping or not: what is refused when a policy is loaded must
/// not confuse what is asked.
fn hours() -> impl Strategy<Value = Hours> {
    let spans = || prop::collection::vec(span(), 0..3);
    (0..ZONES.len(), prop::collection::vec(spans(), 7), spans(), spans()).prop_filter_map(
        "unreadable",
        |(zone, week, once, yearly)| {
            let names = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
            let days = names.iter().zip(&week).map(|(day, spans)| format!("{day} = {spans:?}\n"));
            let text = format!(
                "time_zone = {:?}\n[week]\n{}[holidays.\"2026-03-29\"]\nopen = {once:?}\n[holidays.\"10-25\"]\nopen = {yearly:?}\n",
                ZONES[zone],
                days.collect::<String>()
            );
            let calendar: Calendar = toml::from_str(&text).unwrap();
            Hours::read(&calendar).ok()
        },
    )
}

/// Moments near the changes of the clock: of 2026, and Apia's of 2011-12-30.
fn moments() -> impl Strategy<Value = Timestamp> {
    let near = [
        "2026-03-08T07:00:00Z",
        "2026-03-29T01:00:00Z",
        "2026-04-04T15:00:00Z",
        "2026-04-05T03:00:00Z",
        "2026-04-23T22:00:00Z",
        "2026-09-06T04:00:00Z",
        "2026-10-25T01:00:00Z",
        "2026-10-29T21:00:00Z",
        "2026-11-01T06:00:00Z",
        "2011-12-30T10:00:00Z",
    ];
    (0..near.len(), 0..6 * 24 * 60 * 60 * 1000_u64)
        .prop_map(move |(n, off)| at(near[n]) + Millis(off) - Millis::from_secs(3 * 24 * 3600))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_deadline_is_when_that_much_was_open(hours in hours(), from in moments(), span in 0..200 * 3_600_000_u64) {
        let span = Millis(span);
        match hours.open_deadline(from, span) {
            Some(deadline) => {
                prop_assert!(deadline >= from);
                prop_assert_eq!(hours.open_between(from, deadline), span);
                // The earliest such moment.
                if span > Millis(0) {
                    prop_assert_eq!(hours.open_between(from, deadline - Millis(1)), Millis(span.0 - 1));
                }
            }
            None => prop_assert!(hours.open_between(from, from + Millis::from_secs(30 * 365 * 24 * 3600)) < span),
        }
    }

    #[test]
    fn nothing_changes_before_the_next_change(hours in hours(), from in moments(), part in 0..1000_u64) {
        let open = hours.is_open(from);
        if let Some(change) = hours.next_change(from) {
            prop_assert!(change > from);
            prop_assert_eq!(hours.is_open(change), !open);
            prop_assert_eq!(hours.is_open(change - Millis(1)), open);
            let between = from + Millis((change.0 - from.0) * part / 1000);
            prop_assert_eq!(hours.is_open(between), open || between == change);
            let all = change.since(from);
            prop_assert_eq!(hours.open_between(from, change), if open { all } else { Millis(0) });
        }
    }

    #[test]
    fn time_between_adds_up(hours in hours(), a in moments(), b in moments(), c in moments()) {
        let mut order = [a, b, c];
        order.sort();
        let [a, b, c] = order;
        let sum = hours.open_between(a, b).0 + hours.open_between(b, c).0;
        prop_assert_eq!(hours.open_between(a, c).0, sum);
    }
}
