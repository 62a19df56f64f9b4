# Three web servers as containers. Needs a container engine with the image busybox:local, which
# examples/busybox-image makes out of the machine's own busybox.
job "web-docker" {
  type = "service"

  group "front" {
    count = 3

    network {
      port "http" {
        to = 8080
      }
    }

    task "server" {
      driver = "docker"

      config {
        image   = "busybox:local"
        command = "/bin/sh"
        args    = ["-c", "echo \"hello from $NOMAD_ALLOC_NAME\" > /local/index.html && exec httpd -f -vv -p 8080 -h /local"]
        ports   = ["http"]

        labels {
          app = "web-docker"
        }
      }

      resources {
        cpu    = 50
        memory = 32
      }
    }
  }
}
