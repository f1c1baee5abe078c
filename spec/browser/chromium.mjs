// A headless Chromium spoken to in the DevTools protocol over a pair of pipes: no package, no port.
// Everything a test starts here ends with `Browser.close`, or with this process.
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";

const COMMAND_MS = 45_000; // a guard against hanging only
const POLL_MS = 40;

const FLAGS = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--disable-extensions",
  "--disable-dev-shm-usage",
  // Two pages side by side are both in the foreground, as far as their timers are concerned.
  "--disable-background-timer-throttling",
  "--disable-renderer-backgrounding",
  "--disable-backgrounding-occluded-windows",
  "--remote-debugging-pipe",
];

export class Browser {
  #process;
  #profile;
  #exited;
  #commands = new Map(); // id -> { resolve, reject, timer }
  #listeners = new Map(); // session -> function(method, params)
  #lastId = 0;
  #onExit = () => this.#kill();

  static async launch(executable = process.env.CHROMIUM ?? "/usr/bin/chromium") {
    const browser = new Browser();
    browser.#start(executable);
    try {
      await browser.command("Browser.getVersion");
    } catch (error) {
      await browser.close();
      throw error;
    }
    return browser;
  }

  #start(executable) {
    this.#profile = mkdtempSync(join(tmpdir(), "mesa-browser-"));
    // A group of its own, so that its children can be ended with it.
    this.#process = spawn(executable, [...FLAGS, `--user-data-dir=${this.#profile}`, "about:blank"], {
      detached: true,
      stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"],
    });
    this.#exited = new Promise((resolve) => {
      this.#process.once("error", (error) => resolve(this.#fail(new Error(`${executable}: ${error.message}`))));
      this.#process.once("exit", (code, signal) => resolve(this.#fail(new Error(`chromium ended (${signal ?? code})`))));
    });
    for (const pipe of this.#process.stdio.slice(3)) pipe.on("error", () => {}); // told by the exit
    let text = "";
    this.#process.stdio[4].setEncoding("utf8").on("data", (chunk) => {
      const messages = (text + chunk).split("\0");
      text = messages.pop();
      for (const message of messages) this.#receive(JSON.parse(message));
    });
    process.once("exit", this.#onExit);
  }

  #receive({ id, sessionId, method, params, result, error }) {
    if (id === undefined) {
      this.#listeners.get(sessionId)?.(method, params);
      return;
    }
    const command = this.#commands.get(id);
    if (!command) return;
    this.#commands.delete(id);
    clearTimeout(command.timer);
    if (error) command.reject(new Error(error.message));
    else command.resolve(result);
  }

  #fail(error) {
    for (const { reject, timer } of this.#commands.values()) {
      clearTimeout(timer);
      reject(error);
    }
    this.#commands.clear();
  }

  #kill() {
    try {
      process.kill(-this.#process.pid, "SIGKILL");
    } catch {
      // nothing of it is left
    }
  }

  command(method, params = {}, sessionId = undefined) {
    return new Promise((resolve, reject) => {
      const id = ++this.#lastId;
      const timer = setTimeout(() => {
        this.#commands.delete(id);
        reject(new Error(`${method} was not answered within ${COMMAND_MS} ms`));
      }, COMMAND_MS);
      this.#commands.set(id, { resolve, reject, timer });
      this.#process.stdio[3].write(`${JSON.stringify({ id, method, params, sessionId })}\0`);
    });
  }

  // A page with cookies and storage of its own: another person. `script` runs before the page's.
  async open(url, script = "") {
    const { browserContextId } = await this.command("Target.createBrowserContext");
    const { targetId } = await this.command("Target.createTarget", { url: "about:blank", browserContextId });
    const { sessionId } = await this.command("Target.attachToTarget", { targetId, flatten: true });
    const page = new Page(this, targetId, sessionId);
    this.#listeners.set(sessionId, (method, params) => page.notice(method, params));
    await page.prepare(script);
    await page.go(url);
    return page;
  }

  async close() {
    process.off("exit", this.#onExit);
    this.#kill();
    await this.#exited;
    // Its children may still be writing for a moment after it has been reaped.
    rmSync(this.#profile, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
  }
}

class Page {
  // Exceptions and violations of the page's own security policy.
  errors = [];

  constructor(browser, targetId, sessionId) {
    this.browser = browser;
    this.targetId = targetId;
    this.sessionId = sessionId;
  }

  notice(method, params) {
    if (method === "Runtime.exceptionThrown") {
      const { exception, text } = params.exceptionDetails;
      this.errors.push(exception?.description ?? text);
    } else if (method === "Log.entryAdded" && params.entry.source === "security") {
      this.errors.push(params.entry.text);
    }
  }

  command(method, params) {
    return this.browser.command(method, params, this.sessionId);
  }

  async prepare(script) {
    await this.command("Page.enable");
    await this.command("Runtime.enable");
    await this.command("Log.enable");
    await this.command("Emulation.setFocusEmulationEnabled", { enabled: true });
    if (script) await this.command("Page.addScriptToEvaluateOnNewDocument", { source: script });
  }

  async go(url) {
    const { errorText } = await this.command("Page.navigate", { url });
    if (errorText) throw new Error(`${url}: ${errorText}`);
    await this.until(() => document.readyState === "complete", "the page to load");
  }

  async reload() {
    await this.evaluate(() => void (window.beforeReload = true));
    await this.command("Page.reload");
    await this.until(() => !window.beforeReload && document.readyState === "complete", "the page to load again");
  }

  // Runs `fn(...args)` in the page and returns what it returns, as JSON.
  async evaluate(fn, ...args) {
    const { result, exceptionDetails } = await this.command("Runtime.evaluate", {
      expression: `(${fn})(${args.map((arg) => JSON.stringify(arg)).join(", ")})`,
      returnByValue: true,
      awaitPromise: true,
    });
    if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
    return result.value;
  }

  // Waits until `fn(...args)` in the page is true.
  async until(fn, what, ...args) {
    const deadline = Date.now() + COMMAND_MS;
    for (;;) {
      // Between two documents there is nothing to ask; the next round finds the new one.
      const answer = await this.evaluate(fn, ...args).catch((error) => {
        if (Date.now() > deadline) throw error;
      });
      if (answer) return;
      if (Date.now() > deadline) throw new Error(`waited ${COMMAND_MS} ms for ${what}`);
      await pause(POLL_MS);
    }
  }

  async write(selector, text) {
    await this.evaluate((which) => {
      const input = document.querySelector(which);
      input.focus();
      input.select();
    }, selector);
    await this.command("Input.insertText", { text });
  }

  async press(key, keyCode, text) {
    const event = { key, code: key, windowsVirtualKeyCode: keyCode };
    await this.command("Input.dispatchKeyEvent", { type: "keyDown", text, ...event });
    await this.command("Input.dispatchKeyEvent", { type: "keyUp", ...event });
  }

  enter() {
    return this.press("Enter", 13, "\r");
  }

  // Waits for so many frames to be drawn.
  frames(count) {
    return this.evaluate(
      (left) => new Promise((done) => {
        const next = () => (left-- > 0 ? requestAnimationFrame(next) : done(true));
        next();
      }),
      count,
    );
  }

  async screenshot() {
    const { data } = await this.command("Page.captureScreenshot");
    return Buffer.from(data, "base64");
  }

  close() {
    return this.browser.command("Target.closeTarget", { targetId: this.targetId });
  }
}
