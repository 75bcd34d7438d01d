use jiff::civil::DateTime;
use proptest::prelude::*;

use super::*;

/// The one that comes along: the same on every machine.
fn zones() -> TimeZoneDatabase {
    TimeZoneDatabase::bundled()
}

fn ms(at: &str) -> u64 {
    at.parse::<Timestamp>().unwrap().as_millisecond() as u64
}

fn cron(expression: &str, zone: &str) -> Timing {
    Timing::cron(expression, zone, ms("2026-01-01T00:00:00Z"), &zones()).unwrap()
}

/// The times after one that the clocks of the zone show, as they show them.
fn check(expression: &str, zone: &str, after: &str, expected: &[&str]) {
    let timing = cron(expression, zone);
    let clocks = zones().get(zone).unwrap();
    let after: DateTime = after.parse().unwrap();
    let mut at = after.to_zoned(clocks.clone()).unwrap().timestamp();
    let mut found = Vec::new();
    for _ in expected {
        let next = timing.next(at.as_millisecond() as u64, &zones()).unwrap();
        at = Timestamp::from_millisecond(next as i64).unwrap();
        let shown = at.to_zoned(clocks.clone()).strftime("%m-%d %H:%M%:::z");
        found.push(shown.to_string());
    }
    assert_eq!(found, expected, "{expression} in {zone}");
}

#[test]
fn an_expression_means_what_it_means_to_cron() {
    check(
        "30 9 * * mon-fri",
        "UTC",
        "2026-10-02T12:00",
        &["10-05 09:30+00", "10-06 09:30+00"],
    );
    check(
        "*/20 8,9 * * *",
        "UTC",
        "2026-10-02T08:30",
        &["10-02 08:40+00", "10-02 09:00+00"],
    );
    check(
        "0 0 31 * *",
        "UTC",
        "2026-10-01T00:00",
        &["10-31 00:00+00", "12-31 00:00+00"],
    );
    check(
        "0 0 29 feb *",
        "UTC",
        "2026-10-01T00:00",
        &["02-29 00:00+00"],
    );
    // Where both days are told, either will do.
    check(
        "0 0 13 * fri",
        "UTC",
        "2026-10-08T00:00",
        &["10-09 00:00+00", "10-13 00:00+00"],
    );
    check(
        "@hourly",
        "UTC",
        "2026-10-01T00:30",
        &["10-01 01:00+00", "10-01 02:00+00"],
    );
    check("@Weekly", "UTC", "2026-10-01T00:30", &["10-04 00:00+00"]);
    check(
        "0 6 * * 7",
        "Asia/Tokyo",
        "2026-10-01T00:30",
        &["10-04 06:00+09"],
    );
}

#[test]
fn a_starred_day_of_the_month_and_a_weekday_have_to_match_both() {
    // Odd days that are Mondays; 2026-10-05 is one.
    check(
        "0 0 */2 * mon",
        "UTC",
        "2026-10-01T00:00",
        &["10-05 00:00+00", "10-19 00:00+00", "11-09 00:00+00"],
    );
    check(
        "0 0 1 * */7",
        "UTC",
        "2026-10-02T00:00",
        &["11-01 00:00+00", "08-01 00:00+00"],
    );
    // Without a star either is enough.
    check(
        "0 0 6 * mon",
        "UTC",
        "2026-10-04T00:00",
        &["10-05 00:00+00", "10-06 00:00+00", "10-12 00:00+00"],
    );
    for name in ["@midnight", "@daily", "@MIDNIGHT"] {
        check(
            name,
            "UTC",
            "2026-10-04T12:00",
            &["10-05 00:00+00", "10-06 00:00+00"],
        );
    }
}

#[test]
fn a_time_that_the_clocks_leave_out_is_made_up_for_right_after() {
    check(
        "30 2 * * *",
        "Europe/Berlin",
        "2026-03-28T12:00",
        &["03-29 03:00+02", "03-30 02:30+02"],
    );
    check(
        "0 0 * * *",
        "Africa/Cairo",
        "2026-04-23T12:00",
        &["04-24 01:00+03", "04-25 00:00+03"],
    );
    check(
        "15 2 * * *",
        "Australia/Lord_Howe",
        "2026-10-03T12:00",
        &["10-04 02:30+11", "10-05 02:15+11"],
    );
    // What comes again and again anyway just goes on.
    check(
        "*/30 * * * *",
        "Europe/Berlin",
        "2026-03-29T01:10",
        &["03-29 01:30+01", "03-29 03:00+02", "03-29 03:30+02"],
    );
}

