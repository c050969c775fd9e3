// One task, followed to its end.

import { options, refusalIn } from "./request.js";
import { Server } from "./server.js";

const FINAL = new Set(["completed", "failed", "cancelled"]);
const FIELDS =
  "id name status progress progressMessage result error errorCode cancelRequested attempts maxRetries seq step";

// A callback that throws is the page's error; it ends no watch.
function call(callback, value) {
  try {
    callback?.(value);
  } catch (error) {
    queueMicrotask(() => { throw error; });
  }
}

class TaskWatch {
  task = null;
  isOver = false;
  #abort = new AbortController();
  #error = null;
  #transport = null;
  #waiting = [];
  #refreshed = false; // the page's function was asked for another token

  constructor(id, given) {
    this.id = String(id);
    this.options = { ...options, ...given };
    this.signal = this.#abort.signal;
    this.server = Server.of(this.options);
    this.server.watches += 1;
    this.ended = new Promise((resolve, reject) => { this.settle = { resolve, reject }; });
    this.ended.catch(() => {}); // a page may use the callbacks alone
    const { signal } = this.options;
    signal?.addEventListener("abort", () => this.stop(signal.reason), { signal: this.signal });
    if (signal?.aborted) this.stop(signal.reason);
    queueMicrotask(() => this.#run());
  }

  stop(reason = new DOMException("The watch was stopped.", "AbortError")) {
    this.#finish(reason, true);
  }

  // Yields the task as it stands, then its changes, to the final one. Leaving the loop stops the watch.
  async *[Symbol.asyncIterator]() {
    let given = null;
    try {
      for (;;) {
        if (this.task !== given) yield (given = this.task);
        else if (this.#error) throw this.#error;
        else if (this.isOver) return;
        else await new Promise((resolve) => { this.#waiting.push(resolve); });
      }
    } finally {
      this.stop();
    }
  }

  operation(kind) {
    const [name, argument] = kind === "query" ? ["task", "id"] : ["taskProgress", "taskId"];
    const { rename, fields = [] } = this.options;
    const selection = `${FIELDS} ${fields.join(" ")}`;
    const query = `${kind} Task($id: ID!) { task: ${rename?.[name] ?? name}(${argument}: $id) { ${selection} } }`;
    return { query, variables: { id: this.id } };
  }

  connected(transport) {
    if (this.isOver || transport === this.#transport) return;
    this.#transport = transport;
    call(this.options.onConnection, transport);
  }

  receive({ data, errors }) {
    if (this.isOver) return;
    if (errors) throw refusalIn(errors);
    this.server.failures = 0;
    this.#refreshed = false;
    const { task } = data;
    // A connection that comes again begins with the task as it stands.
    if (this.task && (task.seq - this.task.seq || task.step - this.task.step) <= 0) return;
    this.task = task;
    this.#wake();
    call(this.options.onUpdate, task);
    if (FINAL.has(task.status)) this.#finish();
  }

  async #run() {
    while (!this.isOver) {
      try {
        await this.server.follow(this);
      } catch (error) {
        if (this.isOver) return;
        if (!error.temporary && !this.#refresh(error)) return this.#finish(error);
        this.connected(null);
        await this.server.rest(this.options.retryDelay);
      }
    }
  }

  // A token may have expired since the watch began: a function is asked for another one, once.
  #refresh({ status }) {
    const again = status === 401 && typeof this.options.bearer === "function" && !this.#refreshed;
    this.#refreshed ||= again;
    return again;
  }

  #finish(error = null, stopped = false) {
    if (this.isOver) return;
    this.isOver = true;
    this.#error = error;
    this.#abort.abort();
    this.server.release();
    this.#wake();
    if (error) this.settle.reject(error);
    else this.settle.resolve(this.task);
    if (!stopped) call(error ? this.options.onError : this.options.onEnd, error ?? this.task);
  }

  #wake() {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }
}

/** Follows a task to its end. See task.d.ts for the options and for what is returned. */
export function watchTask(id, given = {}) {
  return new TaskWatch(id, given);
}
