// What the watches of a page share of one server: its sockets, and which transports work.

import { TaskError, absolute, post, refusalIn, unreachable, valueOf } from "./request.js";

const NO_STREAMS = new Set([400, 405, 406, 415, 501]); // statuses of views that have no event streams
const WATCHES_PER_SOCKET = 50; // below the server's limits of subscriptions and of waiting frames
const STREAMS = 3; // over HTTP/1.1 a browser has six connections per site, for everything
const POLL_MS = 2000;
const ACK_MS = 6000; // some proxies neither open a WebSocket nor refuse it
const PING_MS = 15_000;
const DEAD_MS = 45_000; // three of the server's heartbeats
const IDLE_MS = 1000; // a socket stays open while HTMX swaps one element for another
const sleep = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });

const refused = (message) => Object.assign(new TaskError("UNAUTHENTICATED", message), { status: 401 });

const servers = new Set();

export class Server {
  sockets = new Set();
  watches = 0;
  streams = 0;
  failures = 0; // in a row
  refusedSockets = 0; // in a row, before their acknowledgement
  socketsWork = false; // one was acknowledged
  without = new Set(); // transports that the server does not have

  static of({ url, wsUrl, bearer }) {
    const found = [...servers].find((it) => it.url === url && it.wsUrl === wsUrl && it.bearer === bearer);
    const server = found ?? new Server(url, wsUrl, bearer);
    servers.add(server);
    return server;
  }

  constructor(url, wsUrl, bearer) {
    Object.assign(this, { url, wsUrl, bearer });
    this.address = absolute(wsUrl ?? url);
    this.address.protocol = this.address.protocol.replace("http", "ws");
  }

  release() {
    this.watches -= 1;
    // What is known of the page's own server is kept.
    setTimeout(() => this.watches || this.bearer === undefined || servers.delete(this), IDLE_MS);
  }

  // Follows by one transport until another one is due. Throws what ended it.
  async follow(watch) {
    const allowed = watch.options.transports.filter((it) => !this.without.has(it));
    const http = allowed.filter((it) => it !== "ws");
    // Sockets that have worked are tried more often: the server restarts, and no proxy blocks them.
    const blocked = http.length && this.refusedSockets >= (this.socketsWork ? 3 : 1);
    if (allowed.includes("ws") && !blocked) return this.socket().follow(watch);
    try {
      const mayStream = this.streams < STREAMS || !http.includes("poll");
      if (http.includes("sse") && mayStream) return await this.stream(watch);
      if (http.includes("poll")) return await this.poll(watch);
    } catch (error) {
      if (error.code === "UNREACHABLE") this.refusedSockets = this.socketsWork ? 2 : 0; // a socket is next
      throw error;
    }
    throw new TaskError("UNSUPPORTED", `${this.url} has none of the transports ${watch.options.transports}.`);
  }

  // All watches wait together, and come back together over one socket.
  rest(retryDelay) {
    this.resting ??= new Promise((resolve) => {
      this.failures += 1;
      const signal = AbortSignal.timeout(retryDelay(this.failures));
      signal.addEventListener("abort", resolve);
      globalThis.addEventListener?.("online", resolve, { signal });
    }).then(() => { this.resting = undefined; });
    return this.resting;
  }

  socket() {
    return [...this.sockets].find((it) => it.operations.size < it.room) ?? new Socket(this);
  }

  async stream(watch) {
    this.streams += 1;
    let timer;
    try {
      const response = await post(watch.options, watch.operation("subscription"), "text/event-stream", watch.signal);
      if (!response.headers.get("content-type")?.startsWith("text/event-stream")) {
        throw Object.assign(new TaskError("HTTP_406", "The answer is no event stream."), { status: 406 });
      }
      watch.connected("sse");
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      for (let rest = ""; ;) {
        timer = setTimeout(() => reader.cancel(), DEAD_MS);
        const { value, done } = await reader.read().catch(() => ({ done: true }));
        clearTimeout(timer);
        if (watch.isOver) return;
        if (done) throw unreachable("The stream has ended before the task.");
        const events = (rest + value.replaceAll("\r", "")).split("\n\n");
        rest = events.pop();
        for (const event of events) {
          const data = /^data: ?(\S.*)$/m.exec(event)?.[1];
          if (data) watch.receive(JSON.parse(data));
        }
      }
    } catch (error) {
      if (!NO_STREAMS.has(error.status)) throw error;
      this.without.add("sse");
    } finally {
      this.streams -= 1;
    }
  }

