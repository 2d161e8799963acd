"""DNS records that publish keys: from files to record text, and the keys to publish.  Pure: values in, octets out.

Whoever publishes a key wants it to be used.  So each record passes the same gate as an answer from DNS does.
"""