#[test]
fn a_time_that_the_clocks_show_twice_is_one_time_unless_it_comes_again_and_again() {
    check(
        "30 2 * * *",
        "Europe/Berlin",
        "2026-10-24T12:00",
        &["10-25 02:30+02", "10-26 02:30+01"],
    );
    check(
        "0 * * * *",
        "Europe/Berlin",
        "2026-10-25T01:40",
        &["10-25 02:00+02", "10-25 02:00+01", "10-25 03:00+01"],
    );
}

#[test]
fn what_is_no_timing_is_refused_with_the_field_and_an_example() {
    let said = |expression: &str, zone: &str| {
        let error = Timing::cron(expression, zone, ms("2026-01-01T00:00:00Z"), &zones());
        let error = error.unwrap_err();
        format!("{error} ({})", error.hint)
    };
    for (expression, expected) in [
        ("61 9 * * *", "\"61\" is no minute in the cron expression"),
        ("0 24 * * *", "\"24\" is no hour in"),
        ("0 0 0 * *", "\"0\" is no day of the month"),
        ("0 0 * 13 *", "\"13\" is no month"),
        ("0 0 * * foo", "\"foo\" is no day of the week"),
        ("*/0 0 * * *", "\"*/0\" is no minute"),
        (
            "0 9 * *",
            "has 4 fields, not five: minute, hour, day of the month",
        ),
        ("0 0 9 * * *", "has 6 fields, not five"),
        ("daily", "has 1 field, not five"),
        ("", "has 0 fields, not five"),
        ("@reboot", "there are @hourly, @daily"),
        ("0 0 30 2 *", "never comes true"),
    ] {
        let sentence = said(expression, "UTC");
        assert!(sentence.contains(expected), "{expression}: {sentence}");
    }
    assert!(said("* * *", "UTC").contains("(--cron \"30 9 * * mon-fri\" is"));
    assert!(said(&"1,".repeat(101), "UTC").contains("longer than 200 bytes"));
    assert_eq!(
        said("* * * * *", "Europe/Belrin"),
        "there is no time zone \"Europe/Belrin\" (did you mean --zone Europe/Berlin?)"
    );
    assert!(said("* * * * *", "Xyzzy").contains("such as Europe/Berlin"));
    for (every_ms, expected) in [
        (999, "shorter than a second"),
        (u64::MAX, "longer than ten years"),
    ] {
        let error = Timing::every(every_ms, 0).unwrap_err();
        assert!(error.what.contains(expected), "{error}");
    }
    let Timing::Cron { zone, .. } = cron("* * * * *", "europe/berlin") else {
        panic!("it is no cron expression");
    };
    assert_eq!(&*zone, "Europe/Berlin");
}

#[test]
fn an_interval_is_counted_from_its_beginning_whenever_it_is_asked() {
    let every = Timing::every(1_000, 500).unwrap();
    let next = [0, 500, 1_499, 1_500, 9_999].map(|after| every.next(after, &zones()).unwrap());
    assert_eq!(next, [1_500, 1_500, 1_500, 2_500, 10_500]);
    let between = |first, until, most| every.between(first, until, most, &zones());
    assert_eq!(between(1_500, 3_600, 9), [1_500, 2_500, 3_500]);
    assert_eq!(between(1_500, 3_500, 2), [2_500, 3_500]);
    assert!(between(0, 1_499, 9).is_empty());
}

/// A schedule that was added at the beginning of 2026.
fn schedule(timing: Timing, missed: Missed) -> Schedule {
    let plan = Plan {
        name: "report".into(),
        target: Target::Handler {
            handler: "h".into(),
            input: "{}".into(),
        },
        options: Arc::default(),
        timing,
        missed,
        overlap: Overlap::Allow,
    };
    Schedule::new(plan, ms("2026-01-01T00:00:00Z"), &zones())
}

