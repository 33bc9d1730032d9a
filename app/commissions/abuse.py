"""Looking for abuse: IBs that are their own clients, clients that are one person, accounts that trade against each other.

What is known of a device is what its browser says and the address it comes from, while its session is kept; of a card, the
fingerprint that its provider gives it, after its first settled payment.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from app.commissions.flags import HEDGED, Suspicion, raise_flags
from app.core.actor import Actor
from app.core.uow import unit_of_work
from app.models.commission_flags import CommissionFlag, FlagSetting

#: New deals that are looked at in one transaction; pairs of deals, and deposits, that one suspicion keeps.
DEALS_AT_ONCE, MOST_PAIRS, MOST_DEPOSITS = 5000, 50, 50

_SELF_REFERRAL = text(
    """
    SELECT ib.id AS ib_id, c.id AS client_id, own.id AS own_id,
        length(own.phone) > 6
            AND regexp_replace(own.phone, '[^0-9]', '', 'g') = regexp_replace(c.phone, '[^0-9]', '', 'g') AS phone,
        own.birth_date = c.birth_date AND lower(own.last_name) = lower(c.last_name)
            AND lower(own.first_name) = lower(c.first_name) AS person
    FROM introducing_broker ib
    JOIN client own ON own.id = ib.client_id
    JOIN attribution a ON a.ib_id = ib.id AND a.valid_to IS NULL
    JOIN client c ON c.id = a.client_id
    WHERE (length(own.phone) > 6 AND regexp_replace(own.phone, '[^0-9]', '', 'g') = regexp_replace(c.phone, '[^0-9]', '', 'g'))
       OR (own.birth_date = c.birth_date AND lower(own.last_name) = lower(c.last_name)
            AND lower(own.first_name) = lower(c.first_name))
    """
)

#: People: everybody who is an IB's client now, and the IB itself.
_SAME_DEVICE = text(
    """
    WITH people (ib_id, client_id) AS (
        SELECT ib_id, client_id FROM attribution WHERE valid_to IS NULL
        UNION SELECT id, client_id FROM introducing_broker
    )
    SELECT p.ib_id, s.address, s.user_agent, array_agg(DISTINCT s.client_id ORDER BY s.client_id) AS clients
    FROM people p JOIN portal_session s ON s.client_id = p.client_id
    GROUP BY p.ib_id, s.address, s.user_agent HAVING count(DISTINCT s.client_id) > 1
    """
)

#: The same network from different browsers, or the same postal address.
_SAME_ADDRESS = text(
    """
    WITH people (ib_id, client_id) AS (
        SELECT ib_id, client_id FROM attribution WHERE valid_to IS NULL
        UNION SELECT id, client_id FROM introducing_broker
    )
    SELECT p.ib_id, 'network' AS what, s.address, array_agg(DISTINCT s.client_id ORDER BY s.client_id) AS clients
    FROM people p JOIN portal_session s ON s.client_id = p.client_id
    GROUP BY p.ib_id, s.address HAVING count(DISTINCT s.client_id) > 1 AND count(DISTINCT s.user_agent) > 1
    UNION ALL
    SELECT p.ib_id, 'postal', lower(regexp_replace(c.address, '[^[:alnum:]]+', ' ', 'g')) AS address,
        array_agg(c.id ORDER BY c.id) AS clients
    FROM people p JOIN client c ON c.id = p.client_id WHERE c.address <> ''
    GROUP BY p.ib_id, 3 HAVING count(*) > 1
    """
)

#: Fingerprints are the provider's: the same card at two providers has two.
_SAME_CARD = text(
    """
    WITH people (ib_id, client_id) AS (
        SELECT ib_id, client_id FROM attribution WHERE valid_to IS NULL
        UNION SELECT id, client_id FROM introducing_broker
    )
    SELECT p.ib_id, d.connector, d.card_fingerprint, array_agg(DISTINCT d.client_id ORDER BY d.client_id) AS clients,
        array_agg(d.id ORDER BY d.id) AS deposits
    FROM people p JOIN deposit d ON d.client_id = p.client_id WHERE d.card_fingerprint IS NOT NULL
    GROUP BY p.ib_id, d.connector, d.card_fingerprint HAVING count(DISTINCT d.client_id) > 1
    """
)

_LAST = text("SELECT max(id) FROM (SELECT id FROM deal WHERE id > :after ORDER BY id LIMIT :most) AS next")

#: Openings of live accounts under one IB: each new one beside all others of the time around. Deals lie by the month in which
#: they were filed, so their time is asked by that too; the server's clock may be a day off.
_HEDGED = text(
    """
    WITH span AS (
        SELECT min(done_at) - :window AS first, max(done_at) + :window AS last FROM deal WHERE id > :after AND id <= :last
    ), opened AS (
        SELECT d.id, d.done_at, d.symbol, d.action, d.volume, t.id AS account_id, t.client_id, a.ib_id
        FROM span
        JOIN deal d ON d.filed_at BETWEEN span.first - interval '1 day' AND span.last + interval '1 day'
            AND d.done_at BETWEEN span.first AND span.last
        JOIN trading_account t ON t.id = d.trading_account_id
        JOIN product p ON p.id = t.product_id AND NOT p.is_demo
        JOIN attribution a ON a.client_id = t.client_id AND tstzrange(a.valid_from, a.valid_to) @> d.done_at
        WHERE d.entry = 0 AND d.action IN (0, 1) AND d.is_current AND NOT d.is_void
    )
    SELECT DISTINCT n.ib_id,
        least(n.account_id, o.account_id) AS one, greatest(n.account_id, o.account_id) AS other,
        least(n.client_id, o.client_id) AS client, greatest(n.client_id, o.client_id) AS other_client,
        least(n.id, o.id) AS deal, greatest(n.id, o.id) AS other_deal
    FROM opened n
    JOIN opened o ON o.ib_id = n.ib_id AND o.symbol = n.symbol AND o.action = 1 - n.action AND o.account_id <> n.account_id
        AND o.done_at BETWEEN n.done_at - :window AND n.done_at + :window
        AND abs(o.volume - n.volume) * 100 <= greatest(o.volume, n.volume) * :tolerance
    WHERE n.id > :after AND n.id <= :last
    ORDER BY deal, other_deal
    """
)


def find_abuse(session: Session) -> int:
    """Look for all kinds that are switched on; call it outside a unit of work. Returns how many suspicions are new.

    Harmless to repeat. Hedges are looked for among deals booked since the last time, beside all deals of the time around.
    """
    with unit_of_work(session, Actor.system("commission_flags")):
        new = raise_flags(
            session, [*_self_referrals(session), *_same_devices(session), *_same_addresses(session), *_same_cards(session)]
        )
    while (found := _next_hedges(session)) is not None:
        new += found
    return new


def _self_referrals(session: Session) -> list[Suspicion]:
    return [
        Suspicion(
            "self_referral",
            f"{row.ib_id}:{row.client_id}",
            row.ib_id,
            {
                "clients": [row.own_id, row.client_id],
                "same": [name for name in ("phone", "person") if getattr(row, name)],
            },
        )
        for row in session.execute(_SELF_REFERRAL)
    ]


def _same_devices(session: Session) -> list[Suspicion]:
    return [
        Suspicion(
            "same_device",
            f"{row.ib_id}:{row.address}:{row.user_agent}",
            row.ib_id,
            {"clients": row.clients, "address": row.address, "user_agent": row.user_agent},
        )
        for row in session.execute(_SAME_DEVICE)
    ]


def _same_addresses(session: Session) -> list[Suspicion]:
    return [
        Suspicion(
            "same_address",
            f"{row.ib_id}:{row.what}:{row.address}",
            row.ib_id,
            {"clients": row.clients, "what": row.what, "address": row.address},
        )
        for row in session.execute(_SAME_ADDRESS)
    ]


def _same_cards(session: Session) -> list[Suspicion]:
    return [
        Suspicion(
            "same_card",
            f"{row.ib_id}:{row.connector}:{row.card_fingerprint}",
            row.ib_id,
            {"clients": row.clients, "connector": row.connector, "deposits": row.deposits[:MOST_DEPOSITS]},
        )
        for row in session.execute(_SAME_CARD)
    ]


def _next_hedges(session: Session) -> int | None:
    """Look at the next new deals and move the cursor past them; None when there are none, or nobody wants to know."""
    with unit_of_work(session, Actor.system("commission_flags")):
        setting = session.get(FlagSetting, HEDGED, with_for_update=True, populate_existing=True)
        if setting is None or not setting.is_on:
            return None
        last = session.scalar(_LAST, {"after": setting.deal_id, "most": DEALS_AT_ONCE})
        if last is None:
            return None
        asked = {
            "after": setting.deal_id,
            "last": last,
            "window": timedelta(seconds=setting.window_s),
            "tolerance": setting.tolerance_percent,
        }
        found: dict[str, Suspicion] = {}
        for row in session.execute(_HEDGED, asked):
            key = f"{row.ib_id}:{row.one}:{row.other}"
            if key not in found:
                found[key] = _hedge(session, key, row)
            pairs = found[key].details["pairs"]
            if [row.deal, row.other_deal] not in pairs and len(pairs) < MOST_PAIRS:
                pairs.append([row.deal, row.other_deal])
        setting.deal_id = last
        return raise_flags(session, found.values())


def _hedge(session: Session, key: str, row: Any) -> Suspicion:
    """The suspicion about two accounts, with the pairs of deals that it had before."""
    before = session.scalar(select(CommissionFlag.details).where(CommissionFlag.kind == HEDGED, CommissionFlag.key == key))
    details = {
        "accounts": [row.one, row.other],
        "clients": sorted({row.client, row.other_client}),
        "pairs": list(before["pairs"]) if before else [],
    }
    return Suspicion(HEDGED, key, row.ib_id, details)
