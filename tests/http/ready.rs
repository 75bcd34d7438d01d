//! `/readyz`: 200 while the host can take work, 503 with what is wrong while it cannot. `/healthz` says
//! only that it lives.

use std::sync::Arc;

use fishway::http::guard::{Guard, Token};
use fishway::http::{Bounds, Http};
use fishway::lease::Sign;
use fishway::store::sqlite::Role;
use serde_json::{Value, json};

use super::Door;
use crate::sharing::Member;
use crate::support::line::Line;
use crate::support::postgres;

#[tokio::test(flavor = "multi_thread")]
async fn a_host_is_ready_until_it_stops_and_whoever_asks_needs_no_token() {
    let mut door = Door::with_token("right").await;
    let answer = door.get("/readyz").await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let expected = json!({ "ready": true, "database": "ok", "lease": "ok", "handlers": "ok" });
    assert_eq!(
        serde_json::from_str::<Value>(&answer.body).unwrap(),
        expected
    );
    let store = door.world.client.store().clone();
    let key = store.lease().unwrap().unwrap().key();
    assert!(store.sign_lease(key, Sign::Stopping).await.unwrap());
    // Opened anew, so that what was found a moment ago is not told again.
    door.reopen(Guard::new(Vec::new(), Some(Token::of("right")), None))
        .await;
    let answer = door.get("/readyz").await;
    assert_eq!(answer.status, 503, "{}", answer.body);
    let answer: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(answer["ready"], false);
    assert_eq!(answer["lease"], "the host is about to stop");
    assert_eq!(door.get("/healthz").await.body, "ok\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_whose_database_is_away_lives_and_is_not_ready() {
    let url = postgres::database();
    let line = Line::to(postgres::cluster());
    let member = Member::publisher(&line.url(&postgres::name_of(&url))).await;
    let setup = fishway::http::Setup {
        client: member.client(),
        loader: member.host().loader().clone(),
        data_dir: member.data_dir(),
        number: member.host().number(),
        guard: Guard::new(Vec::new(), None, None),
        allow_upload: false,
        bounds: Bounds::default(),
    };
    let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let http = Http::open(any, setup).await.unwrap();
    let base = http.url();
    let ask = move |path: &str| {
        let config = ureq::Agent::config_builder().http_status_as_error(false);
        let agent = ureq::Agent::new_with_config(config.build());
        let mut answer = agent.get(format!("{base}{path}")).call().unwrap();
        let text = answer.body_mut().read_to_string().unwrap();
        (answer.status().as_u16(), text)
    };
    let asked = move |path: &'static str| {
        let ask = ask.clone();
        async move {
            tokio::task::spawn_blocking(move || ask(path))
                .await
                .unwrap()
        }
    };
    line.stall();
    let (status, text) = asked("/readyz").await;
    assert_eq!(status, 503, "{text}");
    assert!(text.contains("does not answer within 800 ms"), "{text}");
    assert_eq!(asked("/healthz").await, (200, "ok\n".to_owned()));

    // It hears of the database again by itself; others go on meanwhile.
    line.go_on();
    let client = fishway::client::Client::new(Arc::new(postgres::open(&url, Role::Visitor)));
    let mut commits = client.store().bus().commits();
    let back = async {
        while asked("/readyz").await.0 != 200 {
            commits.changed().await.unwrap();
        }
    };
    let back = tokio::time::timeout(crate::support::PATIENCE, back).await;
    back.expect("it is ready again");
    http.close().await;
}
