//! Lines about runs in other ways than words in a channel: as notices, to one person, as mail.

use std::os::unix::fs::PermissionsExt;

use base64::Engine as _;
use masterchief::bot::{CHANNEL, NETWORK, TestBot};
use masterchief::pipelines::{Mails, Settings};

use super::acted::Acted;
use super::deploys::builder;
use super::steps::until;

#[tokio::test]
async fn lines_go_as_notices_to_one_person_and_as_mail_whatever_a_log_says() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("sendmail");
    // The first time it takes nothing, as when its queue is full.
    let script = format!(
        "#!/bin/sh\nn=$(ls {0} | grep -c '^mail')\ncat > {0}/mail$n.part\necho \"$@\" > {0}/args\nmv {0}/mail$n.part {0}/mail$n\n",
        dir.path().display()
    );
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mail = Mails {
        program,
        from: "chief@example.org".to_owned(),
        lists: [("oncall".to_owned(), vec!["ana@example.org".to_owned(), "raj@example.org".to_owned()])].into(),
    };
    let acted = Acted::default();
    let settings = Settings { mail, ..Settings::default() };
    let test = TestBot::start(builder(&acted).pipelines(settings)).await.unwrap();
    let text = format!(
        "app: shop\nannounce: {{channels: [{{name: \"mail:oncall\", only: [failed]}}, {{name: \"mail:lost\"}}, \"notice:{NETWORK}/{CHANNEL}\", \"{NETWORK}/lee\"]}}\npolicy: {{environments: {{dev: {{confirm: never, require_flag: \"-\"}}}}}}\nstages: {{a: {{acted: {{fails: 9, class: test_failed, line: \"größer als 3\\nBcc: all@example.org\"}}}}}}\n"
    );
    test.started().put_pipeline("shop", &text).await.unwrap_or_else(|faults| panic!("{faults:#?}"));
    test.user("kim").with_flags("+d").says(CHANNEL, "!deploy shop/v1").await;
    test.expect("lee", "[1] shop v1 -> dev started by kim.").await;
    until("the mail", || dir.path().join("mail0").exists()).await;
    let notices: Vec<String> =
        test.transcript().into_iter().filter(|line| line.contains(CHANNEL) && line.contains("[1] ")).collect();
    assert!(
        notices.len() > 1 && notices.iter().all(|line| line.starts_with(&format!("NOTICE {CHANNEL} "))),
        "once, and as a notice, also where it was asked for: {notices:#?}"
    );
    let args = std::fs::read_to_string(dir.path().join("args")).unwrap();
    assert_eq!(args.trim(), "-i -f chief@example.org -- ana@example.org raj@example.org");
    let message = std::fs::read_to_string(dir.path().join("mail0")).unwrap();
    let (head, body) = message.split_once("\n\n").unwrap();
    assert!(head.contains("To: ana@example.org, raj@example.org") && !head.contains("Bcc"), "{message}");
    let body: String = body.lines().collect();
    let body = String::from_utf8(base64::engine::general_purpose::STANDARD.decode(body).unwrap()).unwrap();
    assert!(body.starts_with("[1] shop v1 -> dev FAILED in a"), "{body}");
    test.stop().await;
}
