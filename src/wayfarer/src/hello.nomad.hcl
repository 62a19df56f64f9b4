# What `wayfarer dev` runs when it is given no job file. It needs nothing but a shell.
job "hello" {
  group "greeter" {
    task "greet" {
      driver = "raw_exec"

      config {
        command = "/bin/sh"
        args    = ["-c", "i=0; while true; do i=$((i+1)); echo \"hello number $i from $NOMAD_ALLOC_NAME\"; sleep 2; done"]
      }

      resources {
        cpu    = 50
        memory = 32
      }
    }
  }
}
