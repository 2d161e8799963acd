dnl Lines for sendmail.mc.
dnl F=T: answer 4xx while the filter is down.  Without F=, mail would pass in plaintext; with F=R, it would be refused.
dnl T=: give the filter time for look-ups at the end of a message (E) and for a large body (R).
INPUT_MAIL_FILTER(`smilla', `S=unix:/run/smilla/smilla.sock, F=T, T=C:30s;S:60s;R:120s;E:300s')dnl
dnl
dnl Tells smilla that this is Sendmail ([milter] mta = "sendmail" says the same).
define(`confMILTER_MACROS_CONNECT', confMILTER_MACROS_CONNECT`, v')dnl
dnl
dnl A listener without the filter, for further copies of a message ([reinject] smtp = "127.0.0.1:10025").  A daemon that
dnl names InputMailFilters has only those.  So MAIL_FILTER defines the filter without adding it to all daemons, and each
dnl daemon that needs it names it.
dnl MAIL_FILTER(`smilla', `S=unix:/run/smilla/smilla.sock, F=T, T=C:30s;S:60s;R:120s;E:300s')dnl
dnl DAEMON_OPTIONS(`Name=MTA, Port=smtp, InputMailFilters=smilla')dnl
dnl DAEMON_OPTIONS(`Name=ORIGINATING, Port=submission, M=Ea, InputMailFilters=smilla')dnl
dnl DAEMON_OPTIONS(`Name=reinject, Addr=127.0.0.1, Port=10025')dnl
