// An offer that holds for some seconds (<div data-offer data-seconds-left="27">): counts down, and puts the way to a new one in the
// place of the button when it is over. The server judges what is too late; without script the page says until when the offer holds.

const SOON_S = 10;

function countDown(offer) {
  const part = (name) => offer.querySelector(`[data-offer-${name}]`);
  const [open, expired, said, bar, seconds] = ["open", "expired", "said", "bar", "seconds"].map(part);
  const endsAt = Date.now() + Number(offer.dataset.secondsLeft) * 1000;
  part("until").hidden = true;
  part("timer").hidden = bar.hidden = false;

  function tick() {
    const left = Math.max(0, Math.ceil((endsAt - Date.now()) / 1000));
    seconds.textContent = `${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")}`;
    bar.value = left;
    if (left > 0 && left <= SOON_S && !said.textContent) said.textContent = said.dataset.soon;
    if (left > 0 || "sent" in open.dataset) return; // what is on its way is the server's to judge
    clearInterval(timer);
    const hadFocus = open.contains(document.activeElement);
    open.hidden = true;
    expired.hidden = false;
    said.textContent = said.dataset.over;
    if (hadFocus) expired.querySelector("button").focus();
  }

  const timer = setInterval(tick, 250);
  tick();
}

document.querySelectorAll("[data-offer][data-seconds-left]").forEach(countDown);
