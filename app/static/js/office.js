// The back office: the rail on small screens, folded desks, and the question before a step that cannot be undone.

// <button type="submit" data-confirm="sentence" data-verb="verb">: asks in the frame's dialog; yes sends the button's own form.
let asking = null;

document.addEventListener("submit", (event) => {
  const button = event.submitter;
  if (!button?.dataset.confirm || button === asking) return;
  event.preventDefault();
  event.stopImmediatePropagation();
  const dialog = document.getElementById("confirm");
  dialog.querySelector("#confirm-title").textContent = button.dataset.verb;
  dialog.querySelector("#confirm-text").textContent = button.dataset.confirm;
  dialog.querySelector("#confirm-yes").textContent = button.dataset.verb;
  dialog.returnValue = "";
  dialog.showModal();
  dialog.addEventListener("close", () => answer(dialog, button), { once: true });
}, { capture: true });

function answer(dialog, button) {
  if (dialog.returnValue !== "yes") return;
  asking = button;
  button.form.requestSubmit(button);
  asking = null;
}

// Buttons that act on chosen rows wait until one is chosen.
function countRows() {
  for (const button of document.querySelectorAll("[data-needs-rows]")) {
    const chosen = document.querySelectorAll(`input[form="${button.getAttribute("form")}"]:checked`).length;
    button.disabled = chosen === 0;
  }
}

countRows();
document.addEventListener("change", (event) => {
  if (event.target.matches('input[type="checkbox"]')) countRows();
});

// A menu entry that works by script closes its menu.
document.addEventListener("click", (event) => {
  if (event.target.closest("[data-closes]")) event.target.closest("details").open = false;
});

// The rail on small screens.
const rail = document.getElementById("rail");
const railButton = document.querySelector("[data-rail]");

function openRail(open) {
  rail.classList.toggle("is-open", open);
  railButton.setAttribute("aria-expanded", String(open));
  if (open) rail.querySelector("a").focus();
}

railButton?.addEventListener("click", () => openRail(!rail.classList.contains("is-open")));
document.addEventListener("click", (event) => {
  if (rail?.classList.contains("is-open") && !rail.contains(event.target) && !railButton.contains(event.target)) openRail(false);
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && rail?.classList.contains("is-open")) {
    openRail(false);
    railButton.focus();
  }
});

// Folded desks are remembered in this browser; the desk of the page stays open.
function kept(key, value) {
  try {
    if (value === undefined) return localStorage.getItem(key);
    localStorage.setItem(key, value);
  } catch {
    // storage is switched off: desks open as the page has them
  }
  return null;
}

for (const desk of document.querySelectorAll("details[data-fold]")) {
  const state = kept(desk.dataset.fold);
  if (desk.querySelector("[aria-current]")) desk.open = true;
  else if (state) desk.open = state === "open";
  desk.addEventListener("toggle", () => kept(desk.dataset.fold, desk.open ? "open" : "closed"));
}
rail?.querySelector("[aria-current]")?.scrollIntoView({ block: "nearest" });
