// What a page needs of the Mesa protocol, on a plain WebSocket.
//
//   const mesa = new Mesa(url, { hello, authenticated, message, lost });
//   mesa.connect();
//
// The server speaks first (hello), then asks for signs of life (heartbeats). A client that has something to prove
// authenticates; everything else is a dispatch: a type and its data.

const Op = { DISPATCH: 0, HEARTBEAT: 1, AUTHENTICATE: 2, HELLO: 10, HEARTBEAT_ACK: 11, AUTHENTICATED: 22 };

const RECONNECT_MS = 5000; // for a server that names no interval
const LONGEST_WAIT_MS = 30000;
const PATIENT_TRIES = 5; // at the server's own interval, before the waits get longer

export class Mesa {
  // Whether to come back by itself when the connection is lost.
  persistent = false;

  #url;
  #handlers;
  #socket = null;
  #open = false; // hello has been received
  #reconnectMs = RECONNECT_MS;
  #silenceMs = 0; // after so much of it the connection is dead; 0 without heartbeats
  #tries = 0;
  #retryTimer;
  #silenceTimer;

  constructor(url, handlers) {
    this.#url = url;
    this.#handlers = handlers;
  }

  get connected() {
    return this.#open;
  }

  connect() {
    this.#drop();
    const socket = new WebSocket(this.#url);
    socket.onmessage = (event) => this.#receive(JSON.parse(event.data));
    socket.onclose = (event) => this.#lose(event.code);
    this.#socket = socket;
  }

  // Ends the connection, and with it all attempts to restore it.
  close() {
    this.persistent = false;
    this.#drop();
  }

  authenticate(credentials) {
    return this.#write({ op: Op.AUTHENTICATE, d: credentials });
  }

  // False when there is no connection: nothing has been sent, nothing is kept.
  send(type, data = {}) {
    return this.#write({ op: Op.DISPATCH, t: type, d: data });
  }

  // The connection is in use: do not hold its last failures against it.
  settle() {
    this.#tries = 0;
  }

  #write(envelope) {
    if (!this.#open) return false;
    this.#socket.send(JSON.stringify(envelope));
    return true;
  }

  #receive({ op, t, d }) {
    this.#listen();
    switch (op) {
      case Op.HELLO:
        this.#reconnectMs = d.c_reconnect_interval ?? RECONNECT_MS;
        this.#silenceMs = (d.c_heartbeat_interval ?? 0) * 2.5;
        this.#open = true;
        this.#listen();
        this.#handlers.hello(d);
        break;
      case Op.HEARTBEAT:
        this.#write({ op: Op.HEARTBEAT_ACK, d: {} });
        break;
      case Op.HEARTBEAT_ACK:
        break;
      case Op.AUTHENTICATED:
        this.#handlers.authenticated(d);
        break;
      default:
        this.#handlers.message(t, d);
    }
  }

  // A cable pulled out closes nothing; the heartbeats that fail to appear are the only sign.
  #listen() {
    clearTimeout(this.#silenceTimer);
    if (this.#silenceMs > 0) this.#silenceTimer = setTimeout(() => this.#lose(1006), this.#silenceMs);
  }

  #lose(code) {
    this.#drop();
    let delay = null;
    if (this.persistent) {
      // When a server restarts, all its clients are lost at once; the jitter keeps them from returning at once.
      const patience = Math.max(0, this.#tries - PATIENT_TRIES);
      delay = Math.min(LONGEST_WAIT_MS, this.#reconnectMs * 1.5 ** patience) + (Math.random() * this.#reconnectMs) / 2;
      this.#tries += 1;
      this.#retryTimer = setTimeout(() => this.connect(), delay);
    }
    this.#handlers.lost({ code, delay });
  }

  #drop() {
    clearTimeout(this.#retryTimer);
    clearTimeout(this.#silenceTimer);
    this.#open = false;
    this.#silenceMs = 0;
    const socket = this.#socket;
    this.#socket = null;
    if (socket) {
      socket.onmessage = socket.onclose = null; // what it still has to say is of no interest
      socket.close();
    }
  }
}
