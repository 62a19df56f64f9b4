# A group of three tasks that share a directory: one prepares and ends, then one works while another watches.
job "two-tasks" {
  group "pair" {
    task "prepare" {
      driver = "raw_exec"

      lifecycle {
        hook = "prestart"
      }

      config {
        command = "/bin/sh"
        args    = ["-c", "echo prepared at $(date +%T) > \"$NOMAD_ALLOC_DIR/prepared\""]
      }

      resources {
        cpu    = 20
        memory = 16
      }
    }

    task "work" {
      driver = "raw_exec"

      config {
        command = "/bin/sh"
        args    = ["-c", "cat \"$NOMAD_ALLOC_DIR/prepared\"; i=0; while true; do i=$((i+1)); echo $i > \"$NOMAD_ALLOC_DIR/done\"; sleep 1; done"]
      }

      resources {
        cpu    = 20
        memory = 16
      }
    }

    task "watch" {
      driver = "raw_exec"

      config {
        command = "/bin/sh"
        args    = ["-c", "while true; do echo \"done so far: $(cat \"$NOMAD_ALLOC_DIR/done\")\"; sleep 2; done"]
      }

      resources {
        cpu    = 20
        memory = 16
      }
    }
  }
}
