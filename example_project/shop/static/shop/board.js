// The list of tasks: what is known of each, newest first, and a row with a bar for it.

import { element } from "./inspector.js";

export const FINAL = new Set(["completed", "failed", "cancelled"]);
const WAITING = new Set(["pending", "retrying"]);
const GROUPED = "tick"; // shown as one row with a cell for each task
const CELLS = 100;
const MOST_ROWS = 24;

const tasks = new Map(); // id -> the newest that is known of it
const rows = new Map(); // id -> its row
const places = new Map(); // id -> where its newest attempt runs or ran, as far as it is known
const changed = new Set();
let group = null;
let on = {};
let frame = null;

const list = document.getElementById("tasks");
const board = document.getElementById("board");

// `on` has the functions cancel(id), retry(id), changed(finished tasks).
export function start(handlers) {
  on = handlers;
  setInterval(() => rows.forEach(drawElapsed), 500);
}

// Takes a task as it came, over whichever way: the older of two states never replaces the newer.
export function put(task) {
  const known = tasks.get(task.id);
  if (known && (known.seq - task.seq || known.step - task.step) >= 0) return;
  tasks.set(task.id, task);
  changed.add(task.id);
  frame ??= requestAnimationFrame(draw);
}

export function unfinished() {
  return [...tasks.values()].filter((task) => !FINAL.has(task.status));
}

// The tasks of whose newest attempt it is not known which process has it; so many at once.
export function unplaced() {
  return [...tasks.values()].filter((task) => task.attempts > placed(task.id)).slice(-500);
}

// What the server has answered for these. What it does not know, it is not asked again.
export function putPlaces(asked, found) {
  for (const place of found) {
    if (place.attempt > placed(place.taskId)) places.set(place.taskId, place);
  }
  for (const task of asked) {
    if (task.attempts > placed(task.id)) places.set(task.id, { attempt: task.attempts });
  }
  for (const task of asked) if (rows.has(task.id)) drawPlace(rows.get(task.id), task.id);
  if (asked.some((task) => task.name === GROUPED)) drawGroup();
}

function placed(id) {
  return places.get(id)?.attempt ?? 0;
}

export function draw() {
  cancelAnimationFrame(frame);
  frame = null;
  const finished = [];
  let ticked = false;
  for (const id of changed) {
    const task = tasks.get(id);
    if (FINAL.has(task.status)) finished.push(task);
    if (task.name === GROUPED) ticked = true;
    else drawTask(task);
  }
  changed.clear();
  if (ticked) drawGroup();
  trim();
  document.getElementById("empty").hidden = list.childElementCount > 0;
  on.changed(finished);
}

function trim() {
  const old = [...list.children].slice(MOST_ROWS);
  for (const row of old) {
    if (row === group?.row || !FINAL.has(row.dataset.status)) continue;
    rows.delete(row.dataset.id);
    row.remove();
  }
}

// Ids are UUIDv7: their order is that of creation.
function place(row, id) {
  row.dataset.id = id;
  const next = [...list.children].find((other) => other !== row && other.dataset.id < id);
  if (row.nextElementSibling !== (next ?? null) || !row.parentNode) list.insertBefore(row, next ?? null);
}

function drawTask(task) {
  let parts = rows.get(task.id);
  if (!parts) {
    parts = newRow(task.name);
    parts.button = element("button", "small");
    parts.button.type = "button";
    parts.button.addEventListener("click", () => {
      (FINAL.has(tasks.get(task.id).status) ? on.retry : on.cancel)(task.id);
    });
    parts.head.append(parts.button);
    rows.set(task.id, parts);
    place(parts.row, task.id);
  }
  const over = FINAL.has(task.status);
  parts.row.dataset.status = task.status;
  parts.badge.textContent = task.cancelRequested && !over ? "cancelling" : task.status;
  drawBar(parts.bar, task.progress, task.progressMessage);
  parts.note.textContent = over ? "" : (task.progressMessage ?? "");
  parts.button.textContent = over ? "Retry" : "Cancel";
  parts.button.setAttribute("aria-label", `${parts.button.textContent} ${task.name}`);
  parts.button.disabled = task.cancelRequested && !over;
  parts.percent.textContent = over ? "" : `${task.progress} %`;
  parts.outcome.replaceChildren(...outcome(task));
  drawPlace(parts, task.id);
  drawElapsed(parts, task.id);
}

// Only the place of the newest attempt: a task that waits to be run again is nowhere.
function drawPlace(parts, id) {
  const place = places.get(id);
  const task = tasks.get(id);
  const known = place?.pid && place.attempt >= task.attempts && !WAITING.has(task.status);
  parts.places.replaceChildren(...(known ? [chip(place, `pid ${place.pid}`)] : []));
}

function chip(place, more) {
  const node = element("span", "place", `${place.process ?? "a process"} · ${more}`);
  node.dataset.process = place.process ?? "";
  node.title = `on ${place.host}`;
  return node;
}

