use std::path::PathBuf;
use std::sync::Arc;

use fishway::secrets::admin::{self, NewValue, ROTATED_TOGETHER, Rotation};
use fishway::secrets::{
    FRESH_MS, KEY_FILE, KeySource, Reference, SecretError, SecretValue, Secrets,
};
use fishway::store::secrets::SECRETS_MAX;
use fishway::store::{SecretInfo, SecretKind, StoredSecret};
use tempfile::TempDir;
use zeroize::Zeroizing;

use crate::store::world::World;

/// A machine with a place for the key file.
struct Machine {
    directory: TempDir,
}

impl Machine {
    fn new() -> Machine {
        Machine {
            directory: tempfile::tempdir().unwrap(),
        }
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join(KEY_FILE)
    }

    fn keys(&self) -> KeySource {
        KeySource::File(self.file())
    }

    fn copy_to(&self, other: &Machine) {
        std::fs::copy(self.file(), other.file()).unwrap();
    }

    fn key_count(&self) -> usize {
        self.keys().read().unwrap().unwrap().keys().len()
    }

    /// The secrets as a host on this machine uses them.
    fn secrets(&self, world: &World) -> Arc<Secrets> {
        Arc::new(Secrets::new(
            world.shared(),
            world.clock.clone(),
            self.keys(),
        ))
    }

    async fn set(&self, world: &World, name: &str, value: &str) -> Result<SecretInfo, SecretError> {
        let value = NewValue::Text(SecretValue::new(Zeroizing::new(value.to_owned())));
        let now_ms = fishway::clock::Clock::now_ms(&*world.clock);
        let set = admin::set(world.store(), &self.keys(), name, &value, now_ms).await?;
        Ok(set.info)
    }

    async fn rotate(&self, world: &World) -> Result<Rotation, SecretError> {
        admin::rotate(world.store(), &self.keys(), 1).await
    }
}

/// The value of a secret, or its error.
async fn value(secrets: &Arc<Secrets>, name: &str) -> String {
    match secrets.get(name).await {
        Ok(value) => value.expose().to_owned(),
        Err(error) => error.to_string(),
    }
}

fn row(name: &str, version: u64) -> StoredSecret {
    StoredSecret {
        info: SecretInfo {
            name: name.to_owned(),
            kind: SecretKind::Env,
            reference: Some("A".to_owned()),
            key_id: None,
            version,
            created_at_ms: 1,
            updated_at_ms: 1,
        },
        sealed: String::new(),
        damaged: false,
    }
}

pub async fn a_secret_is_encrypted_listed_without_its_value_and_removed(world: &mut World) {
    let machine = Machine::new();
    let secrets = machine.secrets(world);
    assert_eq!(
        value(&secrets, "stripe").await,
        "there is no secret \"stripe\""
    );
    let first = machine.set(world, "stripe", "hush").await.unwrap();
    assert_eq!(value(&secrets, "stripe").await, "hush");
    world.clock.advance(5_000);
    let second = machine.set(world, "stripe", "psst").await.unwrap();
    assert_eq!(second.created_at_ms, first.created_at_ms);
    assert_eq!(second.updated_at_ms, first.updated_at_ms + 5_000);
    assert_eq!((first.version, second.version), (1, 2));
    let reference = NewValue::Reference(Reference::Env("PATH".to_owned()));
    admin::set(world.store(), &machine.keys(), "place", &reference, 7)
        .await
        .unwrap();
    assert_eq!(
        value(&secrets, "place").await,
        std::env::var("PATH").unwrap()
    );

    world.reopen();
    let listed = world.store().secrets().unwrap();
    let names: Vec<(&str, SecretKind)> =
        listed.iter().map(|info| (&*info.name, info.kind)).collect();
    assert_eq!(
        names,
        [
            ("place", SecretKind::Env),
            ("stripe", SecretKind::Encrypted)
        ]
    );
    assert_eq!(listed[0].reference.as_deref(), Some("PATH"));
    assert_eq!(listed[1], second);
    let stored = world.store().secret("stripe").unwrap().unwrap();
    assert!(!stored.sealed.contains("psst") && !stored.damaged);

    admin::remove(world.store(), "stripe").await.unwrap();
    let gone = admin::remove(world.store(), "stripe").await.unwrap_err();
    assert!(matches!(gone, SecretError::Unknown { .. }), "{gone}");
    assert_eq!(world.store().secrets().unwrap().len(), 1);
}

