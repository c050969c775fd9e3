// GraphQL over HTTP: one request, its headers, and what its errors mean.

/** The page's options, which `configure` changes; see Options in task.d.ts. */
export const options = {
  url: "/graphql/",
  transports: ["ws", "sse", "poll"],
  credentials: "same-origin",
  retryDelay: (failures) => Math.min(500 * 2 ** (failures - 1), 10_000) * (0.5 + Math.random() / 2),
};

// Errors that a later try may not meet. Any other error ends a watch.
const TEMPORARY = new Set(["TOO_MANY", "RATE_LIMITED", "BACKEND_UNAVAILABLE", "INTERNAL_ERROR", "UNREACHABLE"]);

export const valueOf = (given) => (typeof given === "function" ? given() : given);
export const absolute = (url) => new URL(url, globalThis.document?.baseURI);

/** A refusal, or a failed request. `code` is the server's `extensions.code`, or one of this module. */
export class TaskError extends Error {
  constructor(code, message, extensions = {}) {
    super(message);
    this.name = "TaskError";
    this.code = code;
    this.extensions = extensions;
    this.temporary = TEMPORARY.has(code);
  }
}

export const unreachable = (message) => new TaskError("UNREACHABLE", message);

export function refusalIn([{ message, extensions }]) {
  return new TaskError(extensions?.code ?? "GRAPHQL_ERROR", message, extensions);
}

export async function post(given, operation, accept, signal) {
  const url = absolute(given.url);
  const headers = new Headers({ accept, "content-type": "application/json" });
  const token = await valueOf(given.bearer);
  if (token) headers.set("authorization", `Bearer ${token}`);
  const csrf = /(?:^|; )csrftoken=([^;]+)/.exec(globalThis.document?.cookie ?? "")?.[1];
  if (csrf && url.origin === location.origin) headers.set("x-csrftoken", csrf);
  new Headers((await valueOf(given.headers)) ?? {}).forEach((value, name) => headers.set(name, value));
  const sent = { method: "POST", headers, body: JSON.stringify(operation), credentials: given.credentials, signal };
  const response = await fetch(url, sent).catch((error) => {
    signal?.throwIfAborted();
    throw unreachable(`${url} does not answer: ${error.message}`);
  });
  const { ok, status } = response;
  const type = response.headers.get("content-type") ?? "";
  if (ok && /json|event-stream/.test(type)) return response;
  const answer = await response.json().catch(() => ({}));
  throw Object.assign(errorOf(status, answer.errors, `${url} answers ${status} ${type}.`), { status });
}

function errorOf(status, errors, message) {
  if (errors?.[0]?.extensions?.code) return refusalIn(errors);
  if (status >= 500 || status === 429) return unreachable(message);
  const code = status === 401 ? "UNAUTHENTICATED" : `HTTP_${status}`;
  return new TaskError(code, errors?.[0]?.message ?? message);
}

/** Sends a query or a mutation; returns its data. Throws a TaskError for its first error. */
export async function request(document, variables = {}, given = {}) {
  const operation = { query: document, variables };
  const response = await post({ ...options, ...given }, operation, "application/json", given.signal);
  const { data, errors } = await response.json();
  if (errors) throw refusalIn(errors);
  return data;
}

