// `watchTask` of task.js against a server that does what a good one does not: it is in this process.

import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { createServer as createPlainServer } from "node:net";

import WebSocket, { WebSocketServer } from "ws";

import { place, run } from "./harness.mjs";

// The module's long timers stand still until a case has them elapse.
const held = new Set();
const [IDLE, POLL, ACK, PING, DEAD] = [1000, 2000, 6000, 15_000, 45_000]; // as in server.js
const hold = (real, repeats) => (callback, ms = 0, ...rest) => {
  if (![IDLE, POLL, ACK, PING, DEAD].includes(ms)) return real(callback, ms, ...rest);
  const timer = { callback, ms, repeats, unref() {}, refresh() {} }; // fetch has some of 1000 ms too
  held.add(timer);
  return timer;
};
const release = (real) => (timer) => { if (!held.delete(timer)) real(timer); };
Object.assign(globalThis, {
  setTimeout: hold(setTimeout, false),
  setInterval: hold(setInterval, true),
  clearTimeout: release(clearTimeout),
});
async function elapse(ms) {
  const due = () => [...held].filter((it) => it.ms === ms);
  while (!due().length) await soon();
  for (const timer of due()) {
    if (!timer.repeats) held.delete(timer);
    timer.callback();
  }
}
const soon = () => new Promise(setImmediate);

globalThis.WebSocket = WebSocket;
const { watchTask } = await import(place.module);

const task = (seq, step, status = "running") => ({ id: "1", name: "t", status, progress: step, seq, step });
const payload = (...args) => ({ data: { task: task(...args) } });
const END = [3, 0, "completed"];

// A server whose sockets and requests two functions answer.
async function serving({ socket = (it) => it.terminate(), http = (_, response) => response.destroy() }, use) {
  const requests = [];
  const server = createServer(async (request, response) => {
    const body = JSON.parse((await request.toArray()).join(""));
    requests.push(request.headers.accept === "text/event-stream" ? "sse" : "poll");
    http(request, response, body, requests.length);
  });
  const sockets = new WebSocketServer({ server, handleProtocols: () => "graphql-transport-ws" });
  let count = 0;
  sockets.on("connection", (it) => socket(talk(it), count += 1));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  try {
    const url = `http://127.0.0.1:${server.address().port}/graphql/`;
    return await use({ url, requests, sockets: () => count });
  } finally {
    for (const it of sockets.clients) it.terminate();
    server.closeAllConnections();
    server.close();
  }
}

// A socket with `next(id, …)`, and `subscribed(callback)`, which acknowledges by itself.
function talk(socket) {
  const send = (message) => socket.send(JSON.stringify(message));
  return Object.assign(socket, {
    next: (id, ...args) => send({ type: "next", id, payload: payload(...args) }),
    say: send,
    subscribed(callback) {
      socket.on("message", (data) => {
        const message = JSON.parse(data);
        if (message.type === "connection_init") send({ type: "connection_ack" });
        if (message.type === "subscribe") callback(message.id, message.payload);
        if (message.type === "ping") send({ type: "pong" });
      });
    },
  });
}

function stream(response, ...states) {
  response.writeHead(200, { "content-type": "text/event-stream" });
  for (const state of states) response.write(`event: next\r\ndata: ${JSON.stringify(payload(...state))}\r\n\r\n`);
}

const watch = (url, more) => watchTask("1", { url, retryDelay: () => 5, ...more });
const failure = (promise) => promise.then((it) => assert.fail(JSON.stringify(it)), (error) => error);

async function steps(watched) {
  const seen = [];
  for await (const { seq, step } of watched) seen.push(`${seq}.${step}`);
  return seen;
}

// A first socket that is closed by `code`, a second one that comes to the end.
const closing = (code) => ({
  socket(socket, turn) {
    socket.subscribed((id) => {
      socket.next(id, 2, turn);
      if (turn === 1) socket.close(code);
      else socket.next(id, ...END);
    });
  },
});

