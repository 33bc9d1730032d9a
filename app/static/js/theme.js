// Light, dark or as the system has it. Loaded in the head before the page is painted, so that nothing flashes.
(() => {
  const root = document.documentElement;
  const kept = () => {
    try {
      return localStorage.getItem("theme") || "";
    } catch {
      return ""; // storage is switched off: the system's choice holds
    }
  };
  const apply = (theme) => {
    if (theme) root.dataset.theme = theme;
    else delete root.dataset.theme;
  };
  const mark = () => {
    for (const choice of document.querySelectorAll("[data-theme-choice]")) {
      choice.hidden = false;
      choice.setAttribute("aria-pressed", String(choice.dataset.themeChoice === kept()));
    }
  };

  apply(kept());
  document.addEventListener("DOMContentLoaded", mark);
  document.addEventListener("click", (event) => {
    const choice = event.target.closest?.("[data-theme-choice]");
    if (!choice) return;
    const theme = choice.dataset.themeChoice;
    apply(theme);
    try {
      if (theme) localStorage.setItem("theme", theme);
      else localStorage.removeItem("theme");
    } catch {
      return; // it holds for this page only
    }
    mark();
  });
})();
