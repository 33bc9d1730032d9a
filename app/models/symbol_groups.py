"""Groups of symbols that rules of commission plans name, with their history."""

from __future__ import annotations

from sqlalchemy import BigInteger, ForeignKey, String, Text, UniqueConstraint
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.core.orm import BigKey, CreatedAt, Model, Moment


class SymbolGroup(Model):
    """Symbols that rules name together. Which ones stands in its versions."""

    __tablename__ = "symbol_group"

    id: Mapped[BigKey]
    code: Mapped[str] = mapped_column(String(40), unique=True)
    name: Mapped[str] = mapped_column(String(100))
    created_at: Mapped[CreatedAt]

    def __repr__(self) -> str:
        return self.name


class SymbolGroupVersion(Model):
    """The symbols of a group from a moment on, until its next version begins. Never changed."""

    __tablename__ = "symbol_group_version"
    __table_args__ = (UniqueConstraint("group_id", "valid_from"),)

    id: Mapped[BigKey]
    group_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("symbol_group.id"))
    symbols: Mapped[list[str]] = mapped_column(JSONB, comment="names in which * stands for any characters")
    valid_from: Mapped[Moment]
    set_by: Mapped[str] = mapped_column(Text)
    reason: Mapped[str] = mapped_column(Text)
    created_at: Mapped[CreatedAt]

    group: Mapped[SymbolGroup] = relationship()
