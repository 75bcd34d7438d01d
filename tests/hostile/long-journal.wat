;; Loads a checkpoint of two megabytes sixty times, waits, and returns.
(module
  (import "fishway:task/checkpoints@0.1.0" "save" (func $save (param i32 i32 i32 i32)))
  (import "fishway:task/checkpoints@0.1.0" "load" (func $load (param i32 i32 i32)))
  (import "fishway:task/tasks@0.1.0" "sleep" (func $sleep (param i64)))
  (;common;)
  (data (i32.const 2048) "x")
  (data (i32.const 2056) "1")
  (func (export "fishway:task/handler@0.1.0#run") (param $input i32) (param $length i32) (result i32)
    (local $at i32) (local $left i32)
    (local.set $at (call $allocate (i32.const 2000000)))
    (memory.fill (local.get $at) (i32.const 0x78) (i32.const 2000000))
    (i32.store8 (local.get $at) (i32.const 0x22))
    (i32.store8 (i32.add (local.get $at) (i32.const 1999999)) (i32.const 0x22))
    (call $save (i32.const 2048) (i32.const 1) (local.get $at) (i32.const 2000000))
    (local.set $left (i32.const 60))
    (loop $again
      (local.set $left (i32.sub (local.get $left) (i32.const 1)))
      ;; What was loaded before is let go.
      (global.set $next (i32.const 65536))
      (call $load (i32.const 2048) (i32.const 1) (i32.const 512))
      (br_if $again (local.get $left)))
    (call $sleep (i64.const 1000))
    (call $ok (i32.const 2056) (i32.const 1))))
