//! The daemon's process that speaks to the fleet: a program of its own, so that what speaks to a network is in none that
//! has a privilege.

fn main() -> std::process::ExitCode {
    detector::fleet::speaker::main()
}
