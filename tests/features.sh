#!/bin/sh
# Every sensible set of features compiles without a warning.
set -eu
for features in "" edgehub metamanager edged eventbus servicebus dmi broker cloud edgehub,metamanager edgehub,edged metamanager,edged edgehub,metamanager,edged eventbus,broker edgehub,metamanager,edged,cloud edgehub,metamanager,edged,eventbus,servicebus,dmi,broker,cloud; do
  echo "features: ${features:-none}"
  cargo clippy --quiet --all-targets --no-default-features --features "$features" -- -D warnings
done
