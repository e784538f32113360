//! Playbooks, run by the real `ansible-playbook` on hosts that are this machine.

use masterchief::contract::Secret;
use masterchief::executors::{Class, End, Failure, Settings, Step};
use serde_json::{Value, json};

use super::servers::program as tool;
use super::steps::{Bench, until};

/// Four hosts that are this machine.
const INVENTORY: &str = "[web]\nweb[1:4]\n[all:vars]\nansible_connection=local\nansible_python_interpreter='{{ ansible_playbook_python }}'\n";

fn bench(files: &[(&str, &str)]) -> Bench {
    let bench = Bench::new(&Settings::default());
    let workspace = bench.step(json!({})).workspace;
    std::fs::write(workspace.join("inv"), INVENTORY).unwrap();
    for (name, text) in files {
        std::fs::write(workspace.join(name), text).unwrap();
    }
    bench
}

fn step(bench: &Bench, more: Value) -> Step {
    let mut settings = json!({"playbook": "site.yml", "inventory": "inv"});
    settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let mut step = bench.step(settings);
    if let Some(folder) = tool("ansible-playbook").parent().filter(|folder| folder.is_absolute()) {
        let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
        step.env.push(("PATH".to_owned(), Secret::new(path)));
    }
    // What Ansible keeps in a home stays in the test's own.
    step.env.push(("HOME".to_owned(), Secret::new(bench.folder.path().display().to_string())));
    step
}

async fn failed(bench: &Bench, more: Value) -> Failure {
    match bench.run("ansible", step(bench, more)).await {
        End::Failed(failure) => failure,
        other => panic!("{other:?}\n{}", bench.log()),
    }
}

async fn done(bench: &Bench, more: Value) -> (Value, String) {
    match bench.run("ansible", step(bench, more)).await {
        End::Done { outputs, summary } => (json!(outputs), summary),
        other => panic!("{other:?}\n{}", bench.log()),
    }
}

/// All that runs and has this in its arguments.
fn running(word: &str) -> Vec<String> {
    told_by_the_kernel("cmdline", word)
}

/// All that runs and was started by the playbook of this bench, wherever it hid.
fn started(bench: &Bench) -> Vec<String> {
    told_by_the_kernel("environ", &format!("MC_ANSIBLE_EVENTS={}/", bench.folder.path().display()))
}

fn told_by_the_kernel(file: &str, word: &str) -> Vec<String> {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let argv = all.filter_map(|entry| std::fs::read(entry.path().join(file)).ok());
    argv.map(|bytes| String::from_utf8_lossy(&bytes).replace('\0', " ")).filter(|line| line.contains(word)).collect()
}

const FOUR: &str = "
- hosts: all
  gather_facts: false
  tasks:
    - name: write a file
      copy: { content: x, dest: '{{ playbook_dir }}/{{ inventory_hostname }}.txt' }
    - name: look for it
      stat: { path: '{{ playbook_dir }}/{{ inventory_hostname }}.txt' }
    - name: may go wrong
      command: 'false'
      ignore_errors: true
      when: inventory_hostname == 'web3'
";

#[tokio::test]
async fn hosts_are_told_while_it_runs_and_an_ignored_failure_is_none() {
    let bench = bench(&[("site.yml", FOUR)]);
    let (outputs, summary) = done(&bench, json!({})).await;
    assert_eq!(
        summary,
        "web1 ok=2 changed=1 | web2 ok=2 changed=1 | web3 ok=3 changed=2 | web4 ok=2 changed=1 (1 ignored failure)"
    );
    assert_eq!((&outputs["ok"], &outputs["failed"], &outputs["ignored"]), (&json!(9), &json!(0), &json!(1)));
    assert_eq!(outputs["hosts"]["web3"]["ignored"], 1);
    let told = bench.notes.told.lock().unwrap().clone();
    assert!(told.iter().any(|words| words.starts_with("task 1/… write a file, ")), "{told:?}");
    assert!(bench.log().contains("PLAY RECAP"), "what Ansible prints is in the log");
    // Only what the step keeps anyway is left.
    let left = std::fs::read_dir(bench.folder.path().join("step")).unwrap().flatten();
    let mut left: Vec<String> = left.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    left.sort();
    assert_eq!(left, ["log", "main.exit", "main.pid"]);
}

#[tokio::test]
async fn a_failed_task_is_the_line_and_the_other_hosts_are_the_world() {
    let play = "
- hosts: all
  gather_facts: false
  tasks:
    - name: install nginx
      shell: 'echo No package nginx >&2; exit 3'
      when: inventory_hostname == 'web2'
    - block:
        - name: try the new way
          fail: { msg: not here }
          when: inventory_hostname == 'web1'
      rescue:
        - debug: { msg: the old way }
";
    let bench = bench(&[("site.yml", play)]);
    let failure = failed(&bench, json!({})).await;
    assert_eq!((failure.line.as_str(), failure.exit), ("web2 failed at `install nginx`: No package nginx", Some(2)));
    assert!(
        failure.world[0].starts_with("web2 FAILED at `install nginx`: No package nginx | web1 ok=1 changed=0 | "),
        "{failure:?}"
    );
    // The bot is started again before anybody heard of it.
    assert_eq!(failed(&bench, json!({})).await, failure);
}

