// The page of one task: its bar between two refreshes, buttons that copy, inputs that follow their mode.

const ANNOUNCED_MS = 2000;

async function copy(text, source) {
  if (navigator.clipboard && window.isSecureContext) {
    await navigator.clipboard.writeText(text);
    return;
  }
  // Over plain http a browser offers the old way alone, which copies what is selected.
  getSelection().selectAllChildren(source);
  if (!document.execCommand("copy")) throw new Error("not copied");
}

function announce(text) {
  const place = document.getElementById("announcer");
  if (place) place.textContent = text;
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-copy]");
  if (!button) return;
  const source = document.getElementById(button.dataset.copy);
  if (!source) return;
  const label = (button.dataset.label ??= button.textContent);
  let said = "Copied";
  try {
    await copy(source.textContent, source);
  } catch {
    getSelection().selectAllChildren(source);
    said = "Selected: press Ctrl+C";
  }
  button.textContent = said;
  announce(said);
  setTimeout(() => (button.textContent = label), ANNOUNCED_MS);
});

function follow(select) {
  const field = select.closest(".argument");
  const value = field?.querySelector(".argument-value");
  if (value) value.hidden = select.value !== "value";
}

document.addEventListener("change", (event) => {
  if (!event.target.matches("select[data-mode]")) return;
  follow(event.target);
  if (event.target.value === "value") {
    event.target.closest(".argument").querySelector("[id^='value-']")?.focus();
  }
});

const run = () => document.getElementById("run");

document.body.addEventListener("progress", ({ detail }) => {
  for (const [id, percent, message] of detail) {
    const bar = run()?.dataset.run === id && run().querySelector("[role=progressbar]");
    if (!bar) continue;
    bar.value = percent;
    bar.setAttribute("aria-valuenow", percent);
    run().querySelector("[data-part=percent]").textContent = `${percent}%`;
    run().querySelector("[data-part=message]").textContent = message;
  }
});

// A change of the task's state refreshes the page at once, not only at the next tick.
document.body.addEventListener("html", ({ detail }) => {
  const shown = run();
  if (!shown?.hasAttribute("hx-get") || !detail.includes(`id="task-${shown.dataset.run}"`)) return;
  document.body.dispatchEvent(new CustomEvent("tick"));
});

// Without script the texts are there to select, and no button that does nothing.
document.documentElement.classList.add("script");
// A part of the page that is refreshed keeps open what the reader has opened.
window.htmx?.config.morphIgnore?.push("open");
document.querySelectorAll("select[data-mode]").forEach(follow);
document.getElementById("problems")?.focus();
