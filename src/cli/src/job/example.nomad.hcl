# A job says what to run. Its name is its identity: running a file with the same name again changes the job.
job "example" {
  # "service" runs until it is stopped, "batch" until it is done, "system" once on every node.
  type = "service"

  # A group's tasks run together on one node. There are `count` copies of a group.
  group "web" {
    count = 1

    # Ports that the copies get on their nodes. `to` is the port inside the container.
    network {
      port "http" {
        to = 8080
      }
    }

    # Under this name the copies can be found: see `service info web`.
    service {
      name     = "web"
      port     = "http"
      provider = "nomad"

      check {
        type     = "http"
        path     = "/"
        interval = "10s"
        timeout  = "2s"
      }
    }

    # A task is one program. The driver says how it is run.
    task "server" {
      driver = "docker"

      config {
        image   = "busybox:1"
        command = "httpd"
        args    = ["-f", "-v", "-p", "8080", "-h", "/local"]
        ports   = ["http"]
      }

      # Rendered into the task's directory before it starts.
      template {
        destination = "local/index.html"
        data        = "<h1>It runs.</h1>\n"
      }

      # What a node must have free: MHz and MiB.
      resources {
        cpu    = 100
        memory = 64
      }
    }
  }
}
