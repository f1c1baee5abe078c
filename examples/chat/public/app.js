// The chat page: joins with a name, shows who is here and what they say, and comes back by itself.
// People's text enters the document through textContent only.
import { Mesa } from "./mesa.js";
import { createLog, paintAvatar } from "./log.js";

const $ = (id) => document.getElementById(id);

const TYPING_EVERY_MS = 2000; // how often we say that we are typing
const TYPING_LASTS_MS = 3500; // how long we believe others
const COUNTER_FROM = 200; // characters left

const people = new Map(); // id -> { id, name }
const typists = new Map(); // id -> timer
const unsent = new Map(); // nonce -> text, written but not yet confirmed by the server

let session = readSession(); // { name, token }
const token = session?.token ?? newToken(); // the secret that makes a name ours, see auth.lua
let me = null; // { id, name } once authenticated
let wasHere = false; // authenticated before: the next time is a return
let joining = false;
let typingSaid = 0;
let countdown;

const log = createLog({ scroller: $("scroller"), list: $("log"), empty: $("empty"), latest: $("latest") });

const url = new URL(".", location.href);
url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
const mesa = new Mesa(url.href, { hello, authenticated, message, lost });

// ---- who am I ----------------------------------------------------------------------------------------------------

// Per tab: a new tab is a new person, unless it takes the same name from the same session ("duplicate tab").
function readSession() {
  try {
    return JSON.parse(sessionStorage.getItem("mesa-chat"));
  } catch {
    return null;
  }
}

function keepSession(kept) {
  try {
    if (kept) sessionStorage.setItem("mesa-chat", JSON.stringify(kept));
    else sessionStorage.removeItem("mesa-chat");
  } catch {
    // storage is turned off: loading the page again asks for the name again
  }
}

function newToken() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

$("join").addEventListener("submit", (event) => {
  event.preventDefault();
  if (joining) return;
  session = { name: $("name").value.trim(), token };
  join();
});

function join() {
  setJoining(true);
  showRefusal("");
  if (mesa.connected) mesa.authenticate(session);
  else mesa.connect();
}

function setJoining(busy) {
  joining = busy;
  $("enter").disabled = busy;
  $("enter").textContent = busy ? "Joining…" : "Join";
}

function showRefusal(text) {
  $("refusal").textContent = text;
  $("name").setAttribute("aria-invalid", String(text !== ""));
}

function refused(text) {
  mesa.persistent = false;
  keepSession(null);
  showWelcome();
  showRefusal(text);
  $("name").select();
}

$("leave").addEventListener("click", () => {
  mesa.close();
  keepSession(null);
  session = null;
  unsent.clear();
  log.clear();
  showWelcome();
});

function showWelcome() {
  me = null;
  wasHere = false;
  setJoining(false);
  showRefusal("");
  hideNotice();
  $("chat").classList.remove("people-open");
  $("toggle").setAttribute("aria-expanded", "false");
  $("chat").hidden = true;
  $("welcome").hidden = false;
  $("name").focus();
}

// ---- the connection ----------------------------------------------------------------------------------------------

function hello() {
  mesa.authenticate(session);
}

function authenticated(user) {
  me = user;
  mesa.persistent = true;
  mesa.settle();
  keepSession(session);
  mesa.send("JOIN");
}

function lost({ delay }) {
  if (delay === null) {
    setJoining(false);
    // The server's patience with a half-open door is no news to somebody still thinking about a name.
    if (!me && $("refusal").textContent === "") showRefusal("The server cannot be reached. Please try again.");
    return;
  }
  showNotice(delay);
}

function showNotice(delay) {
  if ($("notice").hidden) {
    $("notice-text").textContent = "Connection lost. Your messages will be sent when it is back.";
    $("self-state").textContent = "reconnecting";
    $("chat").classList.add("offline");
    $("notice").hidden = false;
    [...typists.keys()].forEach(stoppedTyping);
  }
  const until = Date.now() + delay;
  const tick = () => {
    const seconds = Math.ceil((until - Date.now()) / 1000);
    $("countdown").textContent = seconds > 0 ? `Trying again in ${seconds} s` : "Trying…";
  };
  clearInterval(countdown);
  countdown = setInterval(tick, 500);
  tick();
}

function hideNotice() {
  clearInterval(countdown);
  $("notice").hidden = true;
  $("notice-text").textContent = "";
  $("self-state").textContent = "connected";
  $("chat").classList.remove("offline");
}

function retryNow() {
  $("countdown").textContent = "Trying…";
  clearInterval(countdown);
  mesa.connect();
}

$("retry").addEventListener("click", retryNow);
addEventListener("online", () => {
  if (!$("notice").hidden && !mesa.connected) retryNow();
});

// ---- what the server says ----------------------------------------------------------------------------------------

