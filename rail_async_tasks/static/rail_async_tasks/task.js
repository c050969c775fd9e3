// The module for pages: `watchTask(id)` follows a task, `<rail-task id="…">` shows it as a bar.
// Types are in task.d.ts; the page "GraphQL clients" of the documentation describes both.

import { options } from "./request.js";
import "./server.js"; // named here, so that a browser loads all files at once
import { watchTask } from "./watch.js";

export { TaskError, request } from "./request.js";
export { watchTask };

const FINAL = new Set(["completed", "failed", "cancelled"]);
const ANNOUNCED = new Set(["retrying", ...FINAL]); // a screen reader hears of these alone

options.texts = {
  connecting: "Connecting",
  pending: "Waiting",
  running: "Running",
  retrying: "Trying again soon",
  cancelling: "Cancelling",
  completed: "Done",
  failed: "Failed",
  cancelled: "Cancelled",
  lost: "Connection lost, trying again",
  NOT_FOUND: "This task does not exist, or you may not see it.",
  UNAUTHENTICATED: "Log in to follow this task.",
};

const STYLE = `
  :host {
    --_fill: var(--rail-task-color, light-dark(#1f6feb, #5c9bff));
    --_track: var(--rail-task-track, color-mix(in srgb, currentColor 16%, transparent));
    --_completed: var(--rail-task-completed, light-dark(#18794e, #4cc38a));
    --_failed: var(--rail-task-failed, light-dark(#b42318, #ff8f85));
    --_cancelled: var(--rail-task-cancelled, light-dark(#667085, #95a1b5));
    display: block; position: relative; font-size: var(--rail-task-font-size, inherit);
  }
  :host([hidden]), [hidden] { display: none; }
  :host([status="completed"]) { --_fill: var(--_completed); }
  :host([status="failed"]), :host([status="error"]) { --_fill: var(--_failed); }
  :host([status="cancelled"]) { --_fill: var(--_cancelled); }
  [part="head"] { display: flex; justify-content: space-between; gap: 1em; margin-bottom: .3em; }
  [part="percent"] { font-variant-numeric: tabular-nums; }
  [part="bar"] {
    height: var(--rail-task-height, .5em); border-radius: var(--rail-task-radius, 99px);
    background: var(--_track); overflow: hidden;
  }
  [part="fill"] { height: 100%; background: var(--_fill); transform-origin: left; transform: scaleX(0); }
  :host(:dir(rtl)) [part="fill"] { transform-origin: right; }
  [part="status"] { margin-top: .3em; overflow-wrap: anywhere; }
  :host([status="failed"]) [part="status"], :host([status="error"]) [part="status"] { color: var(--_failed); }
  .announcer { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
  @media (prefers-reduced-motion: no-preference) { [part="fill"] { transition: transform .2s linear; } }
  @media (forced-colors: active) {
    [part="bar"] { border: 1px solid CanvasText; }
    [part="fill"] { background: Highlight; forced-color-adjust: none; }
  }
`;
let sheet; // a constructed style sheet, which a content security policy allows

const elements = new Set(); // on the page

/** Sets options for every element, and for watches that begin later. */
export function configure(given) {
  Object.assign(options, given, { texts: { ...options.texts, ...given.texts } });
  for (const element of elements) element.restart();
}

/** Follows the task of its attribute `id`, or of `task-id` where the page needs `id` for itself. */
export class RailTask extends (globalThis.HTMLElement ?? class {}) {
  static observedAttributes = ["id", "task-id", "url", "ws-url", "transports", "label"];

  task = null;
  error = null;
  #watch = null;
  #followed = ""; // the attributes that the watch was made of
  #planned = false;
  #lost = false;
  #announced = "";
  #parts = null;

  connectedCallback() {
    elements.add(this);
    this.#plan();
  }

  disconnectedCallback() {
    elements.delete(this);
    this.#plan();
  }

  attributeChangedCallback(name, before, now) {
    if (before === now) return;
    if (name === "label") this.#draw();
    else this.#plan();
  }

  /** Follows the task anew. */
  restart() {
    this.#followed = "";
    this.#plan();
  }

