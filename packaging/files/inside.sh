# What the trials of packages share that run inside of a bare system; they read it with
# `.` from /try.
# shellcheck shell=bash

say() { printf -- '-- %s\n' "$*"; }
fail() {
  printf 'FAILED: %s\n' "$*"
  exit 1
}

# Every file that packages and users could leave behind, and the users.
everything() {
  find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /try -o -path /tmp \
    -o -path /run -o -path /var/lib/dpkg -o -path /var/lib/apt -o -path /var/cache \
    -o -path /var/log -o -path '/etc/*-' -o -path /etc/.pwd.lock \) -prune -o -print
  cut -d: -f1 /etc/passwd /etc/group
}

systemd_reads_the_units() {
  say "systemd reads the units"
  systemd-analyze verify /usr/lib/systemd/system/ssmtunneld.service \
    /usr/lib/systemd/system/ssmtunneld@.service
}

the_demo_serves_curl() {
  local visitor demo url=
  say "the demo serves curl"
  # As somebody who may write nowhere in the package. The demo lets in its own user only.
  useradd --create-home visitor
  visitor=(setpriv --reuid visitor --regid visitor --init-groups env HOME=/home/visitor)
  # It must be there before the demo's shell makes it: it is read at once.
  : >/try/demo
  "${visitor[@]}" ssmtunneld demo </dev/null >/try/demo 2>&1 &
  demo=$!
  for _ in $(seq 600); do
    url=$(sed -n 's/.*curl \(http[^ ]*\).*/\1/p' /try/demo | head -n 1)
    if [ -n "$url" ]; then break; fi
    kill -0 $demo 2>/dev/null || { cat /try/demo; fail "the demo has ended"; }
    sleep 0.1
  done
  "${visitor[@]}" curl -sS --fail --max-time 60 --retry 20 --retry-all-errors --retry-delay 1 \
    --noproxy '*' "$url" >/try/page || { cat /try/demo; fail "curl $url"; }
  grep '<h1>' /try/page || fail "another page"
  kill -TERM $demo
  wait $demo || fail "the demo ended with $?"
  userdel --remove visitor 2>/dev/null || true
}
