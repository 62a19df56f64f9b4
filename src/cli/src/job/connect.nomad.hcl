# An example of two services that speak through Consul's mesh: a page that counts, and the counter behind it.
# Every argument but the driver's image is optional; what is left out has a sensible default.

job "countdash" {
  # Which datacenters may run it. "*" is any.
  datacenters = ["*"]

  group "api" {
    network {
      # A network namespace of its own, so that only the sidecar can be reached from outside.
      mode = "bridge"
    }

    service {
      name = "count-api"
      # A number, and no label: the port inside of the namespace, which is never published.
      port = "9001"

      connect {
        # Runs a proxy beside the task that speaks for it in the mesh.
        sidecar_service {}
      }
    }

    task "web" {
      driver = "docker"

      config {
        image          = "hashicorpdev/counter-api:v3"
        auth_soft_fail = true
      }

      resources {
        cpu    = 100
        memory = 64
      }
    }
  }

  group "dashboard" {
    network {
      mode = "bridge"

      # The page itself is published on a fixed port of the node.
      port "http" {
        static = 9002
        to     = 9002
      }
    }

    service {
      name = "count-dashboard"
      port = "http"

      connect {
        sidecar_service {
          proxy {
            # The proxy listens on this port for what the task has to say to the other service.
            upstreams {
              destination_name = "count-api"
              local_bind_port  = 8080
            }
          }
        }
      }
    }

    task "dashboard" {
      driver = "docker"

      env {
        COUNTING_SERVICE_URL = "http://${NOMAD_UPSTREAM_ADDR_count_api}"
      }

      config {
        image          = "hashicorpdev/counter-dashboard:v3"
        auth_soft_fail = true
      }

      resources {
        cpu    = 100
        memory = 64
      }
    }
  }
}
