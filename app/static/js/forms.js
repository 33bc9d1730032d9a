// Forms: the pressed button shows that it works and cannot be pressed twice; the summary of errors takes the focus; the eye of a
// password field; the check box for all rows.

function setBusy(form, button) {
  form.dataset.sent = "";
  if (!button) return;
  button.setAttribute("aria-busy", "true");
}

function setIdle(root) {
  for (const form of root.querySelectorAll("form[data-sent]")) delete form.dataset.sent;
  for (const button of root.querySelectorAll('button[type="submit"][aria-busy]')) button.removeAttribute("aria-busy");
}

// Forms that answer with a download stay on the page: mark them data-stays, they do not become busy.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (event.defaultPrevented || form.method !== "post" || "stays" in form.dataset) return;
  if ("sent" in form.dataset) {
    event.preventDefault();
    return;
  }
  setBusy(form, event.submitter);
});

document.addEventListener("htmx:afterRequest", () => setIdle(document));
window.addEventListener("pageshow", (event) => {
  if (event.persisted) setIdle(document);
});

document.addEventListener("click", (event) => {
  const eye = event.target.closest("[data-reveal]");
  if (!eye) return;
  const input = document.getElementById(eye.dataset.reveal);
  const shown = input.type === "text";
  input.type = shown ? "password" : "text";
  eye.setAttribute("aria-pressed", String(!shown));
  const use = eye.querySelector("use");
  use.setAttribute("href", use.getAttribute("href").replace(/#.*/, shown ? "#eye" : "#eye-off"));
});

document.addEventListener("change", (event) => {
  if (!event.target.matches("[data-select-all]")) return;
  for (const box of event.target.closest("table").querySelectorAll('tbody input[type="checkbox"]')) {
    box.checked = event.target.checked;
    box.dispatchEvent(new Event("change", { bubbles: true }));
  }
});

function prepare(root) {
  for (const control of root.querySelectorAll("[data-reveal], [data-select-all]")) control.hidden = false;
  root.querySelector("[data-focus]")?.focus();
}

prepare(document);
document.addEventListener("htmx:load", (event) => prepare(event.target));
