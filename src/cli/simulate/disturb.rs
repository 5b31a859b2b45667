//! What goes wrong in a simulated cloud while a controller works on it.

use crate::services::lxd::TransportError;
use crate::simulate::{Fault, FaultAction, SimCloud};
use std::time::Duration;
use tokio::time::sleep;

/// Numbers that look random and are the same for the same seed.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// Dice of a seed.
    pub fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_add(0x9e37_79b9_7f4a_7c15))
    }

    /// A number below `sides`; 0 when there are none.
    pub fn roll(&mut self, sides: usize) -> usize {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let sides = u64::try_from(sides).unwrap_or(u64::MAX).max(1);
        usize::try_from((z ^ (z >> 31)) % sides).unwrap_or(0)
    }

    /// One of these.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        of.get(self.roll(of.len()))
    }
}

/// What a disturbance asks of the one who runs the controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// Nothing: it was done.
    Nothing,
    /// To kill the controller.
    Crash,
}

/// Disturbs the cloud once; says what was done. `leader` is the machine of the controller, which
/// keeps its power.
pub async fn once(cloud: &SimCloud, leader: &str, dice: &mut Dice) -> (String, Asked) {
    let machines = cloud.machines();
    let others: Vec<String> = machines.iter().filter(|m| *m != leader).cloned().collect();
    let any = dice.pick(&machines).cloned().unwrap_or_default();
    let other = dice.pick(&others).cloned();
    let kth = u64::try_from(dice.roll(8)).unwrap_or(0) + 1;
    let done = match (dice.roll(7), other) {
        (0, _) => {
            cloud.restart_lxd(&any);
            format!("LXD is restarted on {any}")
        }
        (1, Some(other)) => {
            cloud.kill_host(&other);
            let down = 2 + dice.roll(30) as u64;
            let (cloud, back) = (cloud.clone(), other.clone());
            tokio::spawn(async move {
                sleep(Duration::from_secs(down)).await;
                cloud.start_host(&back);
            });
            format!("{other} loses its power for {down} s")
        }
        (2, Some(other)) => {
            cloud.isolate(&other);
            let cut = 1 + dice.roll(20) as u64;
            let (cloud, back) = (cloud.clone(), other.clone());
            tokio::spawn(async move {
                sleep(Duration::from_secs(cut)).await;
                cloud.rejoin(&back);
            });
            format!("{other} is cut off for {cut} s")
        }
        (3, _) => {
            cloud.inject(Fault::new(FaultAction::LoseAnswer).writes().nth(kth));
            format!("the answer to write {kth} from now is lost")
        }
        (4, _) => {
            cloud.inject(Fault::new(FaultAction::DropRequest).writes().nth(kth));
            format!("write {kth} from now is dropped")
        }
        (5, _) => {
            let message = TransportError::Broken {
                endpoint: "the database".into(),
                reason: "injected".into(),
            };
            let action = FaultAction::Refuse {
                status: 503,
                message: message.to_string(),
            };
            cloud.inject(Fault::new(action).nth(kth));
            format!("request {kth} from now is answered 503")
        }
        _ => return ("the controller is killed".into(), Asked::Crash),
    };
    (done, Asked::Nothing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dice_repeat_and_spread() {
        let rolls = |seed| {
            let mut dice = Dice::new(seed);
            (0..100).map(|_| dice.roll(6)).collect::<Vec<_>>()
        };
        assert_eq!(rolls(1), rolls(1));
        assert_ne!(rolls(1), rolls(2));
        for side in 0..6 {
            assert!(rolls(1).contains(&side));
        }
    }
}
