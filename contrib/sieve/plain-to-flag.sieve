# Marks mail whose last hop to this server was not encrypted, and which was not encrypted end to end either.
#
# The mark is an IMAP keyword, which stays with the message and which mail programs show or search for as a tag.
# What is said in plain-to-folder.sieve holds here, too.

require ["imap4flags"];

if header :is "X-Smilla-Transport" "plain; e2e=none" {
    addflag "CameInTheClear";
}
