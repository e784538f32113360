//! Freezes of several people at once, and numbers by which something is called off.

use std::path::Path;
use std::time::Duration;

use masterchief::bot::{CHANNEL, Started, TestBot};
use masterchief::pipelines::{Ask, Asked, Asker, May, Prepared, RunState, Settings};

use super::acted::Acted;
use super::anew::comes_to_its_end;
use super::deploys::{builder, stop, with};

const MINUTE: Duration = Duration::from_secs(60);
const SHOP: &str = "app: shop\npolicy: {environments: {dev: {confirm: never, require_flag: \"-\"}, prod: {confirm: never, require_flag: d}}}\nstages: {a: {acted: {}}}\n";

#[tokio::test(start_paused = true)]
async fn nobody_shortens_the_freeze_of_another_unseen() {
    let (test, _) = with(SHOP).await;
    test.user("raj").says(CHANNEL, "!freeze prod 2d stocktaking").await;
    test.expect(CHANNEL, "prod frozen by raj until Wed 12:00 UTC: stocktaking.").await;
    test.user("kim").says(CHANNEL, "!freeze prod 10m test").await;
    test.expect(
        CHANNEL,
        "kim: prod is frozen by raj until Wed 12:00 UTC (stocktaking), which is longer. Thaw it first: !thaw prod",
    )
    .await;
    test.advance(11 * MINUTE).await;
    test.user("kim").says(CHANNEL, "!deploy shop to prod").await;
    test.expect(CHANNEL, "kim: prod is frozen until Wed 12:00 UTC (stocktaking).").await;
    // Longer it may be, and whose it was is said; what is one's own is made as one likes.
    test.user("kim").says(CHANNEL, "!freeze prod 3d a fair").await;
    test.expect(
        CHANNEL,
        "prod frozen by kim until Thu 12:11 UTC: a fair (was raj's until Wed 12:00 UTC: stocktaking).",
    )
    .await;
    test.user("kim").says(CHANNEL, "!freeze prod 1h a short fair").await;
    test.expect(CHANNEL, "prod frozen by kim until 13:11 UTC: a short fair.").await;
    test.user("raj").says(CHANNEL, "!freeze prod for good").await;
    test.expect(CHANNEL, "prod frozen by raj: for good (was kim's until 13:11 UTC: a short fair).").await;
    test.user("kim").says(CHANNEL, "!freeze prod 9d mine").await;
    test.expect(CHANNEL, "kim: prod is frozen by raj until it is thawed (for good), which is longer.").await;
    stop(&test).await;
}

#[tokio::test(start_paused = true)]
async fn of_several_freezes_the_one_that_ends_last_is_told() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("pipelines")).unwrap();
    let text = SHOP.replace("dev: {", "dev: {freeze: [company.ics], ");
    std::fs::write(dir.path().join("pipelines/shop.yaml"), text).unwrap();
    let event = |name: &str, from: &str, to: &str| {
        format!(
            "BEGIN:VEVENT\r\nUID:{name}\r\nSUMMARY:{name}\r\nDTSTART:20260302T{from}Z\r\nDTEND:20260302T{to}Z\r\nEND:VEVENT\r\n"
        )
    };
    let ics = format!(
        "BEGIN:VCALENDAR\r\nVERSION:2.0\r\n{}{}END:VCALENDAR\r\n",
        event("A short one", "110000", "130000"),
        event("A long one", "113000", "160000")
    );
    std::fs::write(dir.path().join("company.ics"), ics).unwrap();
    let settings = Settings { folder: dir.path().join("pipelines"), ..Settings::default() };
    let test = TestBot::start(builder(&Acted::default()).pipelines(settings)).await.unwrap();
    let kim = test.user("kim").with_flags("+d");
    kim.says(CHANNEL, "!deploy shop to dev").await;
    test.expect(CHANNEL, "kim: dev is frozen until 16:00 UTC (A long one).").await;
    kim.says(CHANNEL, "!freeze * 1h an audit").await;
    test.expect(CHANNEL, "everything frozen by kim until 13:00 UTC: an audit.").await;
    kim.says(CHANNEL, "!deploy shop to dev").await;
    test.expect(CHANNEL, "kim: dev is frozen until 16:00 UTC (A long one).").await;
    kim.says(CHANNEL, "!freeze shop/dev 6h stocktaking").await;
    test.expect(CHANNEL, "shop/dev frozen by kim until 18:00 UTC: stocktaking.").await;
    kim.says(CHANNEL, "!deploy shop to dev").await;
    test.expect(CHANNEL, "kim: dev is frozen until 18:00 UTC (stocktaking). !at 18:00 deploy shop to dev books it;")
        .await;
    kim.says(CHANNEL, "!at 18:00 deploy shop to dev").await;
    test.expect(CHANNEL, "kim: booked: shop to dev at 18:00 UTC (B-1).").await;
    stop(&test).await;
}

