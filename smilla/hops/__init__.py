"""How safe the next hop is: TLSA records and MTA-STS policies against what a server presents.  Pure."""
