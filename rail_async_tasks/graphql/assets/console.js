// The GraphQL console: sends operations by fetch, follows subscriptions by SSE or WebSocket.
"use strict";

const $ = (id) => document.getElementById(id);
const ENDPOINT = location.pathname;
const MAX_FRAMES = 500; // a stream left open must not fill the page

// Written out from the schema, so that they are always right.
const SAMPLES = [
  ["My newest tasks", "query", "tasks"],
  ["One task", "query", "task"],
  ["Follow all my tasks", "subscription", "myTaskUpdates"],
  ["Follow one task", "subscription", "taskProgress"],
  ["Cancel a task", "mutation", "cancelTask"],
  ["Run a finished task again", "mutation", "retryTask"],
];

let stop = null; // ends what is running; null while nothing is

function el(tag, attributes = {}, ...children) {
  const element = Object.assign(document.createElement(tag), attributes);
  element.append(...children);
  return element;
}

function show(value, bad = false) {
  const text = typeof value === "string" ? value : JSON.stringify(value, null, 2);
  const output = $("output");
  const follows = output.scrollTop + output.clientHeight > output.scrollHeight - 40;
  const when = new Date().toISOString().slice(11, 23);
  output.append(
    el("div", { className: bad ? "frame bad" : "frame" },
      el("div", { className: "when", textContent: when }), el("pre", { textContent: text })));
  while (output.childElementCount > MAX_FRAMES) output.firstElementChild.remove();
  if (follows) output.scrollTop = output.scrollHeight;
}

function state(text) {
  $("state").textContent = text;
  $("run").disabled = stop !== null;
  $("stop").disabled = stop === null;
}

// The operations of a document: {kind, name, start}. Braces and words in strings and comments
// are none, so those are blanked first, which keeps all offsets.
function operations(source) {
  const bare = source.replace(/"""[^]*?"""|"(?:\\.|[^"\\\n])*"|#.*/g, (text) => " ".repeat(text.length));
  const found = [];
  let depth = 0;
  for (const token of bare.matchAll(/[{}()]|\b(query|mutation|subscription|fragment)\b(?:\s+(\w+))?/g)) {
    const text = token[0];
    if (text === "{" || text === "(") {
      const headed = found.length && !found.at(-1).opened;
      if (depth === 0 && text === "{") {
        if (headed) found.at(-1).opened = true;
        else found.push({ kind: "query", name: undefined, start: token.index, opened: true });
      }
      depth += 1;
    } else if (text === "}" || text === ")") {
      depth -= 1;
    } else if (depth === 0) {
      found.push({ kind: token[1], name: token[2], start: token.index, opened: false });
    }
  }
  return found.filter((operation) => operation.kind !== "fragment");
}

// With several operations in the editor, the one that the cursor is in.
function request() {
  const query = $("query").value;
  const all = operations(query);
  const before = all.filter((operation) => operation.start <= $("query").selectionStart);
  const chosen = before.at(-1) ?? all[0];
  const written = $("variables").value.trim();
  const variables = written ? JSON.parse(written) : undefined;
  const operationName = all.length > 1 ? chosen?.name : undefined;
  return { kind: chosen?.kind ?? "query", body: { query, variables, operationName } };
}

function run() {
  if (stop) return;
  let operation;
  try {
    operation = request();
  } catch (error) {
    return show(`The variables are not JSON: ${error.message}`, true);
  }
  if (operation.kind !== "subscription") during("Running…", (signal) => ask(operation.body, signal));
  else if ($("transport").value === "ws") followBySocket(operation.body);
  else during("Subscribed (SSE)", (signal) => followByEvents(operation.body, signal));
}

function post(body, accept, signal) {
  return fetch(ENDPOINT, {
    method: "POST",
    headers: { "Content-Type": "application/json", Accept: accept },
    body: JSON.stringify(body),
    credentials: "same-origin",
    signal,
  });
}