#[test]
fn missed_times_are_skipped_made_up_for_once_or_one_by_one() {
    let due = |missed, now: &str| {
        let due = schedule(cron("0 * * * *", "UTC"), missed).due(ms(now), &zones());
        let times: Vec<String> = due.times.into_iter().map(time).collect();
        (times, due.next_at_ms.map(time).unwrap())
    };
    let at = |hours: &[&str]| -> Vec<String> {
        hours
            .iter()
            .map(|hour| format!("2026-01-01T{hour}:00:00Z"))
            .collect()
    };
    let late = "2026-01-01T03:59:00Z";
    let next = at(&["04"]).remove(0);
    assert_eq!(due(Missed::Skip, late), (at(&[]), next.clone()));
    assert_eq!(due(Missed::Once, late), (at(&["03"]), next.clone()));
    assert_eq!(
        due(Missed::All, late),
        (at(&["01", "02", "03"]), next.clone())
    );
    // A minute is not too late.
    let hardly = "2026-01-01T03:01:00Z";
    assert_eq!(due(Missed::Skip, hardly), (at(&["03"]), next));
    let now = "2026-01-01T00:59:59.999Z";
    assert_eq!(due(Missed::All, now), (at(&[]), at(&["01"]).remove(0)));
}

#[test]
fn what_is_made_up_for_is_bounded_and_the_last_of_it() {
    for timing in [cron("* * * * *", "UTC"), Timing::every(60_000, 0).unwrap()] {
        let schedule = schedule(timing, Missed::All);
        let now_ms = ms("2027-01-01T00:00:30Z");
        let due = schedule.due(now_ms, &zones());
        assert_eq!(due.times.len(), limits::SCHEDULE_CATCH_UP_MAX);
        assert_eq!(due.times.last(), Some(&ms("2027-01-01T00:00:00Z")));
        assert_eq!(due.next_at_ms, Some(ms("2027-01-01T00:01:00Z")));
        assert!(due.times.is_sorted());
    }
}

#[test]
fn a_clock_that_is_set_back_brings_no_time_again() {
    let mut schedule = schedule(cron("0 * * * *", "UTC"), Missed::All);
    let noon = ms("2026-01-01T12:00:00Z");
    let due = schedule.due(noon, &zones());
    schedule.next_at_ms = due.next_at_ms;
    schedule.last = Some(Fired {
        task: TaskId::from_i64(1),
        for_ms: noon,
        at_ms: noon,
    });
    let back = ms("2026-01-01T09:00:00Z");
    assert!(schedule.due(back, &zones()).times.is_empty());
    assert!(schedule.due(noon, &zones()).times.is_empty());
    // Neither does a pause, nor another plan.
    let one = ms("2026-01-01T13:00:00Z");
    let resumed = schedule.clone().pause().resume(back, &zones());
    assert_eq!(resumed.next_at_ms, Some(one));
    let plan = Plan {
        timing: cron("@hourly", "UTC"),
        ..schedule.plan.clone()
    };
    let replaced = schedule.replaced(plan, back, &zones());
    assert_eq!(replaced.next_at_ms, Some(one));
}

#[test]
fn a_schedule_whose_time_zone_is_gone_keeps_its_word_once_and_goes_on_when_it_is_added_anew() {
    let mut schedule = schedule(cron("0 * * * *", "Europe/Berlin"), Missed::All);
    let first = ms("2026-01-01T01:00:00Z");
    let due = schedule.due(first, &TimeZoneDatabase::none());
    assert_eq!((due.times, due.next_at_ms), (vec![first], None));
    schedule.next_at_ms = None;
    assert_eq!(schedule.state(), "over");
    let anew = schedule
        .clone()
        .replaced(schedule.plan.clone(), first, &zones());
    assert_eq!(anew.next_at_ms, Some(first + 3_600_000));
    let paused = schedule.clone().pause();
    let anew = paused.replaced(schedule.plan.clone(), first, &zones());
    assert_eq!((anew.next_at_ms, anew.state()), (None, "paused"));
}

