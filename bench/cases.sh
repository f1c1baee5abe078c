# shellcheck shell=bash
# What scripts/bench measures; to be sourced. A case is ID|NAME|PEERS|RUNS|WORDS|ARGUMENTS: words are for the peer's server, arguments
# for the generator. report.js knows some by their ID.

readonly GROUPS_OF_CASES=(echo fanout handshake idle connections costs startup heartbeat soak)

cases=()
all="${PEERS[*]}"

add_case() { # ID NAME PEERS RUNS WORDS ARGUMENT...
  cases+=("$1|$2|$3|$4|$5|${*:6}")
}

add() { # ID NAME PEERS WORDS ARGUMENT...: runs of the usual length
  add_case "$1" "$2" "$3" "$runs" "$4" "${@:5}" --warmup "$warmup" --duration "$duration"
}

add_costs() { # of what servers do besides; each is told by the difference to the case it names
  local echo=(echo --connections 64 --depth 16 --size 128) tls="cert=$WORK/cert.pem key=$WORK/key.pem"
  add cost-plain "echo as above, for comparison" mesa-lua "" "${echo[@]}"
  add cost-middleware "with one middleware that sees each message" mesa-lua middleware "${echo[@]}"
  add cost-sleep "with a handler that waits for the loop, \`Mesa.sleep(0)\`" mesa-lua "" "${echo[@]}" --type ECHO_SLEEP
  add cost-tls "over TLS" mesa-lua "$tls" "${echo[@]}" --tls "$WORK/cert.pem"
  add cost-user "to the user's id, without Redis" "mesa mesa-lua" "" "${echo[@]}" --type ECHO_USER --auth
  add cost-redis "to the user's id, with Redis" "mesa mesa-lua" "redis=redis://127.0.0.1:$redis_port" "${echo[@]}" --type ECHO_USER --auth
  add cost-connect "connect, upgrade, hello and close, for comparison" mesa-lua "" handshake --connections 64
  add cost-connect-tls "the same over TLS" mesa-lua "$tls" handshake --connections 64 --tls "$WORK/cert.pem"
}

add_group() {
  case $1 in
    echo)
      add echo-1 "echo, 64 connections, depth 1, 128 bytes" "$all" "" echo --connections 64 --depth 1 --size 128
      add echo-16 "echo, 64 connections, depth 16, 128 bytes" "$all" "" echo --connections 64 --depth 16 --size 128
      add echo-16-unread "echo, 64 connections, depth 16, 128 bytes, data passed on unread" mesa-lua "" echo --connections 64 --depth 16 --size 128 --type ECHO_RAW
      add echo-16k "echo, 64 connections, depth 1, 16 KB" "$all" "" echo --connections 64 --depth 1 --size 16384
      ;;
    fanout)
      add fanout-1 "fan-out to 1,001 connections, 1 in flight, 128 bytes" "$all" "" fanout --connections 1000 --publishers 1 --depth 1 --size 128
      add fanout-16 "fan-out to 1,001 connections, 16 in flight, 128 bytes" "$all" "" fanout --connections 1000 --publishers 1 --depth 16 --size 128
      ;;
    handshake) add handshake "connect, upgrade, hello and close, 64 at once" "$all" "" handshake --connections 64 ;;
    idle) add_case idle "memory of an idle, authenticated connection, at $idle" "$all" 1 "" idle --connections "$idle" --auth --duration 1 ;;
    connections)
      local n
      for n in 10 1000 10000; do
        add "connections-$n" "echo, $n connections, depth 4, 128 bytes" "bun mesa-lua" "" echo --connections "$n" --depth 4 --size 128
      done
      ;;
    costs) add_costs ;;
    startup) add_case startup "from exec to the first upgrade" "$all" 1 "" startup --count "$((runs * 5))" ;;
    heartbeat)
      add_case heartbeat "10,000 connections with a heartbeat every 10 s" "mesa mesa-lua" 1 heartbeat \
        heartbeat --connections 10000 --auth --warmup 10 --duration "$quiet" --timeout 30
      ;;
    soak)
      add_case soak "echo at a constant 20,000 a second, 1,000 connections, $soak s" mesa-lua 1 "" \
        rate --connections 1000 --rate 20000 --size 128 --auth --warmup 5 --duration "$soak"
      ;;
    *) die "--only: there is no '$1'; there are: ${GROUPS_OF_CASES[*]}" ;;
  esac
}
