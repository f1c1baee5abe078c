// A client of the handlers beside it: it says who it is (auth.lua), sends SAY and shows SAID (on_message.lua) and LEFT
// (on_disconnect.lua). Messages are JSON: {"op": 0, "t": "SAY", "d": {"text": "hello"}}.
const DISPATCH = 0; // a message of the application: t is its type, d its data
const HEARTBEAT = 1; // the server asks for a sign of life ...
const HEARTBEAT_ACK = 11; // ... and this is one
const AUTHENTICATE = 2;
const HELLO = 10; // the server's first message, with its rules
const AUTHENTICATED = 22; // what auth.lua passed to done
const REFUSED = 1008; // the close code of a server that did not let us in

const $ = (id) => document.getElementById(id);
let socket, token;

function connect() {
  let comeBackMs = 5000;
  socket = new WebSocket(location.href.replace(/^http/, "ws"));
  $("status").textContent = "connecting";

  socket.onmessage = (event) => {
    const { op, d, t } = JSON.parse(event.data);
    if (op === HELLO) {
      comeBackMs = d.c_reconnect_interval ?? comeBackMs;
      send(AUTHENTICATE, { token });
    } else if (op === HEARTBEAT) {
      send(HEARTBEAT_ACK, {});
    } else if (op === AUTHENTICATED) {
      entered(d);
    } else if (op === DISPATCH) {
      received(t, d);
    }
  };

  socket.onclose = ({ code }) => {
    if (code === REFUSED) return refused();
    $("status").textContent = `disconnected (${code}), back soon`;
    setTimeout(connect, comeBackMs);
  };
}

function send(op, d, t) {
  if (socket.readyState !== WebSocket.OPEN) return false;
  socket.send(JSON.stringify({ op, d, t }));
  return true;
}

// ---- what this application says ----

function entered(user) {
  $("status").textContent = `connected as ${user.name}`;
  $("join").hidden = true;
  $("say").hidden = false;
  $("text").focus();
}

function refused() {
  socket = undefined;
  $("status").textContent = "not let in";
  $("say").hidden = true;
  $("join").hidden = false;
  $("name").focus();
}

function received(type, data) {
  if (type === "SAID") show(`${data.from}: ${data.text}`);
  else if (type === "LEFT") show(`${data.id} left`, "note");
}

function show(text, className = "") {
  const line = document.createElement("li");
  line.className = className;
  line.textContent = text; // never innerHTML: anybody may have written it
  $("log").append(line);
  line.scrollIntoView({ block: "end" });
}

$("join").addEventListener("submit", (event) => {
  event.preventDefault();
  token = $("name").value;
  if (!socket) connect();
});

$("say").addEventListener("submit", (event) => {
  event.preventDefault();
  if (send(DISPATCH, { text: $("text").value }, "SAY")) $("text").value = "";
});
