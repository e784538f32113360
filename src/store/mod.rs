//! The records on disk: all SQL of the house stands here.
