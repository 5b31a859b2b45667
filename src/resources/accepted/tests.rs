use super::*;
use crate::resources::draft::Draft;
use crate::resources::object::Kind;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + seconds).expect("a time in range")
}

fn profile(name: &str, cpu: u32) -> String {
    format!(
        "apiVersion: microcloud.dev/v1\nkind: Profile\nmetadata: {{name: {name}}}\n\
         spec: {{config: {{limits.cpu: {cpu}}}}}\n"
    )
}

fn reading(files: &[(&str, String)]) -> Reading {
    of(SourceName::Directory, files)
}

fn of(source: SourceName, files: &[(&str, String)]) -> Reading {
    let files = files.iter().map(|(name, text)| (*name, text.as_bytes()));
    Draft::of_files(source, files).check(&[])
}

fn two() -> Reading {
    reading(&[("a.yaml", profile("a", 1)), ("b.yaml", profile("b", 1))])
}

fn profile_ref(name: &str) -> ObjectRef {
    ObjectRef::new(Kind::Profile, name)
}

fn cpu(state: &SourceState, name: &str) -> String {
    state.resources[&profile_ref(name)].spec.to_json()["config"]["limits.cpu"].to_string()
}

#[test]
fn a_broken_document_keeps_its_last_good_version_and_stops_absence() {
    let (state, _) = SourceState::default().accept(&two(), at(0));
    let broken = profile("a", 2).replace("spec", "spek");
    let reading = reading(&[("a.yaml", broken), ("c.yaml", profile("c", 3))]);
    let (state, removed) = state.accept(&reading, at(1));
    assert_eq!(cpu(&state, "a"), "\"1\"");
    assert_eq!(cpu(&state, "c"), "\"3\"");
    assert!(state.stale[&profile_ref("a")][0].message.contains("spek"));
    // `b` is missing, but a document is broken.
    let (state, removed_later) = state.accept(&reading, at(100));
    assert!(removed.is_empty() && removed_later.is_empty());
    assert!(state.resources.contains_key(&profile_ref("b")));
    assert_eq!(state.recheck_at(), None);
}

#[test]
fn a_file_that_is_no_yaml_makes_what_it_held_stale() {
    let (state, _) = SourceState::default().accept(&two(), at(0));
    let (state, _) = state.accept(
        &reading(&[("a.yaml", "{".into()), ("b.yaml", profile("b", 1))]),
        at(1),
    );
    assert!(state.stale.contains_key(&profile_ref("a")), "{state:#?}");
    assert_eq!(state.stale.len(), 1);
}

#[test]
fn a_mended_document_is_no_longer_stale() {
    let (state, _) = SourceState::default().accept(&two(), at(0));
    let broken = reading(&[("a.yaml", "{".into()), ("b.yaml", profile("b", 1))]);
    let (state, _) = state.accept(&broken, at(1));
    let (state, _) = state.accept(&two(), at(2));
    assert!(state.stale.is_empty() && state.broken.is_empty());
}

#[test]
fn an_absence_counts_after_two_equal_readings_ten_seconds_apart() {
    let (state, _) = SourceState::default().accept(&two(), at(0));
    let one = reading(&[("a.yaml", profile("a", 1))]);
    let (state, removed) = state.accept(&one, at(100));
    assert!(removed.is_empty(), "one reading is not enough");
    assert_eq!(state.recheck_at(), Some(at(110)));
    let (state, removed) = state.accept(&one, at(109));
    assert!(removed.is_empty(), "nine seconds are not enough");
    assert_eq!(state.recheck_at(), Some(at(110)));
    let (state, removed) = state.accept(&one, at(110));
    assert_eq!(removed, [profile_ref("b")]);
    assert_eq!(state.recheck_at(), None);
    assert!(!state.resources.contains_key(&profile_ref("b")));
}

#[test]
fn a_reading_that_differs_starts_the_ten_seconds_again() {
    let (state, _) = SourceState::default().accept(&two(), at(0));
    let (state, _) = state.accept(&reading(&[("a.yaml", profile("a", 1))]), at(100));
    let other = reading(&[("a.yaml", profile("a", 2))]);
    let (state, removed) = state.accept(&other, at(111));
    assert!(removed.is_empty());
    let (_, removed) = state.accept(&other, at(121));
    assert_eq!(removed, [profile_ref("b")]);
}

