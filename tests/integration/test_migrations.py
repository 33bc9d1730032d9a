"""Migrations: models and migrations agree, and every revision goes down and up again on data."""

from __future__ import annotations

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

import app.models  # noqa: F401  declares all tables
from app import migrate
from app.core.orm import Model
from app.metatrader.months import is_partition


def test_models_and_migrations_agree(database):
    with database.owner_session() as session:
        context = MigrationContext.configure(
            session.connection(),
            opts={
                "include_schemas": True,
                "include_name": lambda name, type_, _parents: type_ != "schema" or name in (None, "ledger"),
                "include_object": lambda _thing, name, type_, *_: (
                    type_ != "table" or (name != "alembic_version" and not is_partition(name))
                ),
            },
        )
        assert compare_metadata(context, Model.metadata) == []


def test_down_and_up_again_on_data(database):
    with database.owner_session() as session:
        session.execute(
            text(
                "INSERT INTO client (email, password_hash, first_name, last_name, country, terms_version, terms_accepted_at)"
                " VALUES ('a@b.example', 'x', 'A', 'B', 'DE', '1', now())"
            )
        )
        session.execute(text("INSERT INTO event (type, actor) VALUES ('client.registered', 'system:test')"))
        session.commit()
    database.dispose()
    migrate.downgrade(database.settings, "base")
    with database.owner_session() as session:
        assert session.execute(text("SELECT to_regclass('client')")).scalar() is None
        assert session.execute(text("SELECT count(*) FROM pg_proc WHERE pronamespace = 'public'::regnamespace")).scalar() == 0
    migrate.upgrade(database.settings)
    present, newest = migrate.revisions(database.settings)
    assert present == newest


#: By ticket: the moments of its revisions, the first of which tells the month. The last minutes of January by UTC are February
#: by many servers' clocks; a ticket whose first revision is unknown lies where its first known one is.
DEALS = {
    11: ["2025-01-31T23:59:59.999Z"],
    12: ["2025-02-01T00:00:00Z", "2025-02-01T00:00:00Z", "2025-03-02T10:00:00Z"],
    13: ["2025-02-28T12:00:00Z", "2025-01-05T12:00:00Z"],
    14: ["2024-02-29T12:00:00Z"],
}

COLUMNS = (
    "id, server_id, ticket, revision, fingerprint, is_current, is_void, login, action, entry, reason, order_ticket,"
    " position_ticket, symbol, volume, volume_closed, price, profit, swap, server_time_ms, utc_offset_min, done_at, booked_at,"
    " comment, is_ours"
)


def test_deals_move_into_months_with_all_their_revisions_and_back(database):
    database.dispose()
    migrate.downgrade(database.settings, "0002")
    with database.owner_session() as session:
        session.execute(
            text(
                "INSERT INTO mt_server (code, name, platform, url, manager_login, time_zone)"
                " VALUES ('sim', 'Sim', 'mt5_web', 'https://localhost', 1, 'EET')"
            )
        )
        for ticket, moments in DEALS.items():
            for revision, moment in enumerate(moments, 1):
                session.execute(
                    text(
                        "INSERT INTO deal (server_id, ticket, revision, fingerprint, is_current, is_void, login, action, entry,"
                        " reason, order_ticket, position_ticket, symbol, volume, price, profit, swap, server_time_ms,"
                        " utc_offset_min, done_at, comment)"
                        " SELECT id, :ticket, :revision, convert_to(:ticket || '/' || :revision, 'UTF8'), :is_current, false,"
                        " 954402, 1, 1, 0, 7, 8, 'EURUSD', 100000000, 1.0855, :revision + 0.25, -3.1, 1764156600123, 120,"
                        " CAST(:moment AS timestamptz), 'tab\there' FROM mt_server"
                    ),
                    {
                        "ticket": ticket,
                        "revision": revision,
                        "moment": moment,
                        "is_current": revision == len(moments),
                    },
                )
        session.execute(
            text("INSERT INTO deal_outcome (deal_id, accruals, reason) SELECT id, 0, 'void' FROM deal WHERE ticket = 12")
        )
        session.commit()
        before = _deals(session)
    database.dispose()
    migrate.upgrade(database.settings)
    with database.owner_session() as session:
        assert _deals(session) == before
        lies = session.execute(
            text(
                "SELECT ticket, revision, deal.tableoid::regclass::text, filed_at = first FROM deal JOIN (SELECT"
                " ticket, min(done_at) FILTER (WHERE revision = 1) AS first FROM deal GROUP BY ticket) AS f USING (ticket)"
                " ORDER BY ticket, revision"
            )
        ).all()
        assert [tuple(row) for row in lies] == [
            (11, 1, "deal_2025_01", True),
            *[(12, revision, "deal_2025_02", True) for revision in (1, 2, 3)],
            *[(13, revision, "deal_2025_02", True) for revision in (1, 2)],
            (14, 1, "deal_2024_02", True),
        ]
        heads = session.execute(
            text("SELECT ticket, revision, fingerprint, filed_at, seen_at FROM deal_head ORDER BY ticket")
        ).all()
        assert [(row.ticket, row.revision, bytes(row.fingerprint)) for row in heads] == [
            (ticket, len(moments), f"{ticket}/{len(moments)}".encode()) for ticket, moments in DEALS.items()
        ]
        newest = {row.ticket: row.booked_at for row in before if row.is_current}
        assert {row.ticket: row.seen_at for row in heads} == newest
    with database.session() as session:  # the application goes on numbering where it stood
        assert session.scalar(text("SELECT nextval(pg_get_serial_sequence('deal', 'id'))")) > max(row.id for row in before)
        session.rollback()
    database.dispose()
    migrate.downgrade(database.settings, "0002")
    with database.owner_session() as session:
        assert _deals(session) == before
        assert (
            session.scalar(text("SELECT count(*) FROM pg_class WHERE relname LIKE 'deal\\_2%' OR relname = 'deal_other'")) == 0
        )
        pointing = "SELECT count(*) FROM deal_outcome o JOIN deal d ON d.id = o.deal_id"
        assert session.scalar(text(pointing)) == len(DEALS[12])
    database.dispose()
    migrate.upgrade(database.settings)
    with database.owner_session() as session:
        assert _deals(session) == before


def _deals(session):
    return session.execute(text(f"SELECT {COLUMNS} FROM deal ORDER BY id")).all()
