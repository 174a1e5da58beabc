//! Parlour's pure protocol machines: the link.
