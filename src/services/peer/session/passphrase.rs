//! The passphrase of a session.

use super::SessionError;
use diceware_wordlists::EFF_LONG_WORDLIST;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer};
use std::fmt;
use zeroize::Zeroizing;

/// How many words a passphrase has that is made here: 51.7 bits with 7,776 words.
pub const WORDS: usize = 4;

/// The most bytes a passphrase may have.
const MOST: usize = 1024;

/// What all machines of a session are told by a person. Never shown by `Debug`, wiped from memory
/// when dropped.
#[derive(Clone)]
pub struct Passphrase(SecretString);

/// Text that cannot be a passphrase. The text itself is not told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadPassphrase {
    /// Nothing.
    #[error("the passphrase is empty")]
    Empty,
    /// Too much.
    #[error("the passphrase has more than {MOST} bytes")]
    Long,
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(…)")
    }
}

impl Passphrase {
    /// Four words, each drawn evenly from the EFF's long word list by the system's random numbers.
    ///
    /// # Errors
    /// The system has none.
    pub fn generate() -> Result<Passphrase, SessionError> {
        let mut text = Zeroizing::new(String::new());
        for number in 0..WORDS {
            if number > 0 {
                text.push(' ');
            }
            text.push_str(word()?);
        }
        Ok(Passphrase(SecretString::from(text.as_str())))
    }

    /// A passphrase as a person types it or as a file holds it: blanks at both ends do not count,
    /// and several between words are one.
    ///
    /// # Errors
    /// It is empty or too long.
    pub fn parse(text: &str) -> Result<Passphrase, BadPassphrase> {
        if text.len() > MOST {
            return Err(BadPassphrase::Long);
        }
        let mut plain = Zeroizing::new(String::with_capacity(text.len()));
        for word in text.split_whitespace() {
            if !plain.is_empty() {
                plain.push(' ');
            }
            plain.push_str(word);
        }
        if plain.is_empty() {
            return Err(BadPassphrase::Empty);
        }
        Ok(Passphrase(SecretString::from(plain.as_str())))
    }

    /// The text, to show it to the person at the initiator or to prove it.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// Whether it is so short that somebody might guess it within a session.
    pub fn is_weak(&self) -> bool {
        self.expose().chars().count() < 12
    }
}

impl<'de> Deserialize<'de> for Passphrase {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Passphrase, D::Error> {
        let text = Zeroizing::new(String::deserialize(from)?);
        Passphrase::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// One word, each as likely as any other.
fn word() -> Result<&'static str, SessionError> {
    // 13 bits number 8,192; those beyond the list are thrown away, so that none is likelier.
    loop {
        let mut bytes = [0u8; 2];
        getrandom::fill(&mut bytes)
            .map_err(|e| SessionError::System(format!("the system has no random numbers: {e}")))?;
        let number = usize::from(u16::from_be_bytes(bytes) >> 3);
        if let Some(word) = EFF_LONG_WORDLIST.get(number) {
            return Ok(word);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn made_passphrases_have_four_words_of_the_list_and_differ() {
        let list: BTreeSet<&str> = EFF_LONG_WORDLIST.iter().copied().collect();
        assert_eq!(list.len(), 7776, "the whole list");
        let mut seen = BTreeSet::new();
        for _ in 0..50 {
            let made = Passphrase::generate().unwrap();
            let words: Vec<&str> = made.expose().split(' ').collect();
            assert_eq!(words.len(), WORDS);
            assert!(words.iter().all(|w| list.contains(w)));
            assert!(seen.insert(made.expose().to_owned()));
        }
    }

    #[test]
    fn blanks_do_not_count_and_nothing_is_shown() {
        let typed = Passphrase::parse("  one  two\tthree four\n").unwrap();
        assert_eq!(typed.expose(), "one two three four");
        assert_eq!(format!("{typed:?}"), "Passphrase(…)");
        assert_eq!(Passphrase::parse(" \n").unwrap_err(), BadPassphrase::Empty);
        let long = "x".repeat(MOST + 1);
        assert_eq!(Passphrase::parse(&long).unwrap_err(), BadPassphrase::Long);
        let refused = serde_json::from_str::<Passphrase>("\" \"").unwrap_err();
        assert!(refused.to_string().contains("is empty"));
    }
}
