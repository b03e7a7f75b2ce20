// The map of a mask: every flagged pixel, from the whole sensor down to single pixels.
(() => {
  const map = document.getElementById("map");
  if (!map) return;
  const nx = Number(map.dataset.nx);
  const ny = Number(map.dataset.ny);
  const canvas = map.querySelector("canvas");
  const context = canvas.getContext("2d", { alpha: false });
  const status = map.querySelector("output");
  const panel = document.getElementById("pixel");
  const go = document.getElementById("go");
  const boxes = [...map.querySelectorAll("input[data-bit], input[data-kind]")];
  const KINDS = { new: 1, vanished: 2, common: 4 };
  const BAD = 1;

  let at = new Uint32Array(0); // indices y * nx + x of the pixels that have any flag, ascending
  let bits = new Uint16Array(0); // their flags, or which kind of difference they are
  const view = { x: nx / 2, y: ny / 2, scale: 1 }; // sensor coordinates of the middle; screen pixels per pixel
  let chosen = null;

  const fetchPlane = async (mask) => {
    const got = await fetch(`/masks/${mask}/flags`);
    if (!got.ok) throw new Error(`the flags of mask ${mask} cannot be read`);
    return new Uint16Array(await got.arrayBuffer());
  };

  const gather = (value, length) => {
    let n = 0;
    for (let i = 0; i < length; i++) if (value(i)) n++;
    at = new Uint32Array(n);
    bits = new Uint16Array(n);
    for (let i = 0, k = 0; i < length; i++) {
      const found = value(i);
      if (found) {
        at[k] = i;
        bits[k++] = found;
      }
    }
  };

  const load = async () => {
    const own = await fetchPlane(map.dataset.mask);
    if (map.dataset.against) {
      const other = await fetchPlane(map.dataset.against);
      const kind = (i) => {
        const now = own[i] & BAD;
        const then = other[i] & BAD;
        return now ? (then ? KINDS.common : KINDS.new) : then ? KINDS.vanished : 0;
      };
      gather(kind, own.length);
    } else {
      gather((i) => own[i], own.length);
    }
  };

  // --- drawing ---

  const ratio = () => Math.min(devicePixelRatio || 1, 2);
  const whole = () => Math.min(canvas.width / nx, canvas.height / ny) * 0.97;
  const keep = () => {
    view.scale = Math.min(Math.max(view.scale, whole()), 64 * ratio());
    const halfX = canvas.width / view.scale / 2;
    const halfY = canvas.height / view.scale / 2;
    view.x = 2 * halfX >= nx ? nx / 2 : Math.min(Math.max(view.x, halfX), nx - halfX);
    view.y = 2 * halfY >= ny ? ny / 2 : Math.min(Math.max(view.y, halfY), ny - halfY);
  };
  const screenX = (x) => (x - view.x) * view.scale + canvas.width / 2;
  const screenY = (y) => canvas.height / 2 - (y - view.y) * view.scale; // row 0 is at the bottom
  const sensorX = (left) => Math.floor((left - canvas.width / 2) / view.scale + view.x);
  const sensorY = (top) => Math.floor((canvas.height / 2 - top) / view.scale + view.y);

  const colour = (element, name) =>
    getComputedStyle(element)[name].match(/[\d.]+/g).slice(0, 3).map(Number);

  /** The boxes that are ticked: which bits each stands for, and its colour. */
  const shown = () =>
    boxes
      .filter((box) => box.checked)
      .map((box) => ({
        bit: box.dataset.bit ? Number(box.dataset.bit) : KINDS[box.dataset.kind],
        rgb: colour(box.parentElement.querySelector(".swatch"), "backgroundColor"),
      }));
  const wanted = () => shown().reduce((sum, one) => sum | one.bit, 0);

  const firstAtOrAfter = (index) => {
    let low = 0;
    let high = at.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (at[middle] < index) low = middle + 1;
      else high = middle;
    }
    return low;
  };

  const draw = () => {
    keep();
    const style = getComputedStyle(canvas);
    const [r, g, b] = style.backgroundColor.match(/[\d.]+/g).map(Number);
    const page = colour(document.body, "backgroundColor");
    const { width, height } = canvas;
    const image = context.createImageData(width, height);
    const out = image.data;
    const left = Math.max(0, Math.floor(screenX(0)));
    const right = Math.min(width, Math.ceil(screenX(nx)));
    const top = Math.max(0, Math.floor(screenY(ny)));
    const bottom = Math.min(height, Math.ceil(screenY(0)));
    for (let y = 0, k = 0; y < height; y++) {
      for (let x = 0; x < width; x++, k += 4) {
        const inside = x >= left && x < right && y >= top && y < bottom;
        out[k] = inside ? r : page[0];
        out[k + 1] = inside ? g : page[1];
        out[k + 2] = inside ? b : page[2];
        out[k + 3] = 255;
      }
    }
    const kinds = shown();
    const mask = kinds.reduce((sum, one) => sum | one.bit, 0);
    // a single pixel is seen from afar as well, where they are not too many
    const least = (at.length < 20000 ? 3 : at.length < 200000 ? 2 : 1) * ratio();
    const size = Math.max(view.scale, least);
    const pad = size > 6 ? 1 : 0;
    const lowest = Math.max(0, sensorY(height) - 1);
    const highest = Math.min(ny - 1, sensorY(0) + 1);
    const end = firstAtOrAfter((highest + 1) * nx);
    for (let i = firstAtOrAfter(lowest * nx); i < end; i++) {
      if (!(bits[i] & mask)) continue;
      const x0 = screenX(at[i] % nx);
      const y0 = screenY(Math.floor(at[i] / nx) + 1);
      if (x0 + size < 0 || x0 >= width) continue;
      const rgb = kinds.find((one) => bits[i] & one.bit).rgb;
      const x1 = Math.min(width, Math.round(x0) + Math.round(size) - pad);
      const y1 = Math.min(height, Math.round(y0) + Math.round(size) - pad);
      for (let y = Math.max(0, Math.round(y0)); y < y1; y++) {
        for (let x = Math.max(0, Math.round(x0)), k = 4 * (y * width + x); x < x1; x++, k += 4) {
          [out[k], out[k + 1], out[k + 2]] = rgb;
        }
      }
    }
    context.putImageData(image, 0, 0);
    mark();
    tell();
  };

  const mark = () => {
    const [r, g, b] = colour(canvas, "color");
    context.strokeStyle = `rgb(${r} ${g} ${b})`;
    context.lineWidth = 1.5 * ratio();
    if (chosen) {
      const size = Math.max(view.scale, 9 * ratio());
      const x = screenX(chosen.x + 0.5) - size / 2;
      const y = screenY(chosen.y + 0.5) - size / 2;
      context.strokeRect(x, y, size, size);
    }
    if (document.activeElement === canvas) {
      const [x, y, arm] = [canvas.width / 2, canvas.height / 2, 7 * ratio()];
      context.beginPath();
      for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
        context.moveTo(x + (dx * arm) / 2, y + (dy * arm) / 2);
        context.lineTo(x + dx * 2 * arm, y + dy * 2 * arm);
      }
      context.globalAlpha = 0.6;
      context.stroke();
      context.globalAlpha = 1;
    }
  };

  const tell = () => {
    const x0 = Math.max(0, sensorX(0));
    const x1 = Math.min(nx - 1, sensorX(canvas.width - 1));
    const y0 = Math.max(0, sensorY(canvas.height - 1));
    const y1 = Math.min(ny - 1, sensorY(0));
    const middle = [Math.min(nx - 1, Math.floor(view.x)), Math.min(ny - 1, Math.floor(view.y))];
    status.textContent = `x ${x0} to ${x1}, y ${y0} to ${y1}; middle ${middle.join(", ")}`;
  };

  let pending = 0;
  const redraw = () => {
    cancelAnimationFrame(pending);
    pending = requestAnimationFrame(draw);
  };
  const fit = () => {
    const box = canvas.getBoundingClientRect();
    const all = view.scale <= whole() * 1.001;
    canvas.width = Math.max(1, Math.round(box.width * ratio()));
    canvas.height = Math.max(1, Math.round(box.height * ratio()));
    if (all) view.scale = 0;
    redraw();
  };

  // --- moving ---

  const zoom = (factor, left = canvas.width / 2, top = canvas.height / 2) => {
    const x = (left - canvas.width / 2) / view.scale + view.x;
    const y = (canvas.height / 2 - top) / view.scale + view.y;
    view.scale = Math.min(Math.max(view.scale * factor, whole()), 64 * ratio());
    view.x = x - (left - canvas.width / 2) / view.scale;
    view.y = y - (canvas.height / 2 - top) / view.scale;
    redraw();
  };
  const move = (right, up) => {
    view.x += right / view.scale;
    view.y += up / view.scale;
    redraw();
  };

  let asking = 0;
  const look = async (x, y, { there = false } = {}) => {
    if (x < 0 || y < 0 || x >= nx || y >= ny) return;
    chosen = { x, y };
    if (there) {
      view.x = x + 0.5;
      view.y = y + 0.5;
      view.scale = Math.max(view.scale, 12 * ratio());
    }
    redraw();
    go.elements.x.value = x;
    go.elements.y.value = y;
    const url = new URL(location.href);
    url.searchParams.set("x", x);
    url.searchParams.set("y", y);
    history.replaceState(null, "", url);
    const asked = ++asking;
    try {
      const got = await fetch(`/masks/${map.dataset.mask}/pixel?x=${x}&y=${y}`);
      const text = await got.text();
      if (asked !== asking) return; // another pixel has been chosen since
      if (got.ok) panel.innerHTML = text; // escaped where it was written
      else panel.textContent = "What is known of this pixel cannot be read.";
    } catch {
      if (asked === asking) panel.textContent = "The service did not answer.";
    }
  };

  const step = (forwards) => {
    const mask = wanted();
    const here = chosen ? chosen.y * nx + chosen.x : forwards ? -1 : nx * ny;
    let i = forwards ? firstAtOrAfter(here + 1) : firstAtOrAfter(here) - 1;
    while (i >= 0 && i < at.length && !(bits[i] & mask)) i += forwards ? 1 : -1;
    if (i < 0 || i >= at.length) status.textContent = "There is no other in this direction.";
    else look(at[i] % nx, Math.floor(at[i] / nx), { there: true });
  };

  const deeds = {
    in: () => zoom(1.6),
    out: () => zoom(1 / 1.6),
    all: () => {
      view.scale = 0;
      redraw();
    },
    next: () => step(true),
    previous: () => step(false),
  };
  const keys = {
    "+": deeds.in,
    "=": deeds.in,
    "-": deeds.out,
    "−": deeds.out,
    0: deeds.all,
    n: deeds.next,
    p: deeds.previous,
    ArrowLeft: () => move(-canvas.width / 8, 0),
    ArrowRight: () => move(canvas.width / 8, 0),
    ArrowUp: () => move(0, canvas.height / 8),
    ArrowDown: () => move(0, -canvas.height / 8),
    Enter: () => look(Math.min(nx - 1, Math.floor(view.x)), Math.min(ny - 1, Math.floor(view.y))),
  };
  canvas.addEventListener("keydown", (event) => {
    const deed = event.ctrlKey || event.metaKey || event.altKey ? null : keys[event.key];
    if (!deed) return;
    event.preventDefault();
    deed();
  });
  canvas.addEventListener("focus", redraw);
  canvas.addEventListener("blur", redraw);
  for (const button of map.querySelectorAll("button[data-do]")) {
    button.addEventListener("click", () => deeds[button.dataset.do]());
  }

  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return [(event.clientX - box.left) * ratio(), (event.clientY - box.top) * ratio()];
  };
  const fingers = new Map();
  let moved = false;
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    if (!fingers.size) moved = false;
    fingers.set(event.pointerId, place(event));
  });
  canvas.addEventListener("pointermove", (event) => {
    const before = fingers.get(event.pointerId);
    if (!before) return;
    const now = place(event);
    if (!moved && Math.hypot(now[0] - before[0], now[1] - before[1]) < 4 * ratio()) return;
    moved = true;
    if (fingers.size === 1) {
      move(before[0] - now[0], now[1] - before[1]);
    } else {
      const [, other] = [...fingers].find(([id]) => id !== event.pointerId);
      const apart = (a) => Math.max(1, Math.hypot(a[0] - other[0], a[1] - other[1]));
      zoom(apart(now) / apart(before), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
    }
    fingers.set(event.pointerId, now);
  });
  canvas.addEventListener("pointerup", (event) => {
    if (fingers.delete(event.pointerId) && !moved) {
      const [left, top] = place(event);
      look(...nearest(left, top));
    }
  });
  canvas.addEventListener("pointercancel", (event) => fingers.delete(event.pointerId));
  canvas.addEventListener(
    "wheel",
    (event) => {
      if (!event.ctrlKey && document.activeElement !== canvas) return; // the page scrolls
      event.preventDefault();
      zoom(Math.exp(-event.deltaY / 300), ...place(event));
    },
    { passive: false },
  );

  /** The pixel under a place; from afar the flagged one nearest to it, if one is near. */
  const nearest = (left, top) => {
    const [x, y] = [sensorX(left), sensorY(top)];
    const reach = Math.ceil((6 * ratio()) / view.scale);
    if (reach < 2) return [x, y];
    const mask = wanted();
    let best = [x, y];
    let least = (reach + 1) ** 2;
    const end = firstAtOrAfter(Math.min(ny, y + reach + 1) * nx);
    for (let i = firstAtOrAfter(Math.max(0, y - reach) * nx); i < end; i++) {
      const away = ((at[i] % nx) - x) ** 2 + (Math.floor(at[i] / nx) - y) ** 2;
      if (away < least && bits[i] & mask) {
        least = away;
        best = [at[i] % nx, Math.floor(at[i] / nx)];
      }
    }
    return best;
  };

  go.addEventListener("submit", (event) => {
    event.preventDefault();
    look(Number(go.elements.x.value), Number(go.elements.y.value), { there: true });
  });
  for (const box of boxes) box.addEventListener("change", redraw);
  document.documentElement.addEventListener("themechange", redraw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);

  map.querySelector(".tools").hidden = false;
  new ResizeObserver(fit).observe(canvas);
  view.scale = 0;
  const asked = new URL(location.href).searchParams;
  if (asked.has("x") && asked.has("y")) {
    chosen = { x: Number(asked.get("x")), y: Number(asked.get("y")) };
    Object.assign(view, { x: chosen.x + 0.5, y: chosen.y + 0.5, scale: 12 * ratio() });
  }
  load().then(
    () => {
      map.dataset.ready = "";
      redraw();
    },
    (error) => {
      status.textContent = `The map cannot be drawn: ${error.message}.`;
    },
  );
})();
