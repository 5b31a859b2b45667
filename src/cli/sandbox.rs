//! `microcloud sandbox`: throwaway hosts that run the real services.

use super::Exit;
use crate::sandbox::{DiskSize, Error, HostState, Options, Sandbox, SandboxView, StateDir};
use clap::{Args as ClapArgs, Subcommand, ValueEnum};
use comfy_table::{Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use std::ffi::OsString;
use std::io::IsTerminal;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::time::Duration;

/// Arguments of `microcloud sandbox`.
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// The sandbox; several can run at once
    #[arg(long, global = true, value_name = "NAME")]
    name: Option<String>,
    /// Where the base and the hosts are kept [default: /var/lib/microcloud-sandbox]
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "MICROCLOUD_SANDBOX_DIR"
    )]
    state_dir: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Bring hosts up; safe to run again, also to renew the program in them
    Up(Up),
    /// End the sandbox and remove all it owns; the base stays
    Down {
        /// Remove the bases that no sandbox uses as well
        #[arg(long)]
        base: bool,
    },
    /// Show the hosts
    List {
        /// How to print them
        #[arg(short, long, value_enum, default_value_t = Format::Table)]
        output: Format,
    },
    /// Run a command in a host; a shell when none is given
    Exec {
        /// The host
        host: String,
        /// The command and its arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<OsString>,
    },
    /// The disks of the hosts
    #[command(subcommand)]
    Disk(DiskCommand),
    /// Separate a host from the others on the internal and the underlay network
    Cut {
        /// The host
        host: String,
    },
    /// Undo `cut`
    Heal {
        /// The host
        host: String,
    },
    /// Power loss: the host ends at once, its data and disks stay
    Kill {
        /// The host
        host: String,
    },
    /// Bring a host back with its data
    Start {
        /// The host
        host: String,
    },
}

#[derive(Debug, Subcommand)]
enum DiskCommand {
    /// Attach a new, empty disk to a host
    Add {
        /// The host
        host: String,
        /// Such as 2G or 512MiB
        size: DiskSize,
    },
    /// Show the disks
    List {
        /// How to print them
        #[arg(short, long, value_enum, default_value_t = Format::Table)]
        output: Format,
    },
}

/// Arguments of `microcloud sandbox up`.
#[derive(Debug, ClapArgs)]
struct Up {
    /// How many hosts (micro01, micro02, …), or their names
    #[arg(default_value = "3", value_name = "HOSTS")]
    hosts: Vec<String>,
    /// How many disks each host has at least
    #[arg(long, default_value_t = 0, value_name = "N")]
    disks: usize,
    /// The size of a disk that is added
    #[arg(long, default_value = "2G", value_name = "SIZE")]
    disk_size: DiskSize,
    /// The program that is copied into the hosts [default: this one]
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
    /// Copy no program into the hosts
    #[arg(long, conflicts_with_all = ["binary", "agent"])]
    no_binary: bool,
    /// Start the agent in the hosts
    #[arg(long)]
    agent: bool,
    /// Do not start LXD
    #[arg(long)]
    no_lxd: bool,
    /// The Debian mirror for the base [default: as in this machine's apt sources]
    #[arg(long, value_name = "URL")]
    mirror: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Table,
    Json,
}

/// Runs the command.
pub fn run(args: Args) -> Exit {
    match dispatch(args) {
        Ok(exit) => exit,
        Err(e) => {
            eprintln!("error: {}", chain(&e));
            if e.is_usage() {
                Exit::Invalid
            } else if e.is_unreachable() {
                Exit::Unreachable
            } else {
                Exit::NotAsWanted
            }
        }
    }
}

fn dispatch(args: Args) -> Result<Exit, Error> {
    let dir = args
        .state_dir
        .map_or_else(StateDir::from_env, StateDir::new);
    let sandbox = Sandbox::open(dir.clone(), args.name.as_deref().unwrap_or("default"))?;
    match args.command {
        Command::Up(up) => bring_up(&sandbox, up)?,
        Command::Down { base } => {
            let progress = Progress::start();
            sandbox.down(&|line| progress.tell(line))?;
            if base {
                Sandbox::remove_bases(&dir, &|line| progress.tell(line))?;
            }
        }
        Command::List { output } => list(&views(&dir, args.name.as_deref())?, output),
        Command::Exec { host, command } => return exec(&sandbox, &host, command),
        Command::Disk(DiskCommand::Add { host, size }) => {
            let disk = sandbox.disk_add(&host, size.0)?;
            println!("{}", disk.link().display());
        }
        Command::Disk(DiskCommand::List { output }) => {
            disks(&views(&dir, args.name.as_deref())?, output);
        }
        Command::Cut { host } => sandbox.cut(&host)?,
        Command::Heal { host } => sandbox.heal(&host)?,
        Command::Kill { host } => sandbox.kill(&host)?,
        Command::Start { host } => sandbox.start(&host)?,
    }
    Ok(Exit::Done)
}

