//! Rows of data.
