//! `masterchief new`: a project to begin with.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};

use super::{Common, Done, output};

/// The files of a project.
const FILES: &[(&str, &str)] = &[
    ("config/global/config.yaml", include_str!("../../config/new/config.yaml")),
    ("config/environments/production.yaml", include_str!("../../config/new/production.yaml")),
    ("scripts/hello.lua", include_str!("../../scripts/hello.lua")),
    ("scripts/hello_test.lua", include_str!("../../scripts/hello_test.lua")),
    ("scripts/types/masterchief.d.luau", include_str!("../../scripts/types/masterchief.d.luau")),
    (".gitignore", "/data\n"),
];

/// What a demonstration has beside these: a shop that is shipped, broken and rolled back with nothing but a shell.
const DEMO: &[(&str, &str)] = &[
    ("config/pipelines/shop.yaml", include_str!("../../examples/shop/config/pipelines/shop.yaml")),
    ("ops/test.sh", include_str!("../../examples/shop/ops/test.sh")),
    ("ops/build.sh", include_str!("../../examples/shop/ops/build.sh")),
    ("ops/rollout.sh", include_str!("../../examples/shop/ops/rollout.sh")),
    ("ops/rollback.sh", include_str!("../../examples/shop/ops/rollback.sh")),
    ("scripts/shop.lua", include_str!("../../examples/shop/scripts/shop.lua")),
    (".gitignore", "/data\n/live\n"),
];

/// Makes a project.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Its folder, which must not exist or be empty
    folder: PathBuf,
    /// With a pipeline to play with: a shop that is shipped with nothing but a shell
    #[arg(long)]
    demo: bool,
}

pub(super) fn run(common: &Common, args: &Args) -> Done {
    let folder = &args.folder;
    let taken =
        folder.exists() && std::fs::read_dir(folder).map(|mut entries| entries.next().is_some()).unwrap_or(true);
    if taken {
        bail!("{} is there already and not empty; name another folder", folder.display());
    }
    let demo = if args.demo { DEMO } else { &[] };
    let mut made = std::collections::BTreeSet::new();
    for (name, text) in FILES.iter().chain(demo) {
        write(&folder.join(name), text)?;
        made.insert(folder.join(name));
    }
    if common.json {
        output::json(&made)?;
    } else {
        let at = folder.display();
        output::line(&format!("{at} is ready. Next:"))?;
        output::line(&format!("  masterchief repl {at}     type !hello; edit {at}/scripts/hello.lua and try again"))?;
        if args.demo {
            let deploy = format!("masterchief --config {at} deploy --yes shop/v1 to prod");
            output::line(&format!("  {deploy}     ships the shop; shop/v2 fails"))?;
            let undo = format!("masterchief --config {at} runs rollback shop prod");
            output::line(&format!("  {undo}     undoes it, while masterchief run {at} runs"))?;
        }
        output::line(&format!("  masterchief test {at}     run the scripts' tests"))?;
        output::line(&format!("  masterchief check {at}    prove the configuration and the scripts"))?;
        output::line(&format!(
            "  masterchief run {at}      after naming your network in {at}/config/global/config.yaml"
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    std::fs::write(path, text).with_context(|| path.display().to_string())
}
