// <input data-money="2">: groups thousands while somebody types an amount, in the page's language, and sends a plain number ("1000.50").
// The value 2 is the currency's decimals. Digits of every script are understood; what is shown are Latin ones.

const parts = new Intl.NumberFormat(document.documentElement.lang, { numberingSystem: "latn", useGrouping: true }).formatToParts(1234567.8);
const GROUP = parts.find((part) => part.type === "group")?.value ?? ",";
const POINT = parts.find((part) => part.type === "decimal")?.value ?? ".";

/** "١٢٣" and "۱۲۳" to "123", the Arabic decimal sign to ours. */
function latin(text) {
  return text
    .replace(/[\u0660-\u0669]/g, (digit) => String(digit.charCodeAt(0) - 0x0660))
    .replace(/[\u06f0-\u06f9]/g, (digit) => String(digit.charCodeAt(0) - 0x06f0))
    .replaceAll("\u066b", POINT)
    .replaceAll("\u066c", "");
}

/** What was typed or pasted, in this page's signs: a pressed "." or "," means the point; of two kinds the last one is the point. */
function native(input, event) {
  const text = latin(input.value);
  if (event.inputType === "insertText" && /^[.,]$/.test(event.data ?? "")) {
    const at = input.selectionStart;
    return text.slice(0, at - 1) + (text.includes(POINT) && event.data !== POINT ? "" : POINT) + text.slice(at);
  }
  const last = Math.max(text.lastIndexOf("."), text.lastIndexOf(","));
  if (!(text.includes(".") && text.includes(","))) return text;
  return text.slice(0, last).replace(/[.,]/g, "") + POINT + text.slice(last + 1);
}

/** The amount without groups, with "." as its point: what the server reads. */
function plain(text) {
  return latin(text).replaceAll(GROUP, "").replace(/\s/g, "").replace(POINT, ".");
}

function grouped(text, digits) {
  const [whole, ...rest] = text.split(POINT);
  const figures = whole.replace(/\D/g, "").replace(/^0+(?=\d)/, "").replace(/\B(?=(\d{3})+$)/g, GROUP);
  if (!rest.length || digits === 0) return figures;
  return (figures || "0") + POINT + rest.join("").replace(/\D/g, "").slice(0, digits);
}

document.addEventListener("input", (event) => {
  const input = event.target;
  if (!input.matches?.("input[data-money]") || !/[\d\u0660-\u0669\u06f0-\u06f9]/.test(input.value)) return;
  const digitsBehind = input.value.slice(input.selectionStart).replace(new RegExp(`[^\\d\\${POINT}]`, "g"), "").length;
  const shown = grouped(native(input, event), Number(input.dataset.money));
  if (shown === input.value) return;
  input.value = shown;
  let place = shown.length;
  for (let behind = 0; place > 0 && behind < digitsBehind; place -= 1) if (shown[place - 1] !== GROUP) behind += 1;
  input.setSelectionRange(place, place);
});

document.addEventListener("formdata", (event) => {
  for (const input of event.target.querySelectorAll("input[data-money][name]")) {
    if (event.formData.has(input.name)) event.formData.set(input.name, plain(input.value));
  }
});
