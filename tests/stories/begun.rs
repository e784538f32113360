//! The first minutes with the sources: the quickstart, and what the container files begin with.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use masterchief::yaml::{Node, What};

use super::runs::masterchief;

const SOURCES: &str = env!("CARGO_MANIFEST_DIR");

#[test]
fn the_quickstart_makes_a_project_and_the_bot_answers() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("chief");
    for time in ["is made", "is used as it is"] {
        let mut child = Command::new(Path::new(SOURCES).join("quickstart"))
            .arg(&folder)
            .env("MASTERCHIEF", env!("CARGO_BIN_EXE_masterchief"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(b"!hello\n").unwrap();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}");
        for wanted in [time, "!deploy shop/v1 to prod", "IRC clients come in at 127.0.0.1:", "hi "] {
            assert!(said.contains(wanted), "no {wanted:?} in {said}");
        }
    }
}

#[test]
fn the_configuration_in_the_image_is_sound_and_what_is_mounted_is_there() {
    let docker = Path::new(SOURCES).join("docker");
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("config/global")).unwrap();
    std::fs::copy(docker.join("config/global/config.yaml"), dir.path().join("config/global/config.yaml")).unwrap();
    // Without its secrets it is looked at as far as it goes.
    let (code, said) = masterchief(dir.path(), &["config", "show", "gateway.listen"]);
    assert!(code == Some(0) && said.contains("0.0.0.0:8686"), "{said}");
    let path = docker.join("compose.yaml");
    let compose = Node::parse(&path, &std::fs::read_to_string(&path).unwrap()).unwrap();
    let under = |node: &Node, key: &str| match &node.what {
        What::Map(map) => map.get(key).map(|(_, node)| node.clone()),
        _ => None,
    };
    let What::Map(services) = under(&compose, "services").unwrap().what else { panic!("no services") };
    assert!(services.get("masterchief").is_some() && services.len() >= 3);
    for (name, (_, service)) in services {
        assert!(under(&service, "restart").is_some(), "{name} is not started again");
        let checked = under(&service, "healthcheck").is_some() || under(&service, "build").is_some();
        assert!(checked, "nobody sees how {name} is");
        let Some(What::List(volumes)) = under(&service, "volumes").map(|node| node.what) else { continue };
        for volume in volumes {
            let What::Text(text) = volume.what else { panic!("{name}: a volume is no text") };
            let from = text.split(':').next().unwrap();
            assert!(!from.starts_with('.') || docker.join(from).exists(), "{name} mounts {from}, which is not there");
        }
    }
    let image = std::fs::read_to_string(docker.join("Dockerfile")).unwrap();
    assert!(
        image.contains("HEALTHCHECK") && image.contains("\nUSER masterchief\n"),
        "it is not root's, and is looked after"
    );
}
