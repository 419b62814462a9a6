//! The `detector` command.

fn main() -> std::process::ExitCode {
    detector::cli::main()
}
