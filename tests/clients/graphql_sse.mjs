// GraphQL over server-sent events, distinct connections, by the client graphql-sse.

import assert from "node:assert/strict";

import { createClient } from "graphql-sse";

import { MISSING, SHELVES, WHOAMI, climb, follow, place, results, run, started } from "./harness.mjs";

const client = createClient({ url: place.url, retryAttempts: 0 });

// What a plain request is answered: its status, media type and text.
async function asked(accept, operation, method = "POST") {
  const url = new URL(place.url);
  const request = { method, headers: { accept } };
  if (method === "POST") {
    request.headers["content-type"] = "application/json";
    request.body = JSON.stringify(operation);
  } else {
    url.searchParams.set("query", operation.query);
  }
  const response = await fetch(url, request);
  return { status: response.status, type: response.headers.get("content-type"), text: await response.text() };
}

run({
  async a_query_is_a_stream_of_one_result() {
    assert.deepEqual(await results(client, SHELVES), [{ data: { shelves: 3 } }]);
  },

  async a_mutation_is_a_stream_of_one_result() {
    const [{ data }, ...others] = await results(client, climb(1, 0));
    assert.equal(data.climb.status, "pending");
    assert.deepEqual(others, []);
  },

  async a_subscription_to_its_end() {
    const seen = await results(client, follow(await started(3, 0.05)));
    const statuses = seen.map(({ data }) => data.taskProgress.status);
    assert.equal(statuses.at(-1), "completed");
    assert.equal(statuses.filter((it) => it === "completed").length, 1);
  },

  async unsubscribing_in_the_middle() {
    const id = await started(200, 0.3);
    // The client may hand on what it had received by then.
    const seen = await results(client, follow(id), (_, stop) => stop());
    assert.notEqual(seen.at(-1).data.taskProgress.status, "completed");
    assert.deepEqual(await results(client, SHELVES), [{ data: { shelves: 3 } }]);
  },

  async several_at_once() {
    const [short, long] = await Promise.all([started(1, 0.05), started(3, 0.1)]);
    const all = await Promise.all([short, long, short].map((id) => results(client, follow(id))));
    for (const seen of all) assert.equal(seen.at(-1).data.taskProgress.status, "completed");
  },

  async an_error_has_its_code() {
    const [{ errors }] = await results(client, MISSING);
    assert.deepEqual(errors[0].extensions, { code: "NOT_FOUND" });
  },

  async a_bad_query_is_an_error_of_the_stream() {
    for (const query of ["{", "{ nothing }"]) {
      const [{ errors }] = await results(client, { query });
      assert.match(errors[0].message, /Syntax Error|Cannot query field/);
    }
  },

  async a_good_token() {
    const headers = { authorization: `Bearer ${place.token}` };
    const named = createClient({ url: place.url, retryAttempts: 0, headers });
    const [{ data }] = await results(named, WHOAMI);
    assert.equal(data.whoami.task.ownerId, place.user);
  },

  async a_bad_token_is_a_401() {
    const headers = { authorization: "Bearer nonsense" };
    const refused = createClient({ url: place.url, retryAttempts: 0, headers });
    const error = await results(refused, SHELVES).catch((thrown) => thrown);
    assert.equal(error.response.status, 401);
  },

  async every_line_ends_with_lf() {
    const { type, text } = await asked("text/event-stream", SHELVES, "GET");
    assert.match(type, /^text\/event-stream/);
    assert.equal(text, 'event: next\ndata: {"data":{"shelves":3}}\n\nevent: complete\ndata: \n\n');
  },

  async a_client_that_takes_json_as_well_gets_json() {
    // To the letter what urql sends.
    const accept = "application/graphql-response+json, application/graphql+json, application/json,"
      + " text/event-stream, multipart/mixed";
    const { status, type, text } = await asked(accept, SHELVES);
    assert.deepEqual([status, type, text], [200, "application/json", '{"data":{"shelves":3}}']);
  },

  async a_subscription_asked_for_as_json_is_a_406() {
    const { status, text } = await asked("application/json", MISSING);
    assert.equal(status, 406);
    assert.match(text, /text\/event-stream/);
  },

  async what_is_not_acceptable_is_a_406() {
    assert.equal((await asked("text/plain", climb(1, 0))).status, 406);
  },

  async a_mutation_by_get_is_a_405() {
    const mutation = { query: "mutation { add(a: 1) { status } }" };
    for (const accept of ["text/event-stream", "application/json"]) {
      assert.equal((await asked(accept, mutation, "GET")).status, 405);
    }
  },
});