#[tokio::test]
async fn a_host_that_is_not_there_is_lost_infrastructure_and_not_a_failed_task() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let bench = bench(&[("site.yml", FOUR)]);
    let dead = format!(
        "dead ansible_connection=ssh ansible_host=127.0.0.1 ansible_port={port}\n{}",
        INVENTORY.replace("[1:4]", "1")
    );
    std::fs::write(bench.folder.path().join("workspace/inv"), dead).unwrap();
    let failure = failed(&bench, json!({})).await;
    assert_eq!((failure.class, failure.exit), (Class::InfraLost, Some(4)));
    assert!(
        failure.line.starts_with("dead cannot be reached: ") && failure.line.contains("check that it is up"),
        "{failure:?}"
    );
    assert_eq!(failure.world, ["dead UNREACHABLE | web1 ok=2 changed=1"]);
}

#[tokio::test]
async fn in_check_mode_nothing_is_changed_and_it_says_so() {
    let bench = bench(&[("site.yml", FOUR)]);
    let (outputs, summary) = done(&bench, json!({"check": true, "diff": true, "limit": "web1", "forks": 2})).await;
    assert_eq!(summary, "check mode, nothing changed: web1 ok=2 changed=1");
    assert_eq!(outputs["check"], true);
    let told = bench.notes.told.lock().unwrap().clone();
    assert!(told.iter().all(|words| words.starts_with("check mode, task ")), "{told:?}");
    assert!(!bench.folder.path().join("workspace/web1.txt").exists());
}

#[tokio::test]
async fn a_playbook_that_is_none_and_hosts_that_are_none_are_mistakes_of_whoever_wrote_them() {
    let wrong = "- hosts: all\n  tasks:\n    - nmae: x\n      copyy: {}\n";
    let nobody = "- hosts: databases\n  tasks:\n    - ping:\n";
    let bench = bench(&[("site.yml", wrong)]);
    let failure = failed(&bench, json!({})).await;
    assert_eq!(failure.class, Class::Config);
    assert_eq!(failure.line, "conflicting action statements: nmae, copyy (site.yml:3)");
    for (settings, words) in [
        (json!({"playbook": "nobody.yml"}), "it did nothing: no host matched"),
        (json!({"playbook": "nobody.yml", "limit": "mars"}), "leaves us with no hosts to target"),
        (json!({"playbook": "missing.yml"}), "the playbook: missing.yml could not be found"),
        (json!({"vault_password_env": "VAULT"}), "the stage has no variable VAULT"),
    ] {
        let bench = self::bench(&[("nobody.yml", nobody), ("site.yml", FOUR)]);
        let failure = failed(&bench, settings).await;
        assert!(failure.class == Class::Config && failure.line.contains(words), "{failure:?}");
    }
}

#[tokio::test]
async fn where_ansible_is_not_installed_it_says_so() {
    let bench = bench(&[("site.yml", FOUR)]);
    let mut step = step(&bench, json!({"extra_vars": {"a": "b"}}));
    step.env.push(("PATH".to_owned(), Secret::new("/nowhere")));
    let End::Failed(failure) = bench.run("ansible", step).await else { panic!() };
    assert_eq!(failure.class, Class::Config);
    assert!(failure.line.starts_with("ansible-playbook is not installed here"), "{}", failure.line);
    assert!(!bench.folder.path().join("step/extra_vars.json").exists());
}

