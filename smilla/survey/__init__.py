"""A sender's view of strangers' domains: what is published, what their mail servers present, and how smilla would send.

``look`` asks about one domain, ``crew`` does so for many at once and politely; ``way`` judges; ``words`` and ``report``
show what was found.
"""
