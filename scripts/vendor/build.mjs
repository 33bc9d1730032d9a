// Copies and builds the third-party files that the pages need into app/static/vendor, each with its LICENSE and VERSION.
// Run `npm ci --ignore-scripts && node build.mjs` here after a change of package.json, tabler.scss or icons.txt.
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import * as sass from "sass";

const here = dirname(fileURLToPath(import.meta.url));
const modules = join(here, "node_modules");
const target = resolve(here, "../../app/static/vendor");

// Folder below app/static/vendor → the npm package, its licence file, and the files copied as they are (source: name there).
const libraries = {
  htmx: { package: "htmx.org", licence: "LICENSE", files: { "dist/htmx.min.js": "htmx.min.js" } },
  "htmx-ext-sse": { package: "htmx-ext-sse", licence: "LICENSE", files: { "dist/sse.min.js": "sse.min.js" } },
  uplot: {
    package: "uplot",
    licence: "LICENSE",
    files: { "dist/uPlot.iife.min.js": "uPlot.iife.min.js", "dist/uPlot.min.css": "uPlot.min.css" },
  },
  inter: {
    package: "@fontsource-variable/inter",
    licence: "LICENSE",
    files: fontFiles("inter", ["latin", "latin-ext", "cyrillic", "cyrillic-ext", "greek", "vietnamese"]),
  },
  "jetbrains-mono": {
    package: "@fontsource-variable/jetbrains-mono",
    licence: "LICENSE",
    files: fontFiles("jetbrains-mono", ["latin"]),
  },
  "noto-sans-arabic": {
    package: "@fontsource-variable/noto-sans-arabic",
    licence: "LICENSE",
    files: fontFiles("noto-sans-arabic", ["arabic"]),
  },
  // The package carries no licence file; licences/tabler.txt is the one of its repository.
  tabler: { package: "@tabler/core", licence: join(here, "licences/tabler.txt"), build: buildTabler },
  "tabler-icons": { package: "@tabler/icons", licence: "LICENSE", build: buildIcons },
};

function fontFiles(name, subsets) {
  return Object.fromEntries(subsets.map((subset) => [`files/${name}-${subset}-wght-normal.woff2`, `${name}-${subset}.woff2`]));
}

/** The subset of tabler.scss, in a cascade layer so that any rule of ours wins without a fight of selectors. */
function buildTabler(folder) {
  const { css } = sass.compile(join(here, "tabler.scss"), { loadPaths: [modules], style: "compressed" });
  const logical = css
    .replace(/^\uFEFF|^@charset "UTF-8";/g, "")
    .replaceAll("text-align:left", "text-align:start")
    .replaceAll("text-align:right", "text-align:end");
  const physical = logical.match(/(margin|padding|border)-(left|right)\b|[;{](left|right):|float:(left|right)/g);
  if (physical) throw new Error(`tabler.scss brings rules that do not mirror: ${[...new Set(physical)].join(", ")}`);
  writeFileSync(join(folder, "tabler.css"), `@charset "UTF-8";@layer vendor{${logical}}\n`);
}

/** The invisible square that every Tabler icon begins with. */
const BLANK = '<path stroke="none" d="M0 0h24v24H0z" fill="none" />';

/** One SVG sprite of the icons named in icons.txt: <svg class="icon"><use href="…/icons.svg#name"></use></svg>. */
function buildIcons(folder) {
  const names = readFileSync(join(here, "icons.txt"), "utf8").split("\n").filter(Boolean);
  const symbols = names.map((name) => {
    const svg = readFileSync(join(modules, "@tabler/icons/icons/outline", `${name}.svg`), "utf8");
    const shapes = svg.slice(svg.indexOf(">", svg.indexOf("<svg")) + 1, svg.lastIndexOf("</svg>"));
    return `<symbol id="${name}" viewBox="0 0 24 24">${shapes.replace(BLANK, "").replace(/\s*\n\s*/g, "")}</symbol>`;
  });
  writeFileSync(join(folder, "icons.svg"), `<svg xmlns="http://www.w3.org/2000/svg">\n${symbols.join("\n")}\n</svg>\n`);
}

rmSync(target, { recursive: true, force: true });
for (const [name, library] of Object.entries(libraries)) {
  const source = join(modules, library.package);
  const folder = join(target, name);
  mkdirSync(folder, { recursive: true });
  for (const [from, to] of Object.entries(library.files ?? {})) cpSync(join(source, from), join(folder, to));
  library.build?.(folder);
  const licence = existsSync(library.licence) ? library.licence : join(source, library.licence);
  cpSync(licence, join(folder, "LICENSE"));
  const { version } = JSON.parse(readFileSync(join(source, "package.json"), "utf8"));
  writeFileSync(join(folder, "VERSION"), `${library.package} ${version}\n`);
}