function message(type, data) {
  switch (type) {
    case "ROOM":
      return enterRoom(data);
    case "JOINED":
      people.set(data.id, data);
      showPeople();
      if (data.id !== me.id) log.event(`${data.name} joined`);
      return;
    case "LEFT":
      people.delete(data.id);
      stoppedTyping(data.id);
      showPeople();
      log.event(`${data.name} left`);
      return;
    case "SAID":
      unsent.delete(data.nonce);
      stoppedTyping(data.from.id);
      log.add(data, me);
      return;
    case "TYPING":
      if (data.active) startedTyping(data.id);
      else stoppedTyping(data.id);
      return;
    case "NAME_TAKEN":
    case "NAME_REFUSED":
      return refused(data.message);
  }
}

function enterRoom({ people: present, history, longest }) {
  people.clear();
  for (const person of [...present, me]) people.set(person.id, person);
  showPeople();

  $("text").maxLength = longest;
  $("self-name").textContent = me.name;
  paintAvatar($("self-avatar"), me);
  $("welcome").hidden = true;
  $("chat").hidden = false;
  setJoining(false);
  hideNotice();

  for (const said of history) unsent.delete(said.nonce);
  log.restore(history, me);
  if (wasHere) log.event("You are back");
  else $("text").focus();
  wasHere = true;

  for (const [nonce, text] of unsent) mesa.send("SAY", { text, nonce });
}

// ---- presence ----------------------------------------------------------------------------------------------------

function showPeople() {
  const byName = [...people.values()].sort((a, b) => a.name.localeCompare(b.name));
  $("people-list").replaceChildren(
    ...byName.map((person) => {
      const avatar = document.createElement("span");
      avatar.className = "avatar";
      avatar.setAttribute("aria-hidden", "true");
      paintAvatar(avatar, person);
      const name = document.createElement("span");
      name.className = "person-name";
      name.textContent = person.name;
      const item = document.createElement("li");
      item.append(avatar, name);
      if (person.id === me.id) {
        const you = document.createElement("small");
        you.textContent = "you";
        item.append(you);
      }
      return item;
    }),
  );
  $("count").textContent = $("toggle-count").textContent = people.size;

  const others = byName.filter((person) => person.id !== me.id).map((person) => person.name);
  $("summary").textContent = others.length === 0 ? "Only you so far" : `With ${others.join(", ")}`;
}

function openPeople(open) {
  $("chat").classList.toggle("people-open", open);
  $("toggle").setAttribute("aria-expanded", String(open));
  if (!open) $("toggle").focus();
}

$("toggle").addEventListener("click", () => openPeople($("toggle").getAttribute("aria-expanded") === "false"));
$("shade").addEventListener("click", () => openPeople(false));
addEventListener("keydown", (event) => {
  if (event.key === "Escape" && $("toggle").getAttribute("aria-expanded") === "true") openPeople(false);
});

function startedTyping(id) {
  clearTimeout(typists.get(id));
  typists.set(id, setTimeout(() => stoppedTyping(id), TYPING_LASTS_MS));
  showTyping();
}

function stoppedTyping(id) {
  clearTimeout(typists.get(id));
  if (typists.delete(id)) showTyping();
}

function showTyping() {
  const names = [...typists.keys()].map((id) => people.get(id)?.name).filter(Boolean);
  const [first, second] = names;
  $("typists").textContent =
    names.length > 2 ? "Several people are typing"
    : names.length === 2 ? `${first} and ${second} are typing`
    : `${first ?? ""} is typing`;
  $("typing").hidden = names.length === 0;
}

// ---- writing -----------------------------------------------------------------------------------------------------

const text = $("text");

function say() {
  const words = text.value.trim();
  if (words === "") return;
  const nonce = newToken();
  unsent.set(nonce, words);
  log.add({ from: me, text: words, time: Date.now() / 1000, nonce }, me);
  mesa.send("SAY", { text: words, nonce }); // should this fail: it is in `unsent`
  text.value = "";
  typingSaid = 0;
  measure();
}

function measure() {
  text.style.height = "auto";
  text.style.height = `${text.scrollHeight}px`;
  $("send").disabled = text.value.trim() === "";
  const left = text.maxLength - text.value.length;
  $("left").textContent = left <= COUNTER_FROM ? `${left} of ${text.maxLength} characters left` : "";
  $("left").classList.toggle("none", left === 0);
}

function announceTyping() {
  const now = Date.now();
  if (text.value.trim() === "") {
    if (typingSaid > 0) mesa.send("TYPING", { active: false });
    typingSaid = 0;
  } else if (now - typingSaid > TYPING_EVERY_MS) {
    typingSaid = now;
    mesa.send("TYPING", { active: true });
  }
}

text.addEventListener("input", () => {
  measure();
  announceTyping();
});
text.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    say();
  }
});
$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  say();
  text.focus();
});

// ---- begin -------------------------------------------------------------------------------------------------------

if (session) {
  $("name").value = session.name;
  join();
}
