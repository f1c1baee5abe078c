// What `mesa-lua new` writes, as a newcomer finds it: the page it serves, in two browsers, against the handlers beside it.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";

import { Browser } from "./chromium.mjs";
import { BINARY, Server } from "./server.mjs";

const STEP = { timeout: 120_000 };

for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => process.exit(1));

describe("the page of a new application", { timeout: 300_000 }, () => {
  const folder = mkdtempSync(join(tmpdir(), "mesa-new-"));
  const app = join(folder, "app");
  let server, browser, ada, bob;

  before(async () => {
    execFileSync(BINARY, ["new", app]);
    server = await Server.start(join(app, "server.lua"), 0, { watch: true });
    browser = await Browser.launch();
  }, STEP);

  after(async () => {
    await browser?.close();
    await server?.kill();
    rmSync(folder, { recursive: true, force: true });
  }, STEP);

  const enter = async (name) => {
    const page = await browser.open(server.url);
    await page.write("#name", name);
    await page.enter();
    await page.until((text) => document.getElementById("status").textContent === text, `${name} to be in`, `connected as ${name}`);
    return page;
  };
  const say = async (page, text) => {
    await page.write("#text", text);
    await page.enter();
  };
  const sees = (page, text) =>
    page.until(
      (wanted) => [...document.querySelectorAll("#log li")].filter((line) => line.textContent === wanted).length === 1,
      `"${text}" once`,
      text,
    );

  it("connects, authenticates and talks to the handlers", STEP, async () => {
    [ada, bob] = [await enter("ada"), await enter("bob")];
    await say(ada, "hello <b>bob</b>");
    for (const page of [ada, bob]) await sees(page, "ada: hello <b>bob</b>");
    await say(bob, "hello ada");
    for (const page of [ada, bob]) await sees(page, "bob: hello ada");
  });

  it("meets the new handler when its file is saved, without reconnecting", STEP, async () => {
    const file = join(app, "on_message.lua");
    const louder = readFileSync(file, "utf8").replace("text = message.data.text", "text = message.data.text:upper()");
    writeFileSync(file, louder);
    const heard = () => [...document.querySelectorAll("#log li")].some((line) => /^ada: LOUDER/.test(line.textContent));
    for (let n = 1; !(await bob.evaluate(heard)); n++) {
      await say(ada, `louder ${n}`);
      await bob.until((number) => new RegExp(`louder ${number}$`, "i").test(document.getElementById("log").textContent), "an answer", n);
    }
  });

  it("is told who has left, and shows no error of its own", STEP, async () => {
    assert.deepEqual(bob.errors, []);
    await bob.close();
    await sees(ada, "bob left");
    assert.deepEqual(ada.errors, []);
  });

  it("comes back when the server does", STEP, async () => {
    const { port } = server;
    await server.kill();
    await ada.until(() => document.getElementById("status").textContent.startsWith("disconnected"), "the loss to be shown");
    server = await Server.start(join(app, "server.lua"), port);
    await ada.until(() => document.getElementById("status").textContent === "connected as ada", "to be back");
    await say(ada, "again");
    await sees(ada, "ada: AGAIN");
  });
});
