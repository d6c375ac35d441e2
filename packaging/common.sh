# What the scripts in this folder share; they read it with `.`. Sets `root` (the source
# tree, and the working directory from then on), `work` (a folder that is removed at the
# end), `locks`, `dist` (where results go: $DIST), `python` ($PYTHON) and `version`.
# shellcheck shell=bash disable=SC2034

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root" || exit
locks=packaging/locks
dist=${DIST:-$root/dist}
python=$(command -v "${PYTHON:-python3}")
version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' ssmtunneld/version.py)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
# The same tree makes the same bytes: times are those of the last commit.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 1767225600)}
export SOURCE_DATE_EPOCH
umask 022

fail() {
  printf '%s: %s\n' "$(basename "$0")" "$*" >&2
  exit 1
}

need() {
  local program
  for program in "$@"; do
    command -v "$program" >/dev/null || fail "needs $program, which is not here"
  done
}

# Print the path of uv.
find_uv() {
  command -v uv && return 0
  "$python" -m venv "$work/uv" >&2
  "$work/uv/bin/python" -m pip install --quiet uv >&2
  echo "$work/uv/bin/uv"
}

# Print the path of a wheel of this tree, and make it first if $WHEEL names none.
find_wheel() {
  if [ -n "${WHEEL:-}" ]; then
    [ -f "$WHEEL" ] || fail "no such file: $WHEEL"
    realpath "$WHEEL"
    return 0
  fi
  DIST=$work/wheel "$root/packaging/build-wheel" >&2
  ls "$work"/wheel/*.whl
}

# Make the tree of a package for Linux below $1 from the wheel $2, for the interpreter $3,
# which the target has at the same path: all but what a package manager wants to be told.
stage() {
  local into=$1 wheel=$2 interpreter=$3 home=$1/usr/lib/ssmtunneld site page
  site=$home/lib/python$("$interpreter" -c 'import sys; print("%d.%d" % sys.version_info[:2])')/site-packages
  # By hand and not by venv: it would write where it was made into its files.
  mkdir -p "$home/bin" "$site"
  ln -s "$interpreter" "$home/bin/python3"
  ln -s python3 "$home/bin/python"
  printf 'home = %s\ninclude-system-site-packages = false\nversion = %s\n' \
    "$(dirname "$interpreter")" "$("$interpreter" -c 'import platform; print(platform.python_version())')" \
    >"$home/pyvenv.cfg"
  local uv
  uv=$(find_uv)
  "$uv" pip install --quiet --python "$interpreter" --target "$work/site" \
    --no-deps --require-hashes --only-binary :all: --link-mode copy -r "$locks/runtime.txt"
  "$uv" pip install --quiet --python "$interpreter" --target "$work/site" \
    --no-deps --no-index --link-mode copy "$wheel"
  # Other people's commands, and what tells where this was made.
  rm -rf "$work/site/bin" "$work"/site/*.dist-info/{direct_url.json,uv_cache.json,RECORD,REQUESTED}
  rm -f "$work/site/.lock"
  mkdir -p "$into/usr/share/man/man1"
  for page in "$work"/site/share/man/man1/*.1; do
    # shellcheck disable=SC2094 # $page is only named, not written
    gzip -9n <"$page" >"$into/usr/share/man/man1/$(basename "$page").gz"
  done
  rm -rf "$work/site/share"
  cp -R "$work/site/." "$site"
  # Nothing is written into this folder later, so that removing it leaves nothing.
  "$interpreter" -m compileall -q -j 2 --invalidation-mode unchecked-hash \
    -s "$into" -p / "$site" >"$work/compiled" || { cat "$work/compiled" >&2; fail "cannot compile"; }
  # -I: no variable and no module of a user's comes between.
  cat >"$home/bin/ssmtunneld" <<'END'
#!/usr/lib/ssmtunneld/bin/python3 -I
from ssmtunneld.__main__ import main

main()
END
  chmod 755 "$home/bin/ssmtunneld"
  mkdir -p "$into/usr/bin"
  ln -s ../lib/ssmtunneld/bin/ssmtunneld "$into/usr/bin/ssmtunneld"

  # The unit is the one that `ssmtunneld service install --system` writes.
  mkdir -p "$into/usr/lib/systemd/system" "$into/usr/lib/sysusers.d"
  run_staged "$site" "$interpreter" packaging/files/units.py "$into/usr/lib/systemd/system"
  cp packaging/files/sysusers.conf "$into/usr/lib/sysusers.d/ssmtunneld.conf"

  local shell place
  for place in bash-completion/completions/ssmtunneld zsh/vendor-completions/_ssmtunneld \
    fish/vendor_completions.d/ssmtunneld.fish; do
    shell=${place%%/*}
    mkdir -p "$into/usr/share/$(dirname "$place")"
    run_staged "$site" "$interpreter" -m ssmtunneld completion "${shell%-completion}" \
      >"$into/usr/share/$place"
  done

  install -D -m 644 packaging/files/config.toml "$into/etc/ssmtunneld/config.toml"
  install -D -m 600 packaging/files/environment "$into/etc/ssmtunneld/environment"
  mkdir -p "$into/usr/share/doc/ssmtunneld/examples"
  cp config.example.toml "$into/usr/share/doc/ssmtunneld/examples/config.toml"
  cp contrib/prometheus/alerts.yml contrib/prometheus/alerts.test.yml \
    contrib/grafana/ssmtunneld.json "$into/usr/share/doc/ssmtunneld/examples/"
  cp systemd/ssmtunneld.socket "$into/usr/share/doc/ssmtunneld/examples/"
  cp SECURITY.md "$into/usr/share/doc/ssmtunneld/"
  gzip -9n <CHANGELOG.md >"$into/usr/share/doc/ssmtunneld/changelog.gz"
}

# Run Python on what is staged in $1, with the interpreter $2.
run_staged() {
  local site=$1 interpreter=$2
  shift 2
  PYTHONPATH=$site PYTHONDONTWRITEBYTECODE=1 "$interpreter" -sP "$@"
}

# Give every file of a tree the time of the source.
settle_times() {
  find "$1" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
}
