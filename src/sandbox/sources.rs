//! The Debian mirror of the machine, read from its own apt sources.

use super::Error;
use std::fs;
use std::path::Path;

/// A mirror of Debian's main archive and how it is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mirror {
    /// The address, as apt has it.
    pub(super) uri: String,
    /// The keyring the machine trusts for it, when it names one.
    pub(super) signed_by: Option<String>,
}

impl Mirror {
    /// The line of a `sources.list` for one suite.
    pub(super) fn line(&self, suite: &str) -> String {
        match &self.signed_by {
            Some(keyring) => format!("deb [signed-by={keyring}] {} {suite} main", self.uri),
            None => format!("deb {} {suite} main", self.uri),
        }
    }
}

/// One entry of the machine's sources.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Entry {
    uris: Vec<String>,
    suites: Vec<String>,
    components: Vec<String>,
    signed_by: Option<String>,
}

/// Finds the machine's mirror below `etc` (`/etc/apt`).
pub(super) fn mirror(etc: &Path) -> Result<Mirror, Error> {
    let mut entries = Vec::new();
    let mut files = vec![etc.join("sources.list")];
    let parts = etc.join("sources.list.d");
    if let Ok(read) = fs::read_dir(&parts) {
        let mut more: Vec<_> = read.filter_map(|e| Some(e.ok()?.path())).collect();
        more.sort();
        files.extend(more);
    }
    for file in files {
        // A file that cannot be read as text holds no mirror for us.
        let Ok(text) = fs::read_to_string(&file) else {
            continue;
        };
        match file.extension().and_then(|e| e.to_str()) {
            Some("list") => entries.extend(one_line(&text)),
            Some("sources") => entries.extend(deb822(&text)),
            _ => {}
        }
    }
    choose(&entries).ok_or(Error::NoMirror)
}

/// Debian's main archive: it has `main`, and a suite that is one of Debian's own by name.
fn choose(entries: &[Entry]) -> Option<Mirror> {
    const SUITES: [&str; 9] = [
        "bullseye",
        "bookworm",
        "trixie",
        "forky",
        "sid",
        "oldstable",
        "stable",
        "testing",
        "unstable",
    ];
    entries.iter().find_map(|entry| {
        let debian = entry.suites.iter().any(|s| SUITES.contains(&s.as_str()))
            && entry.components.iter().any(|c| c == "main");
        let uri = entry
            .uris
            .iter()
            .find(|u| u.starts_with("http") || u.starts_with("file:"))?;
        // A file of keys only: a key written into the source itself is left to apt's trust.
        let signed_by = entry.signed_by.clone().filter(|k| k.starts_with('/'));
        debian.then(|| Mirror {
            uri: uri.trim_end_matches('/').to_owned(),
            signed_by,
        })
    })
}

/// `deb [options] URI SUITE COMPONENT…` lines.
fn one_line(text: &str) -> Vec<Entry> {
    text.lines()
        .filter_map(|line| {
            let rest = line.split('#').next()?.trim().strip_prefix("deb")?;
            let rest = rest.strip_prefix([' ', '\t'])?.trim_start();
            let (options, rest) = match rest.strip_prefix('[') {
                Some(rest) => rest.split_once(']')?,
                None => ("", rest),
            };
            let mut words = rest.split_ascii_whitespace().map(str::to_owned);
            Some(Entry {
                uris: vec![words.next()?],
                suites: vec![words.next()?],
                components: words.collect(),
                signed_by: options
                    .split_ascii_whitespace()
                    .find_map(|o| o.strip_prefix("signed-by="))
                    .map(str::to_owned),
            })
        })
        .collect()
}

/// Stanzas of `Types:`, `URIs:`, `Suites:`, `Components:` as in `*.sources` files.
fn deb822(text: &str) -> Vec<Entry> {
    let mut entries = Vec::new();
    // A comment line does not end a stanza; an empty line does.
    let lines: Vec<&str> = text.lines().filter(|l| !l.starts_with('#')).collect();
    for stanza in lines.split(|l| l.trim().is_empty()) {
        let mut entry = Entry::default();
        let mut binary = false;
        let mut enabled = true;
        let mut key = String::new();
        for line in stanza {
            let value = if line.starts_with([' ', '\t']) {
                line.trim()
            } else {
                let Some((k, v)) = line.split_once(':') else {
                    continue;
                };
                key = k.trim().to_ascii_lowercase();
                v.trim()
            };
            let words = || value.split_ascii_whitespace().map(str::to_owned);
            match key.as_str() {
                "types" => binary |= words().any(|w| w == "deb"),
                "uris" => entry.uris.extend(words()),
                "suites" => entry.suites.extend(words()),
                "components" => entry.components.extend(words()),
                "enabled" => enabled = !value.eq_ignore_ascii_case("no"),
                "signed-by" if entry.signed_by.is_none() => entry.signed_by = words().next(),
                _ => {}
            }
        }
        if binary && enabled {
            entries.push(entry);
        }
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEB822: &str = "\
Types: deb
# where the snapshot came from
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
Signed-By: /usr/share/keyrings/a.gpg

Types: deb deb-src
URIs: http://mirror.example/debian/
Suites: bookworm
 bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian.gpg
";

    fn found(files: &[(&str, &str)]) -> Result<Mirror, Box<dyn std::error::Error>> {
        let etc = tempfile::tempdir()?;
        fs::create_dir(etc.path().join("sources.list.d"))?;
        for (name, text) in files {
            fs::write(etc.path().join(name), text)?;
        }
        Ok(mirror(etc.path())?)
    }

    #[test]
    fn stanzas_with_comments_and_continued_lines() -> Result<(), Box<dyn std::error::Error>> {
        let mirror = found(&[("sources.list.d/debian.sources", DEB822)])?;
        assert_eq!(
            mirror.line("trixie"),
            "deb [signed-by=/usr/share/keyrings/debian.gpg] http://mirror.example/debian trixie main"
        );
        Ok(())
    }

    #[test]
    fn one_line_style_with_and_without_options() -> Result<(), Box<dyn std::error::Error>> {
        let list = "# deb http://no.example/debian bookworm main\n\
                    deb-src http://src.example/debian bookworm main\n\
                    deb [arch=amd64 signed-by=/k.gpg] https://a.example/debian bookworm main # note\n";
        assert_eq!(
            found(&[("sources.list", list)])?.uri,
            "https://a.example/debian"
        );
        let list = "deb\thttp://b.example/debian  stable main\n";
        assert_eq!(
            found(&[("sources.list", list)])?,
            Mirror {
                uri: "http://b.example/debian".into(),
                signed_by: None
            }
        );
        Ok(())
    }

    #[test]
    fn other_archives_and_disabled_ones_are_passed_over() {
        let other =
            "Types: deb\nURIs: https://packages.example/node\nSuites: nodistro\nComponents: main\n";
        let off = "Enabled: no\nTypes: deb\nURIs: http://m.example/debian\nSuites: trixie\nComponents: main\n";
        let files = [
            ("sources.list.d/a.sources", other),
            ("sources.list.d/b.sources", off),
        ];
        assert!(found(&files).is_err());
        assert!(found(&[("sources.list.d/x.disabled", DEB822)]).is_err());
        assert!(found(&[]).is_err());
    }

    #[test]
    fn an_inline_key_is_left_to_apt() -> Result<(), Box<dyn std::error::Error>> {
        let text = "Types: deb\nURIs: http://m.example/debian\nSuites: trixie\nComponents: main\n\
                    Signed-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc\n";
        assert_eq!(
            found(&[("sources.list.d/a.sources", text)])?.signed_by,
            None
        );
        Ok(())
    }
}
