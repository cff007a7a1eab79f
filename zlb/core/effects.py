"""What a core asks of the world: six effects, performed in the order they were returned.

The law of the list: nothing after a `Persist` happens before that record is durable. `Send` and `Publish` may be lost,
late, doubled or reordered. Each `Run` is answered by exactly one `on_done`, also when a `Stop` cut it short. An `Emit`
stays inside the process. See docs/architecture.md.
"""

from typing import NamedTuple

from zlb.core.events import Event
from zlb.core.ids import Address, RunId
from zlb.core.message import Advert, Message
from zlb.core.work import Record, Work


class Send(NamedTuple):
    """Give `message` to the link with `to`; an endpoint without a link is dialled."""

    to: Address
    message: Message


class Publish(NamedTuple):
    """Give `message` to every subscriber; its kind is its topic."""

    message: Advert


class Persist(NamedTuple):
    """Make `record` durable before anything that follows in the list."""

    record: Record


class Run(NamedTuple):
    """Start `work` on a slot; answered by exactly one `on_done(now, run_id, outcome)`."""

    run_id: RunId
    work: Work


class Stop(NamedTuple):
    """Ask a run to end soon (within `limits.STOP_NS_MAX`); it still ends by its one `on_done`."""

    run_id: RunId


class Emit(NamedTuple):
    """Tell whoever composed this core, inside the process."""

    event: Event


Effect = Send | Publish | Persist | Run | Stop | Emit
