;; Logs a kilobyte, again and again.
(module
  (import "fishway:task/context@0.1.0" "log" (func $log (param i32 i32 i32)))
  (;common;)
  (func (export "fishway:task/handler@0.1.0#run") (param $input i32) (param $length i32) (result i32)
    (memory.fill (i32.const 2048) (i32.const 0x78) (i32.const 1024))
    (loop $again
      (call $log (i32.const 2) (i32.const 2048) (i32.const 1024))
      (br $again))
    unreachable))
