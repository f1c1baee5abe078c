// The chat example as people use it: two of them, in a real browser, against the real server.
//
//   node --test spec/browser/        MESA_BIN and CHROMIUM name other binaries than build/mesa-lua and /usr/bin/chromium;
//                                    with MESA_ARTIFACTS, a folder, a failed step leaves a picture of each page there
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";

import { Browser } from "./chromium.mjs";
import { Server } from "./server.mjs";

const SCRIPT = "examples/chat/server.lua";
const STEP = { timeout: 120_000 }; // guards against hanging only
const PATIENCE_MS = 2000; // of examples/chat/on_disconnect.lua: who comes back sooner has not left

// So that what the test has started ends with it (the "exit" event does not come with a signal).
for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => process.exit(1));

describe("the chat page", { timeout: 600_000 }, () => {
  const pages = {};
  let server;
  let browser;
  let broken = false;

  before(async () => {
    server = await Server.start(SCRIPT);
    browser = await Browser.launch();
  }, STEP);

  after(async () => {
    await browser?.close();
    await server?.kill();
  }, STEP);

  // Steps of one story: what follows a failed one could only fail for the same reason.
  function step(title, fn) {
    it(title, STEP, async (t) => {
      if (broken) return t.skip("an earlier step failed");
      try {
        await fn(t);
      } catch (error) {
        broken = true;
        await takePictures();
        error.message += `\nserver log:\n${server?.log}`;
        throw error;
      }
    });
  }

  async function takePictures() {
    if (!process.env.MESA_ARTIFACTS) return;
    for (const [name, page] of Object.entries(pages)) {
      const picture = await page.screenshot().catch(() => null);
      if (picture) writeFileSync(join(process.env.MESA_ARTIFACTS, `chat-${name}.png`), picture);
    }
  }

  // ---- what people do and see ----

  const enter = async (page, name) => {
    await page.write("#name", name);
    await page.enter();
  };
  const arrives = async (page, name) => {
    await enter(page, name);
    await page.until(() => !document.getElementById("chat").hidden, `${name} to be in the room`);
  };
  const say = async (page, text) => {
    await page.write("#text", text);
    await page.enter();
  };
  const sees = (page, text, where) =>
    page.until(
      (wanted, selector) =>
        [...document.querySelectorAll(selector)].filter((item) => item.textContent === wanted).length === 1,
      `"${text}" once`,
      text,
      where,
    );
  const hears = (page, text) => sees(page, text, "#log .message:not(.mine):not(.waiting) .bubble");
  const isConfirmed = (page, text) => sees(page, text, "#log .message.mine:not(.waiting) .bubble");
  const isTold = (page, text) => sees(page, text, "#log .event");
  const seesPeople = (page, ...names) =>
    page.until(
      (wanted) => {
        const listed = [...document.querySelectorAll("#people-list .person-name")].map((name) => name.textContent);
        return listed.join() === wanted.join() && document.getElementById("count").textContent === String(wanted.length);
      },
      `exactly ${names.join(", ")} to be listed`,
      names,
    );
  const isRefused = (page, pattern) =>
    page.until(
      (wanted) => new RegExp(wanted).test(document.getElementById("refusal").textContent),
      `to be told ${pattern}`,
      pattern.source,
    );
  const noticeShown = (page) =>
    page.until(() => !document.getElementById("notice").hidden, "the notice of a lost connection");
  const noticeGone = (page) =>
    page.until(() => document.getElementById("notice").hidden, "the notice to go away");

  // ---- the story ----

  step("lets a first person in", async () => {
    pages.ann = await browser.open(server.url);
    await arrives(pages.ann, "Ann");
    await seesPeople(pages.ann, "Ann");
  });

  step("refuses a name that is taken, politely, and takes another", async () => {
    pages.bob = await browser.open(server.url);
    await enter(pages.bob, "ann");
    await isRefused(pages.bob, /already here\. Please take another name/);
    assert.equal(await pages.bob.evaluate(() => document.getElementById("chat").hidden), true);
    assert.equal(await pages.bob.evaluate(() => document.activeElement.id), "name");
    await seesPeople(pages.ann, "Ann");
  });

  step("refuses names that are no names, and says why", async () => {
    for (const [name, reason] of [
      ["x", /2 to 20 characters/],
      ["<b>bob</b>", /no </],
      ["bo\u202eb", /invisible/],
    ]) {
      await enter(pages.bob, name);
      await isRefused(pages.bob, reason);
    }
    await arrives(pages.bob, "Bob");
  });

  step("shows each who is here", async () => {
    await isTold(pages.ann, "Bob joined");
    await seesPeople(pages.ann, "Ann", "Bob");
    await seesPeople(pages.bob, "Ann", "Bob");
  });

  step("carries messages both ways", async () => {
    await say(pages.ann, "Hello Bob, ça va? 🌵");
    await isConfirmed(pages.ann, "Hello Bob, ça va? 🌵");
    await hears(pages.bob, "Hello Bob, ça va? 🌵");
    await say(pages.bob, "Very well");
    await isConfirmed(pages.bob, "Very well");
    await hears(pages.ann, "Very well");
  });

  step("leaves a script in a message text", async () => {
    const attack = '<script>window.pwned = 1</script><img src=x onerror="window.pwned = 1">';
    await say(pages.bob, attack);
    await hears(pages.ann, attack);
    for (const page of [pages.ann, pages.bob]) {
      assert.equal(await page.evaluate(() => window.pwned === undefined), true);
      assert.equal(await page.evaluate(() => document.querySelectorAll("#log script, #log img").length), 0);
    }
  });

  step("shows the others, not the typist, that somebody is typing", async () => {
    const typing = (wanted) => !document.getElementById("typing").hidden && document.getElementById("typists").textContent === wanted;
    await pages.ann.write("#text", "I am about to sa");
    await pages.bob.until(typing, "to see Ann typing", "Ann is typing");
    assert.equal(await pages.ann.evaluate(() => document.getElementById("typing").hidden), true);
    await say(pages.ann, "I am about to say this");
    await hears(pages.bob, "I am about to say this");
    await pages.bob.until(() => document.getElementById("typing").hidden, "Ann to have stopped typing");
  });

  step("counts several tabs of a person as one", async () => {
    const session = await pages.ann.evaluate(() => sessionStorage.getItem("mesa-chat"));
    pages.tab = await browser.open(server.url, `sessionStorage.setItem("mesa-chat", ${JSON.stringify(session)})`);
    await seesPeople(pages.tab, "Ann", "Bob");
    await isConfirmed(pages.tab, "I am about to say this"); // the history, as her own
    await say(pages.tab, "from my other tab");
    await isConfirmed(pages.ann, "from my other tab");
    await hears(pages.bob, "from my other tab");
    await pages.tab.close();
    delete pages.tab;
  });

  step("knows a person again who loads the page anew", async () => {
    const began = Date.now();
    await pages.bob.reload();
    await seesPeople(pages.bob, "Ann", "Bob");
    const inTime = Date.now() - began < PATIENCE_MS;
    await isConfirmed(pages.bob, "Very well");
    await hears(pages.bob, "Hello Bob, ça va? 🌵");
    await seesPeople(pages.ann, "Ann", "Bob");
    const told = await pages.ann.evaluate(() => document.getElementById("log").textContent.includes("left"));
    assert.ok(!told || !inTime, "Ann was told that Bob left, though he came back at once");
  });

  step("brings everybody back after the server has crashed", async () => {
    const { port } = server;
    await server.kill();
    await Promise.all([noticeShown(pages.ann), noticeShown(pages.bob)]);
    await say(pages.ann, "written while the server was away");

    server = await Server.start(SCRIPT, port);
    await Promise.all([noticeGone(pages.ann), noticeGone(pages.bob)]);
    await seesPeople(pages.ann, "Ann", "Bob");
    await seesPeople(pages.bob, "Ann", "Bob");
  });

  step("loses nothing that was written meanwhile, and goes on", async () => {
    await isConfirmed(pages.ann, "written while the server was away");
    await hears(pages.bob, "written while the server was away");
    await say(pages.bob, "Good to be back");
    await hears(pages.ann, "Good to be back");
    await hears(pages.ann, "Very well"); // what was on the page before is still there, once
  });

  step("tells who has left, and frees the name", async () => {
    await pages.bob.close();
    delete pages.bob;
    await isTold(pages.ann, "Bob left");
    await seesPeople(pages.ann, "Ann");
    pages.other = await browser.open(server.url);
    await arrives(pages.other, "Bob");
    await seesPeople(pages.ann, "Ann", "Bob");
  });

  step("notices a server that is shut down, which ends with 0", async () => {
    const { code, signal } = await server.stop();
    assert.deepEqual({ code, signal }, { code: 0, signal: null });
    await Promise.all([noticeShown(pages.ann), noticeShown(pages.other)]);
  });

  step("reports no error of its own", async () => {
    for (const page of Object.values(pages)) assert.deepEqual(page.errors, []);
  });
});