// Runs `work` until it is done or stopped; what it returns is shown as the state.
async function during(text, work) {
  const abort = new AbortController();
  let ending = "Stopped";
  stop = () => abort.abort();
  state(text);
  try {
    ending = await work(abort.signal);
  } catch (error) {
    if (error.name !== "AbortError") {
      ending = "Failed";
      show(String(error), true);
    }
  }
  stop = null;
  state(ending);
}

async function ask(body, signal) {
  const began = performance.now();
  const response = await post(body, "application/json", signal);
  showAnswer(await response.text(), response.ok);
  return `${response.status} in ${Math.round(performance.now() - began)} ms`;
}

function showAnswer(text, ok = true) {
  let answer = text;
  try { answer = JSON.parse(text); } catch { /* not JSON: shown as it came */ }
  show(answer, !ok || Boolean(answer.errors));
}

const events = (count) => `${count} ${count === 1 ? "event" : "events"}`;

async function followByEvents(body, signal) {
  const response = await post(body, "text/event-stream", signal);
  if (!response.headers.get("Content-Type")?.startsWith("text/event-stream")) {
    showAnswer(await response.text(), false);
    return `${response.status}`;
  }
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let count = 0;
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return "Connection lost";
    const blocks = (rest + value.replaceAll("\r", "")).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      if (/^event: complete$/m.test(block)) return `Complete, ${events(count)}`;
      const data = /^data: ?(.+)$/m.exec(block)?.[1];
      if (data) {
        state(`${events(count += 1)} (SSE)`);
        showAnswer(data);
      }
    }
  }
}

function followBySocket(body) {
  const address = `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}${ENDPOINT}`;
  const socket = new WebSocket(address, "graphql-transport-ws");
  const send = (message) => socket.send(JSON.stringify(message));
  let count = 0;
  let ending = null;
  const end = (text) => (ending = text, socket.close(1000));
  stop = () => end("Stopped");
  state("Connecting…");
  socket.onopen = () => send({ type: "connection_init" });
  socket.onmessage = ({ data }) => {
    const message = JSON.parse(data);
    if (message.type === "connection_ack") {
      state("Subscribed (WebSocket)");
      send({ id: "1", type: "subscribe", payload: body });
    } else if (message.type === "ping") {
      send({ type: "pong" });
    } else if (message.type === "next") {
      state(`${events(count += 1)} (WebSocket)`);
      show(message.payload, Boolean(message.payload.errors));
    } else if (message.type === "error") {
      show({ errors: message.payload }, true);
      end("Refused");
    } else if (message.type === "complete") {
      end(`Complete, ${events(count)}`);
    }
  };
  socket.onclose = ({ code, reason }) => {
    if (ending === null) show(`The socket was closed: ${code} ${reason}`, true);
    stop = null;
    state(ending ?? `Closed (${code})`);
  };
}

// The schema browser

const INTROSPECTION = `{ __schema {
  queryType { name } mutationType { name } subscriptionType { name }
  types { kind name description
    fields { name description type { ...T } args { name description defaultValue type { ...T } } }
    inputFields { name description defaultValue type { ...T } } enumValues { name description } } } }
fragment T on __Type { kind name ofType { kind name ofType { kind name ofType { kind name ofType { kind name } } } } }`;

let schema = null;

function typeName({ kind, name, ofType }) {
  if (kind === "NON_NULL") return `${typeName(ofType)}!`;
  return kind === "LIST" ? `[${typeName(ofType)}]` : name;
}
const innerType = (type) => (type.ofType ? innerType(type.ofType) : type);

