"""One frozen configuration per protocol. Each field says what it means and what turning it costs. Times in ns."""

from dataclasses import dataclass
from enum import StrEnum

from zlb.core.limits import BATCH_BYTES_MAX, MS, NEIGHBOURS_MAX, SECOND, SLICE_NS


@dataclass(frozen=True, slots=True)
class NeighboursConfig:
    """Keeping links to a static list of endpoints."""

    hello_ns_min: int = 50 * MS
    """First wait before HELLO is said again; doubles up to `hello_ns_max`. Shorter: faster start, more noise."""
    hello_ns_max: int = 2 * SECOND
    """Longest wait between HELLOs to a silent endpoint: how late a returning peer is noticed."""
    neighbours_max: int = NEIGHBOURS_MAX
    """Nodes that may have dialled us; one more is refused as FULL."""
    silence_ns: int = 4 * SECOND
    """A neighbour not heard for so long is lost. At least 4 advert periods, so that lost adverts are no alarm."""


@dataclass(frozen=True, slots=True)
class GossipConfig:
    """Telling and hearing load."""

    period_ns: int = 500 * MS
    """Between two adverts of one node. Freshness below a subjob's length buys nothing."""
    forget_ns: int = 4 * SECOND
    """An advert older than this says nothing any more."""


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """Pulling leases, hashing them in slices, reporting."""

    slots: int = 1
    """Runs at once: kernel threads. One lease is held per slot, and one more is prefetched."""
    ahead_ns: int = 100 * MS
    """Work held ahead of each slot where leases are shorter than that: several are prefetched then. Longer: fewer,
    larger messages; more work in the hands of one worker."""
    batch_ns: int = 20 * MS
    """How long a finished lease without hits waits for others to share its report, while there is more to hash."""
    slice_ns: int = SLICE_NS
    """Aimed length of a run. Longer: fewer wake-ups; shorter: less work unreported, faster reports of many hits."""
    run_ns: int = 20 * MS
    """Short leases that follow each other share a run of at most this length. Longer: fewer wake-ups, later reports."""
    report_ns: int = 1 * SECOND
    """Between progress reports of a lease; what a crash loses is at most this much of each slot."""
    retry_ns_min: int = 200 * MS
    """First wait for an answer to a request or report before it is sent again; doubles up to `retry_ns_max`."""
    retry_ns_max: int = 2 * SECOND
    kept_ns: int = 10 * SECOND
    """A report that has arrived and is not said to be kept is repeated after so long: the word may have been lost."""
    redistributes: bool = True
    """Whether to pass work on to neighbours that do not hear of the job otherwise."""
    offer_ns: int = 2 * SECOND
    """A job is passed on when we have held it for so long: until then its coordinator may reach them itself."""
    offer_period_ns: int = 500 * MS
    """Between two adverts of jobs that are passed on."""
    sublet_ns: int = 2 * SECOND
    """Longest time that what is passed on takes its worker. Longer: less traffic, more to wait for in the end."""
    sublet_silence_ns: int = 3 * SECOND
    """What is passed on and not mentioned for so long is taken back: 3 reports."""
    orphan_ns: int = 10 * SECOND
    """How long a job whose parent in the tree is gone is kept, until somebody else passes it on."""
    rtt_ns_max: int | None = None
    """Coordinators whose answers take longer than this are not worked for."""
    silence_ns: int = 10 * SECOND
    """A coordinator not heard for so long is gone, and its job with it, unless a tracker knows the job. Longer: more
    work kept for a slow one."""


class Method(StrEnum):
    """How results are checked, beside every hit by one hash."""

    NONE = "none"
    SHARES = "shares"
    """Shares are counted and planted samples looked for: next to no cost."""
    SPOT = "spot"
    """And slices of some leases are searched again by another worker."""
    QUORUM = "quorum"
    """And every integer is searched by `copies` workers."""


class Scheme(StrEnum):
    """How subjobs are sized."""

    FACTORING = "factoring"
    SEED = "seed"
    """By a fixed capacity, rate x round trip x `seed_factor`, and nothing is split or doubled at the end: to be
    compared with."""


@dataclass(frozen=True, slots=True)
class CoordinatorConfig:
    """Leasing subjobs of one job."""

    verify: Method = Method.SHARES
    copies: int = 1
    """Workers that search each integer; more than 1 under `Method.QUORUM`."""
    rows: bool = False
    """Whether to keep evidence for a certificate: memory grows with the number of subjobs then."""
    remembers: bool = False
    """Whether to persist what was learned of workers when the job ends."""
    scheme: Scheme = Scheme.FACTORING
    seed_factor: float = 1.0
    batches: float = 3.0
    """x of weighted factoring: a subjob is a worker's share of what is left, divided by it. 2 for machines that do
    nothing else, 4 if rates change a lot."""
    chunk_ns: int = 10 * SECOND
    """Longest subjob. Longer: less traffic; more time until a worker turns to another job."""
    chunk_count: int | None = None
    """Fixed subjob size in integers instead, for measurements and kernels of unequal cost."""
    first_ns: int = 50 * MS
    """Aimed length of an unknown worker's first subjob; doubles with each clean one up to `chunk_ns`."""
    first_count: int = 16
    """First subjob, in integers, of a worker with no known rate: kernels may be slow. Doubles likewise."""
    tail_ns: int = 20 * MS
    """Smallest subjob at the end of a job, where sizes shrink, unless two round trips are longer. Shorter: workers
    finish closer together."""
    batch_ns: int = 20 * MS
    """Leases of one transfer that are shorter have one set of patterns, so that they can share a run."""
    split_ns: int = 20 * MS
    """Between two looks for stragglers."""
    proof_ns: int = 1 * SECOND
    """How long a worker has to open what it committed to before it is asked again."""
    proofs_max: int = 10
    """So often it is asked before it counts as one that cannot, or will not."""
    spot_ns: int = 10 * SECOND
    """How long a job that is done otherwise waits for spot checks."""
    silence_ns: int = 3 * SECOND
    """A lease not mentioned for so long expires: 3 reports of `WorkerConfig.report_ns`."""
    period_ns: int = 500 * MS
    """Between job adverts."""
    progress_ns: int = 100 * MS
    """Between `JobProgress` events to whoever watches."""
    adopt_ns: int = 2 * SECOND
    """A coordinator that takes a job over leases nothing for so long, and hears what workers have finished. At least
    the time in which they learn of it; shorter: a little less idling, more hashed twice."""
    failures_max: int = 3
    """So many workers that fail on the same integers fail the job; so many failures in a row bench a worker."""