  async poll(watch) {
    const { transports } = watch.options;
    do {
      const response = await post(watch.options, watch.operation("query"), "application/json", watch.signal);
      watch.connected("poll");
      watch.receive(await response.json());
      if (!watch.isOver) await sleep(POLL_MS);
      // A stream that has become free is better.
    } while (!watch.isOver && (this.streams >= STREAMS || this.without.has("sse") || !transports.includes("sse")));
  }
}

// --- graphql-transport-ws ------------------------------------------------------------------------

class Socket {
  operations = new Map(); // id -> { watch, resolve, reject }
  room = WATCHES_PER_SOCKET;
  isOpen = false; // acknowledged
  heard = Date.now();
  count = 0;

  constructor(server) {
    this.server = server;
    server.sockets.add(this);
    this.timer = setTimeout(() => this.lose(1006, "no acknowledgement"), ACK_MS);
    try {
      this.ws = new WebSocket(server.address, "graphql-transport-ws");
    } catch (error) { // ws: on a page of https:, or a runtime without WebSocket
      queueMicrotask(() => this.lose(1006, error.message));
      return;
    }
    this.ws.onopen = () => this.initialise();
    this.ws.onmessage = ({ data }) => this.receive(JSON.parse(data));
    this.ws.onclose = ({ code, reason }) => this.lose(code, reason);
    this.ws.onerror = () => {}; // the close comes too
  }

  async initialise() {
    try {
      const token = await valueOf(this.server.bearer);
      this.send({ type: "connection_init", ...(token && { payload: { authorization: `Bearer ${token}` } }) });
    } catch (error) {
      this.end(error); // of the page's own function
    }
  }

  follow(watch) {
    return new Promise((resolve, reject) => {
      const id = `${++this.count}`;
      this.operations.set(id, { watch, resolve, reject });
      if (this.isOpen) this.subscribe(id);
      watch.signal.addEventListener("abort", () => {
        if (!this.operations.has(id)) return;
        if (this.isOpen) this.send({ id, type: "complete" });
        this.settle(id);
      });
    });
  }

  subscribe(id) {
    const { watch } = this.operations.get(id);
    watch.connected("ws");
    this.send({ id, type: "subscribe", payload: watch.operation("subscription") });
  }

  settle(id, error) {
    const operation = this.operations.get(id);
    this.operations.delete(id);
    if (error) operation?.reject(error);
    else operation?.resolve();
    if (!this.operations.size) setTimeout(() => this.operations.size || this.end(), IDLE_MS);
  }

  send(message) {
    if (this.ws.readyState === WebSocket.OPEN) this.ws.send(JSON.stringify(message));
  }

  receive({ type, id, payload }) {
    this.heard = Date.now();
    if (type === "connection_ack") {
      clearTimeout(this.timer);
      this.timer = setInterval(() => this.check(), PING_MS);
      this.isOpen = this.server.socketsWork = true;
      this.server.refusedSockets = 0;
      for (const waiting of this.operations.keys()) this.subscribe(waiting);
    } else if (type === "ping") {
      this.send({ type: "pong" });
    } else if (type === "next") {
      try {
        this.operations.get(id)?.watch.receive(payload);
      } catch (error) {
        this.settle(id, error);
      }
    } else if (type === "error") {
      const error = refusalIn(payload);
      // This socket has as many as the server allows; the next watch opens another one.
      if (error.code === "TOO_MANY") this.room = Math.max(1, this.operations.size - 1);
      this.settle(id, error);
    } else if (type === "complete") {
      this.settle(id, unreachable("The subscription has ended before the task."));
    }
  }

  // A connection may be dead without a close, for instance after a laptop has slept.
  check() {
    if (Date.now() - this.heard > DEAD_MS) this.lose(1006, "no answer");
    else this.send({ type: "ping" });
  }

  lose(code, reason) {
    const { server } = this;
    const said = `The WebSocket ${server.address} was closed: ${code} ${reason}`.trimEnd();
    if (!this.isOpen) server.refusedSockets += 1;
    if (code === 4406) server.without.add("ws");
    if (code === 4401 || code === 4403) this.end(refused(said));
    else if ([1008, 1009, 4400, 4409].includes(code)) this.end(new TaskError("PROTOCOL", said));
    else this.end(unreachable(said)); // 1012 too: the server restarts
  }

  end(error) {
    clearTimeout(this.timer); // an interval too
    this.server.sockets.delete(this);
    if (this.ws) {
      this.ws.onopen = this.ws.onmessage = this.ws.onclose = null;
      this.ws.close(1000);
    }
    const operations = [...this.operations.values()];
    this.operations.clear();
    for (const { reject } of operations) reject(error);
  }
}

