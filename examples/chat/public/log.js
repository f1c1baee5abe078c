// The list of messages: grouping, days, own messages before they are confirmed, scrolling, and what is new.

const GROUP_S = 5 * 60; // messages of one person within this time share a heading
const NEAR_BOTTOM_PX = 48;

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const calendar = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long" });

const day = (seconds) => new Date(seconds * 1000).toDateString();

function element(tag, className, content) {
  const made = document.createElement(tag);
  made.className = className;
  if (content !== undefined) made.textContent = content;
  return made;
}

// The same person has the same colour on everybody's screen.
function hue(id) {
  let hash = 2166136261;
  for (const character of id) hash = Math.imul(hash ^ character.codePointAt(0), 16777619);
  return (hash >>> 8) % 360;
}

export function paintAvatar(avatar, { id, name }) {
  avatar.style.setProperty("--hue", hue(id));
  const words = name.split(/[\s._-]+/).filter(Boolean);
  avatar.textContent = words.slice(0, 2).map((word) => [...word][0].toUpperCase()).join("") || "?";
}

// Text with the web addresses in it as links.
function fill(target, text) {
  let end = 0;
  for (const match of text.matchAll(/\bhttps?:\/\/[^\s<>"']*[^\s<>"'.,:;!?)\]]/g)) {
    const link = element("a", "", match[0]);
    link.href = match[0];
    link.target = "_blank";
    link.rel = "noopener noreferrer";
    target.append(text.slice(end, match.index), link);
    end = match.index + match[0].length;
  }
  target.append(text.slice(end));
}

export function createLog({ scroller, list, empty, latest }) {
  const seen = new Set(); // ids and nonces of messages on the page
  const waiting = new Map(); // nonce -> item of our own, not yet confirmed
  let following = true; // the reader is at the end and wants to stay there
  let shape = ""; // of the log and what is in it, when it was last brought to its end
  let unread = 0;
  const title = document.title;

  const shapeNow = () => [scroller.clientWidth, scroller.clientHeight, scroller.scrollHeight].join();

  function toEnd() {
    scroller.scrollTop = scroller.scrollHeight;
    shape = shapeNow();
  }

  function settle(own) {
    empty.hidden = list.childElementCount > 0;
    if (own) following = true;
    if (following) toEnd();
  }

  function showUnread() {
    latest.hidden = following || unread === 0;
    latest.textContent = unread === 1 ? "1 new message" : `${unread} new messages`;
    document.title = unread > 0 ? `(${unread}) ${title}` : title;
  }

  function read() {
    if (!following || document.hidden) return;
    unread = 0;
    showUnread();
  }

  scroller.addEventListener("scroll", () => {
    // A phone that is turned lays the page out anew and moves the log, before it tells of the new size: the reader did not.
    if (following && shape !== shapeNow()) return toEnd();
    following = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < NEAR_BOTTOM_PX;
    read();
  });
  latest.addEventListener("click", () => {
    following = true;
    toEnd();
    read();
  });
  document.addEventListener("visibilitychange", read);
  // A keyboard that slides in, a composer that grows, a window that turns: the end stays in sight.
  new ResizeObserver(() => following && toEnd()).observe(scroller);

  function build(said, mine) {
    const item = element("li", mine ? "message mine" : "message");
    item.dataset.from = said.from.id;
    item.dataset.time = said.time;

    const avatar = element("span", "avatar");
    avatar.setAttribute("aria-hidden", "true");
    paintAvatar(avatar, said.from);

    const head = element("div", "head");
    head.append(element("b", "author", mine ? "You" : said.from.name), element("time", ""));

    const bubble = element("p", "bubble");
    fill(bubble, said.text);

    const body = element("div", "body");
    body.append(head, bubble);
    item.append(avatar, body);
    return item;
  }

  function stamp(item, said) {
    const when = new Date(said.time * 1000);
    const time = item.querySelector("time");
    item.dataset.time = said.time;
    item.classList.toggle("waiting", said.id === undefined);
    time.dateTime = when.toISOString();
    time.textContent = said.id === undefined ? "sending…" : clock.format(when);
    item.querySelector(".bubble").title = when.toLocaleString();
  }

  // Whether the item goes on where the one above it left off.
  function group(item) {
    const above = item?.previousElementSibling;
    item?.classList.toggle(
      "more",
      above?.dataset.from === item.dataset.from && item.dataset.time - above.dataset.time < GROUP_S,
    );
  }

  function append(item) {
    const below = item.nextElementSibling;
    const last = list.lastElementChild;
    const newDay = day(item.dataset.time);
    if (last !== item) {
      if (newDay !== list.dataset.day) {
        const today = newDay === new Date().toDateString();
        list.append(element("li", "day", today ? "Today" : calendar.format(new Date(item.dataset.time * 1000))));
        list.dataset.day = newDay;
      }
      list.append(item);
    }
    group(item);
    group(below);
  }

  // A message from the server, or one of our own on its way there (which has no id yet).
  function add(said, me) {
    if (said.id !== undefined) {
      // A server that crashed between telling us and telling the author gets the message a second time, under another id.
      const names = [said.id, said.nonce].filter(Boolean);
      if (names.some((name) => seen.has(name))) return;
      names.forEach((name) => seen.add(name));
    }

    const mine = said.from.id === me.id;
    const known = waiting.get(said.nonce);
    const item = known ?? build(said, mine);
    stamp(item, said);
    append(item); // a message that was waiting moves to where the others see it
    if (said.id === undefined) waiting.set(said.nonce, item);
    else waiting.delete(said.nonce);

    if (!mine && (!following || document.hidden)) unread += 1;
    settle(mine && !known);
    showUnread();
  }

  // What was said before we came, or while we were away. Not read aloud.
  function restore(history, me) {
    scroller.setAttribute("aria-busy", "true");
    for (const said of history) add(said, me);
    scroller.setAttribute("aria-busy", "false");
  }

  function event(text) {
    list.append(element("li", "event", text));
    settle(false);
  }

  function clear() {
    list.replaceChildren();
    delete list.dataset.day;
    seen.clear();
    waiting.clear();
    unread = 0;
    following = true;
    showUnread();
    settle(false);
  }

  return { add, restore, event, clear };
}
