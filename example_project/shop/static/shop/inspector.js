// The panes that show what is behind a button: the Python, the GraphQL, the frames.

const FRAMES = 50;
const frames = [];
let drawing = false;
let count = 0;

const byId = (id) => document.getElementById(id);

export function element(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

export function showPython(action) {
  byId("python").innerHTML = action.source; // escaped by the server, with spans for the colours
  byId("python").scrollTop = 0;
  byId("python-place").textContent = `shop/tasks.py, line ${action.line}`;
}

export function showGraphQL(place, query, variables, answer) {
  byId("graphql-place").textContent = place;
  const parts = [...highlight(query)];
  if (variables) parts.push(element("span", "comment", "\n\n# Variables\n"), pretty(variables));
  if (answer) parts.push(element("span", "comment", "\n\n# Answer\n"), pretty(answer));
  byId("graphql").replaceChildren(...parts);
}

export function showFrame(direction, message) {
  frames.push({ direction, message, at: new Date(), number: ++count });
  if (frames.length > FRAMES) frames.shift();
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(drawFrames);
}

function drawFrames() {
  drawing = false;
  const list = byId("frames");
  const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
  const oldest = frames[0].number;
  while (list.firstChild && Number(list.firstChild.dataset.number) < oldest) list.firstChild.remove();
  const newest = list.lastChild ? Number(list.lastChild.dataset.number) : 0;
  for (const frame of frames) if (frame.number > newest) list.append(drawFrame(frame));
  byId("frames-place").textContent = `${count.toLocaleString("en")} on the WebSocket, the last 50 here`;
  if (atEnd) list.scrollTop = list.scrollHeight;
}

function drawFrame({ direction, message, at, number }) {
  const item = element("li");
  item.dataset.number = number;
  const details = element("details");
  const summary = element("summary");
  const time = `${at.toTimeString().slice(3, 8)}.${String(at.getMilliseconds()).padStart(3, "0")}`;
  summary.append(
    element("time", "", time),
    element("span", direction, direction === "up" ? "↑" : "↓"),
    element("b", "", message.type),
    element("span", "gist", gist(message)),
  );
  details.append(summary);
  details.addEventListener(
    "toggle",
    () => details.append(element("pre", "", JSON.stringify(message, null, 2))),
    { once: true },
  );
  item.append(details);
  return item;
}

function gist(message) {
  const task = message.payload?.data?.myTaskUpdates;
  if (task) return `${task.name} ${task.status} ${task.progress} %  (${task.seq}.${task.step})`;
  return message.type === "subscribe" ? "myTaskUpdates" : "";
}

function pretty(value) {
  const text = JSON.stringify(value, null, 2);
  return document.createTextNode(text.length > 20_000 ? `${text.slice(0, 20_000)}\n…` : text);
}

const WORDS = /("[^"]*")|(#.*)|\b(query|mutation|subscription|fragment|on)\b|(\$\w+|\b\d+\b|\b[A-Z][A-Z_]+\b)/g;
const KINDS = ["string", "comment", "keyword", "number"];

function* highlight(source) {
  let end = 0;
  for (const match of source.matchAll(WORDS)) {
    yield document.createTextNode(source.slice(end, match.index));
    yield element("span", KINDS[match.slice(1).findIndex(Boolean)], match[0]);
    end = match.index + match[0].length;
  }
  yield document.createTextNode(source.slice(end));
}
