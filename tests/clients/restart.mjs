// Follows a task by graphql-ws and by graphql-sse while the server is restarted.
//
// Prints "following" once both have their first event. Python then stops the server and starts
// another one. The last line is {"ws": [...], "sse": [...], "closed": [codes]}: the statuses that
// each client was given, and how the sockets were closed.

import { createClient as createEventsClient } from "graphql-sse";
import { createClient } from "graphql-ws";
import WebSocket from "ws";

import { described, follow, place, results } from "./harness.mjs";

const soon = () => new Promise((resolve) => { setTimeout(resolve, 100); });
const closed = [];
const bySocket = createClient({
  url: place.ws, webSocketImpl: WebSocket, retryAttempts: 300, retryWait: soon,
  shouldRetry: () => true,
  on: { closed: ({ code }) => closed.push(code) },
});
const byEvents = createEventsClient({ url: place.url, retryAttempts: 300, retry: soon });

// A task that ends in its second attempt, after the restart.
const answer = await fetch(place.url, {
  method: "POST",
  headers: { "content-type": "application/json" },
  body: JSON.stringify({ query: "mutation { survive { taskId } }" }),
});
const id = (await answer.json()).data.survive.taskId;
let waiting = 2;
async function statuses(client) {
  let first = true;
  const seen = await results(client, follow(id), () => {
    if (first) {
      first = false;
      waiting -= 1;
      if (waiting === 0) process.stdout.write("following\n");
    }
  });
  return seen.map(({ data }) => data.taskProgress.status);
}

try {
  const [ws, sse] = await Promise.all([statuses(bySocket), statuses(byEvents)]);
  process.stdout.write(`${JSON.stringify({ ws, sse, closed })}\n`, () => process.exit(0));
} catch (error) {
  process.stderr.write(described(error));
  process.exit(1);
}
