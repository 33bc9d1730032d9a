// What opens over the page: dialogs (<button data-dialog="id">, <button data-dialog-close>) and menus (<details data-menu>).
// Browsers with command/commandfor open the dialogs by themselves.

const BY_THEMSELVES = "commandForElement" in HTMLButtonElement.prototype;

document.addEventListener("click", (event) => {
  const opener = event.target.closest("[data-dialog]");
  if (opener && !BY_THEMSELVES) document.getElementById(opener.dataset.dialog)?.showModal();
  const closer = event.target.closest("[data-dialog-close]");
  if (closer && !BY_THEMSELVES) closer.closest("dialog")?.close();
  if (event.target.matches("dialog")) event.target.close(); // a click on the backdrop
  for (const menu of document.querySelectorAll("details[data-menu][open]")) {
    if (!menu.contains(event.target)) menu.open = false;
  }
});

// A dialog whose form was refused comes open with the page, and without script stays beside it; here it stands over it, like before.
for (const dialog of document.querySelectorAll("dialog[data-refused]")) {
  dialog.close();
  dialog.showModal();
  dialog.querySelector("input:not([type=hidden]), textarea, select")?.focus();
}

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const menu of document.querySelectorAll("details[data-menu][open]")) {
    menu.open = false;
    menu.querySelector("summary").focus();
  }
});

// On a phone a bar of tabs is longer than the screen: the one that is open stands in sight.
for (const tab of document.querySelectorAll(".tabs [aria-current]")) {
  tab.closest(".tabs").scrollLeft += tab.getBoundingClientRect().left - (innerWidth - tab.offsetWidth) / 2;
}
