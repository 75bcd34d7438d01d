;; Waits for itself, and tells what it is told.
(module
  (import "fishway:task/context@0.1.0" "current" (func $current (param i32)))
  (import "fishway:task/tasks@0.1.0" "wait-all" (func $wait_all (param i32 i32 i32 i32 i64 i32 i32 i32)))
  (;common;)
  (func (export "fishway:task/handler@0.1.0#run") (param $input i32) (param $length i32) (result i32)
    (call $current (i32.const 1024))
    ;; The id is the first field: a list of one text.
    (call $wait_all
      (i32.const 1024) (i32.const 1)
      (i32.const 0) (i32.const 0) (i64.const 0) (i32.const 0) (i32.const 0)
      (i32.const 512))
    (call $fail (i32.load (i32.const 524)) (i32.load (i32.const 528)))))
