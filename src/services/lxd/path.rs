//! Paths of the API: names become segments that cannot change the path's meaning.

use percent_encoding::percent_decode_str;
use std::fmt::Write as _;

/// `/1.0/` and the segments, each percent-encoded.
pub(crate) fn path(segments: &[&str]) -> String {
    below("/1.0", segments)
}

/// `/internal/` and the segments: what only a machine's own socket serves.
pub(crate) fn internal(segments: &[&str]) -> String {
    below("/internal", segments)
}

fn below(root: &str, segments: &[&str]) -> String {
    let mut path = root.to_owned();
    for segment in segments {
        path.push('/');
        encode(segment, &mut path);
    }
    path
}

/// Percent-encodes all but RFC 3986's unreserved characters.
fn encode(segment: &str, into: &mut String) {
    for byte in segment.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            into.push(char::from(byte));
        } else {
            // Writing to a String does not fail.
            let _ = write!(into, "%{byte:02X}");
        }
    }
}

/// A name as it is, from a segment of one of the service's own paths.
pub fn decode_name(segment: &str) -> String {
    percent_decode_str(segment).decode_utf8_lossy().into_owned()
}

/// The query that names a project; nothing for `default`, which is what LXD assumes.
pub(crate) fn in_project(project: &str) -> Vec<(&'static str, String)> {
    match project {
        "" | "default" => Vec::new(),
        other => vec![("project", other.to_owned())],
    }
}

/// Adds the query that names a member.
pub(crate) fn on_target(
    mut query: Vec<(&'static str, String)>,
    target: Option<&str>,
) -> Vec<(&'static str, String)> {
    if let Some(target) = target {
        query.push(("target", target.to_owned()));
    }
    query
}

/// How long a read may take, which another member may have to answer.
pub(crate) fn read_within(target: Option<&str>) -> std::time::Duration {
    match target {
        Some(_) => super::deadlines::READ_TARGET,
        None => super::deadlines::READ,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_one_segment() {
        assert_eq!(path(&[]), "/1.0");
        assert_eq!(path(&["profiles", "web-1"]), "/1.0/profiles/web-1");
        assert_eq!(
            path(&["profiles", "a/../b?c#d e"]),
            "/1.0/profiles/a%2F..%2Fb%3Fc%23d%20e"
        );
        assert_eq!(path(&["profiles", "ü"]), "/1.0/profiles/%C3%BC");
    }

    #[test]
    fn the_default_project_needs_no_query() {
        assert!(in_project("default").is_empty());
        assert_eq!(in_project("a"), vec![("project", "a".to_owned())]);
        assert_eq!(
            on_target(in_project("a"), Some("m1")),
            vec![("project", "a".to_owned()), ("target", "m1".to_owned())]
        );
    }
}
