//! How long the forming of the whole takes, phase by phase, beside a script of the services' own
//! commands in the same order.

mod common;

use common::real::{FIRST, Outcome};
use common::{ovn, whole};
use std::time::{Duration, Instant};

#[test]
#[ignore = "takes some minutes: make prove"]
fn prove_the_phases_of_forming() -> Outcome {
    whole::with("t-phases", |cloud| {
        whole::write(cloud)?;
        let begun = Instant::now();
        cloud.start_agents(&whole::HOSTS)?;
        let formed = cloud.wait_formed(&whole::HOSTS, Duration::from_secs(180));
        println!("formed after {:.1?}", begun.elapsed());
        let steps = "journalctl -u microcloud -o short-unix --no-pager";
        println!("{}", cloud.must(FIRST, &["sh", "-c", steps])?);
        formed?;
        println!("{:?}", ovn::ping(cloud)?);
        println!("{:#}", whole::portrait(cloud)?);
        Ok(())
    })
}
