// One panel per client: buttons, the states that the client reported, and how its stream ended.
//
// A client is `{ start(task), cancel(id), watch(id, sink), resumes }`. `sink` has `next(snapshot)`,
// `done()` (the stream has completed) and `broken(error)`. A client that `resumes` reconnects by
// itself; for one that does not, the page watches again, as its documentation recommends.
import { FINAL, pause } from "./documents.js";

const remembered = (name) => `task of ${name}`;

class Panel {
  constructor(name, client) {
    this.name = name;
    this.client = client;
    this.states = [];
    this.ends = 0;
    this.watches = 0;
    this.errors = [];
    this.id = sessionStorage.getItem(remembered(name));
    this.element = document.createElement("section");
    this.element.dataset.client = name;
    this.element.innerHTML = `<h2>${name}</h2>
      <button data-start="climb">Climb</button> <button data-start="linger">Linger</button>
      <button data-start="survive">Survive</button> <button data-cancel>Cancel</button>
      <progress max="100" value="0"></progress> <output></output>`;
    this.element.addEventListener("click", ({ target }) => {
      if (target.dataset.start) this.attempt(() => this.start(target.dataset.start));
      if ("cancel" in target.dataset) this.attempt(() => client.cancel(this.id));
    });
    document.body.append(this.element);
    if (this.id) this.watch();
  }

  async attempt(act) {
    try {
      await act();
    } catch (error) {
      this.errors.push(String(error));
    }
  }

  async start(task) {
    this.id = await this.client.start(task);
    sessionStorage.setItem(remembered(this.name), this.id);
    this.watch();
  }

  get isFinal() {
    return FINAL.has(this.states.at(-1)?.status);
  }

  watch() {
    this.watches += 1;
    this.client.watch(this.id, {
      next: (snapshot) => this.show(snapshot),
      done: () => this.end(),
      broken: (error) => this.end(error),
    });
  }

  show(snapshot) {
    this.states.push(snapshot);
    this.element.querySelector("progress").value = snapshot.progress;
    this.element.querySelector("output").textContent = snapshot.status;
  }

  async end(error) {
    this.ends += 1;
    if (this.isFinal) return;
    if (this.client.resumes) {
      this.errors.push(`The stream ended before the task: ${error}`);
      return;
    }
    await pause();
    this.watch();
  }

  /** What a test reads. */
  report() {
    const { id, states, ends, watches, errors } = this;
    return { id, states, ends, watches, errors };
  }
}

/** Shows the clients that `?clients=a,b` names. */
export function show(clients) {
  const names = new URLSearchParams(location.search).get("clients") ?? "";
  const panels = names.split(",").filter(Boolean).map((name) => new Panel(name, clients[name]()));
  window.report = (name) => panels.find((panel) => panel.name === name).report();
}
