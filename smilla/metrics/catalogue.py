"""Every metric once: its name, kind, help and labels.  smilla-metrics(7) describes them; a test compares.

No label has a domain or an address.  Each label has few values: the words of the model and the known reasons.
"""

from __future__ import annotations

from dataclasses import dataclass

COUNTER, GAUGE, HISTOGRAM = "counter", "gauge", "histogram"
OTHER = "other"  # a value that is not among the known ones
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
EXPIRY_DAYS = (1, 7, 14, 30)
_DECRYPTED = ("result", "reason")
_FATE = ("action", "format", "source", "dnssec", "reason")


@dataclass(frozen=True, slots=True)
class Family:
    """A metric; ``name`` lacks ``smilla_`` and what the exposition puts behind it (``_total`` for a counter)."""

    name: str
    kind: str
    help: str
    labels: tuple[str, ...] = ()


FAMILIES = (
    Family("recipients", COUNTER, "Recipients by what happened and why: one for each line of the log.", _FATE),
    Family("observed_recipients", COUNTER, "While observing: recipients by what would have happened.", _FATE),
    Family("messages", COUNTER, "Messages answered at their end, by the code of the reply.", ("reply",)),
    Family("message_seconds", HISTOGRAM, "From the end of a message to its answer."),
    Family("encryption_seconds", HISTOGRAM, "Encryption of one copy.", ("format",)),
    Family("lookup_seconds", HISTOGRAM, "Questions to the resolver, by DNSSEC status.", ("dnssec",)),
    Family("cache_requests", COUNTER, "Questions about DNS, by whether the cache had the answer.", ("result",)),
    Family("hops", COUNTER, "Searches for a verified hop, by what verifies it.", ("way", "verdict")),
    Family("fetch_seconds", HISTOGRAM, "Questions to web servers and directories, by result.", ("source", "result")),
    Family("decrypt_recipients", COUNTER, "smilla decrypt: recipients with a rule, by what happened.", _DECRYPTED),
    Family("decrypt_signatures", COUNTER, "smilla decrypt: signatures found, by result.", ("format", "result")),
    Family("cache_entries", GAUGE, "Answers in the caches of all workers."),
    Family("cache_bytes", GAUGE, "Octets of these answers."),
    Family("spool_bytes", GAUGE, "Octets of large bodies in files now."),
    Family("workers", GAUGE, "Worker processes that run."),
    Family("workers_wanted", GAUGE, "Worker processes that should run."),
    Family("worker_deaths", COUNTER, "Workers that ended by themselves."),
    Family("resolvers_asked", GAUGE, "Nameservers asked to prove that they validate; 0 until the first probe."),
    Family("resolvers_proven", GAUGE, "Nameservers that gave the proof, in the worker with the fewest."),
    Family("resolver_proven", GAUGE, "1 if some nameserver validates, 0 if none; absent if none was asked."),
    Family("journal_readable", GAUGE, "1 if the journal can be read, or is not needed yet."),
    Family("journal_unfinished_messages", GAUGE, "Messages with copies owed."),
    Family("journal_owed_copies", GAUGE, "Copies owed."),
    Family("journal_unknown_copies", GAUGE, "Copies whose acceptance is unknown."),
    Family("journal_oldest_seconds", GAUGE, "Age of the oldest unfinished message."),
    Family("stage_gate_open", GAUGE, "1 if messages may be sealed now; absent if none ever is."),
    Family("seal_keys", GAUGE, "Keys that open sealed messages."),
    Family("seal_key_age_seconds", GAUGE, "Age of the key that seals; absent if there is none."),
    Family("keys_expiring", GAUGE, "Keys used within a week that end within so many days.", ("days",)),
    Family("config_reloads", COUNTER, "Reloads of the configuration.", ("result",)),
    Family("config_last_reload_successful", GAUGE, "0 if the last reload kept the old configuration."),
    Family("observing", GAUGE, "1 while smilla only observes."),
    Family("start_time_seconds", GAUGE, "When smilla started, in seconds since 1970."),
    Family("build_info", GAUGE, "Always 1.", ("version", "python")),
)
BY_NAME = {family.name: family for family in FAMILIES}
