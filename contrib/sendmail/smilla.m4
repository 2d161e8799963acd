dnl Lines for sendmail.mc.
dnl F=T: answer 4xx while the filter is away.  Without F= or with F=R mail would be passed on in plaintext or refused.
dnl T=: give the filter time for look-ups at the end of a message (E) and for a large body (R).
INPUT_MAIL_FILTER(`smilla', `S=unix:/run/smilla/smilla.sock, F=T, T=C:30s;S:60s;R:120s;E:300s')dnl
