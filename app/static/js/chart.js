// <figure data-chart="line|bars" data-unit="USD">: draws the figure's own table with uPlot. The first column is the moment or the name
// of each row (data-value: seconds since 1970), every further column a series (data-value: the plain number).

const HEIGHT_PX = 220;
const DAY_S = 86_400;

function token(name) {
  // A canvas wants a finished colour: let the browser work light-dark() out on a real element.
  const probe = document.createElement("span");
  probe.style.color = `var(--lw-${name})`;
  document.body.append(probe);
  const colour = getComputedStyle(probe).color;
  probe.remove();
  return colour;
}

function read(table) {
  const names = [...table.tHead.rows[0].cells].map((cell) => cell.textContent.trim());
  const rows = [...table.tBodies[0].rows].map((row) => [...row.cells]);
  const number = (cell) => (cell.dataset.value === undefined || cell.dataset.value === "" ? null : Number(cell.dataset.value));
  const isTime = rows.every((cells) => number(cells[0]) !== null);
  const labels = rows.map((cells) => cells[0].textContent.trim());
  const xs = rows.map((cells, index) => (isTime ? number(cells[0]) : index));
  const series = names.slice(1).map((_, column) => rows.map((cells) => number(cells[column + 1])));
  return { names: names.slice(1), isTime, labels, columns: [xs, ...series] };
}

/** Days as dates, shorter steps as times of day; in UTC like every time that we show. */
function moments(splits) {
  const isDays = splits.length < 2 || splits[1] - splits[0] >= DAY_S;
  const parts = isDays ? { day: "numeric", month: "short" } : { hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
  const format = new Intl.DateTimeFormat(document.documentElement.lang, { ...parts, timeZone: "UTC", numberingSystem: "latn" });
  return splits.map((at) => format.format(at * 1000));
}

function axes(data, unit) {
  const format = new Intl.NumberFormat(document.documentElement.lang, { notation: "compact", numberingSystem: "latn" });
  const line = { stroke: token("ink-2"), font: `12px ${getComputedStyle(document.body).fontFamily}` };
  const x = { ...line, grid: { show: false }, ticks: { show: false }, space: 72 };
  x.values = (_, splits) => (data.isTime ? moments(splits) : splits.map((at) => data.labels[at] ?? ""));
  if (data.isTime && data.columns[0].every((at) => at % DAY_S === 0)) x.incrs = [1, 2, 3, 5, 7, 14, 30, 91, 365].map((days) => days * DAY_S);
  if (!data.isTime) x.incrs = [1, 2, 5, 10, 20, 50, 100];
  const y = { ...line, grid: { stroke: token("line"), width: 1 }, ticks: { show: false }, size: 64 };
  y.values = (_, splits) => splits.map((value) => format.format(value));
  return [x, unit ? { ...y, label: unit, labelSize: 20, labelFont: line.font } : y];
}

function draw(figure) {
  const holder = figure.querySelector(".chart-canvas");
  const data = read(figure.querySelector("table"));
  if (!data.columns[0].length) return null;
  const bars = figure.dataset.chart === "bars" ? { paths: uPlot.paths.bars({ size: [0.6, 48] }) } : {};
  const series = data.names.map((label, index) => {
    const stroke = token(`series-${(index % 4) + 1}`);
    return { label, stroke, width: 2, points: { show: false }, ...bars, ...(bars.paths ? { fill: stroke } : {}) };
  });
  const plot = new uPlot(
    {
      width: holder.clientWidth,
      height: HEIGHT_PX,
      legend: { show: false },
      tzDate: (at) => uPlot.tzDate(new Date(at * 1000), "UTC"),
      cursor: { drag: { x: false, y: false } },
      scales: { x: { time: data.isTime }, y: { range: (_, low, high) => uPlot.rangeNum(Math.min(low, 0), Math.max(high, 0), 0.1, true) } },
      axes: axes(data, figure.dataset.unit),
      series: [{}, ...series],
    },
    data.columns,
    holder,
  );
  const legend = figure.querySelector(".chart-legend");
  legend.hidden = data.names.length < 2;
  legend.replaceChildren(...data.names.map((name) => Object.assign(document.createElement("li"), { textContent: name })));
  return plot;
}

function show(figure) {
  if (figure.querySelector(".uplot")) return;
  figure.querySelector(".chart-canvas").hidden = false;
  figure.querySelector("details").open = false;
  let plot = draw(figure);
  const redraw = () => {
    plot?.destroy();
    plot = draw(figure);
  };
  new ResizeObserver(([entry]) => plot?.setSize({ width: entry.contentRect.width, height: HEIGHT_PX })).observe(figure.querySelector(".chart-canvas"));
  new MutationObserver(redraw).observe(document.documentElement, { attributeFilter: ["data-theme"] });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
}

const showAll = (root) => root.querySelectorAll("figure[data-chart]").forEach(show);
showAll(document);
document.addEventListener("htmx:load", (event) => showAll(event.target));
