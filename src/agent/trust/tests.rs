use super::*;
use crate::services::host::TrustedMember;

fn key(n: u8) -> Fingerprint {
    Fingerprint::of_public_key(&[n])
}

fn store(version: u64, members: &[(&str, u8)]) -> TrustStore {
    TrustStore {
        version,
        members: members
            .iter()
            .map(|(name, n)| {
                let member = TrustedMember {
                    fingerprint: key(*n).into(),
                    address: "10.0.0.1".parse().unwrap(),
                };
                ((*name).to_owned(), member)
            })
            .collect(),
    }
}

fn book() -> (tempfile::TempDir, TrustBook) {
    let dir = tempfile::tempdir().unwrap();
    let book = TrustBook::open(dir.path()).unwrap();
    (dir, book)
}

#[test]
fn the_store_decides_over_resources_and_persons() {
    let (_dir, book) = book();
    book.trust_first(&key(9), None, false).unwrap();
    book.set_declared([("a".to_owned(), key(2)), ("b".to_owned(), key(3))].into());
    assert!(book.admit("a", &key(2)).is_ok());
    assert!(book.admit("whoever", &key(9)).is_ok());

    book.set_store(store(1, &[("a", 1)])).unwrap();
    assert!(book.admit("a", &key(1)).is_ok());
    assert!(matches!(
        book.admit("a", &key(2)),
        Err(Refusal::OtherKey { .. })
    ));
    assert!(matches!(
        book.admit("c", &key(1)),
        Err(Refusal::OtherName { .. })
    ));
    assert!(
        book.admit("b", &key(3)).is_ok(),
        "the store does not know b"
    );
    assert!(matches!(
        book.admit("x", &key(9)),
        Err(Refusal::UnknownKey { .. })
    ));
    assert!(book.first_peers().is_empty());
    assert!(matches!(
        book.trust_first(&key(9), None, false),
        Err(TrustError::HasStore { .. })
    ));
    assert_eq!(book.key_of("a"), Some(key(1)));
    assert_eq!(book.key_of("b"), Some(key(3)));
    assert_eq!(book.key_of("c"), None);
}

#[test]
fn a_removed_key_is_not_let_in_again_by_its_resource() {
    let (dir, book) = book();
    book.set_declared([("b".to_owned(), key(2))].into());
    book.set_store(store(1, &[("a", 1), ("b", 2)])).unwrap();
    book.set_store(store(2, &[("a", 1)])).unwrap();
    assert!(matches!(
        book.admit("b", &key(2)),
        Err(Refusal::Removed { .. })
    ));
    let again = TrustBook::open(dir.path()).unwrap();
    again.set_declared([("b".to_owned(), key(2))].into());
    assert!(matches!(
        again.admit("b", &key(2)),
        Err(Refusal::Removed { .. })
    ));
    again.set_store(store(3, &[("a", 1), ("b", 2)])).unwrap();
    assert!(again.admit("b", &key(2)).is_ok());
}

#[test]
fn a_named_key_holds_until_the_store_names_its_member() {
    let (dir, book) = book();
    book.trust_first(&key(1), Some("a"), false).unwrap();
    book.trust_first(&key(2), Some("b"), false).unwrap();
    book.set_store(store(1, &[("a", 1)])).unwrap();
    assert!(book.admit("b", &key(2)).is_ok(), "b was not seen yet");
    assert_eq!(book.key_of("b"), Some(key(2)));
    assert_eq!(book.first_peers().len(), 1);
    // The store decides as soon as it names the member, also with another key.
    book.set_store(store(2, &[("a", 1), ("b", 3)])).unwrap();
    assert!(book.admit("b", &key(2)).is_err());
    // And a key it dropped stays out.
    book.set_store(store(3, &[("a", 1)])).unwrap();
    for key in [key(2), key(3)] {
        assert!(book.admit("b", &key).is_err());
    }
    let again = TrustBook::open(dir.path()).unwrap();
    assert!(again.first_peers().is_empty());
}

#[test]
fn a_nameless_key_is_bound_to_the_first_name_it_proves() {
    let (dir, book) = book();
    book.trust_first(&key(1), None, false).unwrap();
    book.bind("a", &key(1)).unwrap();
    let book = TrustBook::open(dir.path()).unwrap();
    assert!(book.admit("a", &key(1)).is_ok());
    assert!(matches!(
        book.admit("b", &key(1)),
        Err(Refusal::OtherName { .. })
    ));
    assert_eq!(book.key_of("a"), Some(key(1)));
    book.bind("b", &key(1)).unwrap();
    assert_eq!(
        book.first_peers()[0].name.as_deref(),
        Some("a"),
        "bound once"
    );

    book.trust_first(&key(2), None, false).unwrap();
    assert!(
        matches!(book.admit("a", &key(2)), Err(Refusal::OtherKey { .. })),
        "another key cannot take the name"
    );
}

#[test]
fn an_older_or_empty_or_ambiguous_store_changes_nothing() {
    let (_dir, book) = book();
    book.set_store(store(5, &[("a", 1)])).unwrap();
    assert!(matches!(
        book.set_store(store(4, &[("b", 2)])),
        Err(TrustError::Older { given: 4, known: 5 })
    ));
    assert!(matches!(
        book.set_store(store(6, &[])),
        Err(TrustError::Empty)
    ));
    assert!(matches!(
        book.set_store(store(6, &[("b", 2), ("c", 2)])),
        Err(TrustError::Invalid(_))
    ));
    assert_eq!(book.store(), store(5, &[("a", 1)]));
    book.set_store(store(5, &[("a", 1), ("b", 2)])).unwrap();
    book.trust_first(&key(7), Some("n"), true).unwrap();
    assert_eq!(book.store(), TrustStore::default());
    assert!(book.admit("a", &key(1)).is_err());
    assert!(book.admit("n", &key(7)).is_ok());
}

#[test]
fn a_damaged_file_is_explained_and_trusts_nobody() {
    let dir = tempfile::tempdir().unwrap();
    for text in [
        "{",
        "{\"stores\": 1}",
        r#"{"first":[{"fingerprint":"AB"}]}"#,
    ] {
        std::fs::write(dir.path().join("trust.json"), text).unwrap();
        let error = TrustBook::open(dir.path()).unwrap_err().to_string();
        assert!(error.contains("trust.json is damaged"), "{error}");
    }
}