#[test]
fn a_pause_is_over_with_the_next_time() {
    let paused = schedule(cron("0 * * * *", "UTC"), Missed::All).pause();
    let later = ms("2026-01-05T12:30:00Z");
    let nothing = Due {
        times: Vec::new(),
        next_at_ms: None,
    };
    assert_eq!(paused.due(later, &zones()), nothing);
    let resumed = paused.resume(later, &zones());
    assert_eq!(resumed.next_at_ms, Some(ms("2026-01-05T13:00:00Z")));
    // Who is not paused is not put off.
    let again = resumed.clone().resume(later + 3_600_000, &zones());
    assert_eq!(again, resumed);
}

#[test]
fn a_plan_that_is_added_anew_puts_nothing_off_and_another_timing_begins_anew() {
    let begun = schedule(Timing::every(60_000, 0).unwrap(), Missed::Once);
    let first = ms("2026-01-01T00:01:00Z");
    assert_eq!(begun.next_at_ms, Some(first));
    let now_ms = first - 1;
    let anew = |every_ms| Plan {
        timing: Timing::every(every_ms, now_ms).unwrap(),
        missed: Missed::All,
        ..begun.plan.clone()
    };
    let same = begun.clone().replaced(anew(60_000), now_ms, &zones());
    assert_eq!(
        (same.next_at_ms, same.plan.missed),
        (Some(first), Missed::All)
    );
    assert_eq!(same.plan.timing, begun.plan.timing);
    let other = begun.clone().replaced(anew(30_000), now_ms, &zones());
    assert_eq!(other.next_at_ms, Some(now_ms + 30_000));
    let paused = begun
        .clone()
        .pause()
        .replaced(anew(30_000), now_ms, &zones());
    assert_eq!((paused.paused, paused.next_at_ms), (true, None));
}

