"""The options of keys that are learned from mail."""

from __future__ import annotations

from dataclasses import dataclass

from smilla.config.options.basic import option

WAYS = ("smime", "autocrypt")


@dataclass(frozen=True, slots=True)
class LearnedOptions:
    """[learned]: keys that inbound mail brings; see smilla-learned(8)."""

    accept: tuple[str, ...] = option(
        (),
        "What inbound mail from strangers may teach, if your own verifiers say in Authentication-Results that DMARC "
        "passed. smime: the certificate of a sender whose S/MIME signature holds, if it names the address in From and "
        "leads to an authority of ca_file in [smime]. autocrypt: the OpenPGP key in a message's one "
        "Autocrypt field, if the sender asks for encryption (prefer-encrypt=mutual) and a valid DKIM signature of the "
        "sender's domain covers From, Date and Autocrypt. Needs authserv_id in [transport]. Keys are used only if "
        "sources in [keys] names learned. Empty: nothing is learned.",
        each=WAYS,
        may_be_empty=True,
    )
    keep_days: int = option(
        365,
        "A key that no mail has brought for so many days is no longer used.",
        minimum=1,
        maximum=3650,
    )
    most: int = option(
        100000,
        "So many keys are kept, and of one domain a tenth at most. Beyond that a new key takes the place of the one of "
        "its own domain that was not seen for longest, or is not kept: nobody pushes out the keys of others.",
        minimum=100,
        maximum=10000000,
    )
