use fishway::client::Client;
use fishway::store::RandomSecretInfo;

use crate::store::world::{World, failed};

/// Number and runs in progress of each secret.
fn told(world: &World) -> Vec<(u32, u64)> {
    let secrets = world.store().random_secrets().unwrap();
    let pair = |secret: &RandomSecretInfo| (secret.number, secret.runs);
    secrets.iter().map(pair).collect()
}

pub async fn a_run_keeps_the_secret_that_it_began_with_and_the_next_has_the_newest(
    world: &mut World,
) {
    let first = world.submit("a").await;
    assert_eq!(world.start(first).await.secret, 1);
    let newest = world.store().add_random_secret().await.unwrap();
    assert!(newest > 1);
    let second = world.submit("b").await;
    assert_eq!(world.start(second).await.secret, newest);
    assert_eq!(told(world), [(1, 1), (newest, 1)]);
    let [one, two] =
        [1, newest].map(|number| world.store().random_secret(number).unwrap().unwrap());
    assert_ne!(one, two);

    // The same run continues after the host is lost, whatever the newest secret is.
    world.reopen();
    world.recover().await.unwrap();
    let again = world.claim_up_to(2).await;
    assert_eq!(again.iter().map(|task| task.secret).max(), Some(newest));
    let again = again.into_iter().find(|task| task.id == first).unwrap();
    assert_eq!(again.secret, 1);
    assert_eq!(world.store().random_secret(1).unwrap(), Some(one));

    // Another attempt is another run.
    world.finish(&again, failed(true, 0)).await;
    assert_eq!(world.start(first).await.secret, newest);
}

pub async fn a_secret_goes_when_no_run_in_progress_draws_from_it(world: &mut World) {
    let task = world.submit("a").await;
    let task = world.start(task).await;
    let client = Client::new(world.shared());
    let second = client.rotate_randomness().await.unwrap();
    assert_eq!(told(world), [(1, 1), (second, 0)]);
    world.complete(&task).await;
    let third = client.rotate_randomness().await.unwrap();
    assert_eq!(told(world), [(third, 0)]);
    assert_eq!(world.store().random_secret(1).unwrap(), None);
    // The newest secret is not deleted, even by a rotation that saw it before any run used it.
    world
        .store()
        .drop_random_secrets(vec![third])
        .await
        .unwrap();
    assert_eq!(told(world), [(third, 0)]);
}

pub async fn the_number_of_a_secret_that_was_lost_does_not_come_again(world: &mut World) {
    let lost = world.store().add_random_secret().await.unwrap();
    // A standby that takes over may lack it.
    world.change(&format!("delete from secrets where number = {lost}"));
    world.reopen();
    let again = world.store().add_random_secret().await.unwrap();
    assert_ne!(
        again, lost,
        "by a chance of one in a million they are the same"
    );
}

pub async fn a_run_never_begins_without_a_secret(world: &mut World) {
    world.store().add_random_secret().await.unwrap();
    world.change("delete from secrets");
    assert_eq!(told(world), []);
    let task = world.submit("a").await;
    let task = world.start(task).await;
    let secret = world.store().random_secret(task.secret).unwrap();
    assert!(task.secret > 0 && secret.is_some());
}
