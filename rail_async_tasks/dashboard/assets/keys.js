// Keys: j k move between rows, Enter opens, r retries, c cancels, n shows news, / filters, ? helps.

const keys = document.querySelector("#keys");
const filter = document.querySelector("input[name=q]");

const rows = () => [...document.querySelectorAll("[data-task]")];
const current = () => document.activeElement?.closest("[data-task]");

function move(by) {
  const all = rows();
  const at = all.indexOf(current());
  const next = all[at < 0 ? (by > 0 ? 0 : all.length - 1) : at + by];
  next?.querySelector("a.name")?.focus();
  next?.scrollIntoView({ block: "nearest" });
}

function press(action) {
  const row = current();
  // On a task's own page there is but one of each.
  (row ?? document).querySelector(`button[data-action=${action}]`)?.click();
  row?.querySelector("a.name")?.focus();
}

const handlers = {
  j: () => move(1),
  k: () => move(-1),
  r: () => press("retry"),
  c: () => press("cancel"),
  n: () => document.querySelector("#news:not([hidden]) a")?.click(),
  "/": () => filter?.select(),
  "?": () => (keys.open ? keys.close() : keys.showModal()),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  const typing = event.target.closest("input, textarea, select, [contenteditable]");
  if (typing) {
    if (event.key === "Escape") typing.blur();
    return;
  }
  if (keys?.open && event.key !== "?") return;
  const handler = handlers[event.key];
  // In a list a key acts on its row alone; without one it must not hit the first button there is.
  if (!handler || ("rc".includes(event.key) && rows().length && !current())) return;
  event.preventDefault();
  handler();
});
