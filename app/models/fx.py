"""Exchange rates, what clients pay for conversions, and the quotes they were given."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, Integer, Numeric, String, Text, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import JSONB, UUID
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.core.money import Money
from app.core.orm import BigKey, CreatedAt, Model, Moment, Proposal, proposal_checks
from app.models.clients import Client

#: Ten digits after the point, as quotes and transactions keep them.
Rate = Numeric(20, 10)


class FXSource(Model):
    """Where rates come from. Of the sources whose newest rate is young enough, the one with the lowest rank is used."""

    __tablename__ = "fx_source"
    __table_args__ = (CheckConstraint("max_age_s > 0", name="age"),)

    code: Mapped[str] = mapped_column(String(20), primary_key=True, comment="manual, mt or ecb")
    rank: Mapped[int] = mapped_column(Integer, unique=True)
    max_age_s: Mapped[int] = mapped_column(Integer, comment="an older rate is stale and converts nothing")

    def __repr__(self) -> str:
        return self.code


class FXPair(Model):
    """What a client pays for converting one currency into another, either way, in basis points of the amount given."""

    __tablename__ = "fx_pair"
    __table_args__ = (
        UniqueConstraint("base", "quote"),
        CheckConstraint("base < quote", name="order"),
        CheckConstraint("spread_bp BETWEEN 0 AND 2000", name="spread"),
    )

    id: Mapped[BigKey]
    base: Mapped[str] = mapped_column(String(8), comment="the currency that comes first in the alphabet")
    quote: Mapped[str] = mapped_column(String(8))
    spread_bp: Mapped[int] = mapped_column(Integer, comment="hundredths of a percent of the amount given")

    def __repr__(self) -> str:
        return f"{self.base}/{self.quote}"


class FXRate(Model):
    """One observed rate: 1 `base` is `rate` `quote`. Written once; a better one is a newer row."""

    __tablename__ = "fx_rate"
    __table_args__ = (
        UniqueConstraint("source", "base", "quote", "observed_at"),
        CheckConstraint("rate > 0", name="positive"),
        CheckConstraint("base <> quote", name="two_currencies"),
        Index("ix_fx_rate_newest", "base", "quote", text("observed_at DESC")),
    )

    id: Mapped[BigKey]
    source: Mapped[str] = mapped_column(String(20), ForeignKey("fx_source.code"))
    base: Mapped[str] = mapped_column(String(8))
    quote: Mapped[str] = mapped_column(String(8))
    rate: Mapped[Decimal] = mapped_column(Rate)
    observed_at: Mapped[Moment] = mapped_column(comment="from when on it is the rate")
    reference: Mapped[str] = mapped_column(Text, server_default="", comment="the file, deal or proposal it comes from")
    recorded_at: Mapped[CreatedAt]

    def __repr__(self) -> str:
        return f"{self.base}/{self.quote}"


class FXRateProposal(Proposal, Model):
    """A rate typed by one person; another one makes it count."""

    __tablename__ = "fx_rate_proposal"
    __table_args__ = (
        CheckConstraint("rate > 0", name="positive"),
        CheckConstraint("base <> quote", name="two_currencies"),
        *proposal_checks(),
    )

    id: Mapped[BigKey]
    base: Mapped[str] = mapped_column(String(8))
    quote: Mapped[str] = mapped_column(String(8))
    rate: Mapped[Decimal] = mapped_column(Rate)
    rate_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("fx_rate.id"))


class FXQuote(Model):
    """A rate promised to a client for some seconds, and the conversion made of it, if any.

    The client gives `sell_minor`, of which `spread_minor` is ours; the rest times `rate`, rounded down, is `buy_minor`.
    """

    __tablename__ = "fx_quote"
    __table_args__ = (
        CheckConstraint("sell_minor > spread_minor AND spread_minor >= 0 AND buy_minor > 0", name="positive"),
        CheckConstraint("sell_currency <> buy_currency", name="two_currencies"),
        CheckConstraint("(txn_id IS NULL) = (converted_at IS NULL)", name="converted"),
    )

    id: Mapped[BigKey]
    public_id: Mapped[Any] = mapped_column(UUID, unique=True, server_default=text("uuidv7()"))
    client_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("client.id"), index=True)
    sell_currency: Mapped[str] = mapped_column(String(8))
    sell_minor: Mapped[int] = mapped_column(BigInteger, comment="what leaves the wallet, spread included")
    spread_minor: Mapped[int] = mapped_column(BigInteger, comment="of it, in the same currency")
    buy_currency: Mapped[str] = mapped_column(String(8))
    buy_minor: Mapped[int] = mapped_column(BigInteger)
    # Wider than the rates it was made of: a rupiah in bitcoin has its first digit in the tenth place.
    rate: Mapped[Decimal] = mapped_column(
        Numeric(45, 32), comment="1 unit of the sold currency in the bought one, without spread"
    )
    sources: Mapped[list[dict[str, str]]] = mapped_column(JSONB, comment="the rates it was made of")
    quoted_at: Mapped[Moment]
    expires_at: Mapped[Moment]
    converted_at: Mapped[Moment | None]
    txn_id: Mapped[Any | None] = mapped_column(UUID, unique=True)

    client: Mapped[Client] = relationship()

    @property
    def sold(self) -> Money:
        """What leaves the wallet."""
        return Money(self.sell_minor, self.sell_currency)

    @property
    def spread(self) -> Money:
        """Our part of it."""
        return Money(self.spread_minor, self.sell_currency)

    @property
    def bought(self) -> Money:
        """What arrives in the other wallet."""
        return Money(self.buy_minor, self.buy_currency)

    def state(self, at: datetime) -> str:
        """What has become of it by a moment: open, converted or expired."""
        if self.txn_id is not None:
            return "converted"
        return "open" if at < self.expires_at else "expired"
