// The chat page on a phone: its log keeps the newest message in view when the phone is turned.
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";

import { Browser } from "./chromium.mjs";
import { Server } from "./server.mjs";

const STEP = { timeout: 120_000 };
const UPRIGHT = { width: 390, height: 844 };
const ON_ITS_SIDE = { width: 844, height: 390 };

for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => process.exit(1));

describe("the chat's log on a phone", { timeout: 300_000 }, () => {
  let server, browser, page;

  before(async () => {
    server = await Server.start("examples/chat/server.lua");
    browser = await Browser.launch();
    page = await browser.open(server.url);
    await turn(UPRIGHT);
    // Phones tell the page that it was scrolled (the position is moved to what is there) before they tell of the new size.
    await page.evaluate(() => {
      const scroller = document.querySelector(".scroller");
      addEventListener("resize", () => scroller.dispatchEvent(new Event("scroll")));
    });
    await page.write("#name", "Ann");
    await page.enter();
    await page.until(() => !document.getElementById("chat").hidden, "Ann to be in the room");
    for (let n = 1; n <= 12; n++) {
      await page.write("#text", `${n}: ${"words that take several lines on a narrow screen ".repeat(5)}`);
      await page.enter();
      await page.until(
        (count) => document.querySelectorAll("#log .message.mine:not(.waiting)").length === count,
        `message ${n} to be confirmed`,
        n,
      );
    }
  }, STEP);

  after(async () => {
    await browser?.close();
    await server?.kill();
  }, STEP);

  async function turn(size) {
    await page.command("Emulation.setDeviceMetricsOverride", { ...size, deviceScaleFactor: 1, mobile: true });
    await page.until((width) => innerWidth === width, `a screen ${size.width} wide`, size.width);
    await page.frames(3); // events of scrolling and resizing come with frames
  }

  // How far the end of the newest message is below the lower edge of the log.
  const below = () =>
    page.evaluate(() => {
      const messages = document.querySelectorAll("#log .message");
      const newest = messages[messages.length - 1].getBoundingClientRect();
      const scroller = [...document.querySelectorAll("*")].find((e) => e.contains(messages[0]) && e.scrollHeight > e.clientHeight + 1
        && /auto|scroll/.test(getComputedStyle(e).overflowY));
      return newest.bottom - scroller.getBoundingClientRect().bottom;
    });

  it("keeps the newest message in view when it is turned", STEP, async () => {
    for (const size of [ON_ITS_SIDE, UPRIGHT, ON_ITS_SIDE, UPRIGHT]) {
      await turn(size);
      const distance = await below();
      assert.ok(distance <= 1, `${distance} px of the newest message are below the edge at ${size.width}x${size.height}`);
    }
  });

  it("leaves the place of somebody who reads what was said before", STEP, async () => {
    await page.evaluate(() => document.querySelector("#log .message").scrollIntoView({ block: "start" }));
    await page.frames(3);
    for (const size of [ON_ITS_SIDE, UPRIGHT]) {
      await turn(size);
      const distance = await below();
      assert.ok(distance > 100, `the log went to its end: ${distance}`);
    }
  });
});
