// The tree of a network: levels open in place, loaded when they are first opened; arrows, Home, End and letters move, as in any tree.
// When something in it changed, what is in sight is read anew and stays unfolded as it was.
// Without this script each row is a link to the branch's own page.

/** News comes in bursts, as when a whole branch moves. */
const WAIT_MS = 1_500;

const isOpen = (row) => row.getAttribute("aria-expanded") === "true";
const isBranch = (row) => row.hasAttribute("aria-expanded");
const groupOf = (row) => row.parentElement.querySelector(":scope > .network-group");

/** The rows in sight, in order; what lies below a closed one is left out. */
function rows(tree) {
  return [...tree.querySelectorAll("[role=treeitem]")].filter((row) => !row.closest(".network-group[hidden]"));
}

function focus(tree, row) {
  if (!row) return;
  tree.querySelector("[role=treeitem][tabindex='0']")?.setAttribute("tabindex", "-1");
  row.setAttribute("tabindex", "0");
  row.focus();
}

/** A level as the server has it now; the page itself where the session is over. */
async function read(address) {
  const answer = await fetch(address, { headers: { "HX-Request": "true" } });
  if (answer.headers.has("HX-Refresh")) location.reload();
  if (!answer.ok) throw new Error(String(answer.status));
  const part = document.createElement("template");
  part.innerHTML = await answer.text();
  return part.content;
}

function unfold(row, level) {
  const group = document.createElement("ul");
  group.className = "network-group";
  group.setAttribute("role", "group");
  group.append(level);
  row.parentElement.append(group);
  row.setAttribute("aria-expanded", "true");
}

async function open(tree, row) {
  if (!isBranch(row) || isOpen(row) || row.hasAttribute("aria-busy")) return;
  if (groupOf(row)) {
    groupOf(row).hidden = false;
    row.setAttribute("aria-expanded", "true");
    return;
  }
  row.setAttribute("aria-busy", "true");
  try {
    unfold(row, await read(row.dataset.below));
    row.removeAttribute("title");
  } catch {
    row.title = tree.dataset.failed;
  } finally {
    row.removeAttribute("aria-busy");
  }
}

function close(row) {
  groupOf(row).hidden = true;
  row.setAttribute("aria-expanded", "false");
}

function toggle(tree, row) {
  return isOpen(row) ? close(row) : open(tree, row);
}

/** The row that a letter leads to: the next one whose name begins with it. */
function named(all, from, letter) {
  const order = [...all.slice(from + 1), ...all.slice(0, from + 1)];
  return order.find((row) => row.querySelector(".network-name > :nth-child(2)").textContent.toLowerCase().startsWith(letter));
}

function move(tree, row, key) {
  const all = rows(tree);
  const at = all.indexOf(row);
  const [inwards, outwards] = getComputedStyle(tree).direction === "rtl" ? ["ArrowLeft", "ArrowRight"] : ["ArrowRight", "ArrowLeft"];
  if (key === "ArrowDown") focus(tree, all[at + 1]);
  else if (key === "ArrowUp") focus(tree, all[at - 1]);
  else if (key === "Home") focus(tree, all[0]);
  else if (key === "End") focus(tree, all.at(-1));
  else if (key === inwards && isOpen(row)) focus(tree, all[at + 1]);
  else if (key === inwards) open(tree, row);
  else if (key === outwards && isOpen(row)) close(row);
  else if (key === outwards) focus(tree, row.closest(".network-group")?.parentElement.querySelector("[role=treeitem]"));
  else if (key === " " && isBranch(row)) toggle(tree, row);
  else if (key.length === 1 && key.trim()) focus(tree, named(all, at, key.toLowerCase()));
  else return false;
  return true;
}

/** The levels that are unfolded, or about to be, by their addresses. */
const unfolded = (tree) => new Set([...tree.querySelectorAll("[aria-expanded=true], [aria-busy]")].map((row) => row.dataset.below));

/** A level with all below it that was unfolded. */
async function whole(address, wanted) {
  const level = await read(address);
  const again = [...level.querySelectorAll("[data-below]")].filter((row) => wanted.has(row.dataset.below));
  await Promise.all(again.map(async (row) => unfold(row, await whole(row.dataset.below, wanted))));
  return level;
}

async function refresh(tree) {
  let wanted, level;
  do {
    wanted = unfolded(tree);
    level = await whole(tree.dataset.below, wanted);
  } while ([...unfolded(tree)].some((address) => !wanted.has(address))); // opened meanwhile
  const here = tree.querySelector("[role=treeitem][tabindex='0']");
  const isFocused = here && here === document.activeElement;
  tree.replaceChildren(level);
  const all = [...tree.querySelectorAll("[role=treeitem]")];
  tree.hidden = all.length === 0;
  tree.nextElementSibling.hidden = all.length > 0;
  const same = all.find((row) => row.getAttribute("href") === here?.getAttribute("href")) ?? all[0];
  same?.setAttribute("tabindex", "0");
  if (isFocused) same?.focus({ preventScroll: true });
}

/** Refreshes a while after the first news, so that all of a burst is in it; what comes meanwhile makes for another round. */
function refresher(tree) {
  let isAsked = false;
  let isBusy = false;
  return async function ask() {
    isAsked = true;
    if (isBusy) return;
    isBusy = true;
    while (isAsked) {
      await new Promise((resume) => setTimeout(resume, WAIT_MS));
      isAsked = false;
      await refresh(tree).catch(() => {}); // what stood there stays until the next news
    }
    isBusy = false;
  };
}

for (const tree of document.querySelectorAll("[data-network]")) {
  tree.querySelector("[role=treeitem]")?.setAttribute("tabindex", "0");
  const ask = refresher(tree);
  tree.addEventListener("sse:network", ask);
  tree.addEventListener("sse:commission", ask);
  tree.addEventListener("click", (event) => {
    const row = event.target.closest("[role=treeitem]");
    if (!row || !isBranch(row) || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    focus(tree, row);
    toggle(tree, row);
  });
  tree.addEventListener("keydown", (event) => {
    const row = event.target.closest("[role=treeitem]");
    if (!row || event.altKey || event.ctrlKey || event.metaKey) return;
    if (move(tree, row, event.key)) event.preventDefault();
  });
}
