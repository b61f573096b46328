#!/bin/sh
# A static musl binary for x86_64, aarch64 or armv7 in target/dist, by the first
# route there is:
#
#   cross    https://github.com/cross-rs/cross, with docker or podman running
#   debian   std built from Debian's rust-web-src, zig as linker: the smallest
#   rustup   the target's std from rustup, zig as linker
#
#   build.sh x86_64|aarch64|armv7 [CARGO ARGUMENTS]     ROUTE=debian build.sh ...
set -eu
cd "$(dirname "$0")/.."
case ${1:-} in
  x86_64 | amd64) triple=x86_64-unknown-linux-musl ;;
  aarch64 | arm64) triple=aarch64-unknown-linux-musl ;;
  armv7 | armv7l | armhf) triple=armv7-unknown-linux-musleabihf ;;
  *) sed -n '2,9p' "$0"; exit 2 ;;
esac
shift
target=${CARGO_TARGET_DIR:-target}

have() { command -v "$1" >/dev/null 2>&1; }

# Debian's compiler and the source of its std.
debian_std() {
  [ -x /usr/bin/rustc ] && { [ -d /usr/src/rustc-web-src ] || [ -d /usr/lib/rustlib/src/rust/library/std ]; }
}

pick() {
  if have cross && { docker info || podman info; } >/dev/null 2>&1; then
    echo cross
  elif debian_std || { have apt-get && [ "$(id -u)" = 0 ]; }; then
    echo debian
  elif have rustup && { rustup target list --installed | grep -qx "$triple" || timeout 60 rustup target add "$triple"; } >/dev/null 2>&1; then
    echo rustup
  else
    echo "no route: neither cross, nor root on Debian, nor a rustup target" >&2
    exit 1
  fi
}

# zig links for every target; it comes from PyPI.
zig() {
  venv=${ZIG_VENV:-$target/zig}
  if [ ! -x "$venv/bin/cargo-zigbuild" ]; then
    have python3 || { echo "python3 is needed: apt-get install python3-venv" >&2; exit 1; }
    python3 -m venv "$venv" 2>/dev/null || { apt-get install -y -qq python3-venv >/dev/null && python3 -m venv "$venv"; }
    "$venv/bin/pip" install --quiet --disable-pip-version-check ziglang==0.15.1 cargo-zigbuild==0.22.1 ||
      "$venv/bin/pip" install --quiet --disable-pip-version-check ziglang cargo-zigbuild
  fi
  PATH="$(cd "$venv/bin" && pwd):$PATH"
  export PATH
}

route=${ROUTE:-$(pick)}
echo "selvedge for $triple by route '$route'"
# A panic ends the process, so nothing unwinds. Where std is built here, too, that
# leaves a seventh of the size out; a std with debug information keeps the tables.
flags="-C target-feature=+crt-static -C relocation-model=static -C force-unwind-tables=no"
name=$(echo "$triple" | tr 'a-z-' 'A-Z_')
case $route in
  cross)
    cross build --config cross/Cross.toml --release --target "$triple" "$@" ;;
  rustup)
    zig
    env "CARGO_TARGET_${name}_RUSTFLAGS=$flags" cargo zigbuild --release --target "$triple" "$@" ;;
  debian)
    zig
    debian_std || apt-get install -y -qq --no-install-recommends rustc-web rust-web-src >/dev/null
    # zig brings its own startup files, so rustc's must stay out.
    env "CARGO_TARGET_${name}_RUSTFLAGS=$flags -C link-self-contained=no" RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 \
      cargo zigbuild --release --target "$triple" -Zbuild-std=std,panic_abort -Zbuild-std-features=optimize_for_size "$@" ;;
  *) echo "unknown route '$route'" >&2; exit 2 ;;
esac
mkdir -p "$target/dist"
out="$target/dist/selvedge-${triple%%-*}"
cp "$target/$triple/release/selvedge" "$out"
echo "$out: $(stat -c %s "$out") B"
