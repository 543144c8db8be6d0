#!/bin/sh
# cmake/build.sh DIR TARGETS [OPTIONS]: configures DIR and builds the targets there ("all" for everything). One line on
# success; on failure the compiler's messages. The full log is DIR/build.log.
set -u

dir=$1 targets=$2
shift 2
log=$dir/build.log
mkdir -p "$dir" || exit 1

echo "building in $dir"
# shellcheck disable=SC2086  # one argument per target
if cmake -S . -B "$dir" "$@" >"$log" 2>&1 &&
   cmake --build "$dir" --parallel "$(nproc)" --target $targets >>"$log" 2>&1; then
  exit 0
fi
if ! grep -E -A 12 '(error|Error|undefined reference|warning: )' "$log" >&2; then
  tail -n 20 "$log" >&2
fi
echo "the build failed: the full log is $log" >&2
exit 1
