//! The `microcloud` program: see [`microcloud::cli`].

fn main() -> std::process::ExitCode {
    microcloud::cli::run()
}
