// Completes the last word of the filter: the list of suggestions follows what is typed.

const input = document.querySelector("input[name=q][data-candidates]");
const list = document.querySelector("#candidates");
const SHOWN = 20;

function complete() {
  const [, before, word] = /^([\s\S]*?)(\S*)$/.exec(input.value);
  const typed = word.toLowerCase();
  const found = candidates.filter((it) => it.toLowerCase().includes(typed) && it !== word);
  // Those that begin with it come first.
  found.sort((a, b) => b.toLowerCase().startsWith(typed) - a.toLowerCase().startsWith(typed));
  list.replaceChildren(...found.slice(0, SHOWN).map((it) => new Option(it, before + it)));
}

let candidates = [];
if (input && list) {
  candidates = JSON.parse(input.dataset.candidates);
  complete();
  input.addEventListener("input", complete);
}
