"""From decisions to messages: who shares a copy, which header fields go inside, the MIME message around it."""
