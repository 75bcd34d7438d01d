;; Takes a thousand and more timers from the host and gives none back.
(module
  (import "wasi:clocks/monotonic-clock@0.2.0" "subscribe-duration" (func $subscribe (param i64) (result i32)))
  (;common;)
  (func (export "fishway:task/handler@0.1.0#run") (param $input i32) (param $length i32) (result i32)
    (local $left i32)
    (local.set $left (i32.const 1100))
    (loop $again
      (drop (call $subscribe (i64.const 1000000000)))
      (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
    unreachable))
