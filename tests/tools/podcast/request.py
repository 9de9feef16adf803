"""A request that an origin was sent."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Request:
    """What a rule can look at."""

    method: str
    path: str
    query: str
    headers: dict[str, str]


@dataclass
class Hit:
    """What is logged of a request once it has been answered."""

    number: int
    begun: float
    method: str
    path: str
    query: str
    headers: dict[str, str]
    status: int = 0
    sent: int = 0
    complete: bool = False
    seconds: float = 0.0
    rules: list[str] = field(default_factory=list)
