// `watchTask` of task.js in Node.js, against the server that Python has started.

import assert from "node:assert/strict";

import WebSocket from "ws";

import { place, run, started } from "./harness.mjs";

const { TaskError, configure, request, watchTask } = await import(place.module);

const opened = []; // every socket of the module
globalThis.WebSocket = class extends WebSocket {
  constructor(...args) {
    super(...args);
    opened.push(this);
  }
};

const MISSING = "0193b1a4-7c1e-7000-8000-000000000001";
const TRANSPORTS = ["ws", "sse", "poll"];
const at = (more) => ({ url: place.url, retryDelay: () => 20, ...more });

// A watch that shares no socket with other cases: a token of its own.
let bearers = 0;
const alone = (more) => {
  const own = `${bearers += 1}`;
  return at({ bearer: () => (own ? place.token : ""), ...more });
};

async function statuses(watch) {
  const seen = [];
  for await (const task of watch) seen.push(task.status);
  return seen;
}

// What the promise is rejected with.
const failure = (promise) => promise.then((it) => assert.fail(JSON.stringify(it)), (error) => error);

async function followed(transport) {
  const id = await started(2, 0.05);
  const used = new Set();
  const ends = [];
  const watch = watchTask(id, at({
    transports: [transport],
    onConnection: (it) => used.add(it),
    onEnd: (task) => ends.push(task.status),
  }));
  const seen = await statuses(watch);
  assert.equal(seen.at(-1), "completed");
  assert.equal(seen.filter((it) => it === "completed").length, 1);
  assert.deepEqual(ends, ["completed"]);
  assert.deepEqual([...used], [transport]);
  assert.equal((await watch.ended).result, "top");
}

run({
  to_the_end_by_web_socket: () => followed("ws"),
  to_the_end_by_events: () => followed("sse"),
  to_the_end_by_polling: () => followed("poll"),

  async a_final_task_is_one_state() {
    const id = await started(1, 0);
    await watchTask(id, at()).ended;
    for (const transport of TRANSPORTS) {
      assert.deepEqual(await statuses(watchTask(id, at({ transports: [transport] }))), ["completed"]);
    }
  },

  async a_missing_task_ends_it_with_its_code() {
    for (const transport of TRANSPORTS) {
      const errors = [];
      const options = at({ transports: [transport], onError: (error) => errors.push(error.code) });
      const error = await failure(statuses(watchTask(MISSING, options)));
      assert.ok(error instanceof TaskError);
      assert.deepEqual([error.code, error.message], ["NOT_FOUND", "Task not found."]);
      assert.deepEqual(errors, ["NOT_FOUND"]);
    }
  },

  async a_good_token_sees_its_users_task() {
    const { whoami } = await request("mutation { whoami { taskId task { ownerId } } }", {}, alone());
    assert.equal(whoami.task.ownerId, place.user);
    for (const transport of TRANSPORTS) {
      const seen = await statuses(watchTask(whoami.taskId, alone({ transports: [transport] })));
      assert.equal(seen.at(-1), "completed");
      const anonymous = watchTask(whoami.taskId, at({ transports: [transport] }));
      assert.equal((await failure(anonymous.ended)).code, "NOT_FOUND");
    }
  },

  async a_bad_token_ends_it() {
    for (const transport of TRANSPORTS) {
      const watch = watchTask(MISSING, at({ transports: [transport], bearer: "nonsense" }));
      assert.equal((await failure(watch.ended)).code, "UNAUTHENTICATED");
    }
  },

  async a_function_is_asked_for_another_token_once() {
    for (const transport of TRANSPORTS) {
      const id = await started(1, 0);
      const tokens = ["expired", place.token];
      const good = watchTask(id, at({ transports: [transport], bearer: () => tokens.shift() }));
      assert.equal((await good.ended).status, "completed");
      let asked = 0;
      const bad = watchTask(id, at({ transports: [transport], bearer: () => `bad ${asked += 1}` }));
      assert.equal((await failure(bad.ended)).code, "UNAUTHENTICATED");
      assert.equal(asked, 2);
    }
  },

  async an_error_of_the_pages_own_function_ends_it() {
    for (const transport of TRANSPORTS) {
      const bearer = () => { throw new RangeError("no token today"); };
      const watch = watchTask(MISSING, at({ transports: [transport], bearer }));
      assert.equal((await failure(watch.ended)).message, "no token today");
    }
  },

  async watches_share_sockets_up_to_the_servers_limit() {
    const bearer = () => place.token;
    const before = opened.length;
    const ids = await Promise.all(Array.from({ length: place.limit + 3 }, () => started(4, 1)));
    const watches = ids.map((id) => watchTask(id, at({ bearer, transports: ["ws"] })));
    const ends = await Promise.all(watches.map((it) => it.ended));
    assert.deepEqual(new Set(ends.map((it) => it.status)), new Set(["completed"]));
    const mine = opened.slice(before).length;
    assert.ok(mine >= 2, `${mine} sockets`);
  },

  async leaving_a_loop_stops_the_watch() {
    const bearer = () => place.token;
    const watch = watchTask(await started(200, 0.3), at({ bearer }));
    for await (const task of watch) {
      assert.notEqual(task.status, "completed");
      break;
    }
    assert.ok(watch.isOver);
    assert.equal((await failure(watch.ended)).name, "AbortError");
  },

  async a_signal_ends_the_watch_with_its_reason() {
    for (const transport of TRANSPORTS) {
      const control = new AbortController();
      const called = [];
      const watch = watchTask(await started(200, 0.3), at({
        signal: control.signal,
        transports: [transport],
        onUpdate: () => control.abort(new Error("enough")),
        onEnd: () => called.push("end"),
        onError: () => called.push("error"),
      }));
      assert.equal((await failure(statuses(watch))).message, "enough");
      assert.deepEqual(called, []);
    }
    const late = watchTask(MISSING, at({ signal: AbortSignal.abort(new Error("too late")) }));
    assert.equal((await failure(late.ended)).message, "too late");
  },

  async further_fields() {
    const watch = watchTask(await started(1, 0), at({ fields: ["queue", "createdAt"] }));
    const { queue, createdAt } = await watch.ended;
    assert.equal(queue, "default");
    assert.ok(Date.parse(createdAt));
  },

  async a_document_that_does_not_fit_ends_it() {
    for (const transport of TRANSPORTS) {
      const watch = watchTask(MISSING, at({ transports: [transport], rename: { task: "job", taskProgress: "job" } }));
      const error = await failure(watch.ended);
      assert.equal(error.code, "GRAPHQL_ERROR");
      assert.match(error.message, /Cannot query field 'job'/);
    }
  },

  async a_request_has_codes() {
    const cancel = "mutation($id: ID!) { cancelTask(id: $id) { id } }";
    const error = await failure(request(cancel, { id: MISSING }, at()));
    assert.equal(error.code, "NOT_FOUND");
    const bad = await failure(request("{ shelves }", {}, at({ bearer: "nonsense" })));
    assert.equal(bad.code, "UNAUTHENTICATED");
    assert.deepEqual(await request("{ shelves }", {}, at({ headers: { "X-Any": "1" } })), { shelves: 3 });
  },

  async a_page_in_place_of_graphql_is_named() {
    const url = new URL("/shell/", place.url).href;
    const error = await failure(watchTask(MISSING, at({ url, transports: ["poll"] })).ended);
    assert.match(error.message, /answers (200|403) text\/html/);
  },

  async options_of_the_page_hold_for_all() {
    configure({ url: place.url });
    assert.deepEqual(await request("{ shelves }"), { shelves: 3 });
  },
});
