"""The demo brokerage: an MT5 and an MT4 server with their products, trading rules by country, an introducing broker with a
plan and clients, staff for every role.

Loaded once, in development only. What needs the trading server (accounts, transfers) is ordered here through the same use
cases as ever, and carried out by the running jobs.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.clients.passwords import hash_password
from app.commissions import publishing
from app.core.actor import Actor
from app.core.clock import now
from app.core.errors import N_, Forbidden
from app.core.money import Money
from app.core.uow import unit_of_work
from app.ledger import chart, ecb, posting, proposals
from app.metatrader import accounts, rules
from app.metatrader.known_rules import KNOWN_RULES
from app.models.clients import Client
from app.models.fx import FXRate
from app.models.metatrader import Product, Server, TradingAccount
from app.partners import attribution, links
from app.payments import funding, transfers
from config import MT4_SIMULATOR

if TYPE_CHECKING:
    from config import Settings

PASSWORD = "demo-Lotwise-1"  # noqa: S105  printed at start; the demo is for development only
ACTOR = Actor.system("demo")

#: (user name, first name, last name, role)
STAFF = (
    ("admin", "Ada", "Ahlgren", "Admin"),
    ("kyc", "Karim", "Yilmaz", "KYC reviewer"),
    ("officer", "Olga", "Petrova", "Payments officer"),
    ("officer2", "Oscar", "Nielsen", "Payments officer"),
    ("finance", "Freya", "Lindqvist", "Finance officer"),
    ("finance2", "Farid", "Aziz", "Finance officer"),
    ("compliance", "Chloe", "Martin", "Compliance officer"),
    ("partners", "Paolo", "Ricci", "Partner manager"),
    ("operator", "Omar", "Haddad", "Operator"),
)

#: (first name, last name, mail, country, language, opening money in minor units of USD)
CLIENTS = (
    ("Ines", "Brandt", "ib@demo.lotwise.example", "DE", "en", 0),
    ("Elena", "Rossi", "elena@demo.lotwise.example", "IT", "en", 1_000_000),
    ("ليلى", "المنصوري", "layla@demo.lotwise.example", "AE", "ar", 750_000),
    ("Marek", "Nowak", "marek@demo.lotwise.example", "PL", "en", 500_000),
)

#: The house's money at the start, in minor units of USD: its own, and what it keeps with the clients' money so that it covers
#: what they win between two transfers.
OWN_CAPITAL, BUFFER = 25_000_000, 5_000_000

#: As the ECB publishes them; other pairs cross through the euro.
MANUAL_RATES = (("EUR", "USD"), ("EUR", "GBP"))

LINK_CODE = "WELCOME"

#: (code, name, description, group, currency, leverages, further columns)
PRODUCTS: tuple[tuple[str, str, str, str, str, list[int], dict[str, Any]], ...] = (
    ("standard-usd", "Standard", "Spreads from 1.2 points, no commission", r"real\std\usd", "USD", [30, 100, 200, 500], {}),
    ("ecn-usd", "ECN", "Raw spreads, 3.50 USD a lot and side", r"real\ecn\usd", "USD", [30, 100, 200], {}),
    ("standard-eur", "Standard EUR", "Spreads from 1.2 points, no commission", r"real\std\eur", "EUR", [30, 100], {}),
    ("swap-free-usd", "Swap-free", "No swaps overnight", r"real\swapfree\usd", "USD", [30, 100], {"is_swap_free": True}),
    (
        "netting-usd",
        "Netting",
        "Positions as on an exchange",
        r"real\netting\usd",
        "USD",
        [100, 200],
        {"margin_mode": "netting"},
    ),
    (
        "demo-usd",
        "Demo",
        "Practice with money that is not real",
        r"demo\forex\usd",
        "USD",
        [100, 500],
        {"is_demo": True, "demo_deposit_minor": 1_000_000},
    ),
    ("cent-usd", "Cent", "Small amounts, counted in US cents", r"real\cent\usc", "USC", [30, 100, 200, 500], {"is_cent": True}),
)
MT4_PRODUCTS: tuple[tuple[str, str, str, str, str, list[int], dict[str, Any]], ...] = (
    ("mt4-standard-usd", "Standard MT4", "Spreads from 1.2 points, no commission", "std-usd", "USD", [30, 100, 200, 500], {}),
    ("mt4-ecn-usd", "ECN MT4", "Raw spreads, 7 USD a lot", "ecn-usd", "USD", [30, 100, 200], {}),
)
#: Who has an account on MT4 besides.
MT4_CLIENT = "marek@demo.lotwise.example"

#: What `run.py up` prints: role, where to sign in (a path), user, password.
SIGN_INS: list[tuple[str, str, str, str]] = [
    *[(role, "/login/", user, PASSWORD) for user, _, _, role in STAFF],
    ("Client", "/portal/sign-in", CLIENTS[1][2], PASSWORD),
    ("Client (Arabic)", "/portal/sign-in", CLIENTS[2][2], PASSWORD),
    ("Introducing broker", "/portal/sign-in", CLIENTS[0][2], PASSWORD),
]

RULES = [
    {
        "key": "majors",
        "component": "per_lot",
        "rate": "7.00",
        "currency": "USD",
        "levels": ["1"],
        "filter": {"symbols": ["EURUSD", "GBPUSD", "USDJPY"]},
    },
    {
        "key": "crosses",
        "component": "per_lot",
        "rate": "5.00",
        "currency": "USD",
        "levels": ["1"],
        "filter": {"symbols": ["EURGBP", "USDCHF"]},
    },
]


class NotInProduction(Forbidden):
    code = "demo.not_in_production"
    message = N_("The demo brokerage is for development only. Nothing was loaded.")


def load(settings: Settings, progress: Callable[[int, int], None] | None = None) -> bool:
    """Load the demo brokerage. Returns False, with nothing changed, when it is there already."""
    from app import create_app
    from app.extensions import db

    if settings.is_production:
        raise NotInProduction()
    app = create_app(settings)
    with app.app_context():
        session = db.session()
        if session.scalar(select(Server.id).limit(1)) is not None:
            return False
        steps = [
            load_staff,
            lambda: load_house(session, settings),
            lambda: load_trading_rules(session),
            lambda: load_capital(session, settings.client_bank),
            lambda: load_rates(session),
            lambda: load_partner(session),
            lambda: load_clients(session, settings.client_bank),
            lambda: fund_accounts(session),
        ]
        for number, step in enumerate(steps, 1):
            step()
            if progress:
                progress(number, len(steps))
    return True


def load_staff() -> None:
    from app.extensions import appbuilder

    manager = appbuilder.sm
    for user, first, last, role in STAFF:
        if manager.find_user(user) is None:
            manager.add_user(user, first, last, f"{user}@demo.lotwise.example", manager.find_role(role), password=PASSWORD)


def load_house(session: Session, settings: Settings) -> None:
    """The simulated trading servers and what clients can open on them."""
    mt5 = Server(
        code="sim", name="Lotwise-Demo", platform="mt5_web", url=settings.simulator_url, manager_login=1000, time_zone="EET"
    )
    mt4 = Server(
        code=MT4_SIMULATOR,
        name="Lotwise-MT4-Demo",
        platform="mt4_bridge",
        url=settings.mt4_simulator_url,
        manager_login=1,
        time_zone="EET",
    )
    with unit_of_work(session, ACTOR):
        session.add_all([mt5, mt4])
        session.flush()
        for server, products in ((mt5, PRODUCTS), (mt4, MT4_PRODUCTS)):
            for code, name, words, group, currency, leverages, more in products:
                session.add(
                    Product(
                        code=code,
                        name=name,
                        description=words,
                        server_id=server.id,
                        group=group,
                        currency=currency,
                        leverages=leverages,
                        **more,
                    )
                )


def load_trading_rules(session: Session) -> None:
    """The trading rules by country."""
    for rule in KNOWN_RULES:
        rules.save_rule(session, rule, actor=ACTOR, reason="Known at the start of the demo; to be confirmed by counsel")


def load_capital(session: Session, bank: str) -> None:
    """What the house brings: its own money at the bank, and a part of it on the clients' account."""
    with unit_of_work(session, ACTOR):
        clients, own = funding.accounts(bank, "USD")
        opening = chart.migration_opening("USD")
        ids = chart.open_accounts(session, clients, own, opening)
        posting.post_many(
            session,
            [
                posting.Posting(
                    key=f"migration-account:{ids[account.code]}",
                    kind="migration_opening",
                    effective_at=now(),
                    actor=ACTOR,
                    legs=[posting.debit(account, Money(minor, "USD")), posting.credit(opening, Money(minor, "USD"))],
                )
                for account, minor in ((own, OWN_CAPITAL), (clients, BUFFER))
            ],
        )