fn bring_up(sandbox: &Sandbox, up: Up) -> Result<(), Error> {
    let hosts = match up.hosts.as_slice() {
        [number] if number.bytes().all(|b| b.is_ascii_digit()) => {
            // Too large a number ends in the sandbox's own word about its room.
            Options::with_hosts(number.parse().unwrap_or(u16::MAX)).hosts
        }
        names => names.to_vec(),
    };
    let binary = match (up.no_binary, up.binary) {
        (true, _) => None,
        (false, Some(path)) => Some(path),
        (false, None) => Some(this_program()?),
    };
    let options = Options {
        hosts,
        disks: up.disks,
        disk_bytes: up.disk_size.0,
        binary,
        lxd: !up.no_lxd,
        agent: up.agent,
        mirror: up.mirror,
    };
    let progress = Progress::start();
    sandbox.up(&options, &|line| progress.tell(line))
}

/// The file of the running program, also when it was replaced meanwhile.
fn this_program() -> Result<PathBuf, Error> {
    std::env::current_exe().map_err(|source| Error::Io {
        doing: "find",
        path: "/proc/self/exe".into(),
        source,
    })
}

/// Becomes the command, so that streams, signals and the exit code are its own.
fn exec(sandbox: &Sandbox, host: &str, command: Vec<OsString>) -> Result<Exit, Error> {
    let command = if command.is_empty() {
        vec!["/bin/bash".into(), "-l".into()]
    } else {
        command
    };
    let source = sandbox.command(host, command)?.exec();
    Err(Error::Io {
        doing: "run nsenter for",
        path: host.into(),
        source,
    })
}

fn views(dir: &StateDir, name: Option<&str>) -> Result<Vec<SandboxView>, Error> {
    let names = match name {
        Some(name) => vec![name.to_owned()],
        None => Sandbox::names(dir)?,
    };
    let mut views = Vec::new();
    for name in names {
        match Sandbox::open(dir.clone(), &name)?.view() {
            Ok(view) => views.push(view),
            // Being made or removed right now.
            Err(Error::NoSandbox(_)) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(views)
}

fn list(views: &[SandboxView], format: Format) {
    if format == Format::Json {
        println!("{:#}", serde_json::json!({ "sandboxes": views }));
        return;
    }
    let mut table = table(&[
        "SANDBOX", "HOST", "STATE", "ADDRESS", "UNDERLAY", "PID", "DISKS",
    ]);
    for (view, host) in views
        .iter()
        .flat_map(|v| v.hosts.iter().map(move |h| (v, h)))
    {
        let state = match (host.state, host.cut) {
            (HostState::Running, false) => "running",
            (HostState::Running, true) => "running, cut",
            (HostState::Stopped, _) => "stopped",
        };
        table.add_row([
            view.name.clone(),
            host.name.clone(),
            state.to_owned(),
            host.address.to_string(),
            host.underlay_address.to_string(),
            host.pid.map_or_else(String::new, |p| p.to_string()),
            host.disks.len().to_string(),
        ]);
    }
    println!("{table}");
}

fn disks(views: &[SandboxView], format: Format) {
    let all = || {
        views.iter().flat_map(|v| {
            v.hosts
                .iter()
                .flat_map(move |h| h.disks.iter().map(move |d| (v, h, d)))
        })
    };
    if format == Format::Json {
        let disks: Vec<_> = all()
            .map(|(v, h, d)| {
                serde_json::json!({
                    "sandbox": v.name, "host": h.name, "path": d.path, "device": d.device, "bytes": d.bytes,
                })
            })
            .collect();
        println!("{:#}", serde_json::json!({ "disks": disks }));
        return;
    }
    let mut table = table(&["SANDBOX", "HOST", "PATH", "DEVICE", "SIZE"]);
    for (view, host, disk) in all() {
        let device = disk
            .device
            .as_ref()
            .map_or_else(String::new, |d| d.display().to_string());
        table.add_row([
            view.name.clone(),
            host.name.clone(),
            disk.path.display().to_string(),
            device,
            format!("{} MiB", disk.bytes >> 20),
        ]);
    }
    println!("{table}");
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    table
}

/// An error and its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        line.push_str(&format!(": {cause}"));
        next = cause.source();
    }
    line
}

/// A line that moves on a terminal, plain lines elsewhere.
struct Progress {
    bar: Option<ProgressBar>,
}

impl Progress {
    fn start() -> Progress {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed:>4} {wide_msg}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Progress { bar }
    }

    fn tell(&self, line: &str) {
        match &self.bar {
            // The steps of the base pass by; what was reached stays.
            Some(bar) if line.starts_with("base: ") => bar.set_message(line.to_owned()),
            Some(bar) => bar.println(line),
            None => eprintln!("{line}"),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
