//! How objects are named on the command line: `KIND/NAME`, `KIND/PROJECT/NAME`, or `KIND NAME…`.

use super::error::CommandError;
use crate::resources::{Kind, ObjectRef};

/// The objects that words name: each `KIND/[PROJECT/]NAME`, or one KIND and then names.
///
/// # Errors
/// A word names no kind, or the shape is wrong.
pub fn parse(words: &[String]) -> Result<Vec<ObjectRef>, CommandError> {
    let usage = |e: &dyn std::error::Error| CommandError::Usage(e.to_string());
    match words {
        [kind, names @ ..] if !kind.contains('/') => {
            let kind: Kind = kind.parse().map_err(|e| usage(&e))?;
            if names.is_empty() {
                let message = format!("name the {kind} as well: {kind}/NAME");
                return Err(CommandError::Usage(message));
            }
            names
                .iter()
                .map(|name| format!("{kind}/{name}").parse().map_err(|e| usage(&e)))
                .collect()
        }
        words => words
            .iter()
            .map(|word| word.parse().map_err(|e| usage(&e)))
            .collect(),
    }
}

/// What a command is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// Everything.
    All,
    /// All of one kind.
    Kind(Kind),
    /// These.
    Objects(Vec<ObjectRef>),
}

impl Selection {
    /// What words select: nothing is everything, one KIND is all of it.
    ///
    /// # Errors
    /// A word names no kind, or the shape is wrong.
    pub fn parse(words: &[String]) -> Result<Selection, CommandError> {
        match words {
            [] => Ok(Selection::All),
            [kind] if !kind.contains('/') => kind.parse().map(Selection::Kind).map_err(
                |e: crate::resources::object::UnknownKind| CommandError::Usage(e.to_string()),
            ),
            words => Ok(Selection::Objects(parse(words)?)),
        }
    }

    /// Whether an object is selected.
    pub fn has(&self, object: &ObjectRef) -> bool {
        match self {
            Selection::All => true,
            Selection::Kind(kind) => object.kind == *kind,
            Selection::Objects(objects) => objects.contains(object),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn both_ways_of_naming_objects_are_read() {
        let web = ObjectRef::new(Kind::Profile, "web");
        let shop = ObjectRef::in_project(Kind::Profile, "shop", "web");
        for text in ["profile/web Profile/shop/web", "profiles web shop/web"] {
            let read = parse(&words(text)).expect("both are names");
            assert_eq!(read, [web.clone(), shop.clone()], "{text}");
        }
    }

    #[test]
    fn what_names_nothing_is_told() {
        let told = |text| match parse(&words(text)) {
            Err(e) => e.to_string(),
            Ok(objects) => panic!("{text} names {objects:?}"),
        };
        assert!(told("profil/web").starts_with("no kind `profil`"));
        assert!(told("profile/").contains("is not KIND/NAME"));
        assert!(told("profile").contains("Profile/NAME"));
        assert!(told("profile/a b").contains("`b` is not KIND/NAME"));
    }

    #[test]
    fn no_words_are_everything_and_a_kind_is_all_of_it() {
        let selected = |text| Selection::parse(&words(text)).ok();
        let web = ObjectRef::new(Kind::Profile, "web");
        assert_eq!(selected(""), Some(Selection::All));
        assert_eq!(selected("pools"), Some(Selection::Kind(Kind::StoragePool)));
        assert_eq!(
            selected("profile web"),
            Some(Selection::Objects(vec![web.clone()]))
        );
        assert!(!Selection::Kind(Kind::Network).has(&web));
        assert!(Selection::Kind(Kind::Profile).has(&web));
    }
}
