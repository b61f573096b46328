# make run       a stand-in cloud, this machine as its node, one Deployment; until Ctrl-C
# make test      everything: units, simulated worlds, and a real containerd when it can
# make live-vm   the live stories on systemd and cgroup v2, in a virtual machine
# make bench     figures: size, memory, wakeups, pod start and delete
# make fuzz SECONDS=60   each fuzz target for so long, see tests/fuzz/README.md
# make check     format, lints, feature combinations, dependencies
# make release   static binary for this machine     -> target/dist/
# make cross TARGET=aarch64|armv7                   -> target/dist/
SHELL := /bin/sh
CARGO ?= cargo
TARGET ?= $(shell uname -m)
OUT := $(or $(CARGO_TARGET_DIR),target)

.PHONY: run test unit fuzz live live-vm bench check fmt features deny release cross

run:
	$(CARGO) build --release --features cloud
	sh config/demo/run.sh $(OUT)/release/selvedge $(SECONDS_TO_STAY)

test: unit live

unit:
	$(CARGO) test --features cloud

fuzz:
	sh tests/fuzz/run.sh $(or $(SECONDS),60) $(OUT)/fuzz

live:
	sh tests/live/run.sh

live-vm:
	sh tests/live/vm.sh

bench:
	sh tests/live/bench.sh

check: fmt features deny

fmt:
	$(CARGO) fmt --check

features:
	sh tests/features.sh

deny:
	@if command -v cargo-deny >/dev/null; then cargo deny check; else echo "cargo-deny is not installed: dependencies are not checked (cargo install cargo-deny)"; fi

release cross:
	sh cross/build.sh $(TARGET)
