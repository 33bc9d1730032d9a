// <form data-rate-of="8" data-keeps="You keep {kept} USD a lot.">: says, while a rate is typed, what is left of one's own. Without
// this script the sentence is that of the rate that stands in the field.

const PLACES = 10;
const shown = new Intl.NumberFormat(document.documentElement.lang, { numberingSystem: "latn", maximumFractionDigits: PLACES });

/** A plain decimal as a whole number of its last place, so that nothing is lost; null for anything else. */
function whole(text) {
  const found = /^(\d{1,9})(?:\.(\d{1,10}))?$/.exec(text.trim());
  return found && BigInt(found[1] + (found[2] ?? "").padEnd(PLACES, "0"));
}

function plain(number) {
  const digits = String(number).padStart(PLACES + 1, "0");
  return `${digits.slice(0, -PLACES)}.${digits.slice(-PLACES)}`;
}

function sentence(form, typed) {
  const given = whole(typed);
  if (given === null) return "";
  const left = whole(form.dataset.rateOf) - given;
  return left < 0n ? form.dataset.tooMuch : form.dataset.keeps.replace("{kept}", shown.format(plain(left)));
}

document.addEventListener("input", (event) => {
  const form = event.target.closest("form[data-rate-of]");
  if (form) form.querySelector("output").value = sentence(form, event.target.value);
});