async function comesBackAfter(code) {
  await serving(closing(code), async ({ url, sockets, requests }) => {
    const updates = [];
    let ends = 0;
    const watched = watch(url, { onUpdate: ({ step }) => updates.push(step), onEnd: () => { ends += 1; } });
    await watched.ended;
    assert.deepEqual(updates, [1, 2, 0]);
    assert.deepEqual([sockets(), requests, ends], [2, [], 1]);
  });
}

async function endsAfter(code, expected) {
  await serving(closing(code), async ({ url, sockets, requests }) => {
    const error = await failure(watch(url).ended);
    assert.equal(error.code, expected);
    assert.match(error.message, new RegExp(`${code}`));
    assert.deepEqual([sockets(), requests], [1, []]);
  });
}

run({
  comes_back_after_1012: () => comesBackAfter(1012),
  comes_back_after_1011: () => comesBackAfter(1011),
  comes_back_after_4408: () => comesBackAfter(4408),
  ends_after_4400: () => endsAfter(4400, "PROTOCOL"),
  ends_after_1008: () => endsAfter(1008, "PROTOCOL"),
  ends_after_1009: () => endsAfter(1009, "PROTOCOL"),
  ends_after_4401: () => endsAfter(4401, "UNAUTHENTICATED"),
  ends_after_4403: () => endsAfter(4403, "UNAUTHENTICATED"),

  async another_subprotocol_goes_on_by_events() {
    const http = (_, response) => stream(response, END);
    await serving({ socket: (it) => it.close(4406), http }, async ({ url, requests }) => {
      await watch(url).ended;
      await watch(url).ended;
      assert.deepEqual(requests, ["sse", "sse"]);
    });
  },

  async an_early_complete_is_no_end() {
    const socket = (it, turn) => {
      let subscriptions = 0;
      it.subscribed((id) => {
        it.next(id, 2, subscriptions += 1);
        if (subscriptions === 1) it.say({ type: "complete", id });
        else it.next(id, ...END);
      });
      assert.equal(turn, 1);
    };
    await serving({ socket }, async ({ url, sockets }) => {
      const updates = [];
      let rests = 0;
      const retryDelay = () => { rests += 1; return 1; };
      await watch(url, { retryDelay, onUpdate: ({ step }) => updates.push(step) }).ended;
      assert.deepEqual(updates, [1, 2, 0]);
      assert.deepEqual([sockets(), rests], [1, 1]);
    });
  },

  async stale_states_are_refused() {
    const socket = (it) => it.subscribed((id) => {
      for (const state of [[2, 5], [2, 5], [2, 4], [1, 9], [2, 6], END, [4, 0], END]) it.next(id, ...state);
    });
    await serving({ socket }, async ({ url }) => {
      const updates = [];
      let ends = 0;
      await watch(url, { onUpdate: (it) => updates.push(`${it.seq}.${it.step}`), onEnd: () => { ends += 1; } }).ended;
      assert.deepEqual(updates, ["2.5", "2.6", "3.0"]);
      assert.equal(ends, 1);
    });
  },

  async a_temporary_error_is_tried_again() {
    const socket = (it) => {
      let tries = 0;
      it.subscribed((id) => {
        const code = ["BACKEND_UNAVAILABLE", "TOO_MANY", "INTERNAL_ERROR"][tries];
        tries += 1;
        if (code) it.say({ type: "error", id, payload: [{ message: code, extensions: { code } }] });
        else it.next(id, ...END);
      });
    };
    await serving({ socket }, async ({ url }) => assert.deepEqual(await steps(watch(url)), ["3.0"]));
  },

  async a_dead_connection_is_left() {
    // The first socket says nothing more, not even to a ping.
    const socket = (it, turn) => it.on("message", (data) => {
      const { type, id } = JSON.parse(data);
      if (type === "connection_init") it.say({ type: "connection_ack" });
      if (type === "subscribe") it.next(id, ...(turn === 1 ? [2, 1] : END));
    });
    const { now } = Date;
    try {
      await serving({ socket }, async ({ url, sockets }) => {
        const watched = watch(url);
        const seen = steps(watched);
        while (!watched.task) await soon();
        await elapse(PING);
        assert.equal(sockets(), 1);
        Date.now = () => now() + DEAD + 1;
        await elapse(PING);
        assert.deepEqual(await seen, ["2.1", "3.0"]);
        assert.equal(sockets(), 2);
      });
    } finally {
      Date.now = now;
    }
  },

  async a_ping_is_answered_and_sent() {
    const said = [];
    const socket = (it) => {
      it.on("message", (data) => said.push(JSON.parse(data).type));
      it.subscribed((id) => {
        it.next(id, 2, 1);
        it.say({ type: "ping" });
      });
    };
    await serving({ socket }, async ({ url }) => {
      const watched = watch(url);
      while (!said.includes("pong")) await soon();
      await elapse(PING);
      while (!said.includes("ping")) await soon();
      watched.stop();
      while (!said.includes("complete")) await soon();
      assert.deepEqual(said, ["connection_init", "subscribe", "pong", "ping", "complete"]);
    });
  },

  async a_handshake_without_an_answer_goes_on_by_events() {
    const silences = [];
    const silent = createPlainServer((it) => { silences.push(it); });
    silent.listen(0, "127.0.0.1");
    await once(silent, "listening");
    const wsUrl = `ws://127.0.0.1:${silent.address().port}/`;
    await serving({ http: (_, response) => stream(response, END) }, async ({ url, requests }) => {
      const { ended } = watch(url, { wsUrl });
      await elapse(ACK);
      await ended;
      assert.deepEqual(requests, ["sse"]);
    });
    for (const it of silences) it.destroy();
    silent.close();
  },

  async a_stream_that_breaks_is_opened_again() {
    const http = (_, response, __, turn) => {
      if (turn > 1) return stream(response, [2, 1], END);
      stream(response, [2, 1]);
      response.end("event: complete\ndata: \n\n"); // early, as a restart may be
    };
    await serving({ http }, async ({ url, requests }) => {
      assert.deepEqual(await steps(watch(url, { transports: ["sse"] })), ["2.1", "3.0"]);
      assert.deepEqual(requests, ["sse", "sse"]);
    });
  },

  async a_silent_stream_is_opened_again() {
    const http = (_, response, __, turn) => stream(response, turn > 1 ? END : [2, 1]);
    await serving({ http }, async ({ url }) => {
      const watched = watch(url, { transports: ["sse"] });
      const seen = steps(watched);
      while (!watched.task) await soon();
      await elapse(DEAD);
      assert.deepEqual(await seen, ["2.1", "3.0"]);
    });
  },

  async a_stream_in_small_pieces() {
    const http = async (_, response) => {
      response.writeHead(200, { "content-type": "text/event-stream" });
      const text = `: ping\n\nevent: next\ndata: ${JSON.stringify(payload(2, 1))}\n\nevent: next\ndata: ${JSON.stringify(payload(...END))}\n\nevent: complete\ndata: \n\n`;
      for (const byte of text) {
        response.write(byte);
        await soon();
      }
    };
    await serving({ http }, async ({ url }) => {
      assert.deepEqual(await steps(watch(url, { transports: ["sse"] })), ["2.1", "3.0"]);
    });
  },

  async a_view_without_streams_is_polled() {
    for (const status of [400, 406, 501, 200]) {
      const http = (request, response, body) => {
        if (request.headers.accept === "text/event-stream") {
          response.writeHead(status, { "content-type": "application/json" });
          return response.end('{"errors": [{"message": "no events here"}]}');
        }
        assert.match(body.query, /^query .*task\(id: \$id\)/);
        response.writeHead(200, { "content-type": "application/json" });
        response.end(JSON.stringify(payload(...END)));
      };
      await serving({ http }, async ({ url, requests }) => {
        await watch(url).ended;
        await watch(url).ended;
        assert.deepEqual(requests, ["sse", "poll", "poll"], `${status}`);
      });
    }
  },

  async three_streams_at_most_and_the_others_poll() {
    const open = [];
    const http = (request, response) => {
      if (request.headers.accept === "text/event-stream") {
        open.push(response);
        return stream(response, [2, 1]);
      }
      response.writeHead(200, { "content-type": "application/json" });
      response.end(JSON.stringify(payload(2, 1)));
    };
    await serving({ http }, async ({ url, requests }) => {
      const used = [];
      const options = { transports: ["sse", "poll"] };
      const watches = Array.from({ length: 5 }, (_, i) =>
        watch(url, { ...options, onConnection: (it) => { (used[i] ??= []).push(it); } }));
      while (used.flat().length < 5) await soon();
      while (requests.length < 7) await elapse(POLL);
      assert.deepEqual(used, [["sse"], ["sse"], ["sse"], ["poll"], ["poll"]]);
      // A stream that becomes free is taken by one that polls.
      open[0].write(`event: next\ndata: ${JSON.stringify(payload(...END))}\n\n`);
      await Promise.race(watches.map((it) => it.ended));
      while (open.length < 4) await elapse(POLL);
      while (used[3].length + used[4].length < 3) await soon();
      assert.deepEqual(used.slice(3).flat().sort(), ["poll", "poll", "sse"]);
      for (const it of watches) it.stop();
    });
  },

  async a_server_that_is_away_is_waited_for() {
    const tries = [];
    const http = (_, response) => {
      if (tries.length < 4) return response.destroy();
      if (tries.length < 6) return response.writeHead(503).end();
      stream(response, END);
    };
    await serving({ http }, async ({ url, sockets }) => {
      const retryDelay = (failures) => { tries.push(failures); return 1; };
      await watch(url, { retryDelay }).ended;
      // Sockets and events in turn: whichever comes back first is taken.
      assert.ok(sockets() >= 3, `${sockets()} sockets`);
      assert.deepEqual(tries, Array.from(tries, (_, i) => i + 1));
    });
  },

  async a_refusal_by_status_ends_it() {
    for (const [status, code] of [[401, "UNAUTHENTICATED"], [403, "HTTP_403"], [404, "HTTP_404"]]) {
      const http = (_, response) => response.writeHead(status, { "content-type": "text/html" }).end("<p>No");
      await serving({ http }, async ({ url }) => {
        assert.equal((await failure(watch(url, { transports: ["sse", "poll"] }).ended)).code, code);
      });
    }
  },

  async a_server_without_any_transport_is_named() {
    await serving({ socket: (it) => it.close(4406) }, async ({ url }) => {
      const error = await failure(watch(url, { transports: ["ws"] }).ended);
      assert.equal(error.code, "UNSUPPORTED");
    });
  },

  async a_callback_that_throws_ends_no_watch() {
    const thrown = [];
    const note = (error) => thrown.push(error.message);
    process.on("uncaughtException", note);
    const socket = (it) => it.subscribed((id) => { it.next(id, 2, 1); it.next(id, ...END); });
    await serving({ socket }, async ({ url }) => {
      const onUpdate = ({ step }) => { throw new Error(`the page's mistake at ${step}`); };
      assert.equal((await watch(url, { onUpdate }).ended).status, "completed");
    });
    await soon();
    process.off("uncaughtException", note);
    assert.deepEqual(thrown, ["the page's mistake at 1", "the page's mistake at 0"]);
  },

  async a_socket_without_watches_is_closed() {
    let closed;
    const socket = (it) => {
      closed = once(it, "close");
      it.subscribed((id) => it.next(id, ...END));
    };
    await serving({ socket }, async ({ url, sockets }) => {
      await watch(url).ended;
      await watch(url).ended; // soon after: the same socket
      assert.equal(sockets(), 1);
      await elapse(IDLE);
      const [code] = await closed;
      assert.equal(code, 1000);
    });
  },
}, { atOnce: false });
