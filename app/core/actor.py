"""Who acts: a staff member, a client, or the system itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Actor:
    """`kind` is staff, client or system; `id` the person's id or the job's name; `address` where the request came from."""

    kind: str
    id: str
    address: str = ""

    def __str__(self) -> str:
        return f"{self.kind}:{self.id}"

    @classmethod
    def system(cls, name: str) -> Actor:
        return cls("system", name)

    @classmethod
    def client(cls, client_id: int, address: str = "") -> Actor:
        return cls("client", str(client_id), address)

    @classmethod
    def staff(cls, user_id: int, address: str = "") -> Actor:
        return cls("staff", str(user_id), address)
