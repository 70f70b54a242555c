//! Numbers and names of the protocol, written down a second time where a slip would go unnoticed longest.
