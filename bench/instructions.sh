# shellcheck shell=bash
# scripts/bench --instructions: what mesa-lua executes for each message, counted by callgrind; to be sourced.
# Counts do not depend on what else the machine does. Of the kernel only the number of calls is seen.

# counted FILE FIELD: a total of callgrind's.
counted() {
  awk -v field="$2" '/^summary:/ { print $(field + 1) }' "$1"
}

# count_case NAME N EACH ARGUMENT...: one server, warmed up with N and then run with N and with 2 N: the difference is free of what
# connecting costs. EACH is what one of N stands for: a publication to 1,000 is counted by its deliveries.
count_case() {
  local name=$1 n=$2 each=$3 out=$WORK/callgrind/$1 round
  shift 3
  next_port
  server_command mesa-lua
  launch mesa-lua valgrind --tool=callgrind --collect-systime=yes --compress-strings=no --callgrind-out-file="$out" "${command[@]}" || return
  for round in 1 2 3; do
    timeout 300 "$generator" "$@" --count $((round == 3 ? 2 * n : n)) --timeout 120 --port "$port" >/dev/null 2>"$out.log" &&
      callgrind_control --dump "$server_pid" >/dev/null 2>&1 || die "$name: $(cat "$out.log")"
  done
  stop_server
  awk -v name="$name" -v n=$((n * each)) -v a="$(counted "$out.2" 1)" -v b="$(counted "$out.3" 1)" \
    -v c="$(counted "$out.2" 2)" -v d="$(counted "$out.3" 2)" \
    'BEGIN { printf "%-16s %10.0f instructions %8.3f system calls\n", name, (b - a) / n, (d - c) / n }'
}

count_instructions() { # CASE...
  local only=${*:-echo-1 echo-16 echo-16-unread fanout-1 fanout-16 handshake} name
  need valgrind callgrind_control
  rm -rf "$WORK/callgrind"
  mkdir -p "$WORK/callgrind"
  for name in $only; do
    case $name in
      echo-1) count_case "$name" 10000 1 echo --depth 1 ;;
      echo-16) count_case "$name" 20000 1 echo --depth 16 ;;
      echo-16-unread) count_case "$name" 20000 1 echo --depth 16 --type ECHO_RAW ;;
      echo-16k) count_case "$name" 3000 1 echo --depth 1 --size 16384 ;;
      fanout-1) count_case "$name" 300 1001 fanout --connections 1000 --depth 1 ;;
      fanout-16) count_case "$name" 400 1001 fanout --connections 1000 --depth 16 ;;
      handshake) count_case "$name" 1000 1 handshake ;;
      *) die "--instructions: there is no '$name'" ;;
    esac
  done
  echo
  echo "where they go: callgrind_annotate --auto=no --threshold=100 $WORK/callgrind/NAME.3 (what was running already comes first: pass over it)"
}
