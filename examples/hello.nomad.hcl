# A web page from whatever this machine has: python3, busybox or perl. Needs no container engine.
#
#   wayfarer dev examples/hello.nomad.hcl
#
# prints the address of the page, e.g. "port "http" is http://127.0.0.1:23456". Ctrl-C stops it.
job "hello" {
  group "web" {
    network {
      port "http" {}
    }

    task "page" {
      driver = "raw_exec"

      config {
        command = "/bin/sh"
        args = ["-c", <<-SCRIPT
          cd "$NOMAD_TASK_DIR" || exit 1
          echo "<h1>Hello from $NOMAD_ALLOC_NAME</h1>" > index.html
          echo "a page is at http://$NOMAD_ADDR_http"
          if command -v python3 > /dev/null; then
            exec python3 -u -m http.server --bind "$NOMAD_IP_http" "$NOMAD_PORT_http"
          elif command -v busybox > /dev/null; then
            exec busybox httpd -f -vv -p "$NOMAD_ADDR_http" -h .
          elif command -v perl > /dev/null; then
            exec perl -MIO::Socket::INET -e '
              my ($addr, $page) = @ARGV;
              my $door = IO::Socket::INET->new(LocalAddr => $addr, Listen => 16, ReuseAddr => 1) or die "$addr: $!";
              while (my $guest = $door->accept) {
                while (my $line = <$guest>) { last if $line =~ /^\s*$/ }
                print $guest "HTTP/1.0 200 OK\r\nContent-Type: text/html\r\nContent-Length: " . length($page) . "\r\n\r\n$page";
                close $guest;
              }' "$NOMAD_ADDR_http" "$(cat index.html)"
          else
            echo "no python3, busybox or perl here: nothing can serve the page" >&2
            exit 1
          fi
        SCRIPT
        ]
      }

      resources {
        cpu    = 100
        memory = 64
      }
    }
  }
}
