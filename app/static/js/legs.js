// The rows of an adjustment: added and removed without a way to the server, accounts suggested while typing, sums by currency.
// Without script the same buttons send the form, and the server shows the sums.

const form = document.querySelector("form[data-legs]");
const rows = form.querySelector("[data-leg-rows]");
const codes = form.querySelector("#account-codes");
const totals = form.querySelector("[data-leg-totals]");
const accounts = new Map();
const SCALE = 8; // no currency has more decimals

const signs = new Intl.NumberFormat(document.documentElement.lang, { numberingSystem: "latn" }).formatToParts(1234567.8);
const GROUP = signs.find((part) => part.type === "group")?.value ?? ",";
const POINT = signs.find((part) => part.type === "decimal")?.value ?? ".";

/** What was typed, in units of 10^-8; null for what is no amount. */
function units(text) {
  const plain = text.replaceAll(GROUP, "").replace(/\s/g, "").replace(POINT, ".");
  const parts = /^(\d*)(?:\.(\d*))?$/.exec(plain);
  if (!parts || !(parts[1] || parts[2])) return null;
  return BigInt((parts[1] || "0") + (parts[2] ?? "").slice(0, SCALE).padEnd(SCALE, "0"));
}

function shown(value, digits, currency) {
  const text = value.toString().padStart(SCALE + 1, "0");
  const whole = text.slice(0, -SCALE).replace(/\B(?=(\d{3})+$)/g, GROUP);
  const behind = text.slice(-SCALE).slice(0, digits);
  return `${whole}${behind ? POINT + behind : ""} ${currency}`;
}

function add() {
  const sums = new Map();
  for (const row of rows.querySelectorAll("[data-leg]")) {
    const currency = row.querySelector("[data-leg-account]").value.trim().split(":").pop();
    const amount = units(row.querySelector("[data-leg-amount]").value);
    if (amount === null || !/^[A-Z]{3,8}$/.test(currency)) continue;
    const sum = sums.get(currency) ?? { debit: 0n, credit: 0n, digits: 2 };
    sum[row.querySelector("[data-leg-side]").value] += amount;
    if (row.querySelector("[data-leg-hint]").textContent) sum.digits = Number(row.querySelector("[data-leg-amount]").dataset.money);
    sums.set(currency, sum);
  }
  const lines = [...sums].sort().map(([currency, sum]) => {
    const line = form.querySelector("[data-total-template]").content.firstElementChild.cloneNode(true);
    const difference = sum.debit > sum.credit ? sum.debit - sum.credit : sum.credit - sum.debit;
    line.dataset.balanced = difference === 0n ? "yes" : "no";
    line.querySelector('[data-total="currency"]').textContent = currency;
    line.querySelector('[data-total="debits"]').textContent = shown(sum.debit, sum.digits, currency);
    line.querySelector('[data-total="credits"]').textContent = shown(sum.credit, sum.digits, currency);
    line.querySelector('[data-total="difference"]').textContent = shown(difference, sum.digits, currency);
    return line;
  });
  totals.querySelector("tbody").replaceChildren(...lines);
  totals.hidden = lines.length === 0;
}

/** Say what is known of the account in a row: kind, what is available, its currency's decimals. */
function tell(input) {
  const known = accounts.get(input.value.trim());
  const row = input.closest("[data-leg]");
  row.querySelector("[data-leg-hint]").textContent = known ? known.text : "";
  if (known) row.querySelector("[data-leg-amount]").dataset.money = known.digits;
}

let waiting = 0;
let asked = 0;

async function suggest(input) {
  const turn = ++asked;
  const answer = await fetch(`${form.dataset.accounts}?q=${encodeURIComponent(input.value.trim())}`, {
    headers: { Accept: "application/json" },
  });
  if (!answer.ok || turn !== asked) return;
  const found = await answer.json();
  for (const account of found) accounts.set(account.code, account);
  codes.replaceChildren(
    ...found.map((account) => {
      const option = document.createElement("option");
      option.value = account.code;
      option.label = `${account.code} · ${account.text}`;
      return option;
    }),
  );
  tell(input);
  add();
}

form.addEventListener("input", (event) => {
  const input = event.target;
  if (input.matches("[data-leg-account]")) {
    tell(input);
    clearTimeout(waiting);
    if (!accounts.has(input.value.trim())) waiting = setTimeout(() => suggest(input).catch(() => {}), 150);
  }
  if (input.closest("[data-leg]")) add();
});

form.addEventListener("focusin", (event) => {
  if (event.target.matches("[data-leg-account]") && !event.target.value) suggest(event.target).catch(() => {});
});

form.addEventListener("click", (event) => {
  const adding = event.target.closest("[data-leg-add]");
  const removing = event.target.closest("[data-leg-remove]");
  if (!adding && !removing) return;
  event.preventDefault();
  if (adding) {
    const last = rows.lastElementChild;
    const numbers = [...rows.querySelectorAll("[data-leg-account]")].map((input) => Number(input.name.split("-")[1]));
    const template = form.querySelector("[data-leg-template]");
    const holder = document.createElement("template");
    holder.innerHTML = template.innerHTML.replaceAll("NUMBER", String(Math.max(-1, ...numbers) + 1));
    const row = holder.content.firstElementChild;
    if (last?.querySelector("[data-leg-side]").value === "debit") row.querySelector("[data-leg-side]").value = "credit";
    rows.append(row);
    row.querySelector("[data-leg-account]").focus();
  } else {
    const row = removing.closest("[data-leg]");
    const next = row.nextElementSibling ?? row.previousElementSibling;
    if (rows.childElementCount > 2) row.remove();
    else for (const input of row.querySelectorAll("input")) input.value = "";
    (next ?? row).querySelector("[data-leg-account]")?.focus();
  }
  add();
});