// An operation that asks for every plain field of what `field` returns, two levels deep.
function written(kind, field) {
  const leaves = (type, indent) => {
    const fields = schema.types.find(({ name }) => name === innerType(type).name)?.fields;
    if (!fields) return "";
    const lines = fields.map((child) => {
      const inner = indent.length < 6 ? leaves(child.type, `${indent}  `) : "";
      const plain = ["SCALAR", "ENUM"].includes(innerType(child.type).kind);
      return child.args.length === 0 && (plain || inner) ? `${indent}  ${child.name}${inner}` : null;
    });
    return ` {\n${lines.filter(Boolean).join("\n")}\n${indent}}`;
  };
  const needed = field.args.filter((arg) => arg.type.kind === "NON_NULL" && arg.defaultValue === null);
  const declared = needed.map((arg) => `$${arg.name}: ${typeName(arg.type)}`).join(", ");
  const passed = needed.map((arg) => `${arg.name}: $${arg.name}`).join(", ");
  const title = field.name[0].toUpperCase() + field.name.slice(1);
  const empty = (type) => (["ID", "String"].includes(innerType(type).name) ? "" : null);
  const variables = Object.fromEntries(needed.map((arg) => [arg.name, empty(arg.type)]));
  return {
    query: `${kind} ${title}${declared && `(${declared})`} {\n  ${field.name}${passed && `(${passed})`}${leaves(field.type, "  ")}\n}`,
    variables: needed.length ? JSON.stringify(variables, null, 2) : "",
  };
}

function fieldRow(field, kind) {
  const args = (field.args ?? []).map((arg) =>
    `${arg.name}: ${typeName(arg.type)}${arg.defaultValue === null ? "" : ` = ${arg.defaultValue}`}`);
  const name = kind
    ? el("button", { textContent: field.name, title: "Write this operation", onclick: () => load(written(kind, field)) })
    : el("span", { className: "name", textContent: field.name });
  const signature = (args.length ? `(${args.join(", ")})` : "") + (field.type ? `: ${typeName(field.type)}` : "");
  const row = el("div", { className: "field" }, name, el("span", { className: "type", textContent: signature }));
  if (field.description) row.append(el("div", { className: "doc", textContent: field.description }));
  return row;
}

function drawSchema() {
  const wanted = $("filter").value.toLowerCase();
  const roots = new Map([["queryType", "query"], ["mutationType", "mutation"], ["subscriptionType", "subscription"]]
    .map(([key, kind]) => [schema[key]?.name, kind]));
  const types = schema.types.filter(({ name }) => !name.startsWith("__"));
  types.sort((a, b) => roots.has(b.name) - roots.has(a.name));
  const parts = types.flatMap((type) => {
    const members = type.fields ?? type.inputFields ?? type.enumValues ?? [];
    const named = type.name.toLowerCase().includes(wanted);
    const shown = members.filter((member) => named || member.name.toLowerCase().includes(wanted));
    if (!named && shown.length === 0) return [];
    const doc = type.description && !roots.has(type.name) ? [el("div", { className: "doc", textContent: type.description })] : [];
    return [el("h2", { textContent: type.name }), ...doc, ...shown.map((member) => fieldRow(member, roots.get(type.name)))];
  });
  $("schema").replaceChildren(...parts);
}

async function loadSchema() {
  try {
    const answer = await (await post({ query: INTROSPECTION }, "application/json")).json();
    if (!answer.data) throw new Error(answer.errors?.[0]?.message ?? "no answer");
    schema = answer.data.__schema;
    drawSchema();
    if ($("query").value === "") loadSample(0);
  } catch (error) {
    $("schema").textContent = `The schema could not be read: ${error.message}`;
  }
}

function load({ query, variables }) {
  $("query").value = query;
  $("variables").value = variables;
}

function loadSample(index) {
  const [, kind, name] = SAMPLES[index];
  const root = schema.types.find((type) => type.name === schema[`${kind}Type`].name);
  load(written(kind, root.fields.find((field) => field.name === name)));
}

$("endpoint").textContent = ENDPOINT;
$("samples").append(...SAMPLES.map(([title], index) => el("option", { value: index, textContent: title })));
$("samples").onchange = ({ target }) => schema && loadSample(target.value);
$("run").onclick = run;
$("stop").onclick = () => stop?.();
$("clear").onclick = () => $("output").replaceChildren();
$("filter").oninput = () => schema && drawSchema();
document.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
  event.preventDefault();
  run();
});
state("");
loadSchema();
