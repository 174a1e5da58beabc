//! The Parlour server program.