@dataclass(frozen=True, slots=True)
class PatronConfig:
    """Using a replicated tracker."""

    retry_ns_min: int = 250 * MS
    """First wait for an answer before another tracker is asked; doubles up to `retry_ns_max`. Shorter: faster failover,
    more commands sent twice to a leader that is merely slow."""
    retry_ns_max: int = 2 * SECOND
    elsewhere_ns: int = 50 * MS
    """Before whoever was told that nobody leads asks again."""


@dataclass(frozen=True, slots=True)
class TrackedConfig:
    """What a peer does with a tracker: heartbeats, and coordinating jobs."""

    patron: PatronConfig = PatronConfig()
    heartbeat_ns: int = 1 * SECOND
    """A quarter of `TrackerConfig.lease_ns`."""
    checkpoint_ns: int = 1 * SECOND
    """Between two checkpoints of a job. Longer: a smaller log, and workers keep results longer."""


@dataclass(frozen=True, slots=True)
class PeerConfig:
    """A peer: its neighbours, its gossip, its worker, its tracker, and how it measures itself at start."""

    neighbours: NeighboursConfig = NeighboursConfig()
    gossip: GossipConfig = GossipConfig()
    worker: WorkerConfig = WorkerConfig()
    tracked: TrackedConfig = TrackedConfig()
    expects_tracker: bool = False
    """Whether to say so if none answers."""
    measure_kernel: str = "sha256"
    """Kernel measured at start; empty: none."""
    measure_ns: int = 100 * MS
    """Aimed length of the measurement, on every slot at once, the kernel warm. Longer: a steadier first guess."""


@dataclass(frozen=True, slots=True)
class SubmitterConfig:
    """A submitter: its neighbours, its coordinator, and its patience."""

    neighbours: NeighboursConfig = NeighboursConfig()
    coordinator: CoordinatorConfig = CoordinatorConfig()
    explore: bool = True
    """Whether to dial peers that peers tell of, too. Without: those it reaches pass its job on to the others."""
    connect_ns: int = 3 * SECOND
    """If no peer has answered by then, the job is given up as unreachable."""
    timeout_ns: int | None = None
    """If the job has not ended by then, it is cancelled."""


@dataclass(frozen=True, slots=True)
class RaftConfig:
    """Replicating a log (Ongaro 2014)."""

    election_ns_min: int = 500 * MS
    """A follower that heard no leader for so long, and up to twice as long, stands for election. At least ten round
    trips and 20 one-way latencies, or votes split. Shorter: faster failover, more needless elections."""
    heartbeat_ns: int = 50 * MS
    """Between broadcasts of an idle leader. A fifth of `election_ns_min` at most, so that lost ones are no alarm."""
    batch_bytes: int = BATCH_BYTES_MAX
    """Data of one AppendEntries. Longer: fewer, larger syncs of a follower's disk."""
    snapshot_entries: int = 10_000
    """Applied entries after which the log is cut. Longer: rarer pauses, slower restarts."""
    snapshot_bytes: int = 4 << 20
    """Log in bytes after which it is cut, however few entries that is."""
    trailing_entries: int = 1_000
    """Entries kept behind a snapshot, so that a slow follower needs none."""
    caught_up_entries: int = 1_000
    """A learner may become a voter when it is no further behind (§4.2.1)."""


@dataclass(frozen=True, slots=True)
class TrackerConfig:
    """A member of a replicated tracker."""

    neighbours: NeighboursConfig = NeighboursConfig()
    raft: RaftConfig = RaftConfig()
    lease_ns: int = 4 * SECOND
    """A peer that sent no heartbeat for so long is taken off the roster: four heartbeats. Longer: its jobs wait longer
    for another coordinator."""
    beats_ns: int = 200 * MS
    """Between two bundles of heartbeats for the leader. Longer: fewer messages, later news."""
    patience_ns: int = 5 * SECOND
    """A query that could not be answered by then is forgotten: its asker has asked again, or somebody else."""
    session_ns: int = 3600 * SECOND
    """In log time: a client that is quiet for so long has its commands no longer told from repeated ones."""


@dataclass(frozen=True, slots=True)
class ClientConfig:
    """A node that only asks trackers."""

    neighbours: NeighboursConfig = NeighboursConfig()
    patron: PatronConfig = PatronConfig()