#[tokio::test]
async fn secrets_are_in_no_argument_no_log_and_no_file_that_stays() {
    let play = "
- hosts: web1
  gather_facts: false
  tasks:
    - name: use it
      shell: 'tr \"\\0\" \" \" < /proc/{{ pid }}/cmdline > args; test {{ token }} = hunter2-of-prod'
      args: { chdir: '{{ playbook_dir }}' }
      vars: { pid: \"{{ lookup('pipe', 'echo $PPID') }}\" }
      no_log: true
    - name: show it by mistake
      debug: { msg: 'it is {{ token }} and {{ other }}' }
    - name: fail with it
      fail: { msg: 'refused {{ token }}' }
";
    let mut bench = bench(&[("site.yml", play)]);
    bench.secrets.push(Secret::new("hunter2-of-prod"));
    let failure = failed(&bench, json!({"extra_vars": {"token": "hunter2-of-prod", "other": [1, "two"]}})).await;
    assert_eq!(failure.line, "web1 failed at `fail with it`: refused ***");
    let args = std::fs::read_to_string(bench.folder.path().join("workspace/args")).unwrap();
    assert!(args.contains("--extra-vars=@") && !args.contains("hunter2"), "{args}");
    assert!(bench.log().contains("it is *** and"), "{}", bench.log());
    for entry in std::fs::read_dir(bench.folder.path().join("step")).unwrap().flatten() {
        let text = String::from_utf8_lossy(&std::fs::read(entry.path()).unwrap()).into_owned();
        assert!(!text.contains("hunter2"), "{} holds the secret", entry.path().display());
    }
}

#[tokio::test]
async fn a_vault_is_opened_by_a_variable_and_a_wrong_password_is_told() {
    let vault = tool("ansible-vault");
    let play = "- hosts: web1\n  gather_facts: false\n  vars_files: [secrets.yml]\n  tasks:\n    - assert: { that: \"word == 'sesame'\" }\n";
    let locked = |bench: &Bench| {
        let (workspace, password) = (bench.folder.path().join("workspace"), bench.folder.path().join("password"));
        std::fs::write(workspace.join("secrets.yml"), "word: sesame\n").unwrap();
        std::fs::write(&password, "open\n").unwrap();
        let mut locking = std::process::Command::new(&vault);
        locking.args(["encrypt", "--vault-password-file"]).arg(&password).arg(workspace.join("secrets.yml"));
        assert!(locking.env("LC_ALL", "C.UTF-8").output().unwrap().status.success());
    };
    for (password, good) in [("open", true), ("shut", false)] {
        let bench = bench(&[("site.yml", play)]);
        locked(&bench);
        let mut step = step(&bench, json!({"vault_password_env": "VAULT"}));
        step.env.push(("VAULT".to_owned(), Secret::new(password)));
        match bench.run("ansible", step).await {
            End::Done { .. } => assert!(good),
            End::Failed(failure) => assert!(!good && failure.class == Class::Auth, "{failure:?}\n{}", bench.log()),
            other => panic!("{other:?}"),
        }
    }
    let bench = bench(&[("site.yml", play)]);
    locked(&bench);
    let failure = failed(&bench, json!({})).await;
    assert!(
        failure.class == Class::Config && failure.line.contains("`vault_password_env`"),
        "{failure:?}\n{}",
        bench.log()
    );
}

const SLOW: &str = "
- hosts: web1
  gather_facts: false
  tasks:
    - name: begin
      shell: 'echo once >> begun'
      args: { chdir: '{{ playbook_dir }}' }
    - name: take a while
      shell: 'exec sleep {{ time }}'
";

#[tokio::test]
async fn a_bot_that_starts_again_finds_the_playbook_and_all_that_it_told() {
    let bench = bench(&[("site.yml", SLOW)]);
    let settings = json!({"extra_vars": {"time": "2.5"}});
    let first = tokio::spawn(bench.executors["ansible"].run(step(&bench, settings.clone()), bench.hands()));
    let begun = bench.folder.path().join("workspace/begun");
    until("the start", || begun.exists()).await;
    first.abort();
    assert!(first.await.is_err(), "it had ended already");
    let (outputs, summary) = done(&bench, settings).await;
    assert_eq!((summary.as_str(), &outputs["hosts"]["web1"]["ok"]), ("web1 ok=2 changed=2", &json!(2)));
    assert_eq!(std::fs::read_to_string(begun).unwrap(), "once\n");
}

#[tokio::test]
async fn a_playbook_that_is_stopped_leaves_no_process_and_no_secret() {
    let bench = bench(&[("site.yml", SLOW)]);
    // A number that nobody else sleeps.
    let time = format!("300.{}", std::process::id());
    let running_one =
        bench.executors["ansible"].run(step(&bench, json!({"extra_vars": {"time": time}})), bench.hands());
    let running_one = tokio::spawn(running_one);
    until("the long task", || running(&format!("sleep {time}")).iter().any(|line| line.starts_with("sleep"))).await;
    bench.stop.send_replace(true);
    assert_eq!(running_one.await.unwrap(), End::Stopped);
    assert_eq!(running(&time), Vec::<String>::new());
    assert_eq!(started(&bench), Vec::<String>::new());
    assert!(!bench.folder.path().join("step/extra_vars.json").exists());
}

#[tokio::test]
async fn a_playbook_whose_supervisor_is_killed_is_never_simply_run_again() {
    let bench = bench(&[("site.yml", SLOW)]);
    let time = format!("301.{}", std::process::id());
    let lost = bench.executors["ansible"].run(step(&bench, json!({"extra_vars": {"time": time}})), bench.hands());
    let lost = tokio::spawn(lost);
    until("the long task", || running(&format!("sleep {time}")).iter().any(|line| line.starts_with("sleep"))).await;
    let note: Value =
        serde_json::from_slice(&std::fs::read(bench.folder.path().join("step/main.pid")).unwrap()).unwrap();
    std::process::Command::new("kill").args(["-9", &note["supervisor"].to_string()]).status().unwrap();
    let End::Unsure(words) = lost.await.unwrap() else { panic!() };
    assert!(words.starts_with("the playbook was lost in task 2, `take a while`; look at its hosts"), "{words}");
    assert_eq!(started(&bench), Vec::<String>::new());
}
