# Three web servers as plain processes, each on a port of its own. Needs busybox.
#
# A killed one is started again where it was: at most three times in a minute, then elsewhere.
job "web-raw-exec" {
  type = "service"

  group "front" {
    count = 3

    network {
      port "http" {}
    }

    restart {
      attempts = 3
      interval = "1m"
      delay    = "1s"
      mode     = "fail"
    }

    task "server" {
      driver = "raw_exec"

      config {
        command = "/bin/sh"
        args    = ["-c", "echo \"$GREETING from $NOMAD_ALLOC_NAME\" > local/index.html && exec busybox httpd -f -vv -p \"$NOMAD_ADDR_http\" -h local"]
      }

      env {
        GREETING = "hello"
      }

      kill_timeout = "5s"

      resources {
        cpu    = 50
        memory = 32
      }
    }
  }
}