pub async fn a_secret_that_another_process_sets_is_used_within_a_second(world: &mut World) {
    let machine = Machine::new();
    machine.set(world, "stripe", "one").await.unwrap();
    let secrets = machine.secrets(world);
    assert_eq!(value(&secrets, "stripe").await, "one");
    machine.set(world, "stripe", "two").await.unwrap();
    world.clock.advance(FRESH_MS - 1);
    assert_eq!(
        value(&secrets, "stripe").await,
        "one",
        "it was read just now"
    );
    world.clock.advance(1);
    assert_eq!(value(&secrets, "stripe").await, "two");
    admin::remove(world.store(), "stripe").await.unwrap();
    world.clock.advance(FRESH_MS);
    assert_eq!(
        value(&secrets, "stripe").await,
        "there is no secret \"stripe\""
    );
}

pub async fn a_secret_of_another_version_or_another_key_is_not_kept(world: &mut World) {
    let store = world.store();
    assert_eq!(store.put_secrets(vec![row("a", 2)]).await.unwrap(), 0);
    assert_eq!(
        store
            .put_secrets(vec![row("a", 1), row("b", 2)])
            .await
            .unwrap(),
        1
    );
    assert_eq!(store.put_secrets(vec![row("a", 1)]).await.unwrap(), 0);
    assert_eq!(store.put_secrets(vec![row("a", 2)]).await.unwrap(), 1);
    let mut sealed = row("c", 1);
    sealed.info.kind = SecretKind::Encrypted;
    sealed.info.reference = None;
    sealed.info.key_id = Some("one".to_owned());
    let put = || store.put_secrets(vec![sealed.clone()]);
    assert_eq!(put().await.unwrap(), 0, "no key is in use");
    let chosen = store.use_secret_key(Some("x".to_owned()), "one".to_owned());
    assert!(!chosen.await.unwrap());
    let chosen = store.use_secret_key(None, "one".to_owned());
    assert!(chosen.await.unwrap());
    assert_eq!(put().await.unwrap(), 1);
}

pub async fn there_are_so_many_secrets_at_most(world: &mut World) {
    let rows = (0..SECRETS_MAX).map(|number| row(&format!("s{number}"), 1));
    let kept = world.store().put_secrets(rows.collect()).await.unwrap();
    assert_eq!(kept, SECRETS_MAX);
    let error = world
        .store()
        .put_secrets(vec![row("more", 1)])
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "the database has 1000 secrets, which is the maximum"
    );
    // An existing one may still be changed.
    assert_eq!(
        world.store().put_secrets(vec![row("s7", 2)]).await.unwrap(),
        1
    );
}

pub async fn placeholders_are_those_of_the_database(world: &mut World) {
    let machine = Machine::new();
    let before = machine.secrets(world).placeholder("stripe").unwrap();
    machine.set(world, "stripe", "hush").await.unwrap();
    machine.rotate(world).await.unwrap();
    world.reopen();
    assert_eq!(
        machine.secrets(world).placeholder("stripe").unwrap(),
        before
    );
    let secrets = machine.secrets(world);
    let header = format!("Bearer {before}");
    let filled = secrets
        .fill_header(&header, &["stripe".to_owned()])
        .await
        .unwrap();
    assert_eq!(filled.value.unwrap().expose(), "Bearer hush");
    // If the grant does not name the secret, the placeholder stays, and that is reported.
    let filled = secrets.fill_header(&header, &[]).await.unwrap();
    assert!(filled.value.is_none() && filled.left == 1);
}

