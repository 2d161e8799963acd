"""The reasons that a label may have; any other counts as ``other``, so that no label grows without bound.

smilla(8), DIAGNOSTICS, explains each.  A test compares them with the code: a new reason is added here, in its place.
"""

from __future__ import annotations

from smilla.model import DNSSECStatus

_STATED = """
    address_literal already_encrypted already_sent ambiguous ambiguous_domain armoured bad_crl bad_signature bare_cr
    bare_key ca_only case_differs circle confusable_keys dane engine_refuses expired field_too_long forged_mark
    hash_only header_too_large hop_busy hop_deadline hop_gone hop_not_ready insecure internal issuer key_folder key_gone
    key_usage ldap_unclear ldap_unreachable learned_keys local malformed malformed_content_type malformed_field
    malformed_key mixed mta_sts mta_sts_bogus mta_sts_mismatch mta_sts_none mta_sts_testing mta_sts_unclear
    mta_sts_unreachable mx_bogus
    mx_unclear mx_unreachable name_too_long never no_hop_finder no_key no_key_flags no_secure_hop no_self_signature
    no_source no_stage no_trust_store not_an_address not_for_encryption not_for_mail not_local not_sealed not_yet_valid
    null_mx odd_spelling ok old_version other_address other_ca other_format other_recipient oversize_key own_copy plain
    protected_already reader reinject resolver_down revoked routed_address secret_key several_keys sign_only signed
    signing_only single_label special_use stale_crl tlsa_bogus tlsa_unclear tlsa_unreachable too_complex too_large
    too_many too_many_candidates too_many_fields unclear_address unclear_sender unknown_matching_type unknown_selector
    unknown_usage unreadable_subkey unsupported_algorithm unsupported_curve unsupported_key unsupported_signature
    unsupported_version untrusted unusable_tlsa usable wanted weak_algorithm weak_key weak_signature web_unclear
    web_unreachable wished
"""
_OF_ERRORS = ("internal", "journal", "busy", "mta_lost")
KNOWN = frozenset((*_STATED.split(), *_OF_ERRORS, *(status.value for status in DNSSECStatus)))
_LEFT = """
    engine inline nested no_entity no_integrity not_encrypted not_for_this_key opaque other_recipients undecryptable
    unsupported
"""
LEFT = KNOWN.union(_LEFT.split())  # why smilla decrypt leaves a message as it is
