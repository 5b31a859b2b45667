//! Forming and growing on real hosts: needs root, `systemd-nspawn` and the sandbox's base.

mod common;

use common::real::{self, FIRST, Outcome};

#[test]
fn three_hosts_form_and_a_second_start_changes_nothing() -> Outcome {
    real::formed("t-form", 3, |cloud| {
        println!("{}", cloud.lxc(FIRST, &["cluster", "list"])?);
        let status = cloud.status("micro02")?;
        println!("{:?} {:?}", status.role, status.leader);
        for e in cloud.events(FIRST)? {
            println!("{} {:?} {} {}", e.at, e.object, e.reason, e.message);
        }
        Ok(())
    })
}
