//! A repository that takes its time: who asks hears so at once, is shown a plan soon, and the copy is made for whoever comes next.

use std::path::Path;
use std::time::{Duration, Instant};

use masterchief::bot::{Bot, CHANNEL, TestBot};
use masterchief::pipelines::Settings;

use super::checkout::Origin;
use super::steps::eventually;

/// A way to a repository that counts who comes, and holds up those whose number stands in the file `slow` until it is gone.
fn way(dir: &Path, repo: &str) -> String {
    let script = format!(
        "#!/bin/sh\ncase \"$1\" in -G) exit 1;; esac\ncd {dir}\necho x >> calls\nn=$(wc -l < calls)\nwhile grep -qx \"$n\" slow 2> /dev/null; do sleep 0.05; done\nexec git-upload-pack {repo}\n",
        dir = dir.display()
    );
    let path = dir.join("way");
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    path.display().to_string()
}

fn calls(dir: &Path) -> usize {
    std::fs::read_to_string(dir.join("calls")).unwrap_or_default().lines().count()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_word_comes_at_once_and_a_copy_that_takes_long_is_made_all_the_same() {
    let (dir, origin) = (tempfile::tempdir().unwrap(), Origin::new());
    let way = way(dir.path(), &origin.path());
    let settings = Settings { folder: "".into(), ..Settings::default() };
    let supervisor = Path::new(env!("CARGO_BIN_EXE_masterchief"));
    let test = TestBot::start(Bot::builder().supervisor(supervisor).pipelines(settings)).await.unwrap();
    let text = format!(
        "app: shop\nrepo: git@slow.example:shop.git\npolicy: {{environments: {{dev: {{confirm: never, require_flag: d}}, prod: {{require_flag: d}}}}}}\nparams: {{environment: {{type: choice, of: [dev, prod], default: prod}}, ref: {{type: ref, default: main}}}}\nstages:\n  checkout: {{git: {{repo: \"{{repo}}\", ref: \"{{ref}}\"}}, env: {{GIT_SSH_COMMAND: \"{way}\"}}}}\n  rollout: {{needs: [checkout], shell: [\"true\"], live: true}}\n"
    );
    test.started().put_pipeline("shop", &text).await.unwrap_or_else(|faults| panic!("{faults:#?}"));
    let (kim, raj) = (test.user("kim").with_flags("+d"), test.user("raj").with_flags("+d"));
    kim.says(CHANNEL, "!deploy shop to prod").await;
    test.find(CHANNEL, Duration::from_secs(30), |line| line.contains("kim: say \"!yes 1\"")).await.unwrap();
    kim.says(CHANNEL, "!yes 1").await;
    test.find(CHANNEL, Duration::from_secs(30), |line| line.contains("is live on prod")).await.unwrap();

    origin.commit("a", "2", "faster carts");
    // It is asked for the commit first; then it is copied.
    let before = calls(dir.path());
    std::fs::write(dir.path().join("slow"), format!("{}\n", before + 2)).unwrap();
    let asked = Instant::now();
    kim.says(CHANNEL, "!deploy shop to prod").await;
    test.find(CHANNEL, Duration::from_secs(5), |line| line.starts_with("kim: looking at the repository of shop"))
        .await
        .unwrap();
    assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
    eventually("the copy is begun", async || calls(dir.path()) == before + 2).await;
    raj.says(CHANNEL, "!deploy shop to prod").await;
    let wanted = |line: &str| line.starts_with("shop -> prod: ") && line.contains(", commits not known yet.");
    for nick in ["kim", "raj"] {
        test.find(CHANNEL, Duration::from_secs(30), wanted).await.unwrap();
        let line =
            test.find(CHANNEL, Duration::from_secs(30), |line| line.contains("within 2 min to start")).await.unwrap();
        assert!(line.starts_with(&format!("{nick}: ")) && line.contains(" for the commits."), "{line}");
    }
    std::fs::remove_file(dir.path().join("slow")).unwrap();
    eventually("the commits", async || {
        kim.says("chief", "!diff 2").await;
        test.find("kim", Duration::from_secs(2), |line| line.contains("faster carts")).await.is_ok()
    })
    .await;
    assert_eq!(calls(dir.path()), before + 3, "raj waited for the copy that was under way");
    test.stop().await;
}