/// Books a run a day ahead; its number.
async fn booked(bot: &Started) -> String {
    let prepared = Prepared { app: "shop".to_owned(), environment: Some("dev".to_owned()), ..Prepared::default() };
    let at = chrono::Utc::now().timestamp_millis() + 86_400_000;
    let asked = Asked { ask: Ask::Book(at, Box::new(prepared)), who: Asker::program("test"), may: May::all() };
    let line = bot.pipelines().ask(asked).await.unwrap().lines.remove(0);
    line.split('(').nth(1).unwrap().split(')').next().unwrap().to_owned()
}

#[tokio::test]
async fn the_number_of_what_was_booked_is_never_anothers_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let start = async |folder: &Path| {
        let bot = builder(&Acted::default()).data(folder).start().await.unwrap();
        bot.put_pipeline("shop", SHOP).await.unwrap_or_else(|faults| panic!("{faults:#?}"));
        bot
    };
    let unbook = async |bot: &Started, id: i64| {
        let asked = Asked { ask: Ask::Unbook(id), who: Asker::program("test"), may: May::all() };
        bot.pipelines().ask(asked).await.unwrap();
    };
    let bot = start(dir.path()).await;
    assert_eq!((booked(&bot).await, booked(&bot).await), ("B-1".to_owned(), "B-2".to_owned()));
    unbook(&bot, 2).await;
    unbook(&bot, 1).await;
    assert_eq!(booked(&bot).await, "B-3");
    unbook(&bot, 3).await;
    bot.stop("").await;
    let bot = start(dir.path()).await;
    assert_eq!(booked(&bot).await, "B-4");
    bot.stop("").await;
}

#[tokio::test]
async fn what_was_booked_for_a_time_at_which_the_bot_was_away_does_not_begin_long_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let acted = Acted::default();
    let folder = dir.path().join("pipelines");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("shop.yaml"), SHOP).unwrap();
    let start = async |data: &Path| {
        let settings = Settings { folder: folder.clone(), ..Settings::default() };
        builder(&acted).data(data).pipelines(settings).start().await.unwrap()
    };
    let bot = start(dir.path()).await;
    assert_eq!((booked(&bot).await, booked(&bot).await), ("B-1".to_owned(), "B-2".to_owned()));
    bot.stop("").await;
    let now = chrono::Utc::now().timestamp_millis();
    let runs = rusqlite::Connection::open(dir.path().join("runs.db")).unwrap();
    for (id, ago) in [(1, 48 * 60), (2, 5)] {
        runs.execute("UPDATE booking SET at = ?1 WHERE id = ?2", (now - ago * 60_000, id)).unwrap();
    }
    drop(runs);
    let bot = start(dir.path()).await;
    // The one of five minutes ago begins; the one of two days ago is told.
    let (run, _) = comes_to_its_end(&bot, 1).await;
    assert_eq!((run.state, acted.done().len()), (RunState::Succeeded, 1));
    assert!(bot.pipelines().run(2).await.unwrap().is_none());
    let log = bot.pipelines().records().incidents(Some("shop"), 0, 10).await.unwrap();
    let told: Vec<&str> = log.iter().map(|row| row.text.as_str()).filter(|text| text.contains("B-1")).collect();
    assert!(matches!(told[..], [one] if one.contains("was due") && one.contains("while I was away")), "{log:#?}");
    bot.stop("").await;
}
