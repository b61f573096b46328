#!/bin/sh
# Every fuzz target for so many seconds: run.sh SECONDS DIRECTORY. New inputs go
# to DIRECTORY/corpus, findings to tests/fuzz/artifacts.
set -eu
cd "$(dirname "$0")/../.."
seconds=$1 dir=$2
if ! command -v cargo-fuzz >/dev/null; then
    echo "cargo-fuzz is not installed: cargo install cargo-fuzz --version 0.13.2 --locked" >&2
    exit 1
fi
if ! command -v clang >/dev/null && ! command -v g++ >/dev/null; then
    echo "libFuzzer needs a C++ compiler: apt-get install clang" >&2
    exit 1
fi
# Coverage needs no nightly toolchain as long as there is no sanitizer, and the
# code has no unsafe that one could watch.
cargo fuzz build --fuzz-dir tests/fuzz --target-dir "$dir" --sanitizer none
failed=
for target in $(cargo fuzz list --fuzz-dir tests/fuzz); do
    echo "== $target for $seconds s"
    mkdir -p "$dir/corpus/$target"
    cargo fuzz run --fuzz-dir tests/fuzz --target-dir "$dir" --sanitizer none "$target" \
        "$dir/corpus/$target" "tests/fuzz/corpus/$target" -- \
        -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 -verbosity=0 -print_final_stats=1 ||
        failed="$failed $target"
done
[ -z "$failed" ] || { echo "findings in tests/fuzz/artifacts:$failed" >&2; exit 1; }
