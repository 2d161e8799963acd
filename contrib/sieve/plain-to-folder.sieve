# Files mail whose last hop to this server was not encrypted, and which was not encrypted end to end either.
#
# For mailboxes whose mail all passes smilla with [transport] authserv_id (smilla-transport(7)): smilla removes
# X-Smilla-Transport fields that come from outside, so nobody else can write one.  Mail from your own users has none.
# Do not go by Authentication-Results here: another server's field may have the words "x-tls=none", too.

require ["fileinto", "mailbox"];

if header :is "X-Smilla-Transport" "plain; e2e=none" {
    fileinto :create "Came in the clear";
}
