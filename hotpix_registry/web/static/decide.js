// Certify and revoke: the token stays in this tab, and what is sent names the state that was looked at.
(() => {
  const form = document.querySelector("form[data-decide]");
  if (!form) return;
  const KEY = "hotpix-token";
  const told = document.querySelector("[data-told]");
  form.hidden = false;
  form.elements.token.value = sessionStorage.getItem(KEY) || "";

  const tell = (tone, ...lines) => {
    told.className = `told ${tone}`;
    told.replaceChildren(
      ...lines.filter(Boolean).map((line) => {
        const paragraph = document.createElement("p");
        paragraph.append(line);
        return paragraph;
      }),
    );
    told.focus();
  };
  const again = () => {
    const link = document.createElement("a");
    link.href = location.pathname;
    link.textContent = "Look at it again";
    return link;
  };
  const span = (from, to) => `From ${from.slice(0, 10)} to ${to ? to.slice(0, 10) : "further notice"}`;
  const mask = (id) => (id == null ? "no mask" : `mask ${id}`);
  const changed = (one) => `${span(one.valid_from, one.valid_to)}: ${mask(one.after)} instead of ${mask(one.before)}.`;
  const lost = (one) => `${span(one.from, one.to)}: an error from now on.`;

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const act = event.submitter.value;
    const { token, reason, supersede, force } = form.elements;
    const body = { reason: reason.value.trim(), expect: Number(form.dataset.expect) };
    if (act === "certify") Object.assign(body, { supersede: supersede.checked, force: force.checked });
    for (const button of form.querySelectorAll("button")) button.disabled = true;
    try {
      const got = await fetch(`/v1/masks/${form.dataset.mask}/${act}`, {
        method: "POST",
        headers: { "Content-Type": "application/json", Authorization: `Bearer ${token.value.trim()}` },
        body: JSON.stringify(body),
      });
      const answer = await got.json();
      if (got.ok) {
        sessionStorage.setItem(KEY, token.value.trim());
        const lines =
          act === "certify"
            ? ["It is certified.", ...answer.changes.slice(0, 9).map(changed)]
            : ["It is revoked.", ...answer.dates.slice(0, 9).map(lost)];
        tell("trust", ...lines, again());
      } else if (got.status === 401 || got.status === 403) {
        sessionStorage.removeItem(KEY);
        tell("do-not-use", answer.detail, answer.next_step);
      } else {
        if (got.status === 409) sessionStorage.setItem(KEY, token.value.trim());
        tell("do-not-use", `Nothing was written. ${answer.detail}`, answer.next_step, again());
      }
    } catch {
      tell("do-not-use", "The service did not answer; look again before you try it once more.", again());
    } finally {
      for (const button of form.querySelectorAll("button")) button.disabled = false;
    }
  });
})();
