;; Calls itself as a child, which does the same; tells why it got no answer.
(module
  (import "fishway:task/tasks@0.1.0" "call" (func $call (param i32 i32)))
  (;common;)
  (data (i32.const 2048) "spawn-bomb-deep1")
  (func (export "fishway:task/handler@0.1.0#run") (param $input i32) (param $length i32) (result i32)
    (i32.store (i32.const 1024) (i32.const 2048))
    (i32.store (i32.const 1028) (i32.const 15))
    (i32.store (i32.const 1032) (i32.const 2063))
    (i32.store (i32.const 1036) (i32.const 1))
    (call $call (i32.const 1024) (i32.const 512))
    (call $fail (i32.load (i32.const 516)) (i32.load (i32.const 520)))))
