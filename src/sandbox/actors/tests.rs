//! The actors together, against the embedded API and a small Azure written here.
