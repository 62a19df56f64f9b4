# A client of that region, as one is written for Nomad 2.0.
name       = "NODE_NAME"
datacenter = "dc1"
data_dir   = "DATA_DIR"
bind_addr  = "0.0.0.0"

advertise {
  http = "{{ GetInterfaceIP \"eth0\" }}"
  rpc  = "{{ GetInterfaceIP \"eth0\" }}"
  serf = "{{ GetInterfaceIP \"eth0\" }}"
}

client {
  enabled    = true
  node_class = "general"
  node_pool  = "default"

  servers = ["10.99.1.1:4647", "10.99.1.2:4647", "10.99.1.3:4647"]

  meta {
    rack = "r1"
  }

  reserved {
    cpu    = 100
    memory = 64
  }

  gc_interval              = "1m"
  gc_disk_usage_threshold  = 80
  gc_inode_usage_threshold = 70
  gc_max_allocs            = 50

  server_join {
    retry_join     = ["10.99.1.1", "10.99.1.2", "10.99.1.3"]
    retry_interval = "1s"
  }

  options = {
    "driver.allowlist" = "raw_exec,mock_driver"
  }
}

plugin "raw_exec" {
  config {
    enabled = true
  }
}
