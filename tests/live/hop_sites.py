"""The domains of the world of secure-hop (tests/live/hops.py): what DNS and the web say of each, and what its server
shows."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.lab.authority import Authority, Certificate
from tests.lab.dns import Kind
from tests.lab.policy_web import Answer

WEB, NO_WEB = "127.0.3.1", "127.0.3.99"


@dataclass
class Site:
    """A domain's mail server: ``certificate`` is that which it shows, ``tlsa`` what DNS says of it."""

    certificate: Certificate | None
    tlsa: list[bytes] = field(default_factory=list)
    policy: Answer | None = None
    web: str = WEB
    kind: Kind = Kind.SECURE
    alias_of: str = ""
    second_host: str = ""
    is_forged: bool = False


def sites(public: Authority, private: Authority, circle: Authority) -> dict[str, Site]:
    """By domain; each has the MX host mx.DOMAIN, and some a better one of another domain."""

    def of(authority: Authority, domain: str, days: int = 60) -> Certificate:
        return authority.issue(f"mx.{domain}", days=days)

    def enforce(domain: str, max_age_s: int = 86400) -> Answer:
        return Answer(f"mode: enforce\r\nmx: mx.{domain}", max_age_s)

    dane = of(private, "dane.test")
    later, other = of(private, "later.test"), of(private, "other.test")
    found = {"dane.test": Site(dane, [dane.tlsa(3)])}
    for domain in ("rolling.test", "insecure.test", "forged.test", "bogus.test", "usage1.test", "expired-dane.test"):
        shown = of(private, domain, days=-1 if domain.startswith("expired") else 60)
        found[domain] = Site(shown, [shown.tlsa(1 if domain == "usage1.test" else 3)])
    found["rolling.test"].tlsa.insert(0, later.tlsa(3))
    found["insecure.test"].kind = Kind.INSECURE
    found["bogus.test"].kind = Kind.WRONG_DS
    found["forged.test"].is_forged = True
    found["anchor.test"] = Site(of(private, "anchor.test"), [private.certificate.tlsa(2, 0)])
    found["wrong.test"] = Site(of(private, "wrong.test"), [other.tlsa(3)])
    found["alias.test"] = Site(None, alias_of="mx.dane.test.")
    found["stripped.test"] = Site(None, [dane.tlsa(3)])
    found["none.test"] = Site(of(public, "none.test"))
    for domain in ("enforce.test", "testing.test", "short.test", "mismatch.test", "noweb.test", "moved.test"):
        found[domain] = Site(of(public, domain), policy=enforce(domain))
    found["testing.test"].policy = Answer("mode: testing\r\nmx: mx.testing.test")
    found["short.test"].policy = enforce("short.test", max_age_s=1)
    found["mismatch.test"].policy = Answer("mode: enforce\r\nmx: mx.elsewhere.test")
    found["noweb.test"].web = NO_WEB
    found["moved.test"].policy = Answer(status=301, location="https://mta-sts.enforce.test/")
    found["unsigned-sts.test"] = Site(of(public, "unsigned-sts.test"), policy=enforce("unsigned-sts.test"))
    found["unsigned-sts.test"].kind = Kind.INSECURE
    found["badcert.test"] = Site(of(private, "badcert.test"), policy=enforce("badcert.test"))
    found["stripped-sts.test"] = Site(None, policy=enforce("stripped-sts.test"))
    found["othername.test"] = Site(of(public, "elsewhere.test"), policy=enforce("othername.test"))
    found["two.test"] = Site(of(public, "two.test"), policy=enforce("two.test"), second_host="mx.none.test.")
    found["both.test"] = Site(of(public, "both.test"), [other.tlsa(3)], enforce("both.test"))
    found["inside.test"] = Site(of(circle, "inside.test"))
    found["stranger.test"] = Site(of(public, "stranger.test"), policy=enforce("stranger.test"))
    found["lapsed.test"] = Site(of(circle, "lapsed.test", days=-1))
    found["outside.test"] = Site(of(circle, "outside.test"))
    of_postfix = of(private, "postfix.test")
    found["postfix.test"] = Site(of_postfix, [of_postfix.tlsa(3)])
    return found


CIRCLE = ("inside.test", "stranger.test", "lapsed.test")
