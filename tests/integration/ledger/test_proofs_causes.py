"""P7: every movement has its transaction and every transaction its cause, and the money desk finds the same cause."""

from __future__ import annotations

import pytest
from sqlalchemy import select, text

from app.core.uow import unit_of_work
from app.ledger import sources
from app.ledger.proofs import causes
from app.models.ledger import Transaction
from tests.integration.ledger.house import ACTOR, House, moves


@pytest.fixture
def house(session):
    return House(session).build()


def _broken(house, statement="SELECT 1", **values):
    house.session.execute(text(statement), values)
    return causes.prove_one(house.session).breaks


def test_a_house_with_every_movement_is_sound(house):
    kinds = set(house.session.scalars(select(Transaction.kind)))
    assert kinds == set(sources.SOURCES), "the house of these tests has one movement of every kind"
    proof = causes.prove_one(house.session)
    assert proof.breaks == ()
    # Each transaction has one row here; the deals of a run count as one, and no row has none.
    assert proof.compared == 2 * len(house.session.scalars(select(Transaction.id)).all())


def test_every_transaction_leads_to_the_row_that_caused_it(house):
    found = {
        txn.kind: sources.cause_of(house.session, txn)
        for txn in house.session.scalars(select(Transaction).order_by(Transaction.seq.desc()))
    }
    assert {kind: (cause.subject, cause.id, cause.label) for kind, cause in found.items()} == {
        "deposit": ("deposit", house.ids["deposit"], "Deposit"),
        "psp_fee": ("deposit", house.ids["deposit"], "Payment provider's fee"),
        "withdrawal": ("withdrawal", house.ids["paid"], "Withdrawal"),
        "payout": ("withdrawal", house.ids["paid"], "Payout"),
        "reversal": ("withdrawal", house.ids["returned"], "Reversal"),
        "transfer_to_account": ("transfer", house.ids["to_account"], "Transfer to a trading account"),
        "transfer_to_wallet": ("transfer", house.ids["to_wallet"], "Transfer to the wallet"),
        "deal_results": ("deal", house.ids["deal_results"], "Trading results"),
        "unmatched_balance_operation": ("deal", house.ids["unmatched_balance_operation"], "Balance operation at the server"),
        "negative_balance": ("deal", house.ids["negative_balance"], "Negative balance written off"),
        "commission_settlement": ("settlement", house.ids["settlement 1"], "Commission settlement"),
        "rebate_settlement": ("settlement", house.ids["rebate"], "Rebate"),
        "commission_payout": ("payout", house.ids["commission payout"], "Commission payout"),
        "conversion": ("fx_quote", house.ids["quote"], "Conversion"),
        "adjustment": ("ledger_request", house.ids["adjustment"], "Adjustment"),
        "revaluation": ("ledger_request", house.ids["close"], "FX result of a period"),
        "suspense_receipt": ("external_line", house.ids["line"], "Receipt in suspense"),
        "migration_opening": ("account", found["migration_opening"].id, "Opening balance"),
    }


@pytest.mark.parametrize(
    "key", ["deposit-fee:stripe:nonsense", "deposit-fee:stripe:00000000-0000-4000-8000-000000000000", "deposit-fee:", "x"]
)
def test_a_key_of_nobody_has_no_cause(session, key):
    txn = Transaction(kind="psp_fee", idempotency_key=key)
    assert sources.cause_of(session, txn) is None
    assert (
        sources.cause_of(session, Transaction(kind="revaluation", idempotency_key="revaluation:2026-02-31T00:00:00+00:00"))
        is None
    )
    assert sources.cause_of(session, Transaction(kind="unheard of", idempotency_key=key)) is None


