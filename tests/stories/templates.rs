//! The examples that are no programs: templates of pipelines, and what runs the bot itself.

use std::path::Path;

use serde_json::Value;

use super::runs::masterchief;

/// A copy of the templates, so that what is shipped there is gone afterwards.
fn templates() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/templates/config");
    for folder in ["global", "pipelines"] {
        std::fs::create_dir_all(dir.path().join("config").join(folder)).unwrap();
        for entry in std::fs::read_dir(from.join(folder)).unwrap().flatten() {
            std::fs::copy(entry.path(), dir.path().join("config").join(folder).join(entry.file_name())).unwrap();
        }
    }
    dir
}

fn example(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/run").join(name)).unwrap()
}

#[test]
fn the_templates_are_good_pipelines_that_ship_and_go_back_to_what_was_there() {
    let dir = templates();
    let (code, said) = masterchief(dir.path(), &["pipelines", "check"]);
    assert_eq!((code, said.trim()), (Some(0), "all good: 3 pipelines"));
    let deploy = |app: &str, bad: &str| {
        let words = [&["deploy", "--yes"], app.split(' ').collect::<Vec<_>>().as_slice(), &["to", "staging"]].concat();
        let words: Vec<&str> = words.into_iter().chain(Some(bad).filter(|bad| !bad.is_empty())).collect();
        masterchief(dir.path(), &words)
    };
    let live = |path: &str| std::fs::read_to_string(dir.path().join("live").join(path)).unwrap_or_default();
    for (app, bad, looks) in [
        ("rolling", "broken=web3", "rolling/staging/web1/now"),
        ("blue-green", "broken=true", "blue-green/staging/serves"),
        ("canary", "errors=7", "canary/staging/now"),
    ] {
        let (code, said) = deploy(&format!("{app}/v1"), "");
        assert_eq!(code, Some(0), "{said}");
        let before = live(looks);
        assert!(!before.is_empty(), "{app} is nowhere");
        let (code, said) = deploy(&format!("{app}/v2"), bad);
        assert_eq!(code, Some(1), "{app}: {said}");
        // It goes back by itself, in a run of its own if anything went out, and that is waited for.
        assert_eq!(live(looks), before, "{app}: {said}");
        let (_, shown) = masterchief(dir.path(), &["--json", "runs", "list", app]);
        let open = ["rolling_back", "running"].iter().any(|state| shown.contains(&format!("\"state\":\"{state}\"")));
        assert!(!open, "{shown}");
        let (code, said) = deploy(&format!("{app}/v3"), "");
        assert_eq!(code, Some(0), "{app}: {said}");
        assert_ne!(live(looks), "v2\n");
    }
    for host in ["web1", "web2", "web3", "web4"] {
        assert_eq!(live(&format!("rolling/staging/{host}/now")), "v3\n");
    }
    assert_eq!((live("canary/staging/now"), live("canary/staging/canary")), ("v3\n".to_owned(), String::new()));
    let serves = live("blue-green/staging/serves");
    assert_eq!(live(&format!("blue-green/staging/{}/now", serves.trim())), "v3\n");
}

#[test]
fn what_runs_the_bot_names_what_it_looks_at_and_asks_the_probes_that_are_there() {
    let manifests: Vec<Value> = example("kubernetes.yaml")
        .split("\n---\n")
        .map(|text| serde_saphyr::from_str(text).unwrap_or_else(|fault| panic!("{fault}\n{text}")))
        .collect();
    let kinds: Vec<&str> = manifests.iter().map(|one| one["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["Namespace", "ConfigMap", "Secret", "PersistentVolumeClaim", "Deployment", "Service"]);
    let container = &manifests[4]["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["livenessProbe"]["httpGet"]["path"], "/health/live");
    assert_eq!(container["readinessProbe"]["httpGet"]["path"], "/health/ready");
    assert!(container["resources"]["limits"]["memory"].is_string());
    // Its configuration is one.
    let dir = tempfile::tempdir().unwrap();
    let config = manifests[1]["data"]["config.yaml"].as_str().unwrap();
    std::fs::write(dir.path().join("config.yaml"), config).unwrap();
    let spare = masterchief::config::Secrets::Spare;
    let fits = masterchief::config::load(Some(&dir.path().join("config.yaml")), None, spare);
    assert!(
        fits.as_ref().err().is_none_or(|faults| faults.iter().all(|fault| fault.message.contains("16 characters"))),
        "{fits:?}"
    );
    let compose: Value = serde_saphyr::from_str(&example("compose.yaml")).unwrap();
    assert_eq!(compose["services"]["masterchief"]["env_file"], ".env");
    let env = example(".env.example");
    let named: Vec<&str> =
        env.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split('=').next()).collect();
    for name in ["MASTERCHIEF_CONFIG", "MASTERCHIEF_ENV", "RUST_LOG", "NO_COLOR", "SASL_PASSWORD", "CI_TOKEN"] {
        assert!(named.contains(&name), "no {name} in .env.example");
    }
    // Whatever the examples' configuration refers to is in it.
    for part in config.split("${env:").skip(1) {
        let name = part.split('}').next().unwrap();
        assert!(named.contains(&name), "no {name} in .env.example");
    }
}
