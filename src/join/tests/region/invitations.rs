//! Servers that wait to be told whom to join, and are asked to.

use std::time::Duration;

use join::{AskError, Refusal, RegionKey, invite};
use transport::Role;

use crate::harness::{Agent, Home, Net, Plan, region, single};

const PATIENCE: Duration = Duration::from_secs(5);

async fn ask(from: &Agent, home: &Home, to: &Agent) -> Result<(), AskError> {
    invite(&*from.transport, to.addr, &from.config, home, from.env.now() + PATIENCE).await
}

fn refusal(answer: Result<(), AskError>) -> Refusal {
    match answer {
        Err(AskError::Refused(refusal)) => refusal,
        answer => panic!("not refused: {answer:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_waits_joins_the_region_that_asks_it() {
    let net = Net::memory();
    let (first, home) = single(&net, Plan::new(Role::Server, 1)).await;
    let waiting = Agent::start(&net, Plan::new(Role::Server, 2));
    assert_eq!(refusal(ask(&first, &home, &waiting).await), Refusal::NotFounded, "it does not wait yet");
    let mut invitations = waiting.service.await_invitation();
    ask(&first, &home, &waiting).await.unwrap();
    assert_eq!(refusal(ask(&first, &home, &waiting).await), Refusal::TooMany, "one is enough");
    let named = invitations.recv().await.unwrap();
    assert_eq!(named, [first.addr]);
    drop(invitations);
    assert_eq!(refusal(ask(&first, &home, &waiting).await), Refusal::NotFounded, "it has made up its mind");
    let (joined, _) = waiting.become_part(&named).await.unwrap();
    assert_eq!(joined.kept.cluster, home.cluster);
    assert!(matches!(refusal(ask(&first, &home, &waiting).await), Refusal::Unavailable { .. }));
}

#[tokio::test(start_paused = true)]
async fn nobody_is_invited_by_who_proves_less_than_is_asked() {
    let net = Net::memory();
    let (key, other) = (RegionKey::generate(), RegionKey::generate());
    let (open, open_home) = single(&net, Plan::new(Role::Server, 1)).await;
    let (strange, strange_home) = single(&net, Plan::new(Role::Server, 2).with_key(&other)).await;
    let (right, right_home) = single(&net, Plan::new(Role::Server, 3).with_key(&key)).await;

    let keyed = Agent::start(&net, Plan::new(Role::Server, 4).with_key(&key));
    let mut invitations = keyed.service.await_invitation();
    assert_eq!(refusal(ask(&open, &open_home, &keyed).await), Refusal::KeyRequired);
    assert_eq!(refusal(ask(&strange, &strange_home, &keyed).await), Refusal::KeyWrong);
    assert!(invitations.try_recv().is_err());
    ask(&right, &right_home, &keyed).await.unwrap();
    assert_eq!(invitations.recv().await.unwrap(), [right.addr]);

    let careful = Plan { require_token: true, ..Plan::new(Role::Server, 5) };
    let careful = Agent::start(&net, careful);
    let _waits = careful.service.await_invitation();
    assert_eq!(refusal(ask(&open, &open_home, &careful).await), Refusal::TokenRequired);

    let client = Agent::start(&net, Plan::new(Role::Client, 6));
    let _waits = client.service.await_invitation();
    assert!(matches!(refusal(ask(&open, &open_home, &client).await), Refusal::Malformed { .. }));

    let mut elsewhere = Plan::new(Role::Server, 7);
    elsewhere.identity.region = region("elsewhere");
    let elsewhere = Agent::start(&net, elsewhere);
    let _waits = elsewhere.service.await_invitation();
    assert!(matches!(refusal(ask(&open, &open_home, &elsewhere).await), Refusal::WrongRegion { .. }));

    // An agent without a key can not prove that it has understood one: whoever has one set trusts no such answer.
    let bare = Agent::start(&net, Plan::new(Role::Server, 8));
    let _waits = bare.service.await_invitation();
    assert!(matches!(ask(&right, &right_home, &bare).await, Err(AskError::Unproven)));
}
