;; Spawns children without end, and does not listen to what it is told.
(module
  (import "fishway:task/tasks@0.1.0" "spawn" (func $spawn (param i32 i32)))
  (;common;)
  (data (i32.const 2048) "echo1")
  (func (export "fishway:task/handler@0.1.0#run") (param $input i32) (param $length i32) (result i32)
    (i32.store (i32.const 1024) (i32.const 2048))
    (i32.store (i32.const 1028) (i32.const 4))
    (i32.store (i32.const 1032) (i32.const 2052))
    (i32.store (i32.const 1036) (i32.const 1))
    (loop $again
      (call $spawn (i32.const 1024) (i32.const 512))
      (br $again))
    unreachable))