#: What is done to the rows of payments, trading, commission …, and what is said of it. {name} is a row's id.
DAMAGE = {
    "a settled deposit forgot its transaction": (
        "UPDATE deposit SET ledger_txn_id = NULL",
        ["deposit {deposit}: has no transaction", "transaction {txn} (deposit): nothing caused it"],
    ),
    "a deposit names a transaction that is not there": (
        "UPDATE deposit SET ledger_txn_id = '00000000-0000-4000-8000-000000000000'",
        [
            "deposit {deposit}: its transaction 00000000-0000-4000-8000-000000000000 does not exist",
            "transaction {txn} (deposit): nothing caused it",
        ],
    ),
    "a deposit of another amount": (
        "UPDATE deposit SET settled_minor = 99999",
        ["deposit {deposit}: its transaction {txn} moved 100000 on client:{client}:wallet:USD, not 99999"],
    ),
    "a deposit of another client": (
        "UPDATE client SET id = id + 1000; UPDATE deposit SET client_id = client_id + 1000",
        ["deposit {deposit}: its transaction {txn} moved 0 on client:{other}:wallet:USD, not 100000"],
    ),
    "a fee without its transaction": (
        "UPDATE deposit SET public_id = '00000000-0000-4000-8000-000000000001'",
        ["deposit {deposit}: has no transaction", "transaction {fee} (psp_fee): nothing caused it"],
    ),
    "a fee that was never taken": (
        "UPDATE deposit SET fee_minor = NULL",
        ["deposit {deposit}: has transaction {fee}, and should have none"],
    ),
    "a paid withdrawal forgot its payout": (
        "UPDATE withdrawal SET final_txn_id = NULL WHERE id = {paid}",
        ["transaction {payout} (payout): nothing caused it", "withdrawal {paid}: has no transaction"],
    ),
    "a withdrawal that failed and kept the money": (
        "UPDATE withdrawal SET state = 'failed' WHERE id = {paid}",
        ["withdrawal {paid}: has no transaction", "withdrawal {paid}: has transaction {payout}, and should have none"],
    ),
    "a paid withdrawal that nobody has approved": (
        "UPDATE withdrawal SET state = 'requested' WHERE id = {paid}",
        [
            "withdrawal {paid}: has transaction {capture}, and should have none",
            "withdrawal {paid}: has transaction {payout}, and should have none",
        ],
    ),
    "a finished transfer forgot its transaction": (
        "UPDATE transfer SET ledger_txn_id = NULL WHERE id = {to_account}",
        ["transaction {transfer} (transfer_to_account): nothing caused it", "transfer {to_account}: has no transaction"],
    ),
    "a transfer turned round": (
        "UPDATE transfer SET direction = 'to_wallet' WHERE id = {to_account}",
        ["transfer {to_account}: its transaction {transfer} moved -7000 on client:{client}:wallet:USD, not 7000"],
    ),
    "a settlement of another amount": (
        "UPDATE settlement SET amount_minor = 1 WHERE id = {settlement 1}",
        ["settlement {settlement 1}: its transaction {settled} moved 4137 on ib:{ib}:commission:USD, not 1"],
    ),
    "a rebate of another amount": (
        "UPDATE settlement SET amount_minor = 1 WHERE id = {rebate}",
        ["settlement {rebate}: its transaction {rebated} moved 321 on client:{client}:wallet:USD, not 1"],
    ),
    "a commission payout of another amount": (
        "UPDATE payout SET amount_minor = 4001",
        [
            "payout {commission payout}: its transaction {paid out} moved -4000 on ib:{ib}:commission:USD, not -4001",
            "payout {commission payout}: its transaction {paid out} moved 4000 on client:{client}:wallet:USD, not 4001",
        ],
    ),
    "a payout that says it was taken back": (
        "UPDATE payout SET state = 'reversed'",
        ["payout {commission payout}: has no transaction"],
    ),
    "a settlement that nothing was posted for": (
        "UPDATE settlement SET amount_minor = 1 WHERE amount_minor = 0",
        ["settlement {settlement nothing left}: has no transaction"],
    ),
    "deals of a run that nobody has": (
        "UPDATE deal SET ledger_txn_id = NULL WHERE id IN ({deal_results}, {second of the run})",
        ["transaction {results} (deal_results): nothing caused it"],
    ),
    "a deal on a transaction of another kind": (
        "UPDATE deal SET ledger_txn_id = '{txn}' WHERE id = {second of the run}",
        ["deal {second of the run}: its transaction {txn} is a deposit"],
    ),
    "a quote that converted something else": (
        "UPDATE fx_quote SET buy_minor = 2000",
        ["fx_quote {quote}: its transaction {converted} moved 1000 on client:{client}:wallet:EUR, not 2000"],
    ),
    "an approved adjustment without a transaction": (
        "UPDATE ledger_request SET txn_id = NULL WHERE id = {adjustment}",
        ["ledger_request {adjustment}: has no transaction", "transaction {adjusted} (adjustment): nothing caused it"],
    ),
    "a close that nobody approved": (
        "UPDATE ledger_request SET status = 'rejected' WHERE id = {close}",
        ["transaction {revalued} (revaluation): nothing caused it"],
    ),
    "one transaction for two rows": (
        """ALTER TABLE transfer DROP CONSTRAINT uq_transfer_ledger_txn_id;
           UPDATE transfer SET ledger_txn_id = '{transfer}', direction = 'to_account', amount_minor = 7000
            WHERE id = {to_wallet}""",
        [
            "transaction {back} (transfer_to_wallet): nothing caused it",
            "transaction {transfer} (transfer_to_account): caused by transfer {to_account} and transfer {to_wallet}",
        ],
    ),
    "a receipt whose line is gone": (
        "DELETE FROM external_line",
        ["transaction {received} (suspense_receipt): nothing caused it"],
    ),
}


