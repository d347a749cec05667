"""Which frames and objects make a case, how it is drawn and asked about, and how hard it is."""
