//! Rules of `Profile`.

use super::Check;
use crate::catalog::{self, Owner};
use crate::resources::check::nearest;
use crate::resources::kinds::ProfileSpec;
use crate::resources::positions::at;
use crate::resources::value::{Config, ConfigValue};

impl<'a> Check<'a> {
    pub(super) fn profile(&mut self, spec: &'a ProfileSpec) {
        self.config(at!["spec", "config"], &spec.config, Owner::Profile);
        for (name, device) in &spec.devices {
            self.device_of_profile(name, device);
        }
    }

    fn device_of_profile(&mut self, name: &'a str, device: &'a Config) {
        let path = at!["spec", "devices", name];
        if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c == '/') {
            self.wrong_key(path, format!("`{name}` cannot be the name of a device"))
                .help = Some("use letters, digits and dashes".to_owned());
        }
        let Some(kind) = plain(device, "type") else {
            self.wrong_key(path, format!("the device `{name}` has no `type`"))
                .help = Some("write one such as `nic` or `disk`".to_owned());
            return;
        };
        let types = catalog::device_types();
        if !types.contains(&kind)
            && let Some(near) = nearest(kind, types)
        {
            self.wrong(
                at!["spec", "devices", name, "type"],
                format!("no device type `{kind}`"),
            )
            .help = Some(format!("did you mean `{near}`?"));
            return;
        }
        self.config(path, device, Owner::Device(kind));
        match kind {
            "nic" if !device.contains_key("network") && !device.contains_key("nictype") => {
                self.wrong_key(path, format!("the network card `{name}` has no `network`"))
                    .help = Some("name the network it is on".to_owned());
            }
            "nic" if device.contains_key("network") && device.contains_key("nictype") => {
                let path = at!["spec", "devices", name, "nictype"];
                self.wrong_key(path, "`network` and `nictype` exclude each other")
                    .help = Some("remove `nictype`: it follows from the network".to_owned());
            }
            "disk" if plain(device, "path") == Some("/") && !device.contains_key("pool") => {
                self.wrong_key(path, format!("the root disk `{name}` has no `pool`"))
                    .help = Some("name the storage pool it is in".to_owned());
            }
            "disk" if plain(device, "path") == Some("/") && device.contains_key("source") => {
                let path = at!["spec", "devices", name, "source"];
                self.wrong_key(path, "a root disk has no source").help =
                    Some("remove it".to_owned());
            }
            _ => {}
        }
    }
}

fn plain<'a>(config: &'a Config, key: &str) -> Option<&'a str> {
    match config.get(key) {
        Some(ConfigValue::Plain(text)) if !text.is_empty() => Some(text),
        _ => None,
    }
}
