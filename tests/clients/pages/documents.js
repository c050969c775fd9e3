// What every page sends. The fields are those that a user interface shows.
export const WATCH = `subscription Watch($id: ID!) {
  taskProgress(taskId: $id) { id status progress progressMessage error }
}`;
export const CANCEL = `mutation Cancel($id: ID!) { cancelTask(id: $id) { id status } }`;

// Each step waits for a file in this folder, which the test makes once the page has shown the step.
const SEEN = JSON.stringify(new URLSearchParams(location.search).get("seen") ?? "");

const STARTS = {
  climb: `mutation Start { it: climb(steps: 2, pause: 0, seen: ${SEEN}) { taskId status } }`,
  linger: `mutation Start { it: linger { taskId status } }`,
  survive: `mutation Start { it: survive { taskId status } }`,
};

/** The mutation that starts one of the tasks above. */
export const startOf = (task) => STARTS[task];

export const FINAL = new Set(["completed", "failed", "cancelled"]);

export const HTTP_URL = new URL("/graphql/", location.href).href;
export const WS_URL = HTTP_URL.replace(/^http/, "ws");

/** Between two attempts to reach a server that restarts, in milliseconds. Chromium slows down
    sockets that fail again and again. */
export const RETRY_MS = 1000;
export const pause = () => new Promise((resolve) => setTimeout(resolve, RETRY_MS));

/** GraphQL in a POST by `fetch`, for clients that only subscribe. */
export async function post(query, variables = {}) {
  const response = await fetch(HTTP_URL, {
    method: "POST",
    headers: { "content-type": "application/json", accept: "application/json" },
    body: JSON.stringify({ query, variables }),
  });
  const { data, errors } = await response.json();
  if (errors) throw new Error(errors[0].message);
  return data;
}