pub async fn a_row_that_was_changed_behind_the_back_does_not_open(world: &mut World) {
    let machine = Machine::new();
    for name in ["stripe", "github", "other"] {
        machine
            .set(world, name, &format!("hush of {name}"))
            .await
            .unwrap();
    }
    let secrets = machine.secrets(world);
    world.change("update named_secrets set sealed = (select sealed from named_secrets where name = 'github') where name = 'stripe'");
    world.change("update named_secrets set sealed = 'A' || substr(sealed, 2), checksum = checksum where name = 'other'");
    let told = value(&secrets, "stripe").await;
    assert_eq!(
        told,
        "secret \"stripe\" is damaged in the database: it does not match its checksum"
    );

    // The same with a corrected checksum.
    let altered =
        "was altered in the database: its encrypted value does not belong to this name and version";
    let mut forged = world.store().secret("stripe").unwrap().unwrap();
    world.change(&format!(
        "update named_secrets set checksum = {} where name = 'stripe'",
        forged.checksum()
    ));
    assert_eq!(
        value(&secrets, "stripe").await,
        format!("secret \"stripe\" {altered}")
    );
    // An older value in a newer row.
    let github = world.store().secret("github").unwrap().unwrap();
    machine.set(world, "github", "newer").await.unwrap();
    forged = world.store().secret("github").unwrap().unwrap();
    forged.sealed = github.sealed.clone();
    world.change(&format!(
        "update named_secrets set sealed = '{}', checksum = {} where name = 'github'",
        forged.sealed,
        forged.checksum()
    ));
    assert_eq!(
        value(&secrets, "github").await,
        format!("secret \"github\" {altered}")
    );
    // A rotation stops at it, and setting it again repairs it.
    let stopped = machine.rotate(world).await.unwrap_err();
    assert!(
        stopped.to_string().contains("damaged") || stopped.to_string().contains("altered"),
        "{stopped}"
    );
    for name in ["stripe", "github", "other"] {
        machine.set(world, name, "anew").await.unwrap();
    }
    assert!(machine.rotate(world).await.unwrap().resumed);
    for name in ["stripe", "github", "other"] {
        assert_eq!(value(&machine.secrets(world), name).await, "anew");
    }
}

pub async fn a_machine_without_the_key_or_with_another_says_so(world: &mut World) {
    let (one, other) = (Machine::new(), Machine::new());
    let info = one.set(world, "stripe", "hush").await.unwrap();
    let id = info.key_id.unwrap();
    let wanted = format!("the secrets of this database are encrypted with key {id}, and ");
    let missing = format!(
        "{wanted}this machine has no key: {} is not there",
        other.file().display()
    );
    assert_eq!(value(&other.secrets(world), "stripe").await, missing);
    assert_eq!(
        other
            .set(world, "github", "x")
            .await
            .unwrap_err()
            .to_string(),
        missing
    );
    assert_eq!(other.rotate(world).await.unwrap_err().to_string(), missing);
    assert!(
        !other.file().exists(),
        "no key is made where there is one elsewhere"
    );

    let elsewhere = Machine::new();
    let mut another = World::new(crate::store::world::SqliteEngine::new());
    let made = other.set(&another, "a", "b").await.unwrap().key_id.unwrap();
    another.close();
    let wrong = format!("{wanted}{} has key {made}", other.file().display());
    assert_eq!(value(&other.secrets(world), "stripe").await, wrong);
    assert_eq!(
        other
            .set(world, "github", "x")
            .await
            .unwrap_err()
            .to_string(),
        wrong
    );
    assert_eq!(other.rotate(world).await.unwrap_err().to_string(), wrong);

    one.copy_to(&elsewhere);
    assert_eq!(value(&elsewhere.secrets(world), "stripe").await, "hush");
    // With no encrypted values left, a new key may be created.
    admin::remove(world.store(), "stripe").await.unwrap();
    other.set(world, "stripe", "anew").await.unwrap();
    assert_eq!(value(&other.secrets(world), "stripe").await, "anew");
}

pub async fn a_rotation_encrypts_all_secrets_with_a_new_key(world: &mut World) {
    let machine = Machine::new();
    let many = 2 * ROTATED_TOGETHER + 3;
    for number in 0..many {
        machine
            .set(world, &format!("s{number}"), &format!("hush {number}"))
            .await
            .unwrap();
    }
    let old = std::fs::read_to_string(machine.file()).unwrap();
    let rotated = machine.rotate(world).await.unwrap();
    assert_eq!((rotated.secrets, rotated.resumed), (many as u64, false));
    assert_eq!(machine.key_count(), 1);
    let new = std::fs::read_to_string(machine.file()).unwrap();
    assert!(
        !new.contains(old.lines().last().unwrap()),
        "the old key is gone"
    );
    let secrets = machine.secrets(world);
    for info in world.store().secrets().unwrap() {
        assert_eq!(info.key_id.as_deref(), Some(&*rotated.key_id));
        assert_eq!(info.version, 2);
        let expected = info.name.replace('s', "hush ");
        assert_eq!(value(&secrets, &info.name).await, expected);
    }
    assert_ne!(machine.rotate(world).await.unwrap().key_id, rotated.key_id);
}

