// Keeps the page live: a stream of events; where there is none, polling, with a banner that says so.

import { writeTimes } from "./times.js";

const POLL_MS = 4000;
const RETRY_MS = 8000;
// A stream ticks every two seconds. After this silence it counts as cut.
const SILENCE_MS = 12000;

const url = document.body.dataset.live;
const banner = document.querySelector("#banner");
const connection = document.querySelector("#connection");
const WORDS = { live: "Live", polling: "Polling", lost: "Not live", still: "Not live" };

let source = null;
let polling = null;
let retry = null;
let heard = 0;

function state(name, message = "") {
  if (connection.dataset.state !== name) {
    connection.dataset.state = name;
    connection.textContent = WORDS[name];
  }
  if (banner.textContent !== message) banner.textContent = message;
  banner.hidden = !message;
}

// Puts each element of the answer in the place of the one with its id: focus and scroll stay.
export async function apply(html) {
  if (!html.trim()) return;
  const shown = document.querySelector("#news")?.textContent;
  await htmx.swap({ text: html, target: "body", swap: "none", sourceElement: document.body });
  writeTimes();
  const news = document.querySelector("#news")?.textContent;
  if (news && news !== shown) announce(news);
}

export function announce(text) {
  document.querySelector("#announcer").textContent = text;
}

function moved(list) {
  for (const [id, percent, message] of list) {
    const row = document.getElementById(`task-${id}`);
    const bar = row?.querySelector("[role=progressbar]");
    if (!bar) continue;
    bar.value = percent;
    bar.setAttribute("aria-valuenow", percent);
    write(row, "percent", `${percent}%`);
    write(row, "message", message);
  }
}

function write(row, part, text) {
  const element = row.querySelector(`[data-part=${part}]`);
  if (element && element.textContent !== text) element.textContent = text;
}

// For the scripts of single pages: `tick`, `html` with the text of an event, `progress` with a list.
function tell(name, detail) {
  document.body.dispatchEvent(new CustomEvent(name, { detail }));
}

function tick() {
  tell("tick");
}

function open() {
  clearTimeout(retry);
  source?.close();
  source = new EventSource(url);
  const hears = (name, handle) =>
    source.addEventListener(name, (event) => {
      heard = Date.now();
      connected();
      handle(event.data);
    });
  hears("html", (data) => {
    apply(data);
    tell("html", data);
  });
  hears("progress", (data) => {
    const list = JSON.parse(data);
    moved(list);
    tell("progress", list);
  });
  hears("tick", tick);
  source.addEventListener("lost", (event) => {
    stop();
    state("lost", `${event.data} Reload the page.`);
  });
  // The browser connects again by itself after a cut; not after a refusal.
  source.onerror = () => cut();
}

function connected() {
  clearInterval(polling);
  polling = null;
  state("live");
}

function cut() {
  if (!source) return;
  poll();
  polling ??= setInterval(poll, POLL_MS);
  clearTimeout(retry);
  if (source.readyState === EventSource.CLOSED) retry = setTimeout(open, RETRY_MS);
}

async function poll() {
  const every = POLL_MS / 1000;
  try {
    const response = await fetch(url, { headers: { Accept: "text/html", "HX-Request": "true" } });
    if (response.redirected || response.status === 401 || response.status === 403) {
      stop();
      state("lost", "You are signed out, or may not see the tasks any more. Reload the page.");
      return;
    }
    if (!response.ok) throw new Error(response.status);
    const html = await response.text();
    if (!polling) return; // the stream is back
    await apply(html);
    tick();
    state("polling", `The live stream is cut. The page asks every ${every} seconds instead, and goes live again by itself.`);
  } catch {
    if (polling) state("lost", `The server does not answer. What you see may be old; the page asks again every ${every} seconds.`);
  }
}

function stop() {
  source?.close();
  source = null;
  clearInterval(polling);
  polling = null;
  clearTimeout(retry);
}

function watch() {
  // A connection that a proxy holds open without passing anything on is cut, too.
  if (source && !polling && Date.now() - heard > SILENCE_MS) {
    source.close();
    cut();
  }
}

async function act(event) {
  const button = event.submitter;
  if (!button?.dataset.action || !button.hasAttribute("formaction")) return;
  event.preventDefault();
  const body = new FormData(event.target);
  button.disabled = true;
  try {
    const headers = { "HX-Request": "true" };
    const response = await fetch(button.formAction, { method: "POST", body, headers });
    if (response.redirected) location.reload(); // signed out meanwhile
    else await apply(await response.text());
    announce(document.querySelector("#notice").textContent);
  } catch {
    state("lost", "The server does not answer, so it is not known whether that was done.");
  } finally {
    button.disabled = false;
  }
}

// Without the library the page works by its links and forms, and its times still move.
if (globalThis.htmx && url) {
  heard = Date.now();
  open();
  setInterval(watch, 2000);
  document.querySelector("#act")?.addEventListener("submit", act);
  addEventListener("pagehide", stop);
  addEventListener("pageshow", (event) => event.persisted && open());
}
if (new URL(location.href).searchParams.has("notice")) {
  // A reload, or a copied address, shows it no more.
  const bare = new URL(location.href);
  bare.searchParams.delete("notice");
  history.replaceState(null, "", bare);
}
