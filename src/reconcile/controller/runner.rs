//! Working off the queue.

use super::Inner;
use super::round::{self, Outcome};
use crate::reconcile::queue::{Action, BackOffs, Queue};
use crate::resources::ObjectRef;
use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::{Id, JoinSet};

/// Takes due objects from the queue and works on several at once, never twice on one.
pub(super) async fn run(
    inner: Arc<Inner>,
    mut wakes: mpsc::UnboundedReceiver<(ObjectRef, Duration)>,
) {
    let mut queue = Queue::new();
    let mut backs = BackOffs::default();
    let mut running: JoinSet<Outcome> = JoinSet::new();
    let mut objects: HashMap<Id, ObjectRef> = HashMap::new();
    let mut synced = inner.synced.subscribe();
    loop {
        let ready = *synced.borrow_and_update();
        let room = ready && running.len() < inner.concurrency;
        // Every arm is cancel safe: a message is taken or stays, a finished task is taken or
        // stays, and an object leaves the queue only when the arm is chosen.
        tokio::select! {
            () = inner.cancel.cancelled() => break,
            Some((object, delay)) = wakes.recv() => {
                queue.request(&object, delay);
                while let Ok((object, delay)) = wakes.try_recv() {
                    queue.request(&object, delay);
                }
            }
            Some(done) = running.join_next_with_id(), if !running.is_empty() => {
                let panicked = done.is_err();
                let (id, outcome) = match done {
                    Ok(done) => done,
                    Err(error) => {
                        // A panic is a defect of one object's plan; the others go on.
                        tracing::error!(%error, "working on an object ended badly");
                        (error.id(), Outcome::Failed)
                    }
                };
                let Some(object) = objects.remove(&id) else { continue };
                if panicked {
                    inner.give_back(&mut inner.state(), &object);
                }
                let action = match outcome {
                    Outcome::Done(action) => {
                        backs.reset(&object);
                        action
                    }
                    Outcome::Failed => {
                        let delay = backs.failed(&object);
                        inner.retry(&object, delay);
                        Action::requeue(delay)
                    }
                };
                queue.done(&object);
                if let Some(delay) = action.requeue_after() {
                    queue.request(&object, delay);
                }
            }
            object = poll_fn(|cx| queue.poll_next(cx)), if room => {
                let (inner, name) = (inner.clone(), object.clone());
                let task = running.spawn(async move { round::reconcile(&name, &inner).await });
                objects.insert(task.id(), object);
            }
            Ok(()) = synced.changed(), if !ready => {}
        }
    }
    // Steps that are under way come to their end: a stop is no reason to leave half of one.
    while running.join_next().await.is_some() {}
}
