// The tree of a network: levels open in place, loaded when they are first opened; arrows, Home, End and letters move, as in any tree.
// Without this script each row is a link to the branch's own page.

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

async function open(tree, row) {
  if (!isBranch(row) || isOpen(row) || row.hasAttribute("aria-busy")) return;
  if (!groupOf(row)) {
    row.setAttribute("aria-busy", "true");
    try {
      const answer = await fetch(row.dataset.below, { headers: { "HX-Request": "true" } });
      if (answer.headers.has("HX-Refresh")) return void location.reload();
      if (!answer.ok) throw new Error(String(answer.status));
      const group = document.createElement("ul");
      group.className = "network-group";
      group.setAttribute("role", "group");
      group.innerHTML = await answer.text();
      row.parentElement.append(group);
      row.removeAttribute("title");
    } catch {
      row.title = tree.dataset.failed;
      return;
    } finally {
      row.removeAttribute("aria-busy");
    }
  }
  groupOf(row).hidden = false;
  row.setAttribute("aria-expanded", "true");
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

for (const tree of document.querySelectorAll("[data-network]")) {
  tree.querySelector("[role=treeitem]")?.setAttribute("tabindex", "0");
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
