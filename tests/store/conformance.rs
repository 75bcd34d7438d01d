//! What every store promises. Each function is one promise; its name is the sentence.

pub mod attempts;
pub mod cancelling;
pub mod claiming;
pub mod clocks;
pub mod counting;
pub mod deleting;
pub mod edges;
pub mod keeping;
pub mod signals;
pub mod submitting;
pub mod waiting;

/// Every promise as a test of one engine.
macro_rules! conformance {
    ($engine:ident, $factory:expr) => {
        conformance! { $engine, $factory,
            submitting {
                submit_claim_and_finish_are_one_walk
                a_key_names_the_same_task_again
                a_key_names_a_task_within_its_parent
                a_key_of_another_handler_is_refused
                a_submit_is_all_or_none
                a_submit_is_all_or_none_within_itself_too
                payloads_small_and_large_come_back_whole
                the_input_of_each_phase_replaces_the_one_before
                ids_rise_over_reopening_and_a_clock_set_back
            }
            claiming {
                priority_goes_before_age_and_age_before_nothing
                a_claim_takes_no_more_than_the_slots
                the_best_of_all_lanes_goes_first
                a_room_bounds_its_handler_over_all_its_lanes
                a_handler_without_room_is_never_claimed
                a_finish_hands_its_slot_on_in_the_same_transaction
                a_waiter_for_running_is_ready_in_the_transaction_of_the_claim
                what_expired_before_a_tick_never_starts
                a_stale_attempt_writes_nothing
            }
            clocks {
                a_delayed_task_is_ready_when_its_time_has_come
                a_task_that_did_not_start_in_time_expires
                a_tick_tells_when_the_next_clock_runs_out
                a_thousand_clocks_and_more_run_out_together
            }
            attempts {
                a_failed_attempt_rests_and_comes_again_until_none_is_left
                a_failure_that_no_retry_helps_ends_the_task_at_once
                a_lost_host_brings_the_same_run_back
                a_task_that_kills_its_hosts_is_failed
                an_interruption_counts_for_nothing
                a_rescheduled_run_is_no_attempt
                a_new_phase_counts_its_attempts_afresh
                a_new_phase_waits_for_what_it_comes_after
                a_new_phase_begins_when_its_time_runs_out
                a_retry_begins_afresh_and_only_after_an_end
                a_continuation_gets_the_output_once
                a_failed_task_has_no_continuation
            }
            cancelling {
                one_transaction_may_move_more_tasks_than_it_keeps_in_memory
                a_pending_task_is_cancelled_at_once
                a_running_attempt_is_told_to_stop_and_ends_cancelled_whatever_it_returns
                a_waiting_task_is_cancelled_at_once
                an_ended_task_stays_as_it_is
                a_cancel_goes_down_below_ended_parents
                a_cancel_of_only_one_leaves_its_children
                a_cancel_by_a_handler_keeps_its_answer
                a_lost_host_ends_what_was_to_be_cancelled
            }
            waiting {
                a_wait_for_all_ends_with_the_last
                a_wait_for_any_ends_with_the_first_and_wakes_once
                a_wait_may_be_for_a_status_that_is_no_end
                a_wait_for_what_has_ended_or_is_gone_is_no_wait
                a_wait_ends_when_its_time_runs_out
                the_rows_of_an_earlier_wait_do_not_end_a_later_one
                a_target_named_twice_counts_once
                a_target_that_arrives_twice_counts_once
                an_end_of_another_kind_ends_the_wait_too
                a_thousand_children_wake_their_parent_with_the_last
                waits_of_a_run_that_failed_do_not_reach_the_next
                a_wait_for_very_many_finds_the_one_that_hangs_on_the_waiter
                a_look_for_what_hangs_on_the_waiter_has_an_end
            }
            signals {
                signals_are_received_once_in_the_order_of_their_sending
                signals_of_other_names_and_other_tasks_are_left_alone
                a_send_ends_a_wait_for_its_name_and_no_other
                a_wait_for_a_signal_that_is_there_is_no_wait
                a_wait_for_a_signal_ends_when_its_time_runs_out
                a_wait_for_a_signal_goes_on_when_its_host_is_gone
                a_receipt_and_its_record_are_one
                a_send_and_its_record_are_one
                unread_signals_outlive_attempts_phases_and_hosts
                unread_signals_end_with_their_task
                unread_signals_are_bounded_and_a_receipt_makes_room
                a_task_that_has_ended_or_never_was_is_sent_nothing
            }
            edges {
                a_task_comes_after_its_upstreams
                what_cannot_come_any_more_is_skipped_all_the_way_down
                a_retry_blocks_again_what_was_skipped
                a_diamond_is_restored_whole
                a_task_below_a_lost_one_is_not_retried_alone
                a_task_after_ended_ones_knows_it_from_the_start
            }
            counting {
                children_are_counted_by_both_handlers
                ends_are_counted_by_how_and_outlive_their_tasks
                waits_are_counted_by_how_long_they_were
                a_wait_for_what_is_there_is_counted_by_the_next_one_alone
            }
            deleting {
                a_deleted_task_leaves_nothing_behind
                a_deletion_takes_all_that_is_below
                what_lives_is_not_deleted
                what_a_live_task_uses_is_not_deleted
                what_a_task_has_waited_for_stays_while_that_lives
                what_a_journal_tells_of_stays_while_its_task_lives
                children_outlive_a_parent_that_is_deleted_alone
                a_tree_is_pruned_when_all_of_it_is_old_enough
                statuses_are_kept_for_their_own_time
                a_sweep_tells_when_the_next_tree_is_due
                a_deletion_is_done_in_small_transactions_and_goes_on_after_a_crash
                a_retry_counts_a_deleted_upstream_as_what_it_was
                a_deleted_key_may_be_used_again
                a_wait_for_a_deleted_task_is_no_wait
            }
            keeping {
                a_journal_holds_answers_and_spawns
                a_journal_ends_with_its_run
                a_log_line_is_kept_once_by_its_position
                checkpoints_outlive_attempts
                progress_is_the_last_that_was_told
                a_list_is_filtered_ordered_and_continued
                nodes_come_in_pages_and_say_what_kin_they_have
                counts_are_by_status
                ids_are_found_by_their_range
                handlers_are_remembered
                components_are_needed_until_their_tasks_end
                everything_is_there_after_reopening
            }
        }
    };
    ($engine:ident, $factory:expr, $($room:ident { $($promise:ident)+ })+) => {
        mod $engine {
            use super::{conformance, world};
            $($(
                #[tokio::test]
                async fn $promise() {
                    let mut world = world::World::new($factory);
                    conformance::$room::$promise(&mut world).await;
                }
            )+)+
        }
    };
}
