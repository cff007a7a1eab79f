"""Every bound, its value and its reason. Relations between them are asserted at the end."""

MS = 1_000_000
SECOND = 1_000 * MS

# What one message may hold.
MESSAGE_BYTES_MAX = 1 << 20
"""Largest message taken in. A report of `HITS_PER_REPORT_MAX` hits is 180 KiB, kernel parameters are 160 KiB."""
FRAME_BYTES_MAX = 4 * MESSAGE_BYTES_MAX
"""libzmq cuts a connection that sends more; between the two bounds the message is dropped and counted by us."""
NODE_ID_BYTES_MAX = 64
"""A CURVE key in Z85 is 40 characters; libzmq takes routing ids up to 255."""
ENDPOINT_BYTES_MAX = 256
"""DNS names end at 253 bytes, Unix socket paths at 107."""
PARAMS_BYTES_MAX = 160 * 1024
"""Packed kernel parameters: a prefix and a suffix of 64 KiB each, and room for the rest."""
TEXT_BYTES_MAX = 512
"""Details and reasons: a line or two for a person."""
HITS_PER_REPORT_MAX = 4096
"""Also what a kernel collects before it comes back; at 43 bytes a hit a report stays far below a message's bound."""
SPANS_PER_PART_MAX = 4096
"""Pieces of one lease in one report; slices are 100 ms, so a lease would have to run for minutes unreported."""
LEASES_PER_MESSAGE_MAX = 1024
"""Leases in one transfer, parts in one report, leases in one cancellation: 512 slots, each with one prefetched."""
ANCESTORS_MAX = 8
"""Levels of a job's tree: with 16 children each 10^9 peers."""
CHILDREN_MAX = 1024
"""Workers that one peer passes a job on to: its neighbours."""
PATTERNS_MAX = 4
"""Patterns of one lease: as many as a search loop tests at next to no cost."""
SAMPLES_PER_PART_MAX = 8_192
"""Samples of one pattern in one part; a coordinator asks for some 64 a lease, and for 1,024 that are only committed
to."""
BLOCKS_MAX = 1 << 12
"""Blocks of a lease that a worker commits to; a path from one to the root has 12 digests."""
COMMITMENTS_MAX = 64
"""Commitments a worker keeps of one job, some 10 KB each; coordinators ask within seconds."""
DIGEST_BYTES = 32
"""Of a commitment."""
NEIGHBOURS_TOLD_MAX = 16
"""Endpoints a Welcome names: as many as a node links to by itself."""

# What one node holds.
LINKS_MAX = 16
"""Links a node dials by itself: a full mesh above 16 nodes costs more than it tells."""
SUBSCRIPTIONS_MAX = 64
"""Publishers a node listens to, its own neighbours and those who dialled it: 64 x 2 adverts a second are little."""
NEIGHBOURS_MAX = 1024
"""Nodes that may have dialled us; one more is refused as FULL. ZeroMQ's default socket limit is 1023."""
JOBS_PER_WORKER_MAX = 256
"""Jobs a worker keeps in mind; adverts of more are ignored until one ends."""
WORKERS_PER_JOB_MAX = 10_000
"""Workers one coordinator serves; at a report a second each this is what a Python process can take in."""
SLOTS_MAX = 512
"""Largest `--slots`: kernels are threads of one process."""
REPORTS_UNACKED_MAX = 16
"""Reports of a job in flight to its coordinator; when full, a worker gathers instead of sending."""
PIECES_UNREPORTED_MAX = 1024
"""Finished runs of a job not yet in a report; when full, a worker starts no more: back-pressure when hits are many."""
UNVERIFIED_LEASES_MAX = 64
"""Leases of a worker that are done anew should it be found out; those before it have been followed by so many that
passed. Memory for so many a worker, whatever the size of the job."""
LATE_LEASES_MAX = 8_192
"""Expired and ended leases remembered, so that a late result can still be told from a stranger's, and judged by what
was asked of it. Some 1.5 KB each (bench/ledger.py)."""
HITS_PER_JOB_MAX = 100_000
"""Hits the tracker keeps of a job: with their digests some 5 MB of every snapshot."""
OPEN_JOBS_MAX = 1_024
"""Jobs of a tracker that have not ended; one more is refused. All of them are in each roster, some 100 KiB then."""
ENDED_JOBS_MAX = 1_024
"""Ended jobs a worker remembers, so that a late advert does not wake them, and a tracker, so that people find them."""

COPIES_MAX = 16
"""Peers that search each integer: more would not be believed more."""
PRIORITY_MAX = 9
PRIORITY_DEFAULT = 5

