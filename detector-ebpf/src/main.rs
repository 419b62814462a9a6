//! Entry points of the kernel programs.

#![no_std]
#![no_main]
