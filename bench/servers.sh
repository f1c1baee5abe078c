# shellcheck shell=bash
# Installing, starting and stopping what is measured; to be sourced by scripts/bench.

readonly PEERS=(mesa ws socketio bun nginx mesa-lua)

# ---- installing: nothing outside of build/bench ----

install_npm() (
  cd "$WORK/peers"
  if ! cmp -s package.json node_modules/.installed-for; then
    need node npm
    timeout 600 npm install --no-audit --no-fund --no-package-lock --loglevel=error
    cp package.json node_modules/.installed-for
  fi
)

# Bun's package moves its program here when its install script may run; otherwise it stays in the platform's package.
find_bun() {
  local file
  for file in "$WORK"/peers/node_modules/bun/bin/bun.exe "$WORK"/peers/node_modules/@oven/bun-linux-*/bin/bun; do
    if [ -x "$file" ] && timeout 10 "$file" --version >/dev/null 2>&1; then
      echo "$file"
      return
    fi
  done
}

# Debian's Lua module for nginx wants OpenResty's LuaJIT, which cannot be installed beside the one that mesa-lua uses. So its
# packages are unpacked and not installed, which needs no root either.
unpack_nginx() (
  [ ! -e "$WORK/nginx/unpacked" ] || exit 0
  command -v apt-get >/dev/null || exit 1
  mkdir -p "$WORK/nginx/root"
  cd "$WORK/nginx"
  timeout 120 apt-get -qq download nginx libnginx-mod-http-lua libnginx-mod-http-ndk lua-nginx-websocket lua-resty-core \
    lua-resty-lrucache libluajit2-5.1-2 2>/dev/null || exit 1
  for package in *.deb; do
    dpkg -x "$package" root
  done
  nginx_runs root || exit 1
  touch unpacked
)

nginx_runs() { # FOLDER
  LD_LIBRARY_PATH=$(echo "$1"/usr/lib/*-linux-gnu) "$1/usr/sbin/nginx" -v 2>/dev/null
}

# Sets `present`: the peers asked for that this machine can run.
install_peers() {
  local peer
  mkdir -p "$WORK"
  cp -R "$ROOT/bench/peers" "$WORK/"
  present=() bun=''
  for peer in "${peers[@]}"; do
    case $peer in
      mesa | ws | socketio) install_npm ;;
      bun)
        install_npm
        bun=$(find_bun)
        [ -n "$bun" ] || { echo "bench: no Bun for this machine, left out" >&2 && continue; }
        ;;
      nginx)
        unpack_nginx || { echo "bench: apt-get cannot download nginx with its Lua module, left out" >&2 && continue; }
        ;;
    esac
    present+=("$peer")
  done
}

# ---- what servers need ----

# A certificate for 127.0.0.1, which the generator trusts.
make_certificate() {
  [ -e "$WORK/cert.pem" ] && openssl x509 -in "$WORK/cert.pem" -checkend 86400 -noout >/dev/null && return
  need openssl
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj /CN=localhost \
    -addext subjectAltName=IP:127.0.0.1 -keyout "$WORK/key.pem" -out "$WORK/cert.pem" 2>/dev/null
}

redis_pid=''
start_redis() { # on $redis_port, without files, on the generator's core
  need redis-server
  "${pin_generator[@]}" redis-server --bind 127.0.0.1 --port "$redis_port" --save '' --appendonly no --dir "$WORK" \
    >"$WORK/redis.log" 2>&1 </dev/null &
  redis_pid=$!
  wait_for_port "$redis_port" "$redis_pid" || die "redis-server: $(tail -n 5 "$WORK/redis.log")"
}

# ---- starting and stopping ----

pin_server=() pin_generator=()
if [ "$(nproc)" -ge 2 ] && command -v taskset >/dev/null; then
  pin_server=(taskset -c 0) pin_generator=(taskset -c 1)
fi

port_open() {
  (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

wait_for_port() { # PORT PID
  local i
  for ((i = 0; i < 200; i++)); do
    kill -0 "$2" 2>/dev/null || return 1
    port_open "$1" && return
    sleep 0.05
  done
  return 1
}

port=$((20000 + $$ % 10000)) # two runs at a time do not get in each other's way
next_port() {
  port=$((port + 1))
  while port_open "$port"; do
    port=$((port + 1))
  done
}

# Sets `command`: how PEER is started on $port.
server_command() { # PEER [WORD...]: words for the peer's own server
  local peer=$1 root=$WORK/nginx/root
  shift
  case $peer in
    mesa | ws | socketio) command=(node --expose-gc "$WORK/peers/$peer/server.js" "$port" "$@") ;;
    bun) command=("$bun" "$WORK/peers/bun/server.js" "$port" "$@") ;;
    mesa-lua) command=("$mesa_lua" --no-watch --log-level warn --port "$port" "$WORK/peers/mesa-lua/server.lua" "$@") ;;
    nginx)
      sed -e "s|@ROOT@|$root|; s|@FOLDER@|$WORK/peers/nginx|g; s|@PORT@|$port|" "$WORK/peers/nginx/nginx.conf" >"$WORK/nginx/nginx.conf"
      command=(env LD_LIBRARY_PATH="$(echo "$root"/usr/lib/*-linux-gnu)" "$root/usr/sbin/nginx" -p "$WORK/nginx" -c "$WORK/nginx/nginx.conf" -e stderr)
      ;;
  esac
}

server_pid=''
launch() { # PEER COMMAND...: runs it until it listens on $port, as $server_pid
  local peer=$1
  shift
  "${pin_server[@]}" "$@" >"$WORK/$peer.log" 2>&1 </dev/null &
  server_pid=$!
  wait_for_port "$port" "$server_pid" && return
  echo "bench: $peer does not listen:" >&2
  tail -n 20 "$WORK/$peer.log" >&2
  return 1
}

stop() { # PID
  local i
  [ -n "$1" ] || return 0
  kill "$1" 2>/dev/null || true
  for ((i = 0; i < 50; i++)); do
    kill -0 "$1" 2>/dev/null || break
    sleep 0.1
  done
  kill -KILL "$1" 2>/dev/null || true
  wait "$1" 2>/dev/null || true
}

stop_server() {
  stop "$server_pid"
  server_pid=''
}

stop_all() {
  stop_server
  stop "$redis_pid"
  redis_pid=''
}
trap stop_all EXIT
trap 'exit 130' INT TERM
