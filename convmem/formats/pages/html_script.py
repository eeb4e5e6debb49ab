"""What the page can do beside being read: search, filters, unfolding, copying, light and dark.

It builds elements and sets text, and never makes HTML of a text: the page's policy forbids it.
Without it the page reads the same.
"""

from __future__ import annotations

SCRIPT = r"""
"use strict";
(() => {
const $ = (id) => document.getElementById(id);
const main = $("turns"), find = $("find"), count = $("count");
const turns = Array.from(main.querySelectorAll(".turn"));
const make = (tag, text) => {
  const made = document.createElement(tag);
  if (text) made.textContent = text;
  return made;
};
const press = (button, is) => button.setAttribute("aria-pressed", String(is));
const pressed = (button) => button.getAttribute("aria-pressed") === "true";

// --- search: all hits counted, highlighted without touching the page, visited one by one
const MOST = 5000;
const canPaint = typeof Highlight === "function" && CSS.highlights;
let texts = null, hits = [], at = -1, timer = 0;
const piecesOf = (turn) => {
  const walker = document.createTreeWalker(turn.querySelector(".said"), 5, (node) =>
    node.nodeType === 3 ? 1 : node.matches("button,.gist,.size,.what") ? 2 : 3);
  const pieces = [];
  while (walker.nextNode()) pieces.push(walker.currentNode);
  return pieces;
};
const textOf = (pieces) => pieces.map((piece) => piece.data).join("");
const rangesOf = (turn, places) => {
  const pieces = piecesOf(turn), made = [];
  let index = 0, before = 0;
  const locate = (offset, isEnd) => {
    while (index < pieces.length - 1 &&
        (isEnd ? offset > before + pieces[index].length : offset >= before + pieces[index].length))
      before += pieces[index++].length;
    return [pieces[index], offset - before];
  };
  for (const [start, end] of places) {
    const range = new Range();
    range.setStart(...locate(start, false));
    range.setEnd(...locate(end, true));
    made.push(range);
  }
  return made;
};
const isShown = (turn) => !(" " + (main.dataset.hide || "") + " ").includes(
  " " + turn.dataset.role + " ");
const search = () => {
  const word = find.value.trim();
  hits = []; at = -1;
  for (const old of main.querySelectorAll(".hit")) old.classList.remove("hit");
  for (const old of main.querySelectorAll(".has-hit")) old.classList.remove("has-hit");
  if (canPaint) CSS.highlights.clear();
  const isSearch = word !== "";
  $("bar").classList.toggle("searching", isSearch);
  main.classList.toggle("only", isSearch && pressed($("only")));
  let more = false;
  if (isSearch) {
    texts = texts || turns.map((turn) => textOf(piecesOf(turn)));
    const exact = word.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&").replace(/\s+/g, "\\s+");
    const pattern = new RegExp(exact, "gi");
    for (let i = 0; i < turns.length; i++) {
      if (!isShown(turns[i])) continue;
      const places = [];
      for (const found of texts[i].matchAll(pattern)) {
        if (hits.length + places.length >= MOST) { more = true; break; }
        places.push([found.index, found.index + found[0].length]);
      }
      if (!places.length) continue;
      turns[i].classList.add("hit");
      for (const range of rangesOf(turns[i], places)) {
        hits.push([turns[i], range]);
        for (let up = range.startContainer.parentElement; up !== turns[i]; up = up.parentElement)
          if (up.tagName === "DETAILS") up.classList.add("has-hit");
      }
    }
    if (canPaint && hits.length)
      CSS.highlights.set("hits", new Highlight(...hits.map((hit) => hit[1])));
  }
  tell(more);
};
let isMore = false;
const tell = (more) => {
  isMore = more === undefined ? isMore : more;
  const all = hits.length.toLocaleString("en") + (isMore ? "+" : "");
  count.textContent = !find.value.trim() ? "" : !hits.length ? "no hits"
    : at < 0 ? all + (hits.length === 1 ? " hit" : " hits")
    : (at + 1).toLocaleString("en") + " of " + all;
  for (const id of ["prev", "next", "only"]) $(id).disabled = !hits.length;
};
const go = (step) => {
  if (!hits.length) return;
  if (at < 0) {
    const top = $("bar").offsetHeight;
    at = step < 0 ? hits.length - 1
      : Math.max(0, hits.findIndex(([turn]) => turn.getBoundingClientRect().bottom > top));
  } else at = (at + step + hits.length) % hits.length;
  const [turn, range] = hits[at];
  for (let up = range.startContainer.parentElement; up !== turn; up = up.parentElement)
    if (up.tagName === "DETAILS") up.open = true;
  if (canPaint) {
    const now = new Highlight(range);
    now.priority = 1;
    CSS.highlights.set("now", now);
  }
  const near = range.startContainer.parentElement;
  near.scrollIntoView({block: "center"});
  // What was not laid out until now moves what is above it: look once more.
  requestAnimationFrame(() => {
    near.scrollIntoView({block: "nearest"});
    const box = range.getBoundingClientRect(), top = $("bar").offsetHeight;
    if (box.top < top + 20 || box.bottom > innerHeight - 20)
      scrollBy(0, box.top - innerHeight / 3);
  });
  tell();
};
const searchNow = () => { clearTimeout(timer); timer = 0; search(); };
find.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(searchNow, 150); });
find.addEventListener("keydown", (event) => {
  if (event.key === "Enter") {
    event.preventDefault();
    if (timer) searchNow();
    go(event.shiftKey ? -1 : 1);
  } else if (event.key === "Escape") { find.value = ""; searchNow(); find.blur(); }
});
addEventListener("keydown", (event) => {
  const inField = /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName || "");
  if (event.key === "/" && !inField && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    find.focus();
    find.select();
  }
});
$("next").addEventListener("click", () => go(1));
$("prev").addEventListener("click", () => go(-1));
$("only").addEventListener("click", () => {
  press($("only"), !pressed($("only")));
  main.classList.toggle("only", pressed($("only")) && hits.length > 0);
});

// --- who is shown
const names = {
  user: "User", assistant: "Assistant", tool: "Tools", system: "System", other: "Other",
};
for (const role of Object.keys(names)) {
  if (!turns.some((turn) => turn.dataset.role === role)) continue;
  const button = make("button", names[role]);
  button.type = "button";
  press(button, true);
  button.addEventListener("click", () => {
    press(button, !pressed(button));
    const hidden = new Set((main.dataset.hide || "").split(" "));
    pressed(button) ? hidden.delete(role) : hidden.add(role);
    main.dataset.hide = Array.from(hidden).join(" ").trim();
    search();
  });
  $("roles").append(button);
}

// --- folds, code, colours
const open = $("open");
open.addEventListener("click", () => {
  press(open, !pressed(open));
  for (const fold of main.querySelectorAll("details:not(.long)")) fold.open = pressed(open);
});
const root = document.documentElement;
const keep = (value) => { try { localStorage.setItem("convmem-theme", value); } catch (error) {} };
try {
  const kept = localStorage.getItem("convmem-theme");
  if (kept === "light" || kept === "dark") root.dataset.theme = kept;
} catch (error) {}
$("theme").addEventListener("click", () => {
  const isDark = root.dataset.theme ? root.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = isDark ? "light" : "dark";
  keep(root.dataset.theme);
});
const copied = (text) => {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = make("textarea");
  area.value = text;
  document.body.append(area);
  area.select();
  const is = document.execCommand("copy");
  area.remove();
  return is ? Promise.resolve() : Promise.reject();
};
for (const block of main.querySelectorAll(".code")) {
  const button = make("button", "Copy");
  button.type = "button";
  button.className = "copy";
  block.append(button);
}
main.addEventListener("click", (event) => {
  if (!(event.target instanceof Element) || !event.target.matches(".copy")) return;
  const say = (text) => {
    event.target.textContent = text;
    setTimeout(() => { event.target.textContent = "Copy"; }, 1500);
  };
  copied(event.target.parentElement.querySelector("pre").textContent)
    .then(() => say("Copied"), () => say("Not copied"));
});

// --- what the user said, to jump to
const asked = turns.filter((turn) => turn.matches(".user:not(.quiet)"));
if (asked.length > 1) {
  const list = make("ol");
  for (const turn of asked) {
    const link = make("a", turn.querySelector(".said").textContent.trim().slice(0, 90) || "…");
    link.href = "#" + turn.id;
    const item = make("li");
    item.append(link);
    list.append(item);
  }
  $("outline").append(make("h2", "What was asked"), list);
  $("outline").hidden = false;
}
$("bar").hidden = false;
tell(false);
// What is jumped to must not come to lie below the bar.
const pad = () => { root.style.scrollPaddingTop = $("bar").offsetHeight + 12 + "px"; };
new ResizeObserver(pad).observe($("bar"));
})();
"""
