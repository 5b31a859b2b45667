//! `microcloud completion`: what a shell needs to complete the words of commands.

use super::Exit;
use super::output::print;

/// Arguments of `microcloud completion`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
bash:  microcloud completion bash > /etc/bash_completion.d/microcloud
zsh:   microcloud completion zsh > \"${fpath[1]}/_microcloud\"
fish:  microcloud completion fish > ~/.config/fish/completions/microcloud.fish")]
pub struct Args {
    /// The shell
    shell: clap_complete::Shell,
}

/// Prints the completion of `command` for a shell.
pub fn run(args: Args, mut command: clap::Command) -> Exit {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "microcloud", &mut script);
    print(&String::from_utf8_lossy(&script));
    Exit::Done
}
