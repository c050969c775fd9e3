// Puts the page together: buttons send mutations, one subscription brings what becomes of them.

import * as board from "./board.js";
import { CANCEL, RETRY, ROW, STOCK, UPDATES, WHERE, history, send } from "./graphql.js";
import { showFrame, showGraphQL, showPython } from "./inspector.js";
import { LiveSubscription } from "./socket.js";

const actions = new Map(
  JSON.parse(document.getElementById("actions-data").textContent).map((it) => [it.key, it]),
);
const names = [...new Set([...actions.values()].map((action) => action.task))];
const byId = (id) => document.getElementById(id);
const problem = byId("problem");

let shown = 0; // counts what the GraphQL pane was given: a late answer must not replace it

function show(action) {
  shown += 1;
  showPython(action);
  showGraphQL("", action.mutation);
  for (const button of document.querySelectorAll("[data-show]")) {
    button.setAttribute("aria-pressed", String(button.dataset.show === action.key));
  }
}

async function mutate(mutation, variables) {
  problem.hidden = true;
  const turn = ++shown;
  showGraphQL("sending …", mutation, variables);
  const started = performance.now();
  const answer = await send(`${mutation}\n${ROW}`, variables);
  const milliseconds = Math.round(performance.now() - started);
  if (turn === shown) showGraphQL(`answered in ${milliseconds} ms`, mutation, variables, answer);
  if (answer.errors) {
    const { message, extensions } = answer.errors[0];
    problem.textContent = extensions?.code ? `${message} (${extensions.code})` : message;
    problem.hidden = false;
  }
  for (const field of Object.values(answer.data ?? {})) {
    if (field) board.put(field.task ?? field);
  }
}

async function refreshStock() {
  const { data } = await send(STOCK);
  if (!data?.stock) return;
  const { airports, cars, averagePrice } = data.stock;
  byId("stock-airports").textContent = airports.toLocaleString("en");
  byId("stock-cars").textContent = cars.toLocaleString("en");
  byId("stock-price").textContent =
    averagePrice === null ? "–" : `$${Math.round(averagePrice).toLocaleString("en")}`;
}

// Which process runs or ran what: no column of a task, but a query of this project's own.
async function askWhere() {
  const begun = board.unplaced();
  if (!begun.length) return;
  const { data } = await send(WHERE, { ids: begun.map((task) => task.id) });
  if (data) board.putPlaces(begun, data.whereItRan);
}

// What finished while the page was closed: the subscription starts with the unfinished ones.
async function catchUp() {
  refreshStock();
  const { data } = await send(history(names));
  Object.values(data ?? {}).flat().forEach(board.put);
  board.draw();
  byId("board").setAttribute("aria-busy", "false");
}

const distributed = document.querySelector("main").matches("[data-distributed]");
let stockTimer = null;
let whereTimer = null;

board.start({
  cancel: (id) => mutate(CANCEL, { id }),
  retry: (id) => mutate(RETRY, { id }),
  changed(finished) {
    byId("unfinished").textContent = board.unfinished().length;
    if (distributed) {
      whereTimer ??= setTimeout(() => {
        whereTimer = null;
        askWhere();
      }, 150);
    }
    if (!finished.length) return;
    const [first] = finished;
    byId("announcer").textContent =
      finished.length === 1 ? `${first.name} ${first.status}` : `${finished.length} tasks finished`;
    // A hundred that finish at once are one reason to look, not a hundred.
    stockTimer ??= setTimeout(() => {
      stockTimer = null;
      refreshStock();
    }, 150);
  },
});

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-run], [data-show]");
  if (!button) return;
  const action = actions.get(button.dataset.run ?? button.dataset.show);
  show(action);
  if (button.dataset.run) mutate(action.mutation);
});

show(actions.values().next().value);
new LiveSubscription("/graphql/", UPDATES, {
  state(name, code) {
    const texts = { connecting: "Connecting", live: "Live", waiting: `Reconnecting (${code})` };
    byId("connection").dataset.state = name;
    byId("connection").lastChild.textContent = texts[name];
  },
  frame: showFrame,
  open: catchUp,
  next: (data) => board.put(data.myTaskUpdates),
});
