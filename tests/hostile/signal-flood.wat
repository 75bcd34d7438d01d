;; Sends itself signals that it never receives, up to a million; tells what it is told.
(module
  (import "fishway:task/context@0.1.0" "current" (func $current (param i32)))
  (import "fishway:task/signals@0.1.0" "send" (func $send (param i32 i32 i32 i32 i32 i32 i32)))
  (;common;)
  (data (i32.const 2048) "go1")
  (func (export "fishway:task/handler@0.1.0#run") (param $input i32) (param $length i32) (result i32)
    (local $left i32)
    (local.set $left (i32.const 1000000))
    (call $current (i32.const 1024))
    (loop $again
      (call $send
        (i32.load (i32.const 1024)) (i32.load (i32.const 1028))
        (i32.const 2048) (i32.const 2)
        (i32.const 2050) (i32.const 1)
        (i32.const 512))
      (local.set $left (i32.sub (local.get $left) (i32.const 1)))
      (br_if $again
        (i32.and (i32.eqz (i32.load8_u (i32.const 512))) (i32.ne (local.get $left) (i32.const 0)))))
    (call $fail (i32.load (i32.const 520)) (i32.load (i32.const 524)))))
