// Writes the times of a page in the reader's zone, ages as ages; the absolute time on hover.

const zone = { dateStyle: "medium", timeStyle: "medium" };
const absolute = new Intl.DateTimeFormat(undefined, zone);
const named = new Intl.DateTimeFormat(undefined, { ...zone, timeStyle: "long" });
const hour = new Intl.DateTimeFormat(undefined, { timeStyle: "short" });
const day = new Intl.DateTimeFormat(undefined, { weekday: "short", hour: "numeric" });
const today = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });

const UNITS = [[86400, "d"], [3600, "h"], [60, "m"], [1, "s"]];

function duration(seconds) {
  if (seconds < 1) return "0 s";
  const at = UNITS.findIndex(([size]) => seconds >= size);
  const [size, unit] = UNITS[at];
  const next = UNITS[at + 1];
  const rest = next && at > 0 ? Math.floor((seconds % size) / next[0]) : 0;
  return `${Math.floor(seconds / size)} ${unit}${rest ? ` ${rest} ${next[1]}` : ""}`;
}

function text(element, at) {
  const passed = (Date.now() - at) / 1000;
  if ("since" in element.dataset) return duration(passed);
  // Of an axis: close to now the hour says which, further off the day is needed.
  if ("short" in element.dataset) return (passed < 86400 ? hour : day).format(at);
  if ("ago" in element.dataset) {
    const [size, unit] = UNITS.find(([least]) => passed >= least) ?? [1, "s"];
    return passed < 5 ? "now" : `${Math.floor(passed / size)} ${unit} ago`;
  }
  return new Date(at).toDateString() === new Date().toDateString()
    ? today.format(at)
    : absolute.format(at);
}

// Only what differs is written: most ages stay the same from one second to the next.
export function writeTimes(root = document) {
  for (const element of root.querySelectorAll("time[datetime]")) {
    const at = Date.parse(element.dateTime);
    if (Number.isNaN(at)) continue;
    const now = text(element, at);
    if (element.textContent !== now) element.textContent = now;
    if (!element.title) element.title = named.format(at);
  }
}

writeTimes();
setInterval(() => document.hidden || writeTimes(), 1000);
