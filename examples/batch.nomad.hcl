# Four pieces of work, each done once. Whoever fails is tried twice more.
#
#   wayfarer job run -var numbers=100000 examples/batch.nomad.hcl
variable "numbers" {
  type        = number
  default     = 20000
  description = "How far each piece counts."
}

job "batch" {
  type = "batch"

  group "pieces" {
    count = 4

    restart {
      attempts = 2
      delay    = "1s"
      mode     = "fail"
    }

    task "count" {
      driver = "raw_exec"

      config {
        command = "/bin/sh"
        args    = ["-c", "i=0; while [ $i -lt ${var.numbers} ]; do i=$((i+1)); done; echo piece $NOMAD_ALLOC_INDEX counted to $i"]
      }

      resources {
        cpu    = 100
        memory = 32
      }
    }
  }
}
