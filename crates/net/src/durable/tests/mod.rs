//! Tests of what a queue writes and reads back: images of files in memory, real files that are cut and damaged, random use.

mod files;
mod images;
mod marks;
mod model;
