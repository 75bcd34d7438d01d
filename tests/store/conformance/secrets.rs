use fishway::store::SecretInfo;

use crate::store::world::{World, failed};

/// Number and runs in progress of each secret.
fn told(world: &World) -> Vec<(u32, u64)> {
    let secrets = world.store().secrets().unwrap();
    let pair = |secret: &SecretInfo| (secret.number, secret.runs);
    secrets.iter().map(pair).collect()
}

pub async fn a_run_keeps_the_secret_that_it_began_with_and_the_next_has_the_newest(
    world: &mut World,
) {
    let first = world.submit("a").await;
    assert_eq!(world.start(first).await.secret, 1);
    assert_eq!(world.store().add_secret().await.unwrap(), 2);
    let second = world.submit("b").await;
    assert_eq!(world.start(second).await.secret, 2);
    assert_eq!(told(world), [(1, 1), (2, 1)]);
    let [one, two] = [1, 2].map(|number| world.store().secret(number).unwrap().unwrap());
    assert_ne!(one, two);

    // The same run goes on after the host is lost, whatever there is by then.
    world.reopen();
    world.recover().await.unwrap();
    let again = world.claim_up_to(2).await;
    assert_eq!(again.iter().map(|task| task.secret).max(), Some(2));
    let again = again.into_iter().find(|task| task.id == first).unwrap();
    assert_eq!(again.secret, 1);
    assert_eq!(world.store().secret(1).unwrap(), Some(one));

    // Another attempt is another run.
    world.finish(&again, failed(true, 0)).await;
    assert_eq!(world.start(first).await.secret, 2);
}

pub async fn a_secret_goes_when_no_run_in_progress_draws_from_it(world: &mut World) {
    let task = world.submit("a").await;
    let task = world.start(task).await;
    world.store().add_secret().await.unwrap();
    assert_eq!(told(world), [(1, 1), (2, 0)]);
    world.complete(&task).await;
    assert_eq!(world.store().add_secret().await.unwrap(), 3);
    assert_eq!(told(world), [(3, 0)]);
    assert_eq!(world.store().secret(1).unwrap(), None);
}

pub async fn a_run_never_begins_without_a_secret(world: &mut World) {
    world.store().add_secret().await.unwrap();
    world.change("delete from secrets");
    assert_eq!(told(world), []);
    let task = world.submit("a").await;
    let task = world.start(task).await;
    let secret = world.store().secret(task.secret).unwrap();
    assert!(task.secret > 0 && secret.is_some());
}