def load_rates(session: Session) -> None:
    """The newest reference rates, made to count today by two people: without a network they would be too old to convert by.

    Before they are old themselves, the deals of the simulated server have brought younger ones.
    """
    from app.extensions import appbuilder

    proposer, decider = (Actor.staff(appbuilder.sm.find_user(name).id) for name in ("finance", "finance2"))
    ecb.load_history(session)
    for base, quote in MANUAL_RATES:
        newest = session.scalar(
            select(FXRate.rate).where(FXRate.base == base, FXRate.quote == quote).order_by(FXRate.observed_at.desc()).limit(1)
        )
        if newest is not None:
            proposal = proposals.propose_rate(
                session, base=base, quote=quote, rate=newest, reason="Reference rate for the demo", actor=proposer
            )
            proposals.approve_rate(session, proposal.id, actor=decider)


def load_partner(session: Session) -> None:
    """The introducing broker, its link and the plan it is paid by."""
    client_id = add_client(session, *CLIENTS[0][:5])
    ib = links.make_ib(session, client_id, "USD", ACTOR)
    links.create_link(session, ib.id, "Website", ACTOR, code=LINK_CODE)
    plan_id = publishing.create_plan(session, "Standard IB", "USD", ACTOR)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    publishing.publish_version(session, plan_id, RULES, start, ACTOR)
    publishing.assign_plan(session, ib.id, plan_id, start, ACTOR)


