//! What works.

use std::{sync::Arc, time::Duration};

use join::{
    AuthMode, FilesError, JoinError, Occupant, Refusal, RegionKey, Renewal, RenewalEnd, exchange, federate,
    reload_regions,
};
use model::JoinRole;
use runtime::Instant;
use transport::{Credentials, Host, Plane, Role, TokioHost};

use crate::harness::{Agent, HOUR, Net, Plan, node, region, single};

fn servers(net: &Net, count: u8, plan: impl Fn(u8) -> Plan) -> Vec<Agent> {
    (1..=count).map(|number| Agent::start(net, plan(number))).collect()
}

/// Three servers that found a region, whoever does; each serves it as soon as it is part of it.
async fn found_together(agents: &[Agent]) -> Vec<(join::Joined, Arc<crate::harness::Home>)> {
    let first = agents[0].addr;
    let joining = agents.iter().map(|agent| agent.become_part(std::slice::from_ref(&first)));
    let results = futures_util::future::join_all(joining).await;
    results.into_iter().map(Result::unwrap).collect()
}

#[tokio::test(start_paused = true)]
async fn three_servers_found_one_region_and_clients_join_through_any_agent() {
    let net = Net::memory();
    let agents = servers(&net, 3, |number| Plan::new(Role::Server, number).expecting(3));
    let parts = found_together(&agents).await;
    let founders: Vec<_> = parts.iter().filter_map(|(joined, _)| joined.found.as_ref()).collect();
    assert_eq!(founders.len(), 1);
    assert_eq!(founders[0].members.len(), 3);
    let cluster = founders[0].cluster;
    for (joined, _) in &parts {
        assert_eq!(joined.kept.cluster, cluster);
        assert_eq!(
            joined.kept.authority.as_ref().unwrap().fingerprint(),
            parts[0].0.kept.authority.as_ref().unwrap().fingerprint()
        );
        assert_eq!(joined.kept.keys, parts[0].0.kept.keys);
    }
    for (one, other) in [(0, 1), (1, 2), (2, 0)] {
        assert!(agents[one].dials(&agents[other], Plane::Raft).await.is_ok());
    }

    let client = Agent::start(&net, Plan::new(Role::Client, 11));
    let (joined, _) = client.become_part(&[agents[2].addr]).await.unwrap();
    assert_eq!((joined.kept.auth, joined.kept.cluster), (AuthMode::Trust, cluster));
    assert!(joined.kept.authority.is_none() && joined.kept.keys.ring().is_none(), "clients get no secrets");
    assert_eq!(joined.kept.keys.packet_keys(), parts[0].0.kept.keys.packet_keys());
    let second = Agent::start(&net, Plan::new(Role::Client, 12));
    let (joined, _) = second.become_part(&[client.addr]).await.unwrap();
    assert_eq!(joined.kept.cluster, cluster, "a client refers to the servers that it knows");
    assert!(second.dials(&agents[0], Plane::Node).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn servers_with_a_key_found_by_it_even_where_a_token_is_demanded() {
    let net = Net::memory();
    let key = RegionKey::generate();
    let plan = |number| {
        let plan = Plan::new(Role::Server, number).expecting(3).with_key(&key);
        Plan { require_token: true, ..plan }
    };
    let agents = servers(&net, 3, plan);
    let joining = agents.iter().map(|agent| async {
        let (joined, home) = agent.become_part(&[agents[0].addr]).await.unwrap();
        home.require_token();
        joined
    });
    let parts = futures_util::future::join_all(joining).await;
    let modes: Vec<_> = parts.iter().map(|joined| joined.kept.auth).collect();
    assert_eq!(modes.iter().filter(|mode| **mode == AuthMode::Founder).count(), 1);
    assert_eq!(modes.iter().filter(|mode| **mode == AuthMode::Key).count(), 2);

    let late = Agent::start(&net, Plan::new(Role::Server, 9).with_key(&key).briefly());
    assert!(matches!(late.join(&[agents[0].addr]).await, Err(JoinError::GivenUp { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_could_found_joins_the_region_that_is_there() {
    let net = Net::memory();
    let (first, home) = single(&net, Plan::new(Role::Server, 5)).await;
    let second = Agent::start(&net, Plan::new(Role::Server, 1).expecting(1));
    let (joined, _) = second.become_part(&[first.addr]).await.unwrap();
    assert!(joined.found.is_none());
    assert_eq!(joined.kept.cluster, home.cluster);
    assert!(second.files.founded().unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_token_admits_one_agent_and_a_lost_answer_is_asked_for_again() {
    let net = Net::memory();
    let (server, home) = single(&net, Plan::new(Role::Server, 1)).await;
    home.require_token();
    let (token, row) = home.token(&server.env, JoinRole::Client, HOUR);
    *home.lose_answer.lock().unwrap() = true;
    let client = Agent::start(&net, Plan { retry_max: 0, ..Plan::new(Role::Client, 2).with_token(&token) });
    let (joined, _) = client.become_part(&[server.addr]).await.unwrap();
    assert_eq!(joined.kept.auth, AuthMode::Token);
    let store = home.store.lock().unwrap();
    let used = store.state().join_token(row.accessor).unwrap().used.clone().unwrap();
    assert_eq!(used.node.as_bytes(), &node(2).0);
}

#[tokio::test(start_paused = true)]
async fn a_token_finds_its_region_through_a_client_and_is_shown_to_a_server_only() {
    let net = Net::memory();
    let (server, home) = single(&net, Plan::new(Role::Server, 1)).await;
    let client = Agent::start(&net, Plan::new(Role::Client, 2));
    client.become_part(&[server.addr]).await.unwrap();
    home.require_token();
    let (token, _) = home.token(&server.env, JoinRole::Server, HOUR);
    let joiner = Agent::start(&net, Plan::new(Role::Server, 3).with_token(&token));
    let (joined, _) = joiner.become_part(&[client.addr]).await.unwrap();
    assert!(joined.kept.authority.is_some());
    assert!(joiner.dials(&server, Plane::Raft).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn what_was_given_is_kept_and_damage_is_told() {
    let net = Net::memory();
    let (server, _) = single(&net, Plan::new(Role::Server, 1)).await;
    let client = Agent::start(&net, Plan::new(Role::Client, 2));
    let (joined, _) = client.become_part(&[server.addr]).await.unwrap();
    let now = TokioHost.unix_time();
    let own = client.config.identity.clone();
    let kept = client.files.load(&own, None, now).unwrap().unwrap();
    assert_eq!(
        (kept.cluster, kept.auth, kept.keys),
        (joined.kept.cluster, AuthMode::Trust, joined.kept.keys)
    );
    let other = crate::harness::identity(Role::Client, 9);
    let error = client.files.load(&other, None, now).unwrap_err();
    assert!(matches!(error, FilesError::Damaged { .. }), "{error}");
    let late = client.files.load(&own, None, now + 2 * HOUR).unwrap_err();
    assert!(matches!(late, FilesError::Expired { .. }), "{late}");

    let dir = client.dir.path().join("tls");
    for name in ["agent.pem", "authority.pem", "gossip-keys", "membership", "regions"] {
        let path = dir.join(name);
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        let error = client.files.load(&own, None, now).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(name) && text.contains("join again"), "{text}");
        std::fs::write(&path, &whole).unwrap();
    }
    assert!(client.files.load(&own, None, now).unwrap().is_some());
    std::fs::remove_file(dir.join("membership")).unwrap();
    assert!(client.files.load(&own, None, now).unwrap().is_none(), "it has not joined");

    let server_own = server.config.identity.clone();
    std::fs::remove_file(server.dir.path().join("tls/authority-key.pem")).unwrap();
    let error = server.files.load(&server_own, None, now).unwrap_err();
    assert!(error.to_string().contains("authority-key.pem"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_founder_that_stops_before_raft_began_is_told_to_begin_it_once() {
    let net = Net::memory();
    let (server, home) = single(&net, Plan::new(Role::Server, 1)).await;
    let (found, bootstrap) = server.files.founded().unwrap().unwrap();
    assert_eq!((found.cluster, bootstrap), (home.cluster, join::Bootstrap::Pending));
    server.files.keep_bootstrapped().unwrap();
    assert_eq!(server.files.founded().unwrap().unwrap().1, join::Bootstrap::Done);
    let kept = server.files.load(&server.config.identity, None, TokioHost.unix_time()).unwrap().unwrap();
    assert_eq!((kept.auth, kept.cluster), (AuthMode::Founder, home.cluster));
}

#[tokio::test(start_paused = true)]
async fn a_founder_that_was_down_for_too_long_begins_nothing_and_goes_on() {
    let net = Net::memory();
    let (server, home) = single(&net, Plan::new(Role::Server, 1)).await;
    let (own, now) = (server.config.identity.clone(), TokioHost.unix_time() + 10 * HOUR);
    assert!(matches!(server.files.load(&own, None, now), Err(FilesError::Expired { .. })));
    let again = server.joiner().run(Vec::new()).await;
    assert!(matches!(again, Err(JoinError::NoAddresses)), "it does not found again: {again:?}");
    let kept = server.files.reissue(&own, HOUR, now).unwrap().unwrap();
    let authority = home.authority.as_ref().unwrap().fingerprint();
    assert_eq!(kept.authority.unwrap().fingerprint(), authority, "by the same authority");
    assert_eq!((kept.cluster, kept.auth), (home.cluster, AuthMode::Founder));
    assert!(server.files.load(&own, None, now).unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn an_agent_of_one_cluster_does_not_join_another() {
    let net = Net::memory();
    let (first, _) = single(&net, Plan::new(Role::Server, 1).briefly()).await;
    let (other, _) = single(&net, Plan::new(Role::Server, 2)).await;
    let client = Agent::start(&net, Plan::new(Role::Client, 3).briefly());
    let (joined, _) = client.become_part(&[first.addr]).await.unwrap();
    assert!(matches!(client.join(&[other.addr]).await, Err(JoinError::GivenUp { .. })));
    assert!(matches!(first.join(&[other.addr]).await, Err(JoinError::GivenUp { .. })));
    let kept = client.files.load(&client.config.identity, None, TokioHost.unix_time()).unwrap().unwrap();
    assert_eq!(kept.cluster, joined.kept.cluster);
    assert!(client.join(&[first.addr, other.addr]).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn addresses_that_are_silent_delay_nobody() {
    let net = Net::memory();
    let (server, _) = single(&net, Plan::new(Role::Server, 1)).await;
    let client = Agent::start(&net, Plan::new(Role::Client, 2));
    let silent = (1..=20).map(|number| format!("127.0.0.1:{number}"));
    let addresses = silent.chain([server.addr.to_string()]).collect();
    let start = Instant::now();
    client.joiner().run(addresses).await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_agent_tries_addresses_as_those_of_gossip_too() {
    let net = Net::memory();
    let (server, _) = single(&net, Plan::new(Role::Server, 1)).await;
    let client = Agent::start(&net, Plan::new(Role::Client, 2));
    let (gossip, rpc) = (server.config.gossip, server.addr);
    let joiner = client
        .joiner()
        .with_locate(Arc::new(move |addr| Box::pin(async move { (addr == gossip).then_some(rpc) })));
    joiner.run(vec![gossip.to_string()]).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn regions_trust_each_other_for_their_own_names() {
    let net = Net::memory();
    let (here, here_home) = single(&net, Plan::new(Role::Server, 1)).await;
    let mut plan = Plan::new(Role::Server, 2);
    plan.identity.region = region("there");
    let (there, there_home) = single(&net, plan).await;
    assert!(here.dials(&there, Plane::Federation).await.is_err());
    let (token, _) = there_home.token(&there.env, JoinRole::Region, HOUR);
    there_home.require_token();
    let soon = || Instant::now() + Duration::from_secs(10);
    let bare = federate(&*here.transport, there.addr, &here.config, &*here_home, None, soon()).await;
    assert!(bare.unwrap_err().to_string().contains("token"));
    let federation = federate(&*here.transport, there.addr, &here.config, &*here_home, Some(&token), soon())
        .await
        .unwrap();
    assert_eq!((federation.region, federation.auth), (region("there"), AuthMode::Token));
    for (home, other) in [(&here_home, "there"), (&there_home, "here")] {
        let met = home.met.lock().unwrap();
        let [abroad] = &met[..] else { panic!("each hears of the other once") };
        assert_eq!((&abroad.region, abroad.servers.len(), abroad.wide_keys.len()), (&region(other), 1, 1));
    }
    for (agent, home) in [(&here, &here_home), (&there, &there_home)] {
        let regions = join::Registry::regions(&**home);
        assert_eq!(regions.len(), 1);
        let now = TokioHost.unix_time();
        reload_regions(&*agent.transport, &agent.files, None, &regions, now).unwrap();
    }
    assert!(here.dials(&there, Plane::Federation).await.is_ok());
    assert!(there.dials(&here, Plane::Federation).await.is_ok());
    let told = exchange(&*there.transport, here.addr, &region("here"), &*there_home, soon()).await.unwrap();
    assert_eq!(told.wide_keys, there_home.met.lock().unwrap()[0].wide_keys);
    assert_eq!(here_home.met.lock().unwrap().len(), 2, "who is asked hears of the asker too");
    let other = exchange(&*there.transport, here.addr, &region("elsewhere"), &*there_home, soon()).await;
    assert!(other.unwrap_err().to_string().contains("here"));
    assert!(there.dials(&here, Plane::Rpc).await.is_err(), "trust is for federation only");
}

#[tokio::test(start_paused = true)]
async fn an_agent_whose_id_is_in_use_waits_until_it_is_not() {
    let net = Net::memory();
    let (server, home) = single(&net, Plan::new(Role::Server, 1)).await;
    let (token, _) = home.token(&server.env, JoinRole::Client, HOUR);
    home.occupants.lock().unwrap().push((node(2), Occupant::Alive));
    let plan = Plan { retry_max: 0, ..Plan::new(Role::Client, 2).with_token(&token) };
    let client = Agent::start(&net, plan);
    let addrs = [server.addr];
    let joining = client.join(&addrs);
    tokio::pin!(joining);
    let early = tokio::time::timeout(Duration::from_secs(20), &mut joining).await;
    assert!(early.is_err(), "it is refused while the other is alive");
    home.occupants.lock().unwrap()[0].1 = Occupant::Gone;
    assert_eq!(joining.await.unwrap().kept.auth, AuthMode::Token);
    assert!(!Refusal::NodeKnown { node_id: node(2) }.passes());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_quic_a_region_is_founded_and_joined_and_an_endpoint_is_never_opened_again() {
    let net = Net::Quic;
    let agents = servers(&net, 3, |number| Plan::new(Role::Server, number).expecting(3));
    let parts = found_together(&agents).await;
    assert_eq!(parts.iter().filter(|(joined, _)| joined.found.is_some()).count(), 1);
    for (one, other) in [(0, 1), (1, 2), (2, 0)] {
        agents[one].dials(&agents[other], Plane::Raft).await.unwrap();
    }
    let home = &parts[1].1;
    home.require_token();
    let (token, _) = home.token(&agents[1].env, JoinRole::Client, HOUR);
    let client = Agent::start(&net, Plan::new(Role::Client, 11).with_token(&token));
    let (joined, _) = client.become_part(&[agents[1].addr]).await.unwrap();
    assert_eq!(joined.kept.auth, AuthMode::Token);
    client.dials(&agents[0], Plane::Node).await.unwrap();
    assert!(
        client.dials(&agents[0], Plane::Raft).await.is_err(),
        "a client's certificate on a server's plane"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_quic_certificates_are_renewed_under_a_session_and_expire_without_it() {
    let lifetime = Duration::from_secs(6);
    let net = Net::Quic;
    let (server, at_server) = single(&net, Plan { lifetime, ..Plan::new(Role::Server, 1) }).await;
    let client = Agent::start(&net, Plan { lifetime, ..Plan::new(Role::Client, 2) });
    let (joined, home) = client.become_part(&[server.addr]).await.unwrap();
    let session = client.dials(&server, Plane::Node).await.unwrap();
    let first = joined.kept.credentials.validity().unwrap();
    let start = |agent: &Agent, home: &Arc<crate::harness::Home>| {
        let (env, config, transport) = (agent.env.clone(), agent.config.clone(), agent.transport.clone());
        let (files, told) = (agent.files.clone(), Arc::new(|_: &join::Kept| {}));
        let renewal = Renewal::new(env, config, transport, files, home.clone(), AuthMode::Trust, told);
        let (end, ended) = tokio::sync::oneshot::channel();
        agent.env.spawn("renewal", async move { end.send(renewal.run(first).await).unwrap() });
        ended
    };
    let ended = start(&client, &home);
    let _server_renews_itself = start(&server, &at_server);
    tokio::time::sleep(lifetime + Duration::from_secs(2)).await;
    let kept = client.files.load(&client.config.identity, None, TokioHost.unix_time()).unwrap().unwrap();
    assert!(kept.credentials.validity().unwrap().not_after > first.not_after);
    assert!(session.connection.close_reason().is_none(), "the session was not dropped");
    client.dials(&server, Plane::Node).await.unwrap();

    // The client finds no server any more: it notices and ends.
    home.servers.lock().unwrap().clear();
    assert_eq!(ended.await.unwrap(), RenewalEnd::Expired);
    let late = client.dials(&server, Plane::Node).await;
    assert!(late.is_err(), "an expired certificate opens nothing");
    let again = client.join(&[server.addr]).await.unwrap();
    assert_eq!(again.kept.cluster, joined.kept.cluster, "it joins anew");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_quic_agents_with_the_users_certificates_found_and_join_by_them() {
    let net = Net::Quic;
    let authority = transport::ca::Authority::make(region("here"), HOUR, TokioHost.unix_time()).unwrap();
    let agents: Vec<_> = (1..=3)
        .map(|number| {
            let plan = Plan::new(Role::Server, number).expecting(3);
            let own = Credentials::issued_by(&authority, plan.identity.clone(), HOUR, &TokioHost).unwrap();
            let agent = Agent::start(&net, plan);
            agent.transport.reload(&own).unwrap();
            (agent, own)
        })
        .collect();
    let first = agents[0].0.addr;
    let joining = agents.iter().map(|(agent, own)| async {
        let (env, config, transport) = (agent.env.clone(), agent.config.clone(), agent.transport.clone());
        let (service, files) = (agent.service.clone(), agent.files.clone());
        let joiner = join::Joiner::new(env, config, transport, service, files, Some(own.clone()));
        let joined = joiner.run(vec![first.to_string()]).await.unwrap();
        agent.open(&joined.kept);
        joined
    });
    let parts = futures_util::future::join_all(joining).await;
    assert_eq!(parts.iter().filter(|joined| joined.found.is_some()).count(), 1);
    for joined in &parts {
        assert_eq!((joined.kept.auth, joined.kept.cluster), (AuthMode::Tls, parts[0].kept.cluster));
        assert!(joined.kept.authority.is_none());
    }
    assert!(agents[1].0.dials(&agents[2].0, Plane::Raft).await.is_ok());
    // Nobody is admitted there without a certificate of the user's.
    let stranger = Agent::start(&net, Plan::new(Role::Client, 9).briefly());
    assert!(matches!(stranger.join(&[first]).await, Err(JoinError::GivenUp { .. })));
}
