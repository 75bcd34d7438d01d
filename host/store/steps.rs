//! Complete steps: the same statements for both engines.
//!
//! They are deleted at the end of their phase. The rest is unfinished work, which records the last run to delete; such
//! rows are no longer visible.

/// The step of a task by its name, in the order that the engines read.
pub const FIND: &str = "\
    select value, run, began, completed, at_ms, log_lines, log_bytes, checksum
    from steps
    where task_id = :task and name = :name
      and run > coalesce(
        (select max(bound) from unfinished where subject_id = :task and kind = 'steps'), -1)";

/// How many a task has.
pub const COUNT: &str = "\
    select count(*)
    from steps
    where task_id = :task
      and run > coalesce(
        (select max(bound) from unfinished where subject_id = :task and kind = 'steps'), -1)";
