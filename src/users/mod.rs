//! Who is who and who may do what: the book of users, flags, recognition, passwords. No input or output.
