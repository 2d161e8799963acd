"""From an outcome to what is said of it: the SMTP reply, the notification, the lines of the log."""
