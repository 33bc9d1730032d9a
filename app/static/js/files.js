// <input type="file" data-preview="id" data-max-bytes="…" data-too-large="…">: shows the chosen files small in the element of that id
// and refuses what is too large before it is sent. Pictures are drawn on a canvas, so the page's policy needs no blob: addresses.

const WIDTH_PX = 128;
const HEIGHT_PX = 96;
const UNITS = ["byte", "kilobyte", "megabyte"];

function size(bytes) {
  const step = Math.min(Math.floor(Math.log10(Math.max(bytes, 1)) / 3), UNITS.length - 1);
  const format = { style: "unit", unit: UNITS[step], unitDisplay: "short", maximumFractionDigits: 1, numberingSystem: "latn" };
  return new Intl.NumberFormat(document.documentElement.lang, format).format(bytes / 1000 ** step);
}

function kind(file) {
  const tile = document.createElement("span");
  tile.className = "file-preview-kind";
  tile.textContent = (file.name.split(".").pop() || "").slice(0, 4).toUpperCase();
  return tile;
}

async function picture(file) {
  if (!file.type.startsWith("image/")) return kind(file);
  try {
    const bitmap = await createImageBitmap(file, { imageOrientation: "from-image" });
    const canvas = document.createElement("canvas");
    canvas.width = WIDTH_PX;
    canvas.height = HEIGHT_PX;
    const scale = Math.max(WIDTH_PX / bitmap.width, HEIGHT_PX / bitmap.height);
    const [width, height] = [bitmap.width * scale, bitmap.height * scale];
    canvas.getContext("2d").drawImage(bitmap, (WIDTH_PX - width) / 2, (HEIGHT_PX - height) / 2, width, height);
    bitmap.close();
    return canvas;
  } catch {
    return kind(file); // not a picture after all: the server will say so
  }
}

async function item(file, refusal) {
  const line = document.createElement("div");
  line.className = "file-preview-item";
  const name = document.createElement("span");
  name.className = "file-preview-name";
  name.textContent = file.name;
  const note = document.createElement("span");
  note.textContent = refusal ? `${size(file.size)} · ${refusal}` : size(file.size);
  note.className = refusal ? "" : "muted nowrap";
  line.classList.toggle("is-refused", Boolean(refusal));
  line.append(await picture(file), name, note);
  return line;
}

document.addEventListener("change", async (event) => {
  const input = event.target;
  if (!input.matches?.('input[type="file"][data-preview]')) return;
  const limit = Number(input.dataset.maxBytes || Infinity);
  const files = [...input.files];
  const tooLarge = files.some((file) => file.size > limit);
  input.setCustomValidity(tooLarge ? input.dataset.tooLarge : "");
  const lines = await Promise.all(files.map((file) => item(file, file.size > limit ? input.dataset.tooLarge : "")));
  document.getElementById(input.dataset.preview)?.replaceChildren(...lines);
});

for (const [type, over] of [["dragover", true], ["dragleave", false], ["drop", false]]) {
  document.addEventListener(type, (event) => {
    if (event.target.matches?.('input[type="file"]')) event.target.classList.toggle("is-over", over);
  });
}
