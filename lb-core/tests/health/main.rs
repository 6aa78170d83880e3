//! Health: the table of checks, the judgement of outliers, and both over a table's servers.

mod checks;
mod monitoring;
mod outliers;
