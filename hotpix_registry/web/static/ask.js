// Questions are answered without leaving the page; without this file the forms are ordinary ones.
(() => {
  const answer = document.getElementById("answer");
  if (!answer) return;
  const show = async (url) => {
    answer.setAttribute("aria-busy", "true");
    try {
      const got = await fetch(url, { headers: { Accept: "text/html" } });
      const page = new DOMParser().parseFromString(await got.text(), "text/html");
      const found = page.getElementById("answer");
      if (!found) return false;
      document.title = page.title;
      answer.replaceChildren(...found.childNodes);
      return true;
    } catch {
      return false;
    } finally {
      answer.removeAttribute("aria-busy");
    }
  };
  for (const form of document.querySelectorAll("form[data-ask]")) {
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const asked = new URLSearchParams();
      for (const [name, value] of new FormData(form)) if (value.trim()) asked.append(name, value.trim());
      const url = `${form.action}?${asked}`;
      if (!(await show(url))) return location.assign(url);
      history.pushState(null, "", url);
      answer.focus();
    });
  }
  addEventListener("popstate", () => location.reload());
})();
