// graphql-transport-ws, by the client graphql-ws; and by bare sockets what no good client sends.

import assert from "node:assert/strict";
import { once } from "node:events";

import { createClient } from "graphql-ws";
import WebSocket from "ws";

import { MISSING, SHELVES, WHOAMI, climb, follow, place, results, run, started } from "./harness.mjs";

const PROTOCOL = "graphql-transport-ws";

// A client that is closed at the end of `use`; `client.sockets` counts the sockets that it opened.
async function withClient(options, use) {
  let sockets = 0;
  class Counted extends WebSocket {
    constructor(...args) {
      super(...args);
      sockets += 1;
    }
  }
  const client = createClient({
    url: place.ws, webSocketImpl: Counted, lazy: false, retryAttempts: 0, onNonLazyError: () => {},
    ...options,
  });
  Object.defineProperty(client, "sockets", { get: () => sockets });
  try {
    return await use(client);
  } finally {
    await client.dispose();
  }
}

// A bare socket: what it received, and how it was closed.
class Bare {
  constructor(protocol = PROTOCOL) {
    this.received = [];
    this.socket = new WebSocket(place.ws, protocol);
    this.socket.on("error", () => {});
    this.socket.on("message", (data) => this.received.push(JSON.parse(data)));
    this.closed = new Promise((resolve) =>
      this.socket.on("close", (code, reason) => resolve({ code, reason: reason.toString() })),
    );
  }

  async open() {
    await once(this.socket, "open");
    return this;
  }

  send(...frames) {
    for (const frame of frames) {
      this.socket.send(typeof frame === "string" ? frame : JSON.stringify(frame));
    }
    return this;
  }
}

const INIT = { type: "connection_init" };
const subscribe = (id, operation) => ({ type: "subscribe", id, payload: operation });

// Sends frames on a new socket, and expects it to be closed by this code.
async function closedBy(code, ...frames) {
  const bare = await new Bare().open();
  bare.send(...frames);
  const closed = await bare.closed;
  assert.equal(closed.code, code, closed.reason);
  return bare;
}

