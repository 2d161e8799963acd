dnl Lines for sendmail.mc.
dnl F=T: answer 4xx while the filter is away.  Without F= or with F=R mail would be passed on in plaintext or refused.
dnl T=: give the filter time for look-ups at the end of a message (E) and for a large body (R).
INPUT_MAIL_FILTER(`smilla', `S=unix:/run/smilla/smilla.sock, F=T, T=C:30s;S:60s;R:120s;E:300s')dnl
dnl
dnl So that smilla knows that this is Sendmail ([milter] mta = "sendmail" says the same).
define(`confMILTER_MACROS_CONNECT', confMILTER_MACROS_CONNECT`, v')dnl
dnl
dnl A listener without the filter, for further copies of a message ([reinject] smtp = "127.0.0.1:10025").  A daemon that
dnl names InputMailFilters itself has those and no others: the filter is defined without being one for all, and each
dnl daemon that shall have it names it.
dnl MAIL_FILTER(`smilla', `S=unix:/run/smilla/smilla.sock, F=T, T=C:30s;S:60s;R:120s;E:300s')dnl
dnl DAEMON_OPTIONS(`Name=MTA, Port=smtp, InputMailFilters=smilla')dnl
dnl DAEMON_OPTIONS(`Name=ORIGINATING, Port=submission, M=Ea, InputMailFilters=smilla')dnl
dnl DAEMON_OPTIONS(`Name=reinject, Addr=127.0.0.1, Port=10025')dnl
