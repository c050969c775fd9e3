// One subscription over WebSocket, in the protocol graphql-transport-ws, for as long as the page is
// open: a connection that ends is opened again, and the subscription made anew.

const PING_EVERY = 20_000; // ms; a connection that does not answer within PING_WAIT is dead
const PING_WAIT = 5_000;
const LONGEST_PAUSE = 8_000;

export class LiveSubscription {
  // `on` has the functions state(name), frame(direction, message), open(), next(data).
  constructor(path, query, on) {
    this.url = Object.assign(new URL(path, location.href), {
      protocol: location.protocol === "https:" ? "wss:" : "ws:",
    });
    this.query = query;
    this.on = on;
    this.failures = 0;
    this.operation = 0;
    addEventListener("online", () => this.retryNow());
    document.addEventListener("visibilitychange", () => document.hidden || this.retryNow());
    this.connect();
  }

  connect() {
    this.timer = null;
    this.on.state("connecting");
    const socket = (this.socket = new WebSocket(this.url, "graphql-transport-ws"));
    socket.onopen = () => this.send({ type: "connection_init" });
    socket.onmessage = (event) => this.receive(JSON.parse(event.data));
    socket.onclose = (event) => this.closed(event.code);
  }

  send(message) {
    if (this.socket.readyState !== WebSocket.OPEN) return;
    this.socket.send(JSON.stringify(message));
    this.on.frame("up", message);
  }

  receive(message) {
    this.on.frame("down", message);
    switch (message.type) {
      case "connection_ack":
        this.failures = 0;
        this.send({ id: `${++this.operation}`, type: "subscribe", payload: { query: this.query } });
        this.pinger = setInterval(() => this.ping(), PING_EVERY);
        this.on.state("live");
        this.on.open();
        break;
      case "next":
        if (message.payload.data) this.on.next(message.payload.data);
        break;
      case "ping":
        this.send({ type: "pong" });
        break;
      case "pong":
        clearTimeout(this.pingTimer);
        break;
      default: // "error" and "complete": this subscription is over, the page is not
        this.socket.close(1000);
    }
  }

  ping() {
    this.send({ type: "ping" });
    this.pingTimer = setTimeout(() => this.socket.close(), PING_WAIT);
  }

  closed(code) {
    clearInterval(this.pinger);
    clearTimeout(this.pingTimer);
    this.on.state("waiting", code);
    const pause = Math.min(LONGEST_PAUSE, 250 * 2 ** this.failures++);
    // Spread out, so that all pages do not come back to a restarted server in the same instant.
    this.timer = setTimeout(() => this.connect(), pause * (0.5 + Math.random() / 2));
  }

  retryNow() {
    if (this.timer === null) return;
    clearTimeout(this.timer);
    this.connect();
  }
}
