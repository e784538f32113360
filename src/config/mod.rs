//! Configuration in three levels: read, merged, checked, with the place of every fault.
