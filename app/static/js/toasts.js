// A toast leaves by itself after a while, later when it is looked at, at once when it is dismissed.

const STAYS_MS = 8000;

function leave(toast) {
  toast.classList.add("is-leaving");
  setTimeout(() => toast.remove(), 200);
}

function arm(toast) {
  let timer = setTimeout(() => leave(toast), STAYS_MS);
  for (const type of ["mouseenter", "focusin"]) toast.addEventListener(type, () => clearTimeout(timer));
  for (const type of ["mouseleave", "focusout"]) {
    toast.addEventListener(type, () => {
      clearTimeout(timer);
      timer = setTimeout(() => leave(toast), STAYS_MS);
    });
  }
}

document.addEventListener("click", (event) => {
  const toast = event.target.closest("[data-dismiss-toast]")?.closest("[data-toast]");
  if (toast) leave(toast);
});

document.querySelectorAll("#toasts [data-toast]").forEach(arm);
document.addEventListener("htmx:load", (event) => {
  if (event.target.matches?.("#toasts [data-toast]")) arm(event.target);
});
