// Runs before the page is drawn, so that no bright page flashes up at night.
(() => {
  const KEY = "hotpix-theme";
  const root = document.documentElement;
  const wear = (theme) => {
    if (theme === "auto") root.removeAttribute("data-theme");
    else root.dataset.theme = theme;
    root.dispatchEvent(new CustomEvent("themechange"));
  };
  const remembered = () => {
    try {
      return localStorage.getItem(KEY) || "auto";
    } catch {
      return "auto"; // a browser that keeps nothing
    }
  };
  wear(remembered());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => wear(remembered()));
  addEventListener("storage", (event) => event.key === KEY && wear(remembered()));
  addEventListener("DOMContentLoaded", () => {
    const chooser = document.getElementById("theme");
    chooser.value = remembered();
    chooser.closest("label").hidden = false;
    chooser.addEventListener("change", () => {
      try {
        localStorage.setItem(KEY, chooser.value);
      } catch {
        // the choice lasts for this page
      }
      wear(chooser.value);
    });
  });
})();
