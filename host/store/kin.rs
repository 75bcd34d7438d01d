//! The relatives of a task: a statement that both engines share.

/// The children of a task that have not ended and are to end when it fails.
pub const CHILDREN_ENDING: &str = "\
    select id
    from tasks
    where parent_id = :parent and terms is not null and ended_at_ms is null and id > :after
      and (json(terms) ->> 'ends_with_parent') is not null
    order by id
    limit :limit";
