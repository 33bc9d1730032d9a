// <button data-copy="text" data-copied="Copied">: puts the text on the clipboard and says so for a moment.

const SHOWN_MS = 1600;

async function copy(button) {
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
  } catch {
    selectBeside(button); // no clipboard without https: leave the text selected, so that Ctrl+C takes it
    return;
  }
  const use = button.querySelector("use");
  const sign = use.getAttribute("href");
  const label = button.getAttribute("aria-label");
  use.setAttribute("href", sign.replace(/#.*/, "#check"));
  button.setAttribute("aria-label", button.dataset.copied);
  button.title = button.dataset.copied;
  setTimeout(() => {
    use.setAttribute("href", sign);
    button.setAttribute("aria-label", label);
    button.title = label;
  }, SHOWN_MS);
}

function selectBeside(button) {
  const text = button.previousElementSibling;
  if (text) getSelection().selectAllChildren(text);
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-copy]");
  if (button && !button.querySelector('use[href$="#check"]')) copy(button);
});