def test_each_damage_is_named(database):
    with database.session() as session:
        house = House(session).build()
    names = dict(house.ids)
    txns = {txn.split(":")[0]: str(id_) for txn, id_ in house.txns.items()}
    with database.session() as session:
        by_key = {row.idempotency_key: str(row.id) for row in session.scalars(select(Transaction))}
    names |= {
        "client": house.client,
        "other": house.client + 1000,
        "txn": txns["deposit"],
        "fee": txns["deposit-fee"],
        "payout": next(by_key[key] for key in house.txns if key.endswith(":paid")),
        "capture": next(by_key[key] for key in house.txns if key.endswith(":capture")),
        "transfer": by_key[f"transfer:{house.ids['to_account']}"],
        "back": by_key[f"transfer:{house.ids['to_wallet']}"],
        "settled": txns["commission-settlement"],
        "rebated": txns["rebate-settlement"],
        "paid out": by_key[f"payout:{house.ids['commission payout']}"],
        "results": by_key["mirror:sim:USD:deal_results"],
        "converted": txns["conversion"],
        "adjusted": by_key[f"ledger-request:{house.ids['adjustment']}"],
        "revalued": txns["revaluation"],
        "received": by_key[f"external-line:{house.ids['line']}"],
    }
    found, expected = {}, {}
    for case, (damage, said) in DAMAGE.items():
        with database.owner_session() as session:
            session.execute(text("ALTER TABLE settlement DISABLE TRIGGER settlement_stays"))
            for table in (
                "deposit",
                "introducing_broker",
                "trading_account",
                "transfer",
                "withdrawal",
                "fx_quote",
                "attribution",
                "settlement",
                "payout",
            ):
                session.execute(text(f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS fk_{table}_client_id"))
            for statement in damage.format_map(names).split(";"):
                session.execute(text(statement))
            found[case] = list(causes.prove_one(session).breaks)
            expected[case] = sorted(words.format_map(names) for words in said)
            if case == "a deposit of another client":  # other rows of this client lost theirs, too
                found[case] = [words for words in found[case] if words.startswith("deposit")]
    assert found == expected


def test_a_kind_that_nobody_listed(session, book):
    wallet = book.wallet(1, "10")
    txn_id = book.pay(wallet, book.wallet(2), "1", kind="gift")
    assert f"transaction {txn_id} (gift): a kind that is not known" in causes.prove_one(session).breaks


def test_a_second_transaction_for_the_same_deposit(house):
    with unit_of_work(house.session, ACTOR):
        twin = house.post("deposit", "deposit:stripe:by-hand", *moves(house.clearing, house.wallet, 1))
    assert _broken(house) == (f"transaction {twin} (deposit): nothing caused it",)


def test_only_the_first_breaks_are_named_and_all_are_counted(session, book):
    wallet, other = book.wallet(1, "1000"), book.wallet(2)
    for _ in range(210):
        book.pay(wallet, other, "1", kind="gift")
    proof = causes.prove_one(session)
    assert len(proof.breaks) == 200
    assert proof.break_count == 211  # with the deposit that no row stands behind