def load_clients(session: Session, bank: str) -> None:
    """Approved clients, with money in their wallets as a migration would bring it, and an account each; one has two."""
    product_ids = dict(session.execute(select(Product.code, Product.id)).tuples().all())
    for first, last, mail, country, language, opening_minor in CLIENTS[1:]:
        client_id = add_client(session, first, last, mail, country, language)
        attribution.attribute_client(session, client_id=client_id, link_code=LINK_CODE, at=now(), source="link")
        for code in ("standard-usd", *(["mt4-standard-usd"] if mail == MT4_CLIENT else [])):
            product_id = product_ids[code]
            leverage = offered_leverage(session, product_id, client_id)
            accounts.request_account(session, client_id=client_id, product_id=product_id, leverage=leverage, actor=ACTOR)
        bring_money(session, bank, client_id, Money(opening_minor, "USD"))


def offered_leverage(session: Session, product_id: int, client_id: int) -> int:
    """1:100, or the highest that the rules of the client's country leave."""
    product, client = session.get_one(Product, product_id), session.get_one(Client, client_id)
    offered = rules.offered_leverages(session, product, client, now().date())
    return max(choice for choice in offered if choice <= 100)


def fund_accounts(session: Session, within_s: float = 20) -> None:
    """Move half of each client's money to the trading accounts, once the running jobs have opened them.

    Without running jobs nothing opens; the demo is then without trades until somebody moves money by hand.
    """
    deadline = time.monotonic() + within_s
    while True:
        waiting = session.scalar(select(func.count()).select_from(TradingAccount).where(TradingAccount.status != "active"))
        session.rollback()
        if not waiting or time.monotonic() > deadline:
            break
        time.sleep(0.2)
    opening = {mail: minor for _, _, mail, _, _, minor in CLIENTS}
    rows = session.execute(
        select(TradingAccount.id, TradingAccount.client_id, Client.email)
        .join(Client, Client.id == TradingAccount.client_id)
        .where(TradingAccount.status == "active")
        .order_by(TradingAccount.id)
    ).all()
    session.rollback()
    accounts_of = Counter(client_id for _, client_id, _ in rows)
    for account_id, client_id, mail in rows:
        transfers.request_transfer(
            session,
            client_id=client_id,
            trading_account_id=account_id,
            direction="to_account",
            amount=Money(opening[mail] // (2 * accounts_of[client_id]), "USD"),
            key=f"demo-{account_id}",
            actor=ACTOR,
        )


def add_client(session: Session, first: str, last: str, mail: str, country: str, language: str) -> int:
    with unit_of_work(session, ACTOR) as unit:
        # People who live apart: otherwise the search for abuse takes them for one.
        number = session.scalar(select(func.count(Client.id))) or 0
        client = Client(
            email=mail,
            password_hash=hash_password(PASSWORD),
            first_name=first,
            last_name=last,
            country=country,
            birth_date=date(1988 + number % 12, 5, 17),
            address=f"{12 + number} Harbour Street",
            phone=f"+1000000{number:04d}",
            language=language,
            status="approved",
            terms_version="2026-01",
            terms_accepted_at=now(),
            email_verified_at=now(),
            approved_at=now(),
        )
        session.add(client)
        session.flush()
        unit.emit("client.imported", subject_id=client.id, client_id=client.id)
        return client.id


def bring_money(session: Session, bank: str, client_id: int, amount: Money) -> None:
    """Money that a client brings from an earlier system: in the client-money bank account, and in the wallet."""
    with unit_of_work(session, ACTOR):
        clients, wallet = chart.bank_client_money(bank, amount.currency), chart.client_wallet(client_id, amount.currency)
        chart.open_accounts(session, clients, wallet)
        posting.post(
            session,
            key=f"migration:{client_id}:{amount.currency}",
            kind="migration_opening",
            effective_at=now(),
            actor=ACTOR,
            legs=[posting.debit(clients, amount), posting.credit(wallet, amount)],
            metadata={"client_id": client_id},
        )