run({
  async a_query() {
    await withClient({}, async (client) => {
      assert.deepEqual(await results(client, SHELVES), [{ data: { shelves: 3 } }]);
    });
  },

  async a_mutation() {
    await withClient({}, async (client) => {
      const [{ data }] = await results(client, climb(1, 0));
      assert.equal(data.climb.status, "pending");
    });
  },

  async a_subscription_to_its_end() {
    await withClient({}, async (client) => {
      const seen = await results(client, follow(await started(3, 0.05)));
      const tasks = seen.map(({ data }) => data.taskProgress);
      assert.equal(tasks.at(-1).status, "completed");
      assert.equal(tasks.at(-1).progress, 100);
      assert.equal(tasks.filter(({ status }) => status === "completed").length, 1);
      const versions = tasks.map(({ seq, step }) => seq * 1000 + step);
      assert.deepEqual(versions, [...versions].sort((a, b) => a - b));
    });
  },

  async unsubscribing_in_the_middle() {
    const frames = [];
    await withClient({ on: { message: (frame) => frames.push(frame) } }, async (client) => {
      await results(client, follow(await started(200, 0.3)), (_, stop) => stop());
      // What was on its way may still come, but not after the answer to a later operation.
      await results(client, SHELVES);
      const before = frames.filter(({ type }) => type === "next").length;
      await results(client, follow(await started(3, 0.1)));
      const { id } = frames.find(({ payload }) => payload?.data?.taskProgress);
      assert.deepEqual(frames.filter(({ type }) => type === "next").slice(before).filter((it) => it.id === id), []);
      assert.equal(client.sockets, 1);
    });
  },

  async several_on_one_socket() {
    await withClient({}, async (client) => {
      const [short, long] = await Promise.all([started(1, 0.05), started(3, 0.1)]);
      const all = await Promise.all([
        ...[short, long, short, long].map((id) => results(client, follow(id))),
        results(client, SHELVES),
      ]);
      for (const seen of all.slice(0, 4)) {
        assert.equal(seen.at(-1).data.taskProgress.status, "completed");
      }
      assert.deepEqual(all[4], [{ data: { shelves: 3 } }]);
      assert.equal(client.sockets, 1);
    });
  },

  async an_error_has_its_code() {
    await withClient({}, async (client) => {
      const [{ errors }] = await results(client, MISSING);
      assert.deepEqual(errors[0].extensions, { code: "NOT_FOUND" });
      assert.deepEqual(await results(client, SHELVES), [{ data: { shelves: 3 } }]);
    });
  },

  async a_bad_query_ends_its_operation_alone() {
    await withClient({}, async (client) => {
      for (const query of ["{", "{ nothing }"]) {
        const errors = await results(client, { query }).catch((thrown) => thrown);
        assert.match(errors[0].message, /Syntax Error|Cannot query field/);
      }
      assert.deepEqual(await results(client, SHELVES), [{ data: { shelves: 3 } }]);
      assert.equal(client.sockets, 1);
    });
  },

  async one_subscription_too_many() {
    await withClient({}, async (client) => {
      const id = await started(200, 0.3);
      const stops = [];
      const begun = Array.from({ length: place.limit }, () => new Promise((resolve, reject) => {
        stops.push(client.subscribe(follow(id), { next: resolve, error: reject, complete() {} }));
      }));
      await Promise.all(begun);
      const errors = await results(client, follow(id)).catch((thrown) => thrown);
      assert.deepEqual(errors[0].extensions, { code: "TOO_MANY" });
      assert.match(errors[0].message, new RegExp(`\\b${place.limit}\\b`));
      assert.deepEqual(await results(client, SHELVES), [{ data: { shelves: 3 } }]);
      stops[0]();
      const [first] = await results(client, follow(id), (_, stop) => stop());
      assert.equal(first.errors, undefined);
    });
  },

  async a_good_token() {
    const connectionParams = { authorization: `Bearer ${place.token}` };
    await withClient({ connectionParams }, async (client) => {
      const [{ data }] = await results(client, WHOAMI);
      assert.equal(data.whoami.task.ownerId, place.user);
    });
  },

  async an_anonymous_caller() {
    await withClient({}, async (client) => {
      const [{ data }] = await results(client, WHOAMI);
      assert.equal(data.whoami.task.ownerId, null);
    });
  },

  async a_bad_token_is_4403() {
    const connectionParams = { authorization: "Bearer nonsense" };
    await withClient({ lazy: true, connectionParams }, async (client) => {
      const closed = await results(client, SHELVES).catch((thrown) => thrown);
      assert.equal(closed.code, 4403);
    });
  },

  async pings_are_answered() {
    let pong;
    const answered = new Promise((resolve) => { pong = resolve; });
    const on = { pong: (received) => received && pong() };
    await withClient({ keepAlive: 20, on }, () => answered);
  },

  async a_pong_needs_no_ping() {
    const bare = await new Bare().open();
    bare.send(INIT, { type: "pong" }, { type: "ping", payload: { a: 1 } });
    while (bare.received.length < 2) await once(bare.socket, "message");
    assert.deepEqual(bare.received.map(({ type }) => type), ["connection_ack", "pong"]);
    bare.socket.close();
  },

  async an_unknown_id_is_completed_without_harm() {
    const bare = await new Bare().open();
    bare.send(INIT);
    await once(bare.socket, "message");
    bare.send({ type: "complete", id: "nothing" }, subscribe("1", SHELVES));
    while (bare.received.length < 3) await once(bare.socket, "message");
    assert.deepEqual(bare.received.map(({ type }) => type), ["connection_ack", "next", "complete"]);
    bare.socket.close();
  },

  async a_malformed_frame_is_4400() {
    for (const frame of ["", "{", "[]", "null", "{}", '{"type":"nothing"}', '{"type":"subscribe"}']) {
      await closedBy(4400, frame);
    }
  },

  async an_operation_before_the_acknowledgement_is_4401() {
    await closedBy(4401, subscribe("1", SHELVES));
  },

  async a_foreign_subprotocol_is_4406() {
    const bare = new Bare("graphql-ws");
    assert.ok([4406, 1006].includes((await bare.closed).code));
    assert.deepEqual(bare.received, []);
  },

  async a_client_that_never_initialises_is_4408() {
    await closedBy(4408);
  },

  async an_id_in_use_is_4409() {
    const bare = await new Bare().open();
    bare.send(INIT);
    await once(bare.socket, "message");
    const operation = follow(await started(200, 0.3));
    bare.send(subscribe("1", operation), subscribe("1", operation));
    assert.equal((await bare.closed).code, 4409);
  },

  async a_second_initialisation_is_4429() {
    await closedBy(4429, INIT, INIT);
  },
});