SPANS_PER_CHECKPOINT_MAX = 4_096
HITS_PER_CHECKPOINT_MAX = 2_400
"""News of one checkpoint: 74 KB of spans and 182 KB of hits at 76 bytes each, which fits an entry of the log."""
HIT_BYTES = 76
ROWS_BYTES_MAX = 128 * 1024
"""Rows of evidence in one checkpoint with few hits, and in one answer."""
ROW_SHARES_MAX = 1_024
"""Shares of one row: a row that grows is copied."""
SHARES_PER_JOB = 8_192
"""Shares in the certificate of a job at trackers, on average: that a fifteenth was skipped shows. The log keeps as
many, some 74 KB, for each doubling of what is done."""
ROWS_BYTES_PER_JOB_MAX = 4 << 20
ROWS_BYTES_PER_TRACKER_MAX = 64 << 20
"""Rows that a tracker keeps of a job and of all jobs, in every snapshot, too. Of a job with more there is no
certificate, nor of the oldest ones if all together have more."""

# A replicated log.
REPLICAS_MAX = 32
"""Voters and learners of one log: more than 7 voters only make commits slower."""
ENTRY_BYTES_MAX = 256 * 1024
"""Largest command: a job with its parameters, or a checkpoint. Four of them still fit a message."""
BATCH_BYTES_MAX = 64 * 1024
"""Entries of one AppendEntries, unless a single one is larger: what a follower makes durable in one go."""
ENTRIES_PER_MESSAGE_MAX = 4096
"""Small entries of one AppendEntries: 64 KiB of them."""
SNAPSHOT_CHUNK_BYTES_MAX = 64 * 1024
"""What is lost when one message is; a heartbeat behind it waits some 0.1 ms."""
SNAPSHOT_BYTES_MAX = 256 << 20
"""Largest state that is kept or taken in: it is whole in memory, and one BLOB of the store, which takes 10**9 bytes."""
SESSIONS_MAX = 10_000
"""Clients whose last command is remembered; beyond, the one that was quiet longest is forgotten."""
ASKS_PER_MESSAGE_MAX = 1_024
"""Asks of one TRACKER_REQUEST, and their replies."""
ASKS_BYTES_MAX = 256 * 1024
"""Asks or replies that share a message, unless a single one is larger."""
ASKS_WAITING_MAX = 100_000
"""Commands and queries a tracker has taken in and not answered; one more is refused as BUSY. Some 100 MB."""
BEATS_PER_MESSAGE_MAX = 1_024
"""As many as a tracker has neighbours; at 100 bytes a beat."""
APPENDS_IN_FLIGHT_MAX = 64
"""AppendEntries sent ahead of their replies to one follower: 4 MiB of log."""

# Time.
STOP_NS_MAX = 50 * MS
"""A kernel looks at its stop flag at least this often."""
SLICE_NS = 100 * MS
"""A lease is hashed in runs of about this length: what is finished can be reported while the rest goes on, and a run
costs some 50 us beside its hashing."""
SHUTDOWN_NS_MAX = 2 * SECOND
"""A node that was asked to stop and has not finished by then is left."""

# The driver.
DRAIN_MAX = 1_000
"""Messages taken from one socket a wake-up, so that none starves the others."""
SEND_QUEUE_MAX = 10_000
"""ZeroMQ high-water mark of a link in messages; a full queue is a lost message, counted."""
BACKLOG = 4096
"""Connections waiting to be accepted: libzmq's 100 makes a join storm crawl at one retransmission a second."""
RATE_MAX = 1e18
"""Integers a second of one slot that anyone may claim; a fast GPU does 1e10."""
LOAD_NS_MAX = (1 << 64) - 1
"""Load that still fits the wire: 584 years."""
INTEGERS_MAX = 1 << 64
"""Ranges end here: an integer fits 64 bits."""

assert MESSAGE_BYTES_MAX >= 64 * HITS_PER_REPORT_MAX + 32 * SPANS_PER_PART_MAX + PARAMS_BYTES_MAX
assert LEASES_PER_MESSAGE_MAX >= 2 * SLOTS_MAX
assert SLICE_NS >= 2 * STOP_NS_MAX
assert MESSAGE_BYTES_MAX >= 2 * (ENTRY_BYTES_MAX + BATCH_BYTES_MAX)
assert ENTRY_BYTES_MAX >= HIT_BYTES * HITS_PER_CHECKPOINT_MAX + 18 * SPANS_PER_CHECKPOINT_MAX + 1024
