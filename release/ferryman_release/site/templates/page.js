"use strict";
// The page is whole without this. It shows the buttons, and puts first what this visitor probably wants.

const said = document.getElementById("said");

function select(node) {
  const range = document.createRange();
  range.selectNodeContents(node);
  const selection = window.getSelection();
  selection.removeAllRanges();
  selection.addRange(range);
}

// The clipboard is there for https and localhost only; elsewhere the selection is copied.
async function copy(node) {
  try {
    await navigator.clipboard.writeText(node.textContent);
    return true;
  } catch {
    select(node);
    return document.execCommand("copy");
  }
}

for (const button of document.querySelectorAll("button[data-copy]")) {
  const word = button.querySelector(".word");
  let timer = 0;
  button.hidden = false;
  button.addEventListener("click", async () => {
    const done = await copy(document.getElementById(button.dataset.copy));
    word.textContent = done ? "Copied" : "Press Ctrl+C";
    button.classList.toggle("done", done);
    said.textContent = done ? "Copied to the clipboard." : "The command is selected; copy it with Control C.";
    clearTimeout(timer);
    timer = setTimeout(() => {
      word.textContent = "Copy";
      button.classList.remove("done");
      said.textContent = "";
    }, 2500);
  });
}

async function visitor() {
  const data = navigator.userAgentData;
  const name = `${(data && data.platform) || navigator.platform || ""} ${navigator.userAgent}`;
  if (/android|iphone|ipad/i.test(name)) return null;
  const system = /win/i.test(name.replace(/darwin/gi, "")) ? "windows" : /mac/i.test(name) ? "darwin" : /linux/i.test(name) ? "linux" : "";
  let processor = /aarch64|arm64/i.test(name) ? "arm64" : system === "darwin" ? "" : "amd64";
  try {
    const more = await data.getHighEntropyValues(["architecture", "bitness"]);
    if (more.architecture === "arm") processor = "arm64";
    else if (more.architecture === "x86" && more.bitness === "64") processor = "amd64";
  } catch {
    // A browser that does not tell: the guess stands.
  }
  return { system, target: processor ? `${system}-${processor}` : "" };
}

visitor().then((found) => {
  if (!found || !found.system) return;
  const commands = document.getElementById("commands");
  const mine = commands && commands.querySelector(`[data-system="${found.system === "windows" ? "windows" : "unix"}"]`);
  if (mine) {
    commands.prepend(mine);
    mine.classList.add("mine");
  }
  const rows = document.querySelector(`main > section > table tbody[data-target="${found.target}"]`);
  if (rows) {
    const note = document.createElement("span");
    note.className = "guess";
    note.textContent = "probably yours";
    rows.querySelector("th").append(" ", note);
    rows.classList.add("mine");
  }
});
