"""`run.py prove`: all proofs of the ledger on the terminal, recorded like those of the night."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from sqlalchemy import create_engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

import app.models  # noqa: F401  relationships need all tables
from app.core.actor import Actor
from app.core.errors import AppError
from app.ledger import proofs
from app.ledger.proofs import Proof

if TYPE_CHECKING:
    from config import Settings

HOLDS, BROKEN, FAILED = 0, 1, 2


def run(settings: Settings, *, json_file: Path | None = None, kept_head: bytes | None = None) -> int:
    """Run and record all proofs and print what they found; write it to `json_file`, too.

    Returns the exit code: 0 when all hold, 1 on a break, 2 when a proof (or all of them) could not be run.
    """
    done: list[Proof] = []
    engine = create_engine(settings.database_url, hide_parameters=True)
    try:
        with Session(engine) as session:
            click.echo(f"{'proof':<66}{'compared':>14}{'breaks':>10}{'seconds':>10}")
            record = proofs.run(
                session, Actor.system("prove"), kept_head=kept_head, watch=lambda name, proof: _show(name, proof, done)
            )
            head = proofs.head(session)
            click.echo(f"\nRun {record.id}. Head of the chain of seals: {head or 'nothing is sealed yet'}")
    except AppError as error:
        click.echo(f"\n{error}", err=True)
        return FAILED
    except SQLAlchemyError as error:
        click.echo(f"\nThe proofs could not be run: {type(error).__name__}.", err=True)
        return FAILED
    finally:
        engine.dispose()
    _tell(done)
    if json_file is not None:
        json_file.write_text(json.dumps([_document(proof, head) for proof in done], indent=2) + "\n", encoding="utf-8")
    if any(not proof.holds and not proof.error for proof in done):
        return BROKEN
    return FAILED if any(proof.error for proof in done) else HOLDS


def _show(name: str, proof: Proof | None, done: list[Proof]) -> None:
    """The name when a proof begins, its figures on the same line when it is done."""
    if proof is None:
        click.echo(f"{name:<66}", nl=False)
        return
    done.append(proof)
    click.echo(f"{proof.compared:>14,}{proof.break_count:>10,}{proof.seconds:>10.2f}")


def _tell(done: list[Proof]) -> None:
    for proof in done:
        for words in proof.breaks:
            click.echo(f"{proof.code}  {words}")
        if proof.break_count > len(proof.breaks):
            click.echo(f"{proof.code}  and {proof.break_count - len(proof.breaks):,} more")
    broken = [proof.code for proof in done if not proof.holds]
    click.echo(f"Not proved: {', '.join(broken)}. Settlements stop until a run holds." if broken else "All proofs hold.")


def _document(proof: Proof, head: str) -> dict[str, Any]:
    document: dict[str, Any] = {
        "name": proof.name,
        "compared": proof.compared,
        "breaks": list(proof.breaks),
        "break_count": proof.break_count,
        "seconds": round(proof.seconds, 3),
    }
    return {**document, "head": head} if proof.code == "P9" else document