/// Block changes to the row of this secret, until the returned statement is run.
fn stop_at(world: &World, name: &str) -> &'static str {
    if world.deletes_by_time() {
        world.change(&format!(
            "create function stop() returns trigger language plpgsql as $$ begin raise exception 'stopped here'; end $$;
             create trigger stop before insert or update on named_secrets for each row when (new.name = '{name}') execute function stop()"
        ));
        "drop trigger stop on named_secrets; drop function stop()"
    } else {
        world.change(&format!(
            "create trigger stop before insert on named_secrets when new.name = '{name}'
             begin select raise(abort, 'stopped here'); end"
        ));
        "drop trigger stop"
    }
}

pub async fn a_rotation_that_stops_in_the_middle_loses_nothing_and_goes_on(world: &mut World) {
    let machine = Machine::new();
    let many = 3 * ROTATED_TOGETHER;
    for number in 0..many {
        machine
            .set(world, &format!("s{number:02}"), &format!("hush {number}"))
            .await
            .unwrap();
    }
    let old = world.store().secret_state().unwrap().key_id.unwrap();
    let undo = stop_at(world, &format!("s{}", ROTATED_TOGETHER + 5));
    let error = machine.rotate(world).await.unwrap_err();
    assert!(error.to_string().contains("stopped here"), "{error}");
    world.change(undo);
    world.reopen();

    // The first part has the new key, the rest the old one, and every value can be decrypted.
    let rows = world.store().secrets().unwrap();
    let left = rows
        .iter()
        .filter(|info| info.key_id.as_ref() == Some(&old));
    assert_eq!(left.count(), many - ROTATED_TOGETHER);
    assert_eq!(machine.key_count(), 2);
    let secrets = machine.secrets(world);
    assert_eq!(value(&secrets, "s00").await, "hush 0");
    assert_eq!(value(&secrets, "s59").await, "hush 59");
    // A new value has the new key already.
    let set = machine.set(world, "s58", "anew").await.unwrap();
    assert_ne!(set.key_id, Some(old));

    let rotated = machine.rotate(world).await.unwrap();
    assert!(rotated.resumed);
    assert_eq!(rotated.secrets as usize, many - ROTATED_TOGETHER - 1);
    assert_eq!(machine.key_count(), 1);
    assert_eq!(value(&machine.secrets(world), "s59").await, "hush 59");
    assert_eq!(value(&machine.secrets(world), "s58").await, "anew");
}

pub async fn a_rotation_that_stops_before_the_database_hears_of_it_takes_the_same_key(
    world: &mut World,
) {
    let machine = Machine::new();
    machine.set(world, "stripe", "hush").await.unwrap();
    // The state after a crash between the file and the database.
    let prepared = admin::prepare(world.store(), &machine.keys()).unwrap();
    assert_eq!(machine.key_count(), 2);
    let rotated = machine.rotate(world).await.unwrap();
    assert_eq!((rotated.key_id, rotated.secrets), (prepared, 1));
    assert_eq!(machine.key_count(), 1);
}

pub async fn hosts_that_share_a_database_get_a_new_key_before_it_is_used(world: &mut World) {
    let (one, other) = (Machine::new(), Machine::new());
    one.set(world, "stripe", "hush").await.unwrap();
    one.copy_to(&other);
    let refused = admin::rotate(world.store(), &one.keys(), 2)
        .await
        .unwrap_err();
    assert!(
        matches!(refused, SecretError::OthersLackKey { hosts: 2 }),
        "{refused}"
    );
    assert_eq!(one.key_count(), 1);

    let prepared = admin::prepare(world.store(), &one.keys()).unwrap();
    assert_eq!(
        admin::prepare(world.store(), &one.keys()).unwrap(),
        prepared,
        "once is enough"
    );
    one.copy_to(&other);
    let host = other.secrets(world);
    assert_eq!(value(&host, "stripe").await, "hush");
    admin::rotate(world.store(), &one.keys(), 2).await.unwrap();
    world.clock.advance(FRESH_MS);
    assert_eq!(value(&host, "stripe").await, "hush");
    // There the old key is still in the file, until the same command removes it.
    assert_eq!(other.key_count(), 2);
    let finished = admin::rotate(world.store(), &other.keys(), 2)
        .await
        .unwrap();
    assert_eq!(
        (finished.resumed, finished.secrets, other.key_count()),
        (true, 0, 1)
    );
    assert_eq!(value(&other.secrets(world), "stripe").await, "hush");
}