#[test]
fn a_task_is_told_its_schedule_and_its_time() {
    let mut plan = schedule(cron("@daily", "UTC"), Missed::Once).plan;
    let asked = Options {
        metadata: Some(r#"{"tenant":"ada","schedule":"mine"}"#.into()),
        priority: Some(3),
        ..Options::default()
    };
    plan.options = asked.into();
    let at = ms("2026-01-02T00:00:00Z");
    let task = plan.task(&"h".into(), &"1".into(), None, at);
    assert_eq!(task.options.priority, Some(3));
    assert_eq!(
        task.options.metadata.as_deref().unwrap(),
        r#"{"schedule":"report","scheduled_for":"2026-01-02T00:00:00Z","tenant":"ada"}"#
    );
    assert_eq!(&*plan.key(at), "schedule report 2026-01-02T00:00:00Z");
    assert!(task.options.key.is_none());
}

#[test]
fn a_workflow_keeps_its_own_metadata_unless_others_were_asked_for() {
    let mut plan = schedule(cron("@daily", "UTC"), Missed::Once).plan;
    let document = r#"{"metadata":{"of":"file"},"input":{"a":1},"jobs":[{"key":"x"}]}"#;
    let at = ms("2026-01-02T00:00:00Z");
    let made = |plan: &Plan, input: Option<Json>| {
        let definition = plan.definition(document, &input).unwrap();
        plan.workflow(definition, Some("k".into()), at)
    };
    let new = made(&plan, None);
    assert_eq!(
        (&*new.workflow.name, &*new.workflow.input),
        ("report", r#"{"a":1}"#)
    );
    assert_eq!((new.key.as_deref(), new.spawner), (Some("k"), None));
    assert_eq!(
        new.metadata.as_deref().unwrap(),
        r#"{"of":"file","schedule":"report","scheduled_for":"2026-01-02T00:00:00Z"}"#
    );
    plan.options = Arc::new(Options {
        metadata: Some(r#"{"of":"plan"}"#.into()),
        ..Options::default()
    });
    let new = made(&plan, Some("2".into()));
    assert_eq!(&*new.workflow.input, "2");
    assert!(
        new.metadata
            .unwrap()
            .starts_with(r#"{"of":"plan","schedule""#)
    );
}

#[test]
fn a_plan_out_of_bounds_is_refused_with_a_sentence() {
    let plan = schedule(cron("@daily", "UTC"), Missed::Once).plan;
    let check = |change: &dyn Fn(&mut Plan, &mut Options), expected: &str| {
        let (mut changed, mut options) = (plan.clone(), Options::default());
        change(&mut changed, &mut options);
        changed.options = options.into();
        let said = changed.check().err().unwrap_or_default();
        assert!(
            said.contains(expected) && said.is_empty() == expected.is_empty(),
            "{said}"
        );
    };
    check(&|_, _| {}, "");
    check(
        &|plan, _| plan.name = "x".repeat(101).into(),
        "name is longer than 100 bytes",
    );
    check(
        &|plan, _| plan.name = "".into(),
        "the schedule's name is empty",
    );
    check(
        &|_, options| options.key = Some("k".into()),
        "no key, no delay",
    );
    check(&|_, options| options.delay_ms = Some(1), "no key, no delay");
    check(
        &|_, options| options.after = vec![TaskId::from_i64(1)],
        "no upstreams",
    );
    check(
        &|_, options| options.attempts_max = Some(0),
        "max-attempts is 0",
    );
    let large = format!(
        r#"{{"a":"{}"}}"#,
        "x".repeat(limits::METADATA_BYTES_MAX - 20)
    );
    check(
        &|_, options| options.metadata = Some(large.as_str().into()),
        "the metadata has",
    );
    let target = |handler: &str, input: &str| Target::Handler {
        handler: handler.into(),
        input: input.into(),
    };
    check(&|plan, _| plan.target = target("h", "{"), "not JSON");
    check(
        &|plan, _| plan.target = target("", "1"),
        "handler's name is empty",
    );
    let workflow = |document: &str, input: Option<&str>| Target::Workflow {
        document: document.into(),
        input: input.map(Into::into),
    };
    let jobs = r#"{"jobs":[{"key":"a"}]}"#;
    check(&|plan, _| plan.target = workflow(jobs, Some("1")), "");
    check(
        &|plan, _| plan.target = workflow(jobs, Some("{")),
        "not JSON",
    );
    let most = limits::SCHEDULE_DOCUMENT_BYTES_MAX;
    let padded = |bytes: usize| format!("{jobs}{}", " ".repeat(bytes - jobs.len()));
    check(&|plan, _| plan.target = workflow(&padded(most), None), "");
    check(
        &|plan, _| plan.target = workflow(&padded(most + 1), None),
        "more than the 4194304 that a schedule keeps",
    );
    check(
        &|plan, options| {
            plan.target = workflow(jobs, None);
            options.queue = Some("q".into());
        },
        "takes no options but metadata",
    );
    // What is added at the time counts, also to what the file says.
    let padding = "x".repeat(limits::METADATA_BYTES_MAX - 20);
    let own = format!(r#"{{"metadata":{{"a":"{padding}"}},"jobs":[{{"key":"a"}}]}}"#);
    check(
        &|plan, _| plan.target = workflow(&own, None),
        "the metadata has",
    );
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Looked at from behind, the times are the same ones: also over the hours that clocks leave out
    /// or show twice.
    #[test]
    fn times_are_the_same_forward_and_backward(
        minute in prop::sample::select(vec!["0", "30", "15,45", "*/20", "*"]),
        hour in prop::sample::select(vec!["0", "1", "2", "3", "*", "*/2", "1-3"]),
        zone in prop::sample::select(vec![
            "UTC", "Europe/Berlin", "Africa/Cairo", "Australia/Lord_Howe", "America/New_York", "Asia/Kolkata",
        ]),
        // The days around each change of the clocks of 2026, and some others.
        day in prop::sample::select(vec![
            "2026-03-08", "2026-03-29", "2026-04-05", "2026-04-24", "2026-10-04", "2026-10-25", "2026-10-30",
            "2026-11-01", "2026-07-01",
        ]),
    ) {
        let timing = cron(&format!("{minute} {hour} * * *"), zone);
        let middle = ms(&format!("{day}T00:00:00Z"));
        let (first, until) = (middle - 36 * 3_600_000, middle + 36 * 3_600_000);
        let mut forward = Vec::new();
        let mut at = first - 1;
        while let Some(next) = timing.next(at, &zones()).filter(|next| *next <= until) {
            forward.push(next);
            at = next;
        }
        let backward = timing.between(first, until, usize::MAX, &zones());
        prop_assert_eq!(forward, backward);
    }
}
