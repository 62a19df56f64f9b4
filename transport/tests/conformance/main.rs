//! What every transport must do, told once and run over each of them.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc)]

mod nets;
mod stories;

macro_rules! over_each_net {
    ($($story:ident),* $(,)?) => {
        mod over_quic {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $story() {
                super::stories::$story(&super::nets::Quic::new()).await;
            })*
        }
        mod in_memory {
            $(#[tokio::test(start_paused = true)]
            async fn $story() {
                super::stories::$story(&super::nets::Memory::new()).await;
            })*
        }
    };
}

over_each_net!(
    both_ends_know_each_other,
    requests_run_at_once_in_both_directions,
    an_expired_request_is_cancelled_at_the_peer,
    a_dropped_request_is_cancelled_at_the_peer,
    requests_without_a_server_say_so,
    a_peer_with_too_much_at_hand_is_busy,
    bodies_over_the_limit_are_refused,
    a_big_stream_arrives_whole,
    servers_open_streams_back,
    a_stream_dropped_early_is_broken,
    a_stalled_stream_delays_no_request,
    datagrams_arrive,
    closing_tells_the_peer,
    unused_connections_are_closed,
    a_client_may_not_speak_raft,
    another_authority_is_refused_both_ways,
    another_region_is_refused_except_for_federation,
    another_cluster_is_refused,
    only_the_expected_node_will_do,
    a_joiner_needs_no_certificate,
    an_agent_without_a_certificate_can_only_join,
    a_certificate_takes_effect_on_the_endpoint_that_waited_for_it,
    clients_answer_joiners_and_nobody_else,
    peers_share_one_connection,
    a_peer_that_comes_back_replaces_what_was_kept,
    shutdown_ends_the_acceptor_and_tells_peers,
);
