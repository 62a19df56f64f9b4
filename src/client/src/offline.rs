//! What a node does by itself while no server can be reached: it goes on, but for jobs that forbid it.

use std::time::Duration;

use model::TaskGroup;

use crate::client::{Client, Contact};

/// Returns how long a group may run while no server can be reached; without end unless its job says so.
pub fn time_alone(group: &TaskGroup) -> Option<Duration> {
    group.disconnect.as_ref()?.stop_on_client_after
}

/// Stops allocations when their time alone is over, for as long as the agent lives. An agent that starts counts from its
/// start: it can not know how long it was away.
pub async fn stop_what_may_not_run_alone(client: Client) {
    let env = client.env().clone();
    let mut contact = client.contact();
    loop {
        let found = *contact.borrow_and_update();
        let wait = match found {
            Contact::Held => None,
            Contact::LostAt(at) => client.stop_overdue(env.now().saturating_duration_since(at)).await,
        };
        let due = async {
            match wait {
                Some(wait) => env.sleep(wait).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = env.shutdown().wait() => return,
            changed = contact.changed() => if changed.is_err() { return },
            () = due => {}
        }
    }
}
