//! `ceph.conf`: a few keys of its `[global]` section are held, everything else in it stays.

/// The value of a key of `[global]`; Ceph takes spaces, `-` and `_` in keys for the same.
pub(super) fn get(text: &str, key: &str) -> Option<String> {
    let mut global = false;
    let mut found = None;
    for line in text.lines().map(str::trim) {
        if let Some(section) = section(line) {
            global = section == "global";
        } else if global && let Some(value) = value_of(line, key) {
            found = Some(value.to_owned());
        }
    }
    found
}

/// The text with keys of `[global]` set, or removed where there is no value.
pub(super) fn set(text: &str, values: &[(&str, Option<String>)]) -> String {
    let mut lines: Vec<String> = Vec::new();
    let mut global = false;
    let mut place = None;
    for line in text.lines() {
        let trimmed = line.trim();
        if let Some(section) = section(trimmed) {
            global = section == "global";
            lines.push(line.to_owned());
            if global && place.is_none() {
                place = Some(lines.len());
            }
            continue;
        }
        let ours = global && values.iter().any(|(k, _)| value_of(trimmed, k).is_some());
        if !ours {
            lines.push(line.to_owned());
        }
    }
    let place = place.unwrap_or_else(|| {
        lines.insert(0, "[global]".to_owned());
        1
    });
    let new = values
        .iter()
        .filter_map(|(k, v)| v.as_ref().map(|v| format!("{k} = {v}")));
    lines.splice(place..place, new);
    let mut text = lines.join("\n");
    text.push('\n');
    text
}

fn section(line: &str) -> Option<&str> {
    line.strip_prefix('[')?.strip_suffix(']').map(str::trim)
}

fn value_of<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    if line.starts_with(['#', ';']) {
        return None;
    }
    let (name, value) = line.split_once('=')?;
    let name: String = name
        .trim()
        .chars()
        .map(|c| if matches!(c, ' ' | '-') { '_' } else { c })
        .collect();
    (name == key).then(|| value.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn held_keys_are_written_once_and_everything_else_stays() {
        let text = "# by hand\n[global]\nfsid = a\nmon host = x\nosd_journal_size = 1\n[osd]\nfsid = other\n";
        assert_eq!(get(text, "mon_host").as_deref(), Some("x"));
        let wanted = [
            ("fsid", Some("a".to_owned())),
            ("mon_host", Some("y".to_owned())),
            ("cluster_network", None),
        ];
        let written = set(text, &wanted);
        assert_eq!(
            written,
            "# by hand\n[global]\nfsid = a\nmon_host = y\nosd_journal_size = 1\n[osd]\nfsid = other\n"
        );
        assert_eq!(
            set(&written, &wanted),
            written,
            "writing again changes nothing"
        );
        assert_eq!(set("", &wanted), "[global]\nfsid = a\nmon_host = y\n");
        assert_eq!(get("[osd]\nfsid = b\n", "fsid"), None);
    }
}
