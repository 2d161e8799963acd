"""Turns an outcome into the SMTP reply, the notification and the log lines."""
