"""From decisions to messages: who shares a copy, what of the header goes inside, the MIME message around."""
