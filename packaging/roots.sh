# Roots of other systems, for the scripts that try something in one; read with `.` after
# common.sh.
# shellcheck shell=bash disable=SC2034,SC2154

skip() {
  echo "$(basename "$0"): skipped: $*"
  exit 77
}

# Make the root of the Debian $1 with the packages $2, and set `tree` to its folder. With
# TRY_ROOT that folder is used instead, and made if it is not there. Ends the script where
# none can be made.
make_root() {
  local suite=$1 packages=$2 own file options=() sources=()
  [ "$(id -u)" = 0 ] || skip "not root"
  tree=${TRY_ROOT:-$work/root}
  unshare --mount --pid --fork --mount-proc true 2>/dev/null || skip "no namespaces here"
  if [ ! -d "$tree" ]; then
    command -v mmdebstrap >/dev/null || skip "no mmdebstrap"
    own=$(. /etc/os-release && echo "${ID:-} ${VERSION_CODENAME:-}")
    # How this machine reaches its mirrors, if that is said in such a file, and its mirrors.
    if [ "${own% *}" = debian ]; then
      for file in /etc/apt/apt.conf.d/*; do
        case $(basename "$file") in *docker* | *autoremove* | *debconf*) ;; *) options+=("--aptopt=$file") ;; esac
      done
    fi
    if [ "$own" = "debian $suite" ]; then
      for file in /etc/apt/sources.list /etc/apt/sources.list.d/debian.sources; do
        if [ -s "$file" ]; then sources+=("$file"); fi
      done
    fi
    timeout 600 mmdebstrap --quiet --mode=root --variant=apt --include="$packages" \
      "${options[@]}" "$suite" "$tree" "${sources[@]}" >"$work/mmdebstrap.log" 2>&1 || {
      tail -n 5 "$work/mmdebstrap.log"
      rm -rf "$tree"
      skip "mmdebstrap cannot make $suite"
    }
  fi
  mkdir -p "$tree/try"
  if [ -e /etc/resolv.conf ]; then cp -L /etc/resolv.conf "$tree/etc/resolv.conf"; fi
}

# Run $2... in the root for at most $1 seconds, with nothing of this environment but how a
# package index is reached; its processes end with it. What is in /try goes afterwards.
enter_root() {
  local seconds=$1 name kept=() status=0
  shift
  for name in PIP_INDEX_URL PIP_EXTRA_INDEX_URL HTTPS_PROXY HTTP_PROXY NO_PROXY; do
    if [ -n "${!name:-}" ]; then kept+=("$name=${!name}"); fi
  done
  # Where something stands between this machine and the index, only this machine trusts it.
  if [ -f /etc/ssl/certs/ca-certificates.crt ]; then
    cp /etc/ssl/certs/ca-certificates.crt "$tree/try/authorities.pem"
    kept+=(PIP_CERT=/try/authorities.pem)
  fi
  # shellcheck disable=SC2016 # the inner shell expands it
  timeout "$seconds" unshare --mount --pid --fork --kill-child sh -ec '
    mount -t proc proc "$1/proc"
    mount --rbind /dev "$1/dev"
    exec chroot "$@"
  ' sh "$tree" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root \
    LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive "${kept[@]}" "$@" || status=$?
  rm -rf "$tree/try"
  return "$status"
}
