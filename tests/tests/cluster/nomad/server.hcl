# A server of three, as one is written for Nomad 2.0. The test fills in NODE_NAME and DATA_DIR, and nothing else.
name       = "NODE_NAME"
datacenter = "dc1"
region     = "global"
data_dir   = "DATA_DIR"
bind_addr  = "0.0.0.0"

log_level            = "INFO"
log_json             = false
enable_syslog        = false
enable_debug         = false
leave_on_interrupt   = false
leave_on_terminate   = false
disable_update_check = true

advertise {
  http = "{{ GetInterfaceIP \"eth0\" }}"
  rpc  = "{{ GetInterfaceIP \"eth0\" }}"
  serf = "{{ GetInterfaceIP \"eth0\" }}"
}

addresses {
  http = "0.0.0.0"
}

ports {
  http = 4646
  rpc  = 4647
  serf = 4648
}

server {
  enabled          = true
  bootstrap_expect = 3
  raft_protocol    = 3
  raft_multiplier  = 4
  encrypt          = "cg8StVXbQJ0gPvMd9o7yrpg0a1Cq3Lk5u5n6m7p8q9s="

  server_join {
    retry_join     = ["10.99.1.1:4648", "10.99.1.2:4648", "10.99.1.3:4648"]
    retry_max      = 0
    retry_interval = "1s"
  }

  heartbeat_grace           = "10s"
  min_heartbeat_ttl         = "10s"
  max_heartbeats_per_second = 50
  node_gc_threshold         = "24h"
  job_gc_interval           = "5m"
  job_gc_threshold          = "4h"
  eval_gc_threshold         = "1h"
  deployment_gc_threshold   = "1h"
  raft_snapshot_threshold   = 8192
  raft_snapshot_interval    = "120s"
  raft_trailing_logs        = 10240

  default_scheduler_config {
    scheduler_algorithm             = "spread"
    memory_oversubscription_enabled = true

    preemption_config {
      batch_scheduler_enabled   = false
      system_scheduler_enabled  = true
      service_scheduler_enabled = false
    }
  }

  # Of the paid edition: accepted with a warning.
  license_path    = "/etc/nomad.d/license.hclic"
  redundancy_zone = "a"
}

autopilot {
  cleanup_dead_servers      = true
  last_contact_threshold    = "200ms"
  max_trailing_logs         = 250
  server_stabilization_time = "10s"
}

acl {
  enabled = false
}

ui {
  enabled = true

  label {
    text             = "Test"
    background_color = "blue"
    text_color       = "white"
  }
}

telemetry {
  collection_interval        = "10s"
  disable_hostname           = true
  prometheus_metrics         = true
  publish_allocation_metrics = true
  publish_node_metrics       = true
}

limits {
  https_handshake_timeout   = "5s"
  http_max_conns_per_client = 100
  rpc_handshake_timeout     = "5s"
  rpc_max_conns_per_client  = 100
}