#[test]
fn an_empty_or_unreadable_source_changes_nothing() {
    let (state, _) = SourceState::default().accept(&two(), at(0));
    let empty = reading(&[]);
    let gone = Reading {
        unreadable: Some("gone".into()),
        ..empty.clone()
    };
    for seconds in [1, 20, 40] {
        for reading in [&empty, &gone] {
            let (after, removed) = state.accept(reading, at(seconds));
            assert!(removed.is_empty());
            assert_eq!(after.resources, state.resources);
            let (again, removed) = after.accept(reading, at(seconds + 60));
            assert!(removed.is_empty());
            assert_eq!(again.resources, state.resources);
        }
    }
    let (after, _) = state.accept(&gone, at(1));
    assert_eq!(after.revision, state.revision);
    assert_eq!(after.unreadable.as_deref(), Some("gone"));
    assert_eq!(after.accept(&two(), at(2)).0.unreadable, None);
}

#[test]
fn a_directory_that_came_back_does_not_use_up_an_older_wait() {
    let (state, _) = SourceState::default().accept(&two(), at(0));
    let one = reading(&[("a.yaml", profile("a", 1))]);
    let (state, _) = state.accept(&one, at(100));
    let gone = Reading {
        unreadable: Some("gone".into()),
        ..one.clone()
    };
    let (state, _) = state.accept(&gone, at(105));
    let (state, removed) = state.accept(&one, at(111));
    assert!(
        removed.is_empty(),
        "the two readings were not next to each other"
    );
    assert_eq!(state.recheck_at(), Some(at(121)));
}

#[test]
fn what_was_applied_stays_when_the_directory_is_read() {
    let applied = of(SourceName::Applied, &[("-", profile("mine", 1))]);
    let state = Accepted::default()
        .apply(applied.resources)
        .expect("nobody owns it");
    let (state, _) = state.accept(&two(), at(0));
    let (state, _) = state.accept(&reading(&[("a.yaml", profile("a", 1))]), at(10));
    let (state, removed) = state.accept(&reading(&[("a.yaml", profile("a", 1))]), at(20));
    assert_eq!(removed, [profile_ref("b")]);
    let names: Vec<String> = state.desired().keys().map(ToString::to_string).collect();
    assert_eq!(names, ["Profile/a", "Profile/mine"]);
}

#[test]
fn the_directory_keeps_what_it_owns() {
    let (state, _) = Accepted::default().accept(&two(), at(0));
    let mine = of(
        SourceName::Applied,
        &[("-", profile("a", 9) + "---\n" + &profile("new", 1))],
    );
    let refused = state
        .apply(mine.resources)
        .expect_err("a is the directory's");
    assert_eq!(
        refused.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["Profile/a belongs to the watched directory (a.yaml:1): change it there"]
    );
    let refused = state
        .delete(&[profile_ref("a"), profile_ref("x")])
        .expect_err("not ours");
    assert_eq!(refused.len(), 2);
}

#[test]
fn the_source_that_named_it_first_owns_it_until_it_lets_go() {
    let mine = of(SourceName::Applied, &[("-", profile("a", 9))]);
    let state = Accepted::default()
        .apply(mine.resources)
        .expect("nobody owns it");
    let (state, _) = state.accept(&two(), at(0));
    assert_eq!(
        state.get(&profile_ref("a")).expect("named").origin.source,
        SourceName::Applied
    );
    let conflicts = state.conflicts();
    assert_eq!(conflicts.len(), 1);
    assert_eq!(conflicts[0].ignored.file, "a.yaml");
    // Applying it again is still ours to do.
    let again = of(SourceName::Applied, &[("-", profile("a", 10))]);
    let state = state.apply(again.resources).expect("applied owns it");
    let (state, removed) = state.delete(&[profile_ref("a")]).expect("applied owns it");
    assert!(removed.is_empty(), "the directory names it still");
    assert_eq!(
        state.get(&profile_ref("a")).expect("named").origin.source,
        SourceName::Directory
    );
    assert!(state.conflicts().is_empty());
}

#[test]
fn the_state_survives_being_stored() {
    let (state, _) = Accepted::default().accept(&two(), at(0));
    let (state, _) = state.accept(&reading(&[("a.yaml", profile("a", 1))]), at(5));
    let stored = serde_json::to_string(&state).expect("plain JSON");
    assert_eq!(
        serde_json::from_str::<Accepted>(&stored).expect("the same form"),
        state
    );
}