  // One change for several attributes; an element that is moved on its page keeps its watch.
  #plan() {
    if (this.#planned) return;
    this.#planned = true;
    queueMicrotask(() => {
      this.#planned = false;
      this.#follow();
    });
  }

  #follow() {
    const [url, wsUrl, transports] = ["url", "ws-url", "transports"].map((it) => this.getAttribute(it));
    const id = this.isConnected && (this.getAttribute("task-id") ?? this.id);
    const followed = JSON.stringify([id, url, wsUrl, transports]);
    if (followed === this.#followed) return;
    this.#followed = followed;
    this.#watch?.stop();
    this.#watch = null;
    if (!id) return;
    this.task = this.error = null;
    this.#lost = false;
    this.#draw();
    this.#watch = watchTask(id, {
      ...(url && { url }),
      ...(wsUrl && { wsUrl }),
      ...(transports && { transports: transports.split(/[\s,]+/) }),
      onConnection: (transport) => this.#show({ lost: transport === null }),
      onUpdate: (task) => this.#show({ task }, "rail-task-update"),
      onEnd: (task) => this.#show({ task }, "rail-task-end"),
      onError: (error) => this.#show({ error }, "rail-task-error"),
    });
  }

  #show({ task = this.task, error = null, lost = false }, event) {
    Object.assign(this, { task, error });
    this.#lost = lost;
    this.#draw();
    if (event) this.dispatchEvent(new CustomEvent(event, { bubbles: true, composed: true, detail: error ?? task }));
  }

  get #words() {
    const { task, error } = this;
    const { texts } = options;
    if (error) return texts[error.code] ?? error.message;
    if (this.#lost) return texts.lost;
    if (!task) return texts.connecting;
    if (FINAL.has(task.status)) return texts[task.status] + (task.error ? `: ${task.error}` : "");
    const words = task.cancelRequested ? texts.cancelling : texts[task.status];
    return words + (task.status === "running" && task.progressMessage ? `: ${task.progressMessage}` : "");
  }

  #draw() {
    if (!this.#watch && !this.isConnected) return;
    const { head, label, percent, bar, fill, status, announcer } = (this.#parts ??= this.#build());
    const { task, error } = this;
    const state = error ? "error" : (task?.status ?? "connecting");
    const words = this.#words;
    this.setAttribute("status", state);
    label.textContent = this.getAttribute("label") ?? task?.name ?? "";
    percent.textContent = task ? `${task.progress} %` : "";
    head.hidden = bar.hidden = Boolean(error) && !task;
    bar.setAttribute("aria-label", label.textContent || words);
    bar.setAttribute("aria-valuetext", task ? `${task.progress} %, ${words}` : words);
    if (task) bar.setAttribute("aria-valuenow", task.progress);
    else bar.removeAttribute("aria-valuenow");
    fill.style.transform = `scaleX(${(task?.progress ?? 0) / 100})`;
    status.textContent = words;
    if (state === this.#announced) return;
    this.#announced = state;
    announcer.textContent = error || ANNOUNCED.has(state) ? `${label.textContent} ${words}`.trim() : "";
  }

  #build() {
    if (!sheet) {
      sheet = new CSSStyleSheet();
      sheet.replaceSync(STYLE);
    }
    const root = this.attachShadow({ mode: "open" });
    root.adoptedStyleSheets = [sheet];
    const made = (tag, part) => Object.assign(document.createElement(tag), { part });
    const parts = {
      head: made("div", "head"),
      label: made("span", "label"),
      percent: made("span", "percent"),
      bar: made("div", "bar"),
      fill: made("div", "fill"),
      status: made("div", "status"),
      announcer: Object.assign(document.createElement("div"), { className: "announcer" }),
    };
    const { head, label, percent, bar, fill, status, announcer } = parts;
    head.append(label, percent);
    percent.setAttribute("aria-hidden", "true"); // the bar has it in words
    bar.setAttribute("role", "progressbar");
    bar.setAttribute("aria-valuemin", "0");
    bar.setAttribute("aria-valuemax", "100");
    bar.append(fill);
    announcer.setAttribute("role", "status");
    root.append(head, bar, status, announcer);
    return parts;
  }
}

// Another copy of this module may have been first.
if (globalThis.customElements && !customElements.get("rail-task")) customElements.define("rail-task", RailTask);
