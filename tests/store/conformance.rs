//! What every store promises. Each function is one promise; its name is the sentence.

pub mod attempts;
pub mod cancelling;
pub mod claiming;
pub mod clocks;
pub mod counting;
pub mod damage;
pub mod deadlines;
pub mod deleting;
pub mod each;
pub mod edges;
pub mod exchanges;
pub mod history;
pub mod jobs;
pub mod keeping;
pub mod lost;
pub mod once;
pub mod phases;
pub mod producers;
pub mod queues;
pub mod randomness;
pub mod remembering;
pub mod schedules;
pub mod secrets;
pub mod signals;
pub mod submitting;
pub mod unfinished;
pub mod waiting;
pub mod workflows;

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
            once {
                a_step_is_kept_with_the_call_that_completes_it
                steps_outlive_attempts_and_a_retry_of_a_failed_task
                steps_go_with_the_end_of_their_phase
                a_stale_attempt_completes_no_step
                many_steps_go_in_parts_and_the_next_phase_does_not_see_them
                the_steps_of_a_task_are_deleted_with_it
            }
            deadlines {
                a_task_fails_by_its_deadline_wherever_it_stands
                a_retry_has_the_whole_time_to_its_deadline_again
                a_task_starts_at_the_time_that_it_is_scheduled_for
                a_handler_in_a_wait_is_told_of_a_cancel_and_ends_as_cancelled
                a_cancelled_task_that_waits_ends_with_its_grace_period
                a_cancelled_task_that_no_host_runs_ends_all_the_same
                a_running_task_is_told_of_a_cancel_by_its_next_wait
                children_that_are_to_end_with_their_parent_are_cancelled_when_it_fails
                a_child_of_a_parent_that_completes_or_is_cancelled_alone_runs_on
            }
            phases {
                a_task_that_was_cancelled_between_phases_waits_again_for_what_lives
                a_retry_between_phases_retries_what_was_cancelled_with_the_task
                a_child_that_was_retried_before_its_parent_is_waited_for
                a_task_that_a_phase_names_twice_is_waited_for_once_also_after_a_retry
                a_later_phase_that_failed_is_retried_without_what_has_ended
                a_wait_that_is_renewed_has_its_whole_time_again
                a_wait_for_very_many_is_renewed_in_parts
                a_retried_task_waits_for_its_phase_and_for_what_it_comes_after
                what_a_phase_began_after_is_deleted_with_the_task
                a_retry_by_members_of_a_group_waits_again_too
            }
            claiming {
                priority_goes_before_age_and_age_before_nothing
                a_claim_takes_no_more_than_the_slots
                the_best_of_all_lanes_goes_first
                a_room_bounds_its_handler_over_all_its_lanes
                functions_of_one_component_share_its_room
                tasks_that_are_over_at_once_are_claimed_beyond_the_slots
                nothing_is_claimed_to_wait_behind_tasks_that_take_their_time
                a_handler_without_room_is_never_claimed
                a_finish_hands_its_slot_on_in_the_same_transaction
                a_waiter_for_running_is_ready_in_the_transaction_of_the_claim
                what_expired_before_a_tick_never_starts
                a_stale_attempt_writes_nothing
            }
            queues {
                no_more_of_a_queue_run_at_once_than_it_allows
                a_limit_bounds_a_queue_over_all_its_lanes
                a_waiting_task_holds_no_place_in_its_queue
                a_lower_limit_lets_go_on_what_runs
                a_paused_queue_starts_nothing_and_what_runs_goes_on
                a_resumed_queue_starts_in_its_own_transaction
                a_task_of_a_paused_queue_expires_like_any_other
                the_limits_of_a_queue_and_of_a_pool_hold_together
                a_paused_or_full_queue_is_passed_whatever_lanes_it_has
                settings_count_however_many_queues_have_some
                what_a_queue_is_set_to_outlives_the_host
                queues_tell_how_their_tasks_stand
            }
            schedules {
                a_schedule_gives_birth_to_a_task_at_each_of_its_times
                a_time_fires_once_whoever_looks_and_however_often
                missed_times_are_made_up_for_as_each_schedule_says
                a_time_at_which_the_last_run_lives_is_skipped_where_that_was_asked_for
                a_paused_schedule_lets_its_times_pass
                a_trigger_runs_now_and_moves_no_time
                a_trigger_waits_for_the_last_run_where_that_was_asked_for
                a_schedule_that_fired_under_a_clock_that_was_ahead_goes_on
                a_schedule_is_replaced_only_when_that_was_asked_for
                a_removed_schedule_fires_no_more_and_its_tasks_stay
                a_key_that_was_used_by_hand_counts_as_the_run
                more_schedules_than_one_transaction_fires_are_all_fired
                a_clock_that_was_set_back_fires_nothing_again
                a_schedule_is_there_whole_after_reopening
                a_schedule_gives_birth_to_a_workflow_with_all_of_its_jobs
                a_workflow_that_lives_is_waited_for_where_that_was_asked_for
                a_workflow_that_is_wrong_by_now_holds_up_no_other_schedule
                a_scheduled_workflow_has_the_types_of_its_time
            }
            remembering {
                a_task_that_ends_comes_with_the_news_as_a_read_finds_it
                a_payload_that_is_kept_apart_is_read_by_who_waits
                what_is_damaged_is_read_by_who_waits
                a_wait_for_a_task_of_its_own_ends_whenever_it_begins
                a_handler_that_is_withdrawn_or_replaced_is_remembered_no_longer
                a_handler_that_was_found_is_remembered_for_a_second
            }
            damage {
                a_change_of_any_column_of_a_task_is_told_by_every_read
                a_change_of_a_long_payload_is_told_by_every_read
                a_damaged_task_fails_when_it_is_claimed_and_the_others_go_on
                a_task_that_was_damaged_while_it_ran_or_waited_fails_at_its_next_step
                what_a_run_has_kept_is_held_against_its_checksum
                a_damaged_signal_is_not_received_and_stays
                a_map_of_which_an_output_is_damaged_fails_as_it_is_put_together
                a_map_of_which_the_array_is_damaged_fails_as_it_begins
                a_damaged_group_fails_and_its_members_are_cancelled
                a_damaged_schedule_does_not_run_and_the_others_do
                rows_of_an_earlier_version_are_believed_and_get_a_checksum_with_their_next_change
                a_checksum_of_an_earlier_version_without_the_outcome_guards_it_too
            }
            randomness {
                a_run_keeps_the_secret_that_it_began_with_and_the_next_has_the_newest
                a_secret_goes_when_no_run_in_progress_draws_from_it
                the_number_of_a_secret_that_was_lost_does_not_come_again
                a_run_never_begins_without_a_secret
            }
            secrets {
                a_secret_is_encrypted_listed_without_its_value_and_removed
                a_secret_that_another_process_sets_is_used_within_a_second
                a_secret_of_another_version_or_another_key_is_not_kept
                there_are_so_many_secrets_at_most
                placeholders_are_those_of_the_database
                a_row_that_was_changed_behind_the_back_does_not_open
                a_machine_without_the_key_or_with_another_says_so
                a_rotation_encrypts_all_secrets_with_a_new_key
                a_rotation_that_stops_in_the_middle_loses_nothing_and_goes_on
                a_rotation_that_stops_before_the_database_hears_of_it_takes_the_same_key
                hosts_that_share_a_database_get_a_new_key_before_it_is_used
            }
            clocks {
                a_delayed_task_is_ready_when_its_time_has_come
                a_task_that_did_not_start_in_time_expires
                a_tick_tells_when_the_next_clock_runs_out
                a_thousand_clocks_and_more_run_out_together
            }
            attempts {
                a_failed_attempt_rests_and_comes_again_until_none_is_left
                of_many_attempts_the_last_are_read
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
                a_wait_for_any_tells_who_ended_it
                a_wait_may_be_for_a_status_that_is_no_end
                a_wait_for_what_has_ended_or_is_gone_is_no_wait
                a_wait_ends_when_its_time_runs_out
                the_rows_of_an_earlier_wait_do_not_end_a_later_one
                a_target_named_twice_counts_once
                a_target_that_arrives_twice_counts_once
                an_end_of_another_kind_ends_the_wait_too
                a_thousand_children_wake_their_parent_with_the_last
                waits_of_a_run_that_failed_do_not_reach_the_next
                outcomes_are_read_up_to_so_many_bytes_and_one_at_least
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
            exchanges {
                what_comes_of_exchanges_wakes_their_task_once_and_is_taken_in_its_order
                a_wait_for_an_exchange_of_which_something_has_come_is_no_wait
                a_host_holds_what_it_said_last_and_no_more
                arrivals_are_taken_as_far_as_they_fit_and_one_at_least
                where_nothing_has_come_nothing_is_recorded
                what_comes_for_a_run_that_is_over_is_stale
                what_this_host_does_not_hold_is_not_its_to_tell
                a_claim_that_is_lost_takes_nothing
                a_wait_that_no_exchange_can_end_is_no_wait
                a_wait_for_an_exchange_ends_when_its_time_runs_out
                no_other_wait_is_ended_by_what_comes_of_an_exchange
                exchanges_that_died_with_their_host_wake_their_tasks
                a_heartbeat_wakes_those_whose_exchanges_this_host_does_not_hold
                a_lost_exchange_ends_the_wait_for_it_and_no_other
                very_many_whose_exchanges_are_lost_are_woken_in_parts
                what_came_of_exchanges_ends_with_their_run_in_parts
                a_deleted_task_leaves_nothing_of_its_exchanges
                a_mailbox_is_bounded_and_who_takes_makes_room
                a_damaged_arrival_fails_its_task_and_the_others_go_on
            }
            history {
                a_history_in_pages_of_any_size_is_the_same_history
                a_trace_knows_which_tasks_have_a_history
                a_history_is_kept_after_its_run_for_as_long_as_is_set
                a_long_history_goes_in_parts
                what_was_kept_goes_when_nothing_is_to_be_kept
                a_retried_task_keeps_the_history_of_each_run
                what_came_of_exchanges_goes_though_the_history_is_kept
                a_deleted_task_leaves_nothing_of_its_history
            }
            edges {
                a_task_comes_after_its_upstreams
                what_cannot_come_any_more_is_skipped_all_the_way_down
                a_retry_blocks_again_what_was_skipped
                a_diamond_is_restored_whole
                a_task_below_a_lost_one_is_not_retried_alone
                a_task_after_ended_ones_knows_it_from_the_start
            }
            workflows {
                a_workflow_runs_its_steps_in_the_order_of_its_edges
                a_workflow_is_pending_until_a_step_starts
                a_failed_step_skips_what_comes_after_it_and_fails_the_workflow
                other_branches_of_a_failed_workflow_run_to_their_end
                fail_fast_cancels_the_other_branches
                edges_open_by_failure_by_any_end_and_all_the_same
                a_workflow_completes_without_an_optional_step
                a_retry_of_a_workflow_runs_what_failed_and_what_was_skipped
                a_retry_runs_what_was_cancelled_in_whatever_order_it_was_declared
                a_retry_of_one_step_unfails_the_workflow
                a_retry_shuts_the_edges_that_its_failure_had_opened
                a_cancel_of_a_workflow_ends_what_is_pending_and_leaves_what_has_completed
                a_step_is_told_the_ids_of_what_it_comes_after
                a_key_names_one_workflow
                a_pool_of_a_workflow_waits_for_all_of_its_sources
                a_pool_that_ends_at_once_by_a_retry_opens_what_comes_after_it_once
                a_workflow_is_no_work_for_a_host
            }
            producers {
                a_lone_producer_ends_when_its_drain_time_has_passed
                a_producer_ends_when_it_adds_nothing_for_too_long
                a_member_that_a_key_names_already_is_activity_of_a_producer
                the_last_finite_source_hints_its_producers_and_starts_their_drain_clock
                a_source_that_never_starts_has_drained_for_the_producers_too
                a_producer_that_waits_for_a_signal_is_woken_by_the_hint
                the_hint_ends_no_other_wait_and_stops_no_other_task
                a_clock_that_runs_out_closes_the_sources_at_once_and_leaves_the_attempt_its_grace
                an_attempt_that_a_clock_ends_is_completed_when_it_waits_or_loses_its_host
                a_cancel_beats_a_clock
                a_producer_that_ends_by_itself_has_drained_and_has_no_clock
                a_producer_that_has_drained_by_itself_is_ended_by_no_clock
                the_clocks_run_on_between_attempts_and_while_no_host_runs
                a_lost_host_leaves_the_clocks_as_they_were
                a_retry_of_a_producer_begins_with_fresh_clocks_and_no_output
                a_failed_source_that_is_retried_opens_its_pool_again_whatever_that_became
                a_retry_of_one_source_opens_what_comes_after_its_pool_again
                a_source_that_drained_and_then_failed_is_one_again_in_its_next_attempt
                an_ended_pool_of_a_workflow_is_not_opened_anew_by_its_name
                a_retried_member_opens_its_pool_and_what_comes_after_it_again
                a_member_whose_place_another_took_is_not_retried
                a_failed_pool_skips_what_comes_after_it_and_fails_its_workflow
                a_pool_that_takes_no_more_hints_its_producers
                a_cancelled_workflow_ends_its_producers_and_can_be_retried_whole
                a_producer_of_several_pools_is_alone_when_none_of_them_has_another_source
                what_a_producer_says_that_it_ends_with_is_kept_and_shown_but_is_no_result_yet
                a_continuation_goes_on_with_what_a_clock_ended_a_producer_with
                a_hundred_producers_run_out_together
            }
            each {
                a_map_runs_its_handler_for_each_element_and_keeps_their_order
                a_map_over_its_own_input_starts_at_once
                a_map_of_nothing_completes_at_once
                a_map_over_no_array_fails_and_names_what_it_got
                a_large_array_is_expanded_in_the_transaction_that_ends_its_upstream
                items_have_the_options_of_their_step
                no_more_items_run_at_once_than_the_map_allows
                a_failed_item_does_to_its_map_what_was_asked_for
                a_map_that_fails_fast_cancels_the_rest
                a_map_may_keep_the_counts_alone
                outputs_that_are_too_large_together_fail_their_map_at_once
                a_retry_of_a_map_runs_only_what_failed
                a_retry_of_a_workflow_expands_what_could_not_be_expanded
                a_map_that_has_not_started_is_cancelled_and_expires_like_any_task
                a_cancelled_map_ends_its_items_and_a_retry_brings_them_back
                a_map_is_deleted_with_all_of_its_items
                a_step_that_a_failure_of_a_map_let_start_waits_again_for_its_retry
                items_run_while_pages_come_and_keep_their_order
                a_generator_of_nothing_completes
                a_source_waits_while_the_window_is_full
                a_source_may_rest_between_pages
                a_generator_goes_on_at_the_page_where_its_host_died
                a_page_that_fails_is_tried_again_and_each_page_has_all_attempts
                a_source_that_fails_fails_its_generator_and_a_retry_goes_on_where_it_stood
                a_retry_of_an_item_alone_does_not_complete_what_was_not_told
                a_retry_of_the_source_alone_while_items_run_unfails_its_generator
                a_cancelled_generator_ends_its_source_and_its_items
                a_source_that_is_cancelled_alone_tells_no_more
                a_generator_that_is_closed_takes_no_more_pages
                a_source_that_waits_ends_with_a_generator_that_is_cancelled_alone
                a_generator_whose_source_was_deleted_cannot_go_on
                a_source_is_not_retried_while_its_generator_ends
            }
            jobs {
                no_unit_of_a_job_starts_before_all_are_there
                a_job_without_units_has_completed
                a_job_takes_no_more_units_than_it_was_to_have
                a_job_ends_with_its_last_unit_as_its_policy_says
                none_of_a_paused_jobs_units_starts_and_what_runs_ends
                a_paused_job_stays_so_until_it_is_resumed
                a_unit_that_is_woken_while_its_job_is_paused_stays_where_it_is
                no_more_units_run_than_their_job_allows
                a_lost_host_leaves_the_counts_of_a_job_exact
                a_retry_of_a_job_runs_what_did_not_complete
                a_half_made_job_is_cleared_away_and_never_run
                a_unit_that_is_cancelled_while_a_job_is_made_does_to_it_what_a_failed_one_does
                results_come_in_the_order_of_lines_a_page_at_a_time
                a_job_knows_how_fast_it_is
                a_unit_is_a_task_of_its_own
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
                a_sweep_that_keeps_up_does_more_at_once_when_it_is_late
                a_tree_whose_top_is_retried_while_it_is_looked_at_stays
                any_number_of_children_outlives_a_parent_that_is_deleted_alone
                a_tree_of_many_levels_is_deleted_whole
                a_retry_counts_a_deleted_upstream_as_what_it_was
                a_deleted_key_may_be_used_again
                a_wait_for_a_deleted_task_is_no_wait
            }
            unfinished {
                very_many_start_after_one_task_whatever_comes_between
                very_many_are_skipped_in_parts_and_a_retry_meanwhile_takes_all_of_it_back
                very_many_that_wait_for_one_task_are_woken_in_parts
                a_map_makes_its_items_in_parts_and_ends_with_the_last_of_them
                a_map_that_fails_fast_in_parts_ends_all_of_its_items
                a_cancel_in_parts_ends_all_that_was_below_then
                others_run_while_a_cancel_is_done_in_parts
                a_host_finds_with_a_sign_of_life_what_another_process_has_left
                a_long_record_is_deleted_in_parts_and_the_next_run_keeps_its_own
                signals_that_are_left_over_are_not_for_the_next_try
                a_pool_is_closed_in_parts_and_ends_when_all_of_its_sources_know
                a_source_of_many_pools_that_is_retried_meanwhile_is_one_of_the_others_still
                a_map_is_retried_in_parts_and_does_not_end_before
                a_workflow_does_not_end_before_all_that_was_skipped_has_another_try
                a_cancel_meanwhile_ends_what_is_restored_later
                the_output_of_a_map_is_made_in_parts_and_anew_when_an_item_has_another_try
                a_map_that_is_cancelled_while_its_output_is_made_is_cancelled
                who_waits_for_a_move_hears_of_it_whatever_the_clock_says_and_who_comes_later_does_not
            }
            lost {
                what_a_host_should_run_and_does_not_is_put_back
                a_lease_of_the_same_number_is_not_the_lease
                a_claim_that_was_lost_with_the_last_commits_is_not_the_one_in_its_place
                an_attempt_whose_database_is_away_rests_and_counts_for_nothing
                an_attempt_that_the_machine_cannot_begin_rests_counts_for_nothing_and_says_why
                an_attempt_that_cannot_be_read_rests_longer_each_time_and_fails_in_the_end
            }
            keeping {
                tasks_are_listed_and_counted_by_error_time_and_metadata
                a_journal_holds_answers_and_spawns
                a_journal_is_read_in_parts_that_are_bounded
                a_journal_ends_with_its_run
                a_log_line_is_kept_once_by_its_position
                checkpoints_outlive_attempts
                progress_is_the_last_that_was_told
                a_list_is_filtered_ordered_and_continued
                nodes_come_in_pages_and_say_what_kin_they_have
                counts_are_by_status
                ids_are_found_by_their_range
                handlers_are_remembered
                a_host_writes_what_has_changed_of_its_handlers
                text_with_a_nul_is_the_same_on_every_engine
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
