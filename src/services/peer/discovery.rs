//! Sessions on the same subnet, by mDNS and DNS-SD (`_microcloud._tcp`), over IPv4 and IPv6.
//!
//! What is found is a hint and nothing else: anybody on the subnet can answer. Only an address is
//! taken from it; who is there shows when the passphrase is proven.

use super::Fingerprint;
use mdns_sd::{IfKind, ServiceDaemon, ServiceEvent, ServiceInfo};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// The type of the service.
const SERVICE: &str = "_microcloud._tcp.local.";

/// The most a text of an answer is shown of, characters.
const MOST: usize = 100;

/// mDNS cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("no mDNS on the interface of {address}: {reason}")]
pub struct DiscoveryError {
    /// The address whose interface was meant.
    pub address: IpAddr,
    /// Why.
    pub reason: String,
}

/// A session that somebody says is open. Nothing of it is proven.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Found {
    /// What the initiator calls itself.
    pub name: String,
    /// Where it says it is.
    pub address: IpAddr,
    /// The port of its agent.
    pub port: u16,
    /// The session.
    pub session: String,
    /// The fingerprint it claims.
    pub fingerprint: String,
    /// The version of its agent.
    pub version: String,
}

/// A daemon that speaks on the interface of one address only.
fn daemon(address: IpAddr) -> Result<ServiceDaemon, DiscoveryError> {
    let failed = |e: mdns_sd::Error| DiscoveryError {
        address,
        reason: e.to_string(),
    };
    let daemon = ServiceDaemon::new().map_err(failed)?;
    let all = vec![IfKind::All, IfKind::LoopbackV4, IfKind::LoopbackV6];
    daemon.disable_interface(all).map_err(failed)?;
    daemon
        .enable_interface(IfKind::Addr(address))
        .map_err(failed)?;
    Ok(daemon)
}

/// Says on the subnet that a session is open, until it is dropped.
pub struct Advert {
    daemon: ServiceDaemon,
    name: String,
}

impl Advert {
    /// Begins to say it on the interface of `address`.
    ///
    /// # Errors
    /// mDNS cannot be used there.
    pub fn start(
        name: &str,
        address: IpAddr,
        port: u16,
        session: &str,
        fingerprint: &Fingerprint,
    ) -> Result<Advert, DiscoveryError> {
        let failed = |e: mdns_sd::Error| DiscoveryError {
            address,
            reason: e.to_string(),
        };
        let properties = [
            ("session", session),
            ("fingerprint", fingerprint.as_str()),
            ("version", super::VERSION),
        ];
        // Labels of a name have no dots.
        let host = format!("{}.local.", name.replace('.', "-"));
        let info = ServiceInfo::new(SERVICE, name, &host, address, port, &properties[..])
            .map_err(failed)?;
        let daemon = daemon(address)?;
        let name = info.get_fullname().to_owned();
        daemon.register(info).map_err(failed)?;
        Ok(Advert { daemon, name })
    }
}

impl Drop for Advert {
    fn drop(&mut self) {
        // The daemon says goodbye for it before it ends; when it is gone already, so is the advert.
        let _ = self.daemon.unregister(&self.name);
        let _ = self.daemon.shutdown();
    }
}

/// Looks for sessions, until it is dropped.
pub struct Search {
    daemon: ServiceDaemon,
    events: mdns_sd::Receiver<ServiceEvent>,
}

impl Search {
    /// Begins to look on the interface of `address`.
    ///
    /// # Errors
    /// mDNS cannot be used there.
    pub fn start(address: IpAddr) -> Result<Search, DiscoveryError> {
        let daemon = daemon(address)?;
        let events = daemon.browse(SERVICE).map_err(|e| DiscoveryError {
            address,
            reason: e.to_string(),
        })?;
        Ok(Search { daemon, events })
    }

    /// The next one, or news of one that was found; none when looking ended. Loses nothing when it
    /// is dropped before it is ready.
    pub async fn next(&self) -> Option<Vec<Found>> {
        loop {
            if let ServiceEvent::ServiceResolved(service) = self.events.recv_async().await.ok()? {
                let text = |key: &str| -> String {
                    let value = service.txt_properties.get_property_val_str(key);
                    let plain = value.unwrap_or_default().chars();
                    plain.filter(|c| !c.is_control()).take(MOST).collect()
                };
                let name = service.fullname.strip_suffix(SERVICE);
                let name = name.unwrap_or(&service.fullname).trim_end_matches('.');
                let mut found: Vec<Found> = service
                    .addresses
                    .iter()
                    .map(|address| Found {
                        name: name
                            .chars()
                            .filter(|c| !c.is_control())
                            .take(MOST)
                            .collect(),
                        address: address.to_ip_addr(),
                        port: service.port,
                        session: text("session"),
                        fingerprint: text("fingerprint"),
                        version: text("version"),
                    })
                    .collect();
                found.sort();
                if !found.is_empty() {
                    return Some(found);
                }
            }
        }
    }
}

impl Drop for Search {
    fn drop(&mut self) {
        let _ = self.daemon.shutdown(); // it may have ended already
    }
}
