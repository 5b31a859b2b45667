//! Keys of services: their scope, their form, and secrets.

use super::Check;
use crate::catalog::{self, Owner, Scope};
use crate::resources::positions::{Step, at};
use crate::resources::value::{Config, ConfigValue};

/// Keys this program keeps for itself.
const RESERVED: &str = "user.microcloud";

impl<'a> Check<'a> {
    /// What holds for every configuration: known keys are spelled right, secrets are not in YAML,
    /// values have the form of their key.
    pub(super) fn config(&mut self, path: &[Step<'_>], config: &'a Config, owner: Owner<'_>) {
        for (key, value) in config {
            self.one_key(path, key, value, owner);
        }
    }

    /// [`Check::config`] for one key.
    pub(super) fn one_key(
        &mut self,
        path: &[Step<'_>],
        key: &str,
        value: &ConfigValue,
        owner: Owner<'_>,
    ) {
        let at = [path, at![key]].concat();
        if key.starts_with("volatile.") {
            self.wrong_key(&at, format!("`{key}` is the service's own memory"))
                .help = Some("remove it".to_owned());
            return;
        }
        let server = matches!(owner, Owner::Server | Owner::Member | Owner::Project);
        if server && (key == RESERVED || key.starts_with("user.microcloud.")) {
            self.wrong_key(&at, format!("`{key}` is this program's own"))
                .help = Some("use another key, such as user.mine".to_owned());
            return;
        }
        self.spelling(&at, key, owner);
        self.value_of(&at, key, value, owner);
    }

    /// A key that is not known and nearly one that is.
    fn spelling(&mut self, at: &[Step<'_>], key: &str, owner: Owner<'_>) {
        if key.is_empty() || key.contains(|c: char| c.is_whitespace() || c.is_control()) {
            self.wrong_key(at, format!("`{key}` is no key")).help =
                Some("keys have no spaces".to_owned());
            return;
        }
        let Some(near) = misspelled(key, owner) else {
            return;
        };
        self.wrong_key(at, format!("unknown key `{key}`")).help =
            Some(format!("did you mean `{near}`?"));
    }

    fn value_of(&mut self, at: &[Step<'_>], key: &str, value: &ConfigValue, owner: Owner<'_>) {
        match value {
            ConfigValue::Plain(text) if catalog::facts(owner, key).secret && !text.is_empty() => {
                self.wrong_key(at, format!("`{key}` is a secret")).help = Some(
                    "write where to read it: {file: PATH} or {credential: NAME}; \
                     and change the secret, for it was written down here"
                        .to_owned(),
                );
            }
            ConfigValue::Plain(text) => {
                if let Some(expected) = catalog::expects(owner, key, text) {
                    self.wrong(at, format!("`{key}` must be {expected}, not `{text}`"));
                }
            }
            ConfigValue::File(path) if !path.is_absolute() => {
                let at = [at, at!["file"]].concat();
                self.wrong(
                    &at,
                    format!("`{}` is not a path from the root", path.display()),
                )
                .help = Some("the file is read by the agent: write /PATH".to_owned());
            }
            ConfigValue::Credential(name)
                if name.is_empty() || name.contains('/') || name.starts_with('.') =>
            {
                let at = [at, at!["credential"]].concat();
                self.wrong(&at, format!("`{name}` is not the name of a credential"))
                    .help = Some(
                    "write the name that LoadCredential= of the agent's unit gives".to_owned(),
                );
            }
            _ => {}
        }
    }

    /// Refuses keys that differ by member in the configuration of the whole.
    pub(super) fn global_only(
        &mut self,
        path: &[Step<'_>],
        config: &'a Config,
        owner: Owner<'_>,
        instead: &str,
    ) {
        for key in config.keys() {
            if catalog::facts(owner, key).scope == Scope::Member {
                let at = [path, at![key]].concat();
                self.wrong_key(&at, format!("`{key}` differs by member"))
                    .help = Some(instead.replace("KEY", key));
            }
        }
    }

    /// Refuses keys of the whole in the configuration of one member.
    pub(super) fn member_only(&mut self, path: &[Step<'_>], config: &'a Config, owner: Owner<'_>) {
        for key in config.keys() {
            let known = catalog::is_known(owner, key);
            if known && catalog::facts(owner, key).scope == Scope::Global {
                let at = [path, at![key]].concat();
                self.wrong_key(&at, format!("`{key}` is one for all members"))
                    .help = Some("move it to `spec.config`".to_owned());
            }
        }
    }

    /// Refuses keys that have a field of their own.
    pub(super) fn fields_instead(
        &mut self,
        path: &[Step<'_>],
        config: &'a Config,
        fields: &[(&str, &str)],
    ) {
        for (key, field) in fields {
            if config.contains_key(*key) {
                let at = [path, at![*key]].concat();
                self.wrong_key(&at, format!("`{key}` has a field of its own"))
                    .help = Some(format!("write `{field}`"));
            }
        }
    }
}

/// The known key that an unknown one is a slip of. Keys that differ only in their digits are not.
fn misspelled(key: &str, owner: Owner<'_>) -> Option<&'static str> {
    if catalog::is_known(owner, key) || key.len() > 64 {
        return None;
    }
    let letters = |text: &str| {
        text.chars()
            .filter(|c| !c.is_ascii_digit())
            .collect::<String>()
    };
    let most = if key.len() >= 8 { 2 } else { 1 };
    catalog::known_keys(owner)
        .map(|known| (strsim::damerau_levenshtein(key, known), known))
        .filter(|(distance, known)| *distance <= most && letters(key) != letters(known))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_found_and_other_keys_left_alone() {
        for (owner, key, near) in [
            (Owner::Profile, "limits.cpus", Some("limits.cpu")),
            (Owner::Profile, "limit.memory", Some("limits.memory")),
            (Owner::Profile, "limits.foo", None),
            (Owner::Profile, "user.limits.cpus", None),
            (
                Owner::Server,
                "image.auto_update_interval",
                Some("images.auto_update_interval"),
            ),
            (Owner::Network("ovn"), "ipv5.nat", None),
            (Owner::Network("ovn"), "ipv4.dchp", Some("ipv4.dhcp")),
            (Owner::Pool("zfs"), "zfs.clone-copy", Some("zfs.clone_copy")),
        ] {
            assert_eq!(misspelled(key, owner), near, "{key}");
        }
    }

    #[test]
    fn no_known_key_of_one_owner_is_a_slip_of_another() {
        for kind in ["bridge", "ovn", "physical"] {
            for key in catalog::known_keys(Owner::Network(kind)) {
                assert_eq!(misspelled(key, Owner::Network(kind)), None, "{key}");
            }
        }
    }
}