function newRow(name) {
  // What was there when the page was opened stands there at once; what is new comes in.
  const row = element("li", board.ariaBusy === "true" ? "task" : "task fresh");
  row.dataset.name = name;
  const head = element("div", "head");
  const badge = element("span", "badge");
  const meta = element("span", "meta");
  const places = element("span", "places");
  head.append(element("span", "name", name), badge, places, meta);
  const bar = element("div", "bar");
  bar.setAttribute("role", "progressbar");
  bar.setAttribute("aria-label", name);
  bar.setAttribute("aria-valuemin", "0");
  bar.setAttribute("aria-valuemax", "100");
  bar.append(element("i"));
  const line = element("div", "line");
  const note = element("span", "note");
  const percent = element("span", "percent");
  line.append(note, percent);
  const result = element("div", "outcome");
  row.append(head, bar, line, result);
  return { row, head, badge, places, meta, bar, note, percent, outcome: result };
}

function drawBar(bar, percent, message) {
  bar.setAttribute("aria-valuenow", percent);
  bar.setAttribute("aria-valuetext", message ? `${percent} %, ${message}` : `${percent} %`);
  bar.firstChild.style.setProperty("--part", percent / 100);
}

function drawElapsed(parts, id) {
  const task = tasks.get(id);
  if (!task) return;
  const said = [];
  if (task.parentId) said.push("again");
  if (task.attempts > 1) said.push(`attempt ${task.attempts} of ${task.maxRetries + 1}`);
  if (task.startedAt) {
    const end = task.completedAt ? Date.parse(task.completedAt) : Date.now();
    const seconds = Math.max(0, end - Date.parse(task.startedAt)) / 1000;
    said.push(`${task.completedAt ? seconds.toFixed(1) : Math.floor(seconds)} s`);
  }
  parts.meta.textContent = said.join(" · ");
}

function outcome(task) {
  const nodes = [];
  if (task.error) {
    const error = element("p", "error");
    if (task.errorCode) error.append(element("code", "", task.errorCode), " ");
    error.append(task.error);
    nodes.push(error);
  }
  if (task.status !== "completed" || task.result === null) return nodes;
  const { url, ...rest } = Object(task.result);
  const facts = element("p", "facts");
  for (const [key, value] of Object.entries(rest)) {
    const shown = typeof value === "number" ? value.toLocaleString("en") : String(value);
    facts.append(element("span", "", `${key.replaceAll("_", " ")} `), element("b", "", shown), " ");
  }
  if (url) {
    const link = Object.assign(element("a", "", "Open the file"), { href: url, target: "_blank" });
    facts.append(link);
  }
  nodes.push(facts);
  if (url?.endsWith(".svg")) {
    const picture = Object.assign(element("a", "picture"), { href: url, target: "_blank" });
    const image = Object.assign(element("img"), { src: url, alt: "The chart that the task drew" });
    picture.append(image);
    nodes.push(picture);
  }
  return nodes;
}

// A hundred rows would bury the page: these are one row, with a cell each.
function drawGroup() {
  const ticks = [...tasks.values()].filter((task) => task.name === GROUPED);
  const shown = ticks.sort((a, b) => (a.id < b.id ? 1 : -1)).slice(0, CELLS).reverse();
  if (!group) {
    group = newRow(GROUPED);
    group.cells = element("div", "cells");
    group.cells.setAttribute("aria-hidden", "true"); // the bar above says it in words
    group.row.insertBefore(group.cells, group.outcome);
  }
  place(group.row, shown.at(-1).id);
  while (group.cells.childElementCount < shown.length) group.cells.append(element("i"));
  shown.forEach((task, index) => {
    const cell = group.cells.children[index];
    cell.dataset.status = task.status;
    cell.style.setProperty("--part", task.progress / 100);
  });
  const over = shown.filter((task) => FINAL.has(task.status)).length;
  const running = shown.filter((task) => task.status === "running").length;
  const done = over === shown.length;
  const failed = shown.some((task) => task.status === "failed");
  group.row.dataset.status = !done ? "running" : failed ? "failed" : "completed";
  group.badge.textContent = done ? group.row.dataset.status : "running";
  group.meta.textContent = `${shown.length} ${shown.length === 1 ? "task" : "tasks"}`;
  group.note.textContent = `${over} of ${shown.length} done${running ? `, ${running} running` : ""}`;
  drawBar(group.bar, Math.floor((100 * over) / shown.length), group.note.textContent);
  drawShares(shown);
}

// How many of the hundred each process has had.
function drawShares(shown) {
  const shares = new Map();
  for (const { id } of shown) {
    const place = places.get(id);
    if (!place?.pid) continue;
    const name = place.process ?? "a process";
    shares.set(name, { place, count: (shares.get(name)?.count ?? 0) + 1 });
  }
  const names = [...shares.keys()].sort();
  const chips = names.map((name) => chip(shares.get(name).place, shares.get(name).count));
  group.places.replaceChildren(...chips);
}
