// Runs mesa-lua with a script, on any free port or on a given one.
import { spawn } from "node:child_process";
import { accessSync, constants } from "node:fs";
import { resolve } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { fileURLToPath } from "node:url";

const START_MS = 60_000; // a guard against hanging only
const STOP_MS = 15_000;

const root = fileURLToPath(new URL("../../", import.meta.url));
export const BINARY = resolve(process.env.MESA_BIN ?? `${root}build/mesa-lua`);

export class Server {
  port;
  log = "";
  #process;
  #exited;
  #onExit = () => this.#process.kill("SIGKILL");

  // `script` is a path from the root of the repository, or an absolute one.
  static async start(script, port = 0, { watch = false } = {}) {
    accessSync(BINARY, constants.X_OK); // says which file is missing
    const args = [watch ? "--watch" : "--no-watch", "--port", String(port), resolve(root, script)];
    for (const deadline = Date.now() + START_MS; ; ) {
      const server = new Server();
      try {
        await server.#start(args);
        return server;
      } catch (error) {
        // The port of a server that comes back may be taken for a moment.
        if (!/port \d+ is in use/.test(server.log) || Date.now() > deadline) throw error;
      }
      await pause(50);
    }
  }

  #start(args) {
    this.#process = spawn(BINARY, args, { stdio: ["ignore", "ignore", "pipe"] });
    process.once("exit", this.#onExit);
    return new Promise((started, reject) => {
      const late = setTimeout(() => {
        this.#process.kill("SIGKILL");
        reject(new Error(`${BINARY} did not listen within ${START_MS} ms:\n${this.log}`));
      }, START_MS);
      this.#exited = new Promise((exited) => {
        const ended = (code, signal) => {
          clearTimeout(late);
          process.off("exit", this.#onExit);
          reject(new Error(`${BINARY} ended (${signal ?? code}) before it listened:\n${this.log}`));
          exited({ code, signal });
        };
        this.#process.once("error", (error) => ended(error.message, null));
        this.#process.once("exit", ended);
      });
      this.#process.stderr.setEncoding("utf8").on("data", (text) => {
        this.log += text;
        const listening = /listening on \S*:(\d+)/.exec(this.log);
        if (listening && this.port === undefined) {
          clearTimeout(late);
          this.port = Number(listening[1]);
          started();
        }
      });
    });
  }

  get url() {
    return `http://127.0.0.1:${this.port}/`;
  }

  // As a crash would: no goodbye to anybody.
  async kill() {
    this.#process.kill("SIGKILL");
    await this.#exited;
  }

  // As an administrator would. Resolves to { code, signal }; a server that does not end is ended.
  async stop() {
    const late = setTimeout(() => this.#process.kill("SIGKILL"), STOP_MS);
    this.#process.kill("SIGTERM");
    const end = await this.#exited;
    clearTimeout(late);
    return end;
  }
}
